"""The wire formats that the contract suite runs over: one file each, listed in `DIALECTS`."""

from __future__ import annotations

from support.dialects.anthropic import AnthropicDialect
from support.dialects.azure import AzureDialect
from support.dialects.base import KEY, Dialect, Figures, Seen
from support.dialects.bedrock import BedrockDialect
from support.dialects.bedrock_openai import BedrockChatDialect, BedrockResponsesDialect
from support.dialects.deepseek import DeepSeekDialect
from support.dialects.example import ExampleDialect
from support.dialects.google import GoogleDialect
from support.dialects.mistral import MistralDialect
from support.dialects.openai import OpenAIDialect
from support.dialects.openai_responses import ResponsesDialect

__all__ = [
    "DIALECTS",
    "KEY",
    "WIRE_FORMATS",
    "AnthropicDialect",
    "AzureDialect",
    "BedrockChatDialect",
    "BedrockDialect",
    "BedrockResponsesDialect",
    "DeepSeekDialect",
    "Dialect",
    "Figures",
    "GoogleDialect",
    "MistralDialect",
    "OpenAIDialect",
    "ResponsesDialect",
    "Seen",
]

DIALECTS: list[Dialect] = [
    OpenAIDialect(),
    AzureDialect(),
    GoogleDialect(),
    MistralDialect(),
    ResponsesDialect(),
    AnthropicDialect(),
    BedrockDialect(),
    BedrockChatDialect(),
    BedrockResponsesDialect(),
    ExampleDialect(),
]
"""Every test of the contract runs with each of these, unless it says otherwise."""

WIRE_FORMATS: list[Dialect] = [dialect for dialect in DIALECTS if dialect.own_format]
"""One for each wire format: for tests of whole steps, which the differences within a format do not touch."""
