"""The providers that need no configuration but a key: where they are and how they differ.

Base URLs are the ones that the providers document for their OpenAI-compatible (or own) API:
openai https://platform.openai.com/docs/api-reference, anthropic https://docs.claude.com/en/api/overview,
google https://ai.google.dev/gemini-api/docs/openai, mistral https://docs.mistral.ai/api,
deepseek https://api-docs.deepseek.com, openrouter https://openrouter.ai/docs, groq https://console.groq.com/docs/openai,
together https://docs.together.ai/docs/openai-api-compatibility, fireworks https://docs.fireworks.ai,
xai https://docs.x.ai, cerebras https://inference-docs.cerebras.ai, perplexity https://docs.perplexity.ai,
ollama https://docs.ollama.com/api/openai-compatibility, vllm https://docs.vllm.ai/en/latest/serving/openai_compatible_server,
llamacpp https://github.com/ggml-org/llama.cpp/tree/master/tools/server, lmstudio https://lmstudio.ai/docs/developer/openai-compat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Known:
    """How to speak to a provider.

    `dialect`: its wire format, one of `providers.DIALECTS`. `variables`: prefixes of the environment variables
    `<prefix>_API_KEY` and `<prefix>_BASE_URL`, the first is the documented one. `hosts`: the provider's own hosts
    beside that of `base_url`; `*.` takes subdomains. `keyless`: works without a key. `by_role`: it does so because the
    function's role may call it. The rest are differences among servers of the OpenAI dialect: `max_tokens` names the
    field that limits the answer; `strict`: JSON schemas may be marked strict; `short_tool_ids`: ids of tool calls have
    nine letters and digits; `signatures`: tool calls carry thought signatures, which must be given back.
    """

    dialect: str = "openai"
    base_url: str = ""
    variables: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    keyless: bool = False
    by_role: bool = False
    max_tokens: str = "max_tokens"
    strict: bool = False
    short_tool_ids: bool = False
    signatures: bool = False

    @property
    def own_server(self) -> bool:
        """Whether it is software that people run themselves: `base_url` is where it listens on one's own machine. The
        local stack goes there by itself; a deployed one has no such neighbour and needs the address beside a key."""
        return self.keyless and not self.by_role


KNOWN: dict[str, Known] = {
    "openai": Known(
        base_url="https://api.openai.com/v1",
        variables=("OPENAI",),
        hosts=("*.api.openai.com",),
        max_tokens="max_completion_tokens",
        strict=True,
    ),
    "azure": Known(
        dialect="azure",
        variables=("AZURE", "AZURE_OPENAI"),
        hosts=("*.openai.azure.com", "*.services.ai.azure.com", "*.cognitiveservices.azure.com"),
        max_tokens="max_completion_tokens",
        strict=True,
    ),
    "anthropic": Known(dialect="anthropic", base_url="https://api.anthropic.com", variables=("ANTHROPIC",)),
    "bedrock": Known(dialect="bedrock", keyless=True, by_role=True),
    "google": Known(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        variables=("GOOGLE", "GEMINI"),
        signatures=True,
    ),
    "mistral": Known(base_url="https://api.mistral.ai/v1", variables=("MISTRAL",), strict=True, short_tool_ids=True),
    "deepseek": Known(base_url="https://api.deepseek.com/v1", variables=("DEEPSEEK",)),
    "openrouter": Known(base_url="https://openrouter.ai/api/v1", variables=("OPENROUTER",), strict=True),
    "groq": Known(base_url="https://api.groq.com/openai/v1", variables=("GROQ",), max_tokens="max_completion_tokens"),
    "together": Known(base_url="https://api.together.xyz/v1", variables=("TOGETHER",)),
    "fireworks": Known(base_url="https://api.fireworks.ai/inference/v1", variables=("FIREWORKS",)),
    "xai": Known(base_url="https://api.x.ai/v1", variables=("XAI",), strict=True),
    "cerebras": Known(
        base_url="https://api.cerebras.ai/v1", variables=("CEREBRAS",), max_tokens="max_completion_tokens", strict=True
    ),
    "perplexity": Known(base_url="https://api.perplexity.ai", variables=("PERPLEXITY",)),
    "ollama": Known(base_url="http://localhost:11434/v1", variables=("OLLAMA",), keyless=True),
    "vllm": Known(base_url="http://localhost:8000/v1", variables=("VLLM",), keyless=True),
    "llamacpp": Known(base_url="http://localhost:8080/v1", variables=("LLAMACPP",), keyless=True),
    "lmstudio": Known(base_url="http://localhost:1234/v1", variables=("LMSTUDIO",), keyless=True),
}


_NO_TEMPERATURE = re.compile(
    r"(^|[./])(o[1-9]|gpt-[5-9])(?!.*-chat)|claude-(opus-4-[7-9]|opus-[5-9]|sonnet-[5-9]|haiku-[5-9]|fable|mythos)"
)

_NO_FORCED_TOOL = re.compile(r"(^|[./])deepseek-(v4|reasoner)|claude-(mythos|opus-5-5|sonnet-5-5)|^claude-fable")

_BY_RESPONSES = re.compile(r"(^|[./:])gpt-(5\.([5-9]|[1-9]\d)|[6-9]|1\d)(?!\d)")
_BY_RESPONSES_WITH_EFFORT = re.compile(r"(^|[./:])gpt-5\.4(?!\d)")


def needs_responses(model: str, options: Mapping[str, Any]) -> bool:
    """Return whether a model of OpenAI is asked by the Responses API, because Chat Completions takes no function tools
    for it: it refuses them beside reasoning ("To use function tools, use /v1/responses or set reasoning_effort to
    'none'"). GPT-5.4 reasons where its `options` say so, GPT-5.5 and later by themselves.

    github.com/openai/openai-openapi, issue 541; github.com/BerriAI/litellm, pull request 34569 (tools alone are
    refused); github.com/charmbracelet/crush, issue 2913 (GPT-5.5).
    """
    if _BY_RESPONSES.search(model):
        return True
    effort = "reasoning" in options or options.get("reasoning_effort", "none") != "none"
    return effort and bool(_BY_RESPONSES_WITH_EFFORT.search(model))


def takes_forced_tool(model: str) -> bool:
    """Return whether a model accepts a `tool_choice` that names the tool, or says that there must be one. Models that
    always think answer 400 to it.

    Claude Opus 5.5 and Sonnet 5.5: github.com/vercel/ai, issue 21364. Fable and Mythos at Anthropic itself (Bedrock
    takes it of Fable, langchain-aws 1141): github.com/pydantic/pydantic-ai, pull request 5911. DeepSeek V4:
    github.com/BerriAI/litellm, pull request 31466.
    """
    return not _NO_FORCED_TOOL.search(model)


def takes_temperature(model: str) -> bool:
    """Return whether a model accepts `temperature`. Reasoning models answer 400 to any but their default, so that a
    step would break by being moved to one; adapters leave the field out for them.

    OpenAI's o series and GPT-5: https://platform.openai.com/docs/guides/latest-model (parameter compatibility).
    Claude from Opus 4.7 on: https://docs.claude.com/en/docs/about-claude/models/migration-guide.
    """
    return not _NO_TEMPERATURE.search(model)


def variables_of(provider: str) -> tuple[str, ...]:
    """Return the prefixes of the environment variables that may hold a provider's key and base URL."""
    known = KNOWN.get(provider)
    if known is not None:
        return known.variables
    return ("".join(c if c.isalnum() else "_" for c in provider).upper(),)
