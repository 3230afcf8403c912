"""What the bundled catalog says beyond genai-prices: which models are current, what they can do, how fast they are.

Each rule is by provider and family, with its source; a model that no rule names is left out rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from loopllama.catalog.model import PRICES

NOT_CHAT = re.compile(
    r"audio|realtime|live|transcri|tts|whisper|image|banana|omni|robotics|embed|moderation|search|computer-use|"
    r"deep-research|ocr|voxtral|cyber|rosalind|safeguard|oss|sonic|chat-latest|"
    r":free|:extended|ft[:-]|codex-mini"
)
"""No chat models, not offered to everybody, or shut down."""

_PRICE_BOOKS = {"bedrock": "aws", "xai": "x-ai"}
"""Our providers that genai-prices calls otherwise. What it calls by our names and is something else: none (its `google`
is the Gemini API and Vertex AI together, at the same prices)."""

CURRENT = {
    # Listed as current or still offered at developers.openai.com/api/docs/models and /deprecations; of GPT-5.3 only
    # Codex and the id of ChatGPT's own snapshot are.
    "openai": re.compile(
        r"gpt-4\.1(-mini|-nano)?|gpt-4o(-mini)?|o3(-pro)?|o4-mini|gpt-(?!5\.3(?!-codex))[56](\.\d+)?(-.+)?"
    ),
    # platform.claude.com/docs/en/about-claude/model-deprecations: 4.1 and older are retired. Mythos is by invitation.
    "anthropic": re.compile(r"claude-(opus-4-[5-9]|sonnet-4-[5-9]|haiku-4-5|(opus|sonnet|haiku|fable)-5(-\d)?)"),
    # ai.google.dev/gemini-api/docs/models.
    "google": re.compile(
        r"gemini-2\.5-(pro|flash|flash-lite)|gemini-(3|3\.\d)-(pro|flash|flash-lite)(-preview)?|gemini-4-.+"
    ),
    # docs.mistral.ai/models: dated ids and the `-latest` names of the current generation.
    "mistral": re.compile(
        r"mistral-large-2512|mistral-large-4|mistral-medium-(3-5|latest)|mistral-small-(2603|latest)|"
        r"ministral-(3b|8b|14b)-2512|ministral-8b-latest|codestral-2508"
    ),
    # api-docs.deepseek.com/quick_start/pricing; deepseek-v4-flash is retired and answered by deepseek-flash.
    "deepseek": re.compile(r"deepseek-flash|deepseek-v4-pro"),
}
"""Ids, as genai-prices has them, that are current at the provider itself."""

PEAK_ON_WEEKDAYS = frozenset({"deepseek"})
"""Providers whose prices by the hour count from Monday to Friday only, which genai-prices cannot say: "Peak hours are
01:00 - 04:00 and 06:00 - 10:00 UTC, Monday through Friday" (api-docs.deepseek.com/quick_start/pricing, 2026-09;
github.com/diegosouzapw/OmniRoute, pull request 11210). In Beijing it is the same day at these hours."""

_CLAUDE = (
    "haiku-4-5-20251001-v1:0",
    "sonnet-4-5-20250929-v1:0",
    "opus-4-5-20251101-v1:0",
    "sonnet-4-6",
    "opus-4-6-v1",
    "opus-4-7",
    "opus-4-8",
    "sonnet-5",
    "opus-5",
    "fable-5",
    "fable-5-1",
    "sonnet-5-5",
    "opus-5-5",
    "haiku-5-5",
    "fable-5-2",
)
BEDROCK = (
    # Claude on demand goes through inference profiles only; platform.claude.com/docs/en/build-with-claude/
    # claude-on-amazon-bedrock and AWS's model cards.
    *(f"{place}.anthropic.claude-{name}" for name in _CLAUDE for place in ("us", "global")),
    # docs.aws.amazon.com/nova/latest/userguide/what-is-nova.html; Premier and Sonic reached their end in 2026-09.
    "amazon.nova-micro-v1:0",
    "amazon.nova-lite-v1:0",
    "amazon.nova-pro-v1:0",
    "us.amazon.nova-micro-v1:0",
    "us.amazon.nova-lite-v1:0",
    "us.amazon.nova-pro-v1:0",
    "us.amazon.nova-2-lite-v1:0",
    "jp.amazon.nova-2-lite-v1:0",
    "global.amazon.nova-2-lite-v1:0",
    # docs.aws.amazon.com/bedrock/latest/userguide/models-supported.html.
    "meta.llama3-1-8b-instruct-v1:0",
    "meta.llama3-1-70b-instruct-v1:0",
    "us.meta.llama3-1-8b-instruct-v1:0",
    "us.meta.llama3-1-70b-instruct-v1:0",
    "us.meta.llama3-3-70b-instruct-v1:0",
    "us.meta.llama4-scout-17b-instruct-v1:0",
    "us.meta.llama4-maverick-17b-instruct-v1:0",
    "mistral.mistral-large-3-675b-instruct",
    "mistral.ministral-3-14b-instruct",
    "mistral.ministral-3-8b-instruct",
    "mistral.ministral-3-3b-instruct",
    "mistral.magistral-small-2509",
    "mistral.devstral-2-123b",
    "us.mistral.pixtral-large-2502-v1:0",
)
"""Ids that Bedrock's Converse takes; genai-prices names the regional ones `regional.…`, which Bedrock does not."""

BEDROCK_OPENAI = (
    # bedrock-mantle alone has these two; the later ones it has by their bare ids, bedrock-runtime by profiles.
    # docs.aws.amazon.com/bedrock/latest/userguide/models-endpoint-availability.html and the models' cards.
    "openai.gpt-5.4",
    "openai.gpt-5.5",
    *(
        f"{place}.openai.gpt-{name}"
        for name in ("5.6-luna", "5.6-sol", "5.6-terra", "6-astra", "6-luna", "6-sol", "6.1-sol", "6.1-terra")
        for place in ("us", "global")
    ),
    "xai.grok-4.3",
    "xai.grok-4.6",
)
"""Ids that Bedrock's OpenAI-compatible endpoints take."""

OWN_PRICES: Mapping[str, list[dict[str, Any]]] = {
    # The AWS price list of ap-northeast-1, the one region that calls this profile (pricing.us-east-1.amazonaws.com/
    # offers/v1.0/aws/AmazonBedrock/current/ap-northeast-1/index.json); genai-prices has the one of the US for it.
    "jp.amazon.nova-2-lite-v1:0": [{"input": "0.396", "output": "3.311", "cache_read": "0.099"}],
    # aws.amazon.com/bedrock/pricing (2026-06-28, github.com/anomalyco/models.dev, pull request 2897) and the model's
    # card (2026-08-19, github.com/theopenco/llmgateway, pull request 3697); genai-prices has no xAI at Bedrock.
    "xai.grok-4.3": [{"input": "1.25", "output": "2.5", "cache_read": "0.2"}],
    "xai.grok-4.6": [{"input": "2.2", "output": "6.6", "cache_read": "0.55"}],
}
"""Prices of Bedrock's models where genai-prices has none, or is known to have another region's."""

_REASONING = re.compile(
    r"^o\d|(^|openai\.)gpt-[5-9]|grok|claude|gemini-(2\.5|3|4)|magistral|mistral-(medium-3-5|medium-latest|small|large-4)|deepseek|nova-2"
)
_CAPABILITIES = (
    # (provider, family, capabilities): the first that matches. `reasoning` is added by _REASONING: hidden thinking
    # that is billed as output, where the provider's model page says so.
    # developers.openai.com/api/docs/models: function calling, structured outputs, image input, prompt caching.
    ("openai", r".", "tools structured_output images prompt_cache"),
    # platform.claude.com/docs/en/build-with-claude/structured-outputs (4.5 and later), /vision, /prompt-caching.
    ("anthropic", r".", "tools structured_output images prompt_cache"),
    # ai.google.dev/gemini-api/docs/models: function calling, structured outputs, images, (implicit) caching.
    ("google", r".", "tools structured_output images prompt_cache"),
    # docs.mistral.ai/capabilities: function calling and custom structured outputs on all of these; vision on these.
    ("mistral", r"codestral", "tools structured_output prompt_cache"),
    ("mistral", r".", "tools structured_output images prompt_cache"),
    # api-docs.deepseek.com: tool calls, context caching, images with Flash; JSON mode without a schema.
    ("deepseek", r"flash", "tools images prompt_cache"),
    ("deepseek", r".", "tools prompt_cache"),
    # docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html (Mistral's open models), prompt-caching.html
    # (Claude, Nova), conversation-inference-supported-models-features.html (tools, images). Converse takes a schema of
    # Claude 4.5, Opus 4.6 and Sonnet 4.6 only, and refuses it of all later ones (github.com: pydantic/pydantic-ai issue
    # 7373, BerriAI/litellm 39070, vercel/ai 20128): Claude on Bedrock is asked by the answer tool.
    ("bedrock", r"anthropic\.claude", "tools images prompt_cache"),
    ("bedrock", r"amazon\.nova-micro", "tools prompt_cache"),
    ("bedrock", r"amazon\.nova", "tools images prompt_cache"),
    ("bedrock", r"meta\.llama4", "tools images"),
    ("bedrock", r"meta\.llama", "tools"),
    ("bedrock", r"mistral\.(mistral-large-3|ministral-3)", "tools structured_output images"),
    ("bedrock", r"mistral\.magistral", "tools structured_output images"),
    ("bedrock", r"mistral\.pixtral", "tools images"),
    ("bedrock", r"mistral\.", "tools"),
    # The models' cards: structured outputs at bedrock-mantle, not with bedrock-runtime's profiles.
    ("bedrock-openai", r"^(us|global)\.", "tools images prompt_cache"),
    ("bedrock-openai", r".", "tools structured_output images prompt_cache"),
)
TIERS_BY_NAME = ("openai",)
"""Providers whose service tiers a call can ask for, of those that genai-prices has. Gemini's are of its own API alone
(ai.google.dev/gemini-api/docs/flex-inference: GenerateContent and Interactions), which we do not speak."""

_BEDROCK_TIERS = (
    # (family, tiers): each tier's share of the standard price. docs.aws.amazon.com/bedrock/latest/userguide/
    # service-tiers-inference.html says which models have them; the shares are those of the AWS price list of us-east-1
    # (pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AmazonBedrock/current/us-east-1/index.json).
    (r"^global\.amazon\.nova-2-lite", {"priority": Decimal("1.75")}),
    (
        r"amazon\.nova-(pro|2-lite)",
        {"flex": Decimal("0.5"), "priority": Decimal("1.75"), "batch": Decimal("0.5")},
    ),
    (r"^mistral\.devstral-2", {"flex": Decimal("0.5"), "priority": Decimal("1.75")}),
)
_BEDROCK_TIER_PRICES = {
    # The same list, where it rounds: (input, output) USD per million tokens.
    "mistral.mistral-large-3-675b-instruct": {"flex": ("0.25", "0.75"), "priority": ("0.88", "2.63")},
    "mistral.magistral-small-2509": {"flex": ("0.25", "0.75"), "priority": ("0.88", "2.63")},
    "mistral.ministral-3-14b-instruct": {"flex": ("0.1", "0.1"), "priority": ("0.35", "0.35")},
    "mistral.ministral-3-8b-instruct": {"flex": ("0.07", "0.07"), "priority": ("0.26", "0.26")},
    "mistral.ministral-3-3b-instruct": {"flex": ("0.05", "0.05"), "priority": ("0.17", "0.17")},
}

_EFFORTS = (
    # (provider, family, efforts): the first that matches.
    # developers.openai.com/api/docs/models (each model's page) and /guides/reasoning.
    ("openai", r"^gpt-5-pro", "high"),
    ("openai", r"^gpt-5\.\d-pro", "medium high xhigh"),
    ("openai", r"^gpt-5\.\d-codex", "low medium high xhigh"),
    ("openai", r"^gpt-5(-mini|-nano)?$", "minimal low medium high"),
    ("openai", r"^gpt-5\.1$", "none low medium high"),
    ("openai", r"^gpt-5\.[2-6]", "none low medium high xhigh"),
    ("openai", r"^gpt-6-astra|^gpt-6\.1-sol", "low medium high xhigh max"),
    ("openai", r"^gpt-6-(luna|sol)|^gpt-6\.1-terra", "none low medium high xhigh max"),
    ("openai", r"^o\d", "low medium high"),
    ("openai", r"^gpt-4", ""),
    # platform.claude.com/docs/en/build-with-claude/effort; Claude 4.5 but Opus knows none.
    ("anthropic", r"claude-opus-4-5", "low medium high"),
    ("anthropic", r"claude-(haiku|sonnet)-4-5", ""),
    ("anthropic", r"claude-(opus|sonnet)-4-6", "low medium high max"),
    ("anthropic", r"claude", "low medium high xhigh max"),
    # On Bedrock the same parameter, whose highest value is refused of some (LiteLLM's list calls it the ceiling,
    # `bedrock_output_config_effort_ceiling`); of Opus 4.5 it is behind a beta flag.
    ("bedrock", r"claude-(haiku|sonnet|opus)-4-5", ""),
    ("bedrock", r"claude-(opus|sonnet)-4-6", "low medium high max"),
    ("bedrock", r"claude-(opus-5|opus-5-5)$", "low medium high xhigh max"),
    ("bedrock", r"claude", "low medium high xhigh"),
    # docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html; with `high` it takes neither a limit of
    # the answer nor a temperature, so that no budget would hold.
    ("bedrock", r"nova-2-lite", "low medium"),
    ("bedrock", r".", ""),
    # As far as aws-samples/amazon-bedrock-client-for-mac, release 2.0.5, offers them.
    ("bedrock-openai", r"grok-4\.[6-9]", "low medium high xhigh"),
    ("bedrock-openai", r"grok", "low medium high"),
    # ai.google.dev/gemini-api/docs/openai (thinking): of 2.5 Pro and of Gemini 3 thinking cannot be turned off. Which
    # ones know `minimal`: ai.google.dev/gemini-api/docs/thinking.
    ("google", r"gemini-2\.5-flash", "none low medium high"),
    ("google", r"gemini-3(\.[15])?-flash", "minimal low medium high"),
    ("google", r".", "low medium high"),
    # docs.mistral.ai/capabilities/reasoning: adjustable reasoning, on or off.
    ("mistral", r"mistral-(small|medium-3-5|medium-latest|large-4)", "none high"),
    ("mistral", r".", ""),
    # api-docs.deepseek.com/guides/thinking_mode: others are mapped to these.
    ("deepseek", r".", "high max"),
)
_MAX_OUTPUT = (
    # developers.openai.com/api/docs/models
    ("openai", r"gpt-4o", 16_384),
    ("openai", r"gpt-4\.1", 32_768),
    ("openai", r"o[34]", 100_000),
    ("openai", r"gpt-5-pro", 272_000),
    ("openai bedrock-openai", r"gpt-[56]", 128_000),
    # github.com/anomalyco/models.dev, pull request 2897
    ("bedrock-openai", r"grok-4\.3", 131_072),
    # platform.claude.com/docs/en/about-claude/models/overview; the same model on Bedrock answers as long.
    ("anthropic bedrock", r"claude-(haiku-4-5|sonnet-4-5|opus-4-5|sonnet-4-6)", 64_000),
    ("anthropic bedrock", r"claude-(opus-4-[6-8]|(opus|sonnet|fable)-5)", 128_000),
    # ai.google.dev/gemini-api/docs/models
    ("google", r"gemini-(2\.5|3)", 65_536),
    # api-docs.deepseek.com/quick_start/pricing
    ("deepseek", r".", 384_000),
    # docs.aws.amazon.com/nova/latest/userguide/what-is-nova.html; of Nova 2 Lite Bedrock takes one token less than its
    # guide says (github.com/anomalyco/models.dev, pull request 6793)
    ("bedrock", r"nova-(micro|lite|pro)", 10_000),
    ("bedrock", r"nova-2-lite", 65_535),
    # docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-meta.html
    ("bedrock", r"meta\.llama", 8_192),
)
_CONTEXT_WINDOW = (
    # ai.google.dev/gemini-api/docs/models, where genai-prices gives none
    ("google", r"gemini-(2\.5|3\.1)-pro", 1_048_576),
    # github.com/theopenco/llmgateway, pull request 3697
    ("bedrock-openai", r"grok-4\.6", 500_000),
    # docs.aws.amazon.com/bedrock/latest/userguide/model-card-openai-gpt-54.html
    ("bedrock-openai", r"gpt-5\.[45]$", 272_000),
)
_SPEED = (
    # (output price below, ms to the first token, tokens per second)
    (Decimal(1), 300, 180),
    (Decimal(6), 450, 120),
    (Decimal(20), 800, 70),
)
_SLOWEST = (1500, 45)


def price_book(provider: str) -> str:
    """Return what genai-prices calls a provider of ours."""
    return _PRICE_BOOKS.get(provider, provider)


def capabilities(provider: str, model: str) -> list[str]:
    """Return what a model can do, by its family."""
    for name, family, listed in _CAPABILITIES:
        if name == provider and re.search(family, model):
            return sorted({*listed.split(), *(["reasoning"] if _REASONING.search(model) else [])})
    raise SystemExit(f"no rule says what {provider}:{model} can do")


def efforts(provider: str, model: str) -> list[str]:
    """Return the efforts that a model takes, by its family."""
    if provider == "bedrock-openai" and "openai." in model:
        provider, model = "openai", model.rpartition("openai.")[2]
    for name, family, listed in _EFFORTS:
        if name == provider and re.search(family, model):
            return listed.split()
    raise SystemExit(f"no rule says which efforts {provider}:{model} takes")


def service_tiers(provider: str, model: str, price: Mapping[str, Any]) -> dict[str, Any]:
    """Return the prices of one of Bedrock's models at its service tiers, from its standard one."""
    if provider != "bedrock":
        return {}
    if listed := _BEDROCK_TIER_PRICES.get(model):
        return {tier: {"input": given, "output": taken} for tier, (given, taken) in listed.items()}
    shares = next((shares for family, shares in _BEDROCK_TIERS if re.search(family, model)), {})
    return {
        tier: {name: f"{(Decimal(price[name]) * share).normalize():f}" for name in PRICES if name in price}
        for tier, share in shares.items()
    }


def max_output(provider: str, model: str) -> int | None:
    """Return the longest answer in tokens, where it is known."""
    return _first(_MAX_OUTPUT, provider, model)


def context_window(provider: str, model: str) -> int | None:
    """Return the context window in tokens, for models for which genai-prices has none."""
    return _first(_CONTEXT_WINDOW, provider, model)


def _first(rules: tuple[tuple[str, str, int], ...], provider: str, model: str) -> int | None:
    for names, family, tokens in rules:
        if provider in names.split() and re.search(family, model):
            return tokens
    return None


def speed(output_price: Decimal) -> list[int]:
    """`[first_token_ms, tokens_per_second]`: a prior by class, for models nobody has observed yet.

    The class is the price of output, because models priced alike are of like size. The figures are our own round
    numbers of the order that public latency boards report; nothing but simulated time and first guesses rests on them.
    """
    for below, first_token_ms, tokens_per_second in _SPEED:
        if output_price < below:
            return [first_token_ms, tokens_per_second]
    return list(_SLOWEST)
