"""OpenAI's Chat Completions at Bedrock's endpoints."""

from __future__ import annotations

from loopllama.providers.bedrock import openai_endpoints
from loopllama.providers.openai import OpenAI


class BedrockChat(openai_endpoints.AtBedrock, OpenAI):
    """The adapter."""

    codes = {**OpenAI.codes, **openai_endpoints.CODES}  # noqa: RUF012 - as the base class declares it
