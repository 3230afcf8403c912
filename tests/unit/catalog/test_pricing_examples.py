"""Bills of published usage examples, at the published prices: from a provider's own words to USD.

That our answer is genai-prices' too, on every bundled model of six providers, is in test_pricing.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from loopllama.catalog.catalog import bundled
from loopllama.catalog.pricing import cost
from loopllama.llm.types import Usage
from loopllama.providers import anthropic, openai
from loopllama.providers.bedrock import converse

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
Read = Callable[[Any], Usage | None]


EXAMPLES = [
    # Cached: https://platform.openai.com/docs/guides/prompt-caching; 2.50, cached 1.25, 10 USD.
    (
        "gpt-4o",
        openai._usage,
        """{"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920}, "completion_tokens_details": {"reasoning_tokens": 0}}""",
        86 * Decimal("2.5") + 1920 * Decimal("1.25") + 300 * 10,
    ),
    # Reasoning is billed as output: https://platform.openai.com/docs/guides/reasoning; 2 and 8 USD.
    (
        "o3",
        openai._usage,
        """{"prompt_tokens": 75, "completion_tokens": 1186, "total_tokens": 1261,
            "completion_tokens_details": {"reasoning_tokens": 1024}}""",
        75 * 2 + 1186 * 8,
    ),
    # Written to the cache at 1.25 times input, and then read at a tenth of it:
    # https://docs.claude.com/en/docs/build-with-claude/prompt-caching (a whole book), with the prices of
    # https://docs.claude.com/en/docs/about-claude/pricing: 3 and 15 USD.
    (
        "claude-sonnet-4-5",
        anthropic._usage,
        """{"cache_creation_input_tokens": 188086, "cache_read_input_tokens": 0, "input_tokens": 21,
            "output_tokens": 393}""",
        21 * 3 + 188086 * Decimal("3.75") + 393 * 15,
    ),
    (
        "claude-sonnet-4-5",
        anthropic._usage,
        """{"cache_creation_input_tokens": 0, "cache_read_input_tokens": 188086, "input_tokens": 21,
            "output_tokens": 393}""",
        21 * 3 + 188086 * Decimal("0.3") + 393 * 15,
    ),
    # Long context: above 200,000 tokens of prompt, cached ones counted, the whole call costs 6 and 22.50 USD (the
    # pricing page, long context pricing).
    (
        "claude-sonnet-4-5",
        anthropic._usage,
        """{"cache_creation_input_tokens": 0, "cache_read_input_tokens": 188086, "input_tokens": 20000,
            "output_tokens": 393}""",
        20000 * 6 + 188086 * Decimal("0.6") + 393 * Decimal("22.5"),
    ),
    # Thoughts are in the total alone and billed as output: https://ai.google.dev/gemini-api/docs/thinking#pricing,
    # measured in https://github.com/mozilla-ai/any-llm/pull/1291; 0.30 and 2.50 USD.
    (
        "gemini-2.5-flash",
        openai._usage,
        '{"prompt_tokens": 20, "completion_tokens": 151, "total_tokens": 553}',
        20 * Decimal("0.3") + 533 * Decimal("2.5"),
    ),
    # Above 200,000 tokens of prompt 2.50 and 15 USD: https://ai.google.dev/gemini-api/docs/pricing
    (
        "gemini-2.5-pro",
        openai._usage,
        '{"prompt_tokens": 200001, "completion_tokens": 100, "total_tokens": 200101}',
        200001 * Decimal("2.5") + 100 * 15,
    ),
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html (its example), Nova Lite's 0.06
    # and 0.24 USD: https://aws.amazon.com/bedrock/pricing
    (
        "bedrock:us.amazon.nova-lite-v1:0",
        converse._usage,
        '{"inputTokens": 125, "outputTokens": 60, "totalTokens": 185}',
        125 * Decimal("0.06") + 60 * Decimal("0.24"),
    ),
    # The same with cached reads, which come on top of inputTokens:
    # https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    (
        "bedrock:us.amazon.nova-lite-v1:0",
        converse._usage,
        '{"inputTokens": 125, "outputTokens": 60, "totalTokens": 4285, "cacheReadInputTokens": 4100}',
        125 * Decimal("0.06") + 4100 * Decimal("0.015") + 60 * Decimal("0.24"),
    ),
]


@pytest.mark.parametrize(("model", "read", "text", "millionths"), EXAMPLES, ids=[one[0] for one in EXAMPLES])
def test_a_published_example(model: str, read: Read, text: str, millionths: Decimal) -> None:
    usage = read(json.loads(text))
    assert usage is not None
    assert cost(bundled().resolve(model), usage, AT) == Decimal(millionths) / 1_000_000


def test_at_least_forty_models_are_compared_with_genai_prices() -> None:
    compared = ("openai", "anthropic", "google", "bedrock", "mistral", "deepseek")  # as in test_pricing.py
    assert len([model for model in bundled().models() if model.provider in compared and model.prices]) >= 40
