"""OpenAI's Responses at Bedrock's endpoints."""

from __future__ import annotations

from loopllama.providers.bedrock import openai_endpoints
from loopllama.providers.openai_responses import OpenAIResponses


class BedrockResponses(openai_endpoints.AtBedrock, OpenAIResponses):
    """The adapter."""

    codes = {**OpenAIResponses.codes, **openai_endpoints.CODES}  # noqa: RUF012 - as the base class declares it
