"""What models refuse, alone and in combination: the one place that says so, each rule with its source and its date.

A rule goes by the name of the model, wherever it is served; an entry of the catalog whose name says nothing (a
deployment at Azure, an ARN, a second account) names the model with `same_as`. What no rule knows is learnt from the
refusal (`providers.forms`, `providers.output_modes`), so a missing rule costs one request a process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from loopllama.catalog.providers import KNOWN
from loopllama.core.patterns import late

if TYPE_CHECKING:
    from loopllama.catalog.model import Model

Refused = Literal[
    "temperature",
    "temperature while thinking",
    "temperature over 1",
    "top_p beside temperature",
    "top_p and top_k",
    "thinking budget",
    "max_tokens",
    "forced tool",
    "forced tool while thinking",
    "schema beside tools",
    "limits at high effort",
    "unsigned thoughts",
    "calls without thoughts",
]
"""What a request may hold, and a model may refuse. `max_tokens`: it wants `max_completion_tokens`. `forced tool`: a
`tool_choice` that names a tool, or says that there must be one. `schema beside tools`: a schema for the answer in the
provider's own mode, where the request has tools too. `limits at high effort`: a limit of the answer, or parameters of
sampling, beside the effort `high`. `thinking budget`: `thinking` of the type `enabled`, with a number
of tokens. `unsigned thoughts`: earlier thoughts without a signature. `calls without thoughts`: earlier calls of tools
whose `reasoning_content` is missing."""


OWN_SERVER = "a server of your own"
"""What stands in `Rule.providers` for every provider that is none of `KNOWN`."""


class Rule(NamedTuple):
    """`models` is looked for in the model's name at its provider, `providers` limits it to some. `why` is what the
    trace says where another way is taken. `seen` is the month in which `source` said so."""

    refuses: Refused
    models: str
    why: str
    source: str
    seen: str
    providers: tuple[str, ...] = ()


_REASONING_OPENAI = r"(^|[./:])(o[1-9]|gpt-[5-9]|codex-)(?!.*-chat)"
_CLAUDE_FROM_OPUS_4_7 = "claude-(opus-4[-.][7-9]|opus-[5-9]|sonnet-[5-9]|haiku-[5-9]|fable)"
_CLAUDE_WITHOUT_SAMPLING = f"{_CLAUDE_FROM_OPUS_4_7}|claude-mythos"

RULES: tuple[Rule, ...] = (
    Rule(
        "temperature",
        _REASONING_OPENAI,
        "OpenAI's reasoning models take their own temperature only",
        "https://platform.openai.com/docs/guides/latest-model",
        "2026-11",
    ),
    Rule(
        "temperature",
        _CLAUDE_WITHOUT_SAMPLING,
        "Claude takes none from Opus 4.7 on",
        "https://docs.claude.com/en/docs/about-claude/models/migration-guide",
        "2026-11",
    ),
    Rule(
        "temperature while thinking",
        "claude",
        "Claude thinks at its own temperature only",
        "https://platform.claude.com/docs/en/build-with-claude/extended-thinking",
        "2026-11",
    ),
    Rule(
        "temperature over 1",
        "claude",
        "Claude takes 0 to 1",
        "https://docs.claude.com/en/api/messages; github.com/vercel/ai, pull request 10308",
        "2026-11",
    ),
    Rule(
        "temperature over 1",
        "",
        "Converse takes 0 to 1, of every model",
        "https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InferenceConfiguration.html; "
        "github.com/stdapi-ai/stdapi.ai, issue 224",
        "2026-09",
        providers=("bedrock",),
    ),
    Rule(
        "top_p and top_k",
        _CLAUDE_WITHOUT_SAMPLING,
        "Claude takes neither from Opus 4.7 on",
        "https://docs.claude.com/en/docs/about-claude/models/migration-guide",
        "2026-11",
    ),
    Rule(
        "thinking budget",
        _CLAUDE_FROM_OPUS_4_7,
        "Claude thinks as much as it likes, or its effort says, from Opus 4.7 on: adaptive thinking is asked for",
        "https://platform.claude.com/docs/en/build-with-claude/extended-thinking",
        "2026-11",
    ),
    Rule(
        "top_p beside temperature",
        r"claude-(opus-4-[1-6](?!\d)|(sonnet|haiku)-4-[5-9])",
        "Claude takes one of the two from Opus 4.1 on",
        "github.com/BerriAI/litellm, issue 15097",
        "2025-10",
    ),
    Rule(
        "max_tokens",
        _REASONING_OPENAI,
        "OpenAI's reasoning models call it max_completion_tokens",
        "https://platform.openai.com/docs/api-reference/chat/create",
        "2026-11",
    ),
    Rule(
        "forced tool",
        r"claude-(mythos|opus-5-5|sonnet-5-5)|^claude-fable",
        "the model always thinks, and lets no tool be forced",
        "github.com/vercel/ai, issue 21364; github.com/pydantic/pydantic-ai, pull request 5911",
        "2026-11",
    ),
    Rule(
        "forced tool",
        r"(^|[./])deepseek-(v4|reasoner)",
        "the model always thinks, and lets no tool be forced",
        "github.com/BerriAI/litellm, pull request 31466",
        "2026-11",
    ),
    Rule(
        "forced tool while thinking",
        "claude",
        "Claude lets no tool be forced while it thinks",
        "https://platform.claude.com/docs/en/build-with-claude/extended-thinking",
        "2026-11",
    ),
    Rule(
        "schema beside tools",
        r"gemini-[12](?!\d)",
        "Gemini before 3 takes no schema beside tools",
        "github.com/googleapis/python-genai, issue 867",
        "2026-11",
    ),
    Rule(
        "schema beside tools",
        "",
        "Groq takes no schema beside tools",
        "github.com/vercel/ai, pull request 16540",
        "2026-07",
        providers=("groq",),
    ),
    Rule(
        "schema beside tools",
        "",
        "Cerebras takes no schema beside tools",
        "github.com/vercel/ai, issue 15349; github.com/juspay/neurolink, pull request 1658",
        "2026-09",
        providers=("cerebras",),
    ),
    Rule(
        "limits at high effort",
        r"nova-2",
        "Nova 2 takes no maxTokens, temperature or topP at its highest effort",
        "https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html; "
        "github.com/UKGovernmentBEIS/inspect_ai, pull request 3848",
        "2026-05",
    ),
    Rule(
        "unsigned thoughts",
        "claude",
        "Claude checks the signature of thoughts",
        "github.com/maximhq/bifrost, pull request 6942",
        "2026-09",
    ),
    Rule(
        "unsigned thoughts",
        r"deepseek\.r1|deepseek-r1",
        "DeepSeek R1 takes no thoughts back",
        "github.com/aws-samples/bedrock-chat, pull request 851",
        "2025-04",
    ),
    Rule(
        "calls without thoughts",
        "",
        "DeepSeek wants the thoughts of each call back",
        "github.com/earendil-works/pi, issue 3636",
        "2026-11",
        providers=("deepseek",),
    ),
    Rule(
        "calls without thoughts",
        "(?i)deepseek|kimi",
        "DeepSeek's models and Kimi want the thoughts of each call back, wherever nobody stands between",
        "github.com/continuedev/continue, issue 11600",
        "2026-11",
        providers=("azure", OWN_SERVER),
    ),
)

_BY_RESPONSES = late(
    r"(^|[./:])(gpt-(5\.([5-9]|[1-9]\d)|[6-9]|1\d)(?!\d)|(gpt-\d[\d.]*|o\d)-pro\b|gpt-[\d.]+-codex|codex-)|openai\.gpt-\d"
)
_BY_RESPONSES_WITH_EFFORT = late(r"(^|[./:])gpt-5\.4(?!\d)")


@lru_cache(maxsize=4096)
def refused(what: Refused, model: str, provider: str = "") -> Rule | None:
    """Return the rule by which a model, by its name at its provider, refuses something; `None` where none is known."""
    known = provider if provider in KNOWN else OWN_SERVER
    for rule in RULES:
        if rule.refuses == what and (not rule.providers or known in rule.providers) and re.search(rule.models, model):
            return rule
    return None


def takes_temperature(model: Model) -> bool:
    """Return whether a step's `temperature` goes to a model. A deployment at Azure whose entry does not say `same_as`
    may say by the capability `reasoning` that it does not."""
    if model.stands_for is None and model.provider == "azure" and "reasoning" in (model.capabilities or ()):
        return False
    name = model.stands_for.model if model.stands_for else model.provider_model
    return refused("temperature", name, model.provider) is None


def reasons(model: str) -> bool:
    """Return whether a model, by its name, is one of OpenAI's that reason before they answer."""
    return bool(re.search(_REASONING_OPENAI, model))


def needs_responses(model: str, options: Mapping[str, Any], provider: str = "") -> bool:
    """Return whether a model is asked by the Responses API: some of OpenAI's, and all of Perplexity's Agent API.

    Some are served nowhere else: the pro and codex models ("This model is only supported in v1/responses",
    https://platform.openai.com/docs/models/gpt-5-pro), and all of GPT at Bedrock's bedrock-mantle endpoint but gpt-oss
    (https://docs.aws.amazon.com/bedrock/latest/userguide/model-card-openai-gpt-54.html). For others Chat Completions
    takes no function tools: it refuses them beside reasoning ("To use function tools, use /v1/responses or set
    reasoning_effort to 'none'"). GPT-5.4 reasons where its `options` say so, GPT-5.5 and later by themselves.

    Perplexity's names have a vendor in them where they are the Agent API's (`perplexity/sonar`, `openai/gpt-5.5`).
    Its Chat Completions, whose names have none, ended on 27 September 2026
    (https://docs.perplexity.ai/docs/agent-api/migrate-from-sonar; github.com/hex/llm-perplexity, pull request 27).

    github.com/openai/openai-openapi, issue 541; github.com/BerriAI/litellm, pull request 34569 (tools alone are
    refused); github.com/charmbracelet/crush, issue 2913 (GPT-5.5).
    """
    if provider == "perplexity":
        return "/" in model
    if _BY_RESPONSES.search(model):
        return True
    effort = "reasoning" in options or options.get("reasoning_effort", "none") != "none"
    return effort and bool(_BY_RESPONSES_WITH_EFFORT.search(model))
