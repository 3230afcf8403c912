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

from dataclasses import dataclass

THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
"""Fields of a message in which servers give thoughts and take them back: DeepSeek, Moonshot and vLLM the first, Ollama
the second, OpenRouter the third, LiteLLM before Claude the last. They go back in the field in which they came.
https://api-docs.deepseek.com/guides/thinking_mode#tool-calls, https://openrouter.ai/docs/guides/best-practices/reasoning-tokens,
https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model, https://docs.litellm.ai/docs/reasoning_content"""


@dataclass(frozen=True, slots=True)
class Known:
    """How to speak to a provider.

    `dialect`: its wire format, one of `providers.DIALECTS`. `variables`: prefixes of the environment variables
    `<prefix>_API_KEY` and `<prefix>_BASE_URL`, the first is the documented one. `hosts`: the provider's own hosts
    beside that of `base_url`; `*.` takes subdomains. `keyless`: works without a key. `by_role`: it does so because the
    function's role may call it. `schemas` and `parameters` name the subsets of JSON Schema, of
    `llm.schema_subsets.SUBSETS`, in which it takes the schema of an answer and the parameters of tools. The rest are
    differences among servers of the OpenAI dialect: `max_tokens` names the field that limits the answer;
    `short_tool_ids`: ids of tool calls have nine letters and digits; `signatures`: tool calls carry thought signatures,
    which must be given back; `thoughts`: the fields of a message in which it takes thoughts back; `thought_parts`: it
    takes them back as parts of the content. `longest_description`: the characters that a tool's description may have
    (OpenAI: github.com/OpenHands/OpenHands, issue 4838; github.com/getsentry/sentry-mcp, issue 106); `cuts_prompts`:
    what does not fit into its window is left out without a word; `says_cost`: its `usage` says in USD what the call
    costs (https://openrouter.ai/docs/use-cases/usage-accounting, https://docs.perplexity.ai/docs/agent-api,
    https://docs.x.ai/docs/api-reference, cost_in_usd_ticks).
    """

    dialect: str = "openai"
    base_url: str = ""
    variables: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    keyless: bool = False
    by_role: bool = False
    max_tokens: str = "max_tokens"
    short_tool_ids: bool = False
    signatures: bool = False
    schemas: str = "any"
    parameters: str = "openai tools"
    thoughts: tuple[str, ...] = THOUGHTS
    thought_parts: bool = False
    longest_description: int | None = None
    cuts_prompts: bool = False
    says_cost: bool = False

    @property
    def strict(self) -> bool:
        """Whether schemas may be marked strict, so that they are held to."""
        return self.schemas == "openai strict"

    @property
    def local_server(self) -> bool:
        """Whether it is software that people run themselves: `base_url` is where it listens on one's own machine. The
        local stack goes there by itself; a deployed one has no such neighbour and needs the address beside a key."""
        return self.keyless and not self.by_role


OWN = Known()
"""A server that is none of `KNOWN`."""

KNOWN: dict[str, Known] = {
    "openai": Known(
        base_url="https://api.openai.com/v1",
        variables=("OPENAI",),
        hosts=("*.api.openai.com",),
        max_tokens="max_completion_tokens",
        longest_description=1024,
        schemas="openai strict",
        thoughts=(),
    ),
    "azure": Known(
        dialect="azure",
        variables=("AZURE", "AZURE_OPENAI"),
        hosts=("*.openai.azure.com", "*.services.ai.azure.com", "*.cognitiveservices.azure.com"),
        longest_description=1024,
        max_tokens="max_completion_tokens",
        schemas="openai strict",
    ),
    "anthropic": Known(
        dialect="anthropic",
        base_url="https://api.anthropic.com",
        variables=("ANTHROPIC",),
        schemas="anthropic",
        parameters="anthropic tools",
    ),
    "bedrock": Known(dialect="bedrock", keyless=True, by_role=True, schemas="anthropic", parameters="anthropic tools"),
    "bedrock-openai": Known(
        dialect="bedrock-openai",
        keyless=True,
        by_role=True,
        max_tokens="max_completion_tokens",
        schemas="openai strict",
    ),
    "google": Known(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        variables=("GOOGLE", "GEMINI"),
        signatures=True,
        schemas="gemini",
        parameters="gemini tools",
        thoughts=(),  # signatures, with the calls
    ),
    "mistral": Known(
        base_url="https://api.mistral.ai/v1",
        variables=("MISTRAL",),
        short_tool_ids=True,
        schemas="openai strict",
        thoughts=(),  # refuses what it does not know: github.com/BerriAI/litellm, issue 30835
        thought_parts=True,
    ),
    "deepseek": Known(base_url="https://api.deepseek.com/v1", variables=("DEEPSEEK",)),
    "openrouter": Known(
        base_url="https://openrouter.ai/api/v1", variables=("OPENROUTER",), schemas="openai strict", says_cost=True
    ),
    "groq": Known(
        base_url="https://api.groq.com/openai/v1",
        variables=("GROQ",),
        max_tokens="max_completion_tokens",
        thoughts=("reasoning",),
    ),
    "together": Known(base_url="https://api.together.xyz/v1", variables=("TOGETHER",)),
    "fireworks": Known(base_url="https://api.fireworks.ai/inference/v1", variables=("FIREWORKS",)),
    "xai": Known(
        base_url="https://api.x.ai/v1", variables=("XAI",), schemas="openai strict", thoughts=(), says_cost=True
    ),
    "cerebras": Known(
        base_url="https://api.cerebras.ai/v1",
        variables=("CEREBRAS",),
        max_tokens="max_completion_tokens",
        schemas="openai strict",
        thoughts=("reasoning",),  # refuses the others: github.com/anomalyco/opencode, issue 48774
    ),
    "perplexity": Known(base_url="https://api.perplexity.ai", variables=("PERPLEXITY",), thoughts=(), says_cost=True),
    "ollama": Known(base_url="http://localhost:11434/v1", variables=("OLLAMA",), keyless=True, cuts_prompts=True),
    "vllm": Known(base_url="http://localhost:8000/v1", variables=("VLLM",), keyless=True),
    "llamacpp": Known(base_url="http://localhost:8080/v1", variables=("LLAMACPP",), keyless=True),
    "lmstudio": Known(base_url="http://localhost:1234/v1", variables=("LMSTUDIO",), keyless=True),
}


def is_own_server(provider: str) -> bool:
    """Return whether a provider is a server of one's own: one of those that people run themselves, or any that is none
    of `KNOWN`."""
    known = KNOWN.get(provider)
    return known is None or known.local_server


def variables_of(provider: str) -> tuple[str, ...]:
    """Return the prefixes of the environment variables that may hold a provider's key and base URL."""
    known = KNOWN.get(provider)
    if known is not None:
        return known.variables
    return ("".join(c if c.isalnum() else "_" for c in provider).upper(),)
