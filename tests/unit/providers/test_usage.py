"""Usage as providers report it, in examples that they publish, converted to our one way of counting."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from loopllama.llm.types import Usage
from loopllama.providers import anthropic, openai, openai_responses
from loopllama.providers.bedrock import converse

OPENAI_STYLE = [
    # https://platform.openai.com/docs/guides/prompt-caching (monitoring)
    (
        "openai",
        """{"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0,
                                          "rejected_prediction_tokens": 0}}""",
        Usage(2006, 300, cached_tokens=1920),
    ),
    # https://platform.openai.com/docs/guides/reasoning (its example, under Chat Completions' names)
    (
        "openai",
        """{"prompt_tokens": 75, "completion_tokens": 1186, "total_tokens": 1261,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 1024}}""",
        Usage(75, 1186, reasoning_tokens=1024),
    ),
    # https://api-docs.deepseek.com/api/create-chat-completion says that prompt_tokens is the sum of hits and misses;
    # the figures are made up
    (
        "deepseek",
        """{"prompt_tokens": 1600, "completion_tokens": 50, "total_tokens": 1650,
            "prompt_cache_hit_tokens": 1536, "prompt_cache_miss_tokens": 64}""",
        Usage(1600, 50, cached_tokens=1536),
    ),
    # Measured on gemini-2.5-flash in https://github.com/mozilla-ai/any-llm/pull/1291: 382 thought tokens that only
    # the total holds
    (
        "google",
        '{"prompt_tokens": 20, "completion_tokens": 151, "total_tokens": 553}',
        Usage(20, 533, reasoning_tokens=382),
    ),
    # https://github.com/router-for-me/CLIProxyAPI/issues/5733: thoughts and no visible answer
    (
        "google",
        """{"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81,
            "completion_tokens_details": {"reasoning_tokens": 60}}""",
        Usage(21, 60, reasoning_tokens=60),
    ),
    # https://openrouter.ai/docs/guides/best-practices/prompt-caching
    (
        "openrouter",
        """{"prompt_tokens": 10339, "completion_tokens": 60, "total_tokens": 10399,
            "prompt_tokens_details": {"cached_tokens": 10318, "cache_write_tokens": 0}}""",
        Usage(10339, 60, cached_tokens=10318),
    ),
    # The same the other way round: the call before it, which wrote
    (
        "openrouter",
        """{"prompt_tokens": 10339, "completion_tokens": 60, "total_tokens": 10399,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 10318}}""",
        Usage(10339, 60, cache_write_tokens=10318),
    ),
    # The same thoughts behind a gateway or Vertex AI's own address, under a name of its user's
    (
        "vertex",
        '{"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}',
        Usage(20, 603, reasoning_tokens=405),
    ),
    # LiteLLM's proxy in front of Claude: github.com/BerriAI/litellm/issues/11364
    (
        "litellm",
        """{"prompt_tokens": 98805, "completion_tokens": 5120, "total_tokens": 103925,
            "prompt_tokens_details": {"cached_tokens": 66360, "cache_creation_tokens": 32435},
            "cache_read_input_tokens": 66360, "cache_creation_input_tokens": 32435}""",
        Usage(98805, 5120, cached_tokens=66360, cache_write_tokens=32435),
    ),
    # The same, with what it says of an hour's cache: litellm/types/utils.py, CacheCreationTokenDetails; the figures are
    # made up
    (
        "litellm",
        """{"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_creation_tokens": 700,
                "cache_creation_token_details": {"ephemeral_5m_input_tokens": 200,
                                                 "ephemeral_1h_input_tokens": 500}}}""",
        Usage(1000, 20, cache_write_tokens=700, cache_write_1h_tokens=500),
    ),
    # Moonshot's own place for cached tokens: https://platform.moonshot.ai/docs/api/chat; the figures are made up
    (
        "moonshot",
        '{"prompt_tokens": 1000, "completion_tokens": 20, "total_tokens": 1020, "cached_tokens": 768}',
        Usage(1000, 20, cached_tokens=768),
    ),
    # Perplexity's fee for the request: github.com/BerriAI/litellm/issues/15337
    (
        "perplexity",
        """{"prompt_tokens": 7, "completion_tokens": 149, "total_tokens": 156, "search_context_size": "low",
            "cost": {"input_tokens_cost": 0.000007, "output_tokens_cost": 0.000149, "request_cost": 0.005,
                     "total_cost": 0.005156}}""",
        Usage(7, 149, uncertain=True),
    ),
    # Of the same kind: a deep research's searches and citations, xAI's sources, OpenRouter's web search
    (
        "perplexity-research",
        """{"prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196, "citation_tokens": 20016,
            "num_search_queries": 18, "cost": {"search_queries_cost": 0.09, "total_cost": 0.15}}""",
        Usage(33, 7163, uncertain=True),
    ),
    (
        "perplexity-no-fee",
        """{"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16, "num_search_queries": 0,
            "cost": {"input_tokens_cost": 0.01, "output_tokens_cost": 0.01, "request_cost": 0, "total_cost": 0.02}}""",
        Usage(7, 9),
    ),
    ("xai", '{"prompt_tokens": 33, "completion_tokens": 7, "num_sources_used": 12}', Usage(33, 7, uncertain=True)),
    (
        "openrouter",
        '{"prompt_tokens": 33, "completion_tokens": 7, "server_tool_use": {"web_search_requests": 2}}',
        Usage(33, 7, uncertain=True),
    ),
    # Tokens that are no text have prices of their own: https://platform.openai.com/docs/pricing
    (
        "audio",
        """{"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50,
            "completion_tokens_details": {"audio_tokens": 25}}""",
        Usage(20, 30, uncertain=True),
    ),
    (
        "audio-in",
        '{"prompt_tokens": 20, "completion_tokens": 30, "prompt_tokens_details": {"audio_tokens": 5}}',
        Usage(20, 30, uncertain=True),
    ),
    (
        "image",
        '{"prompt_tokens": 20, "completion_tokens": 1300, "completion_tokens_details": {"image_tokens": 1290}}',
        Usage(20, 1300, uncertain=True),
    ),
    (
        "no-audio",
        """{"prompt_tokens": 20, "completion_tokens": 30, "prompt_tokens_details": {"audio_tokens": 0,
            "image_tokens": 8}, "completion_tokens_details": {"audio_tokens": null, "image_tokens": 0}}""",
        Usage(20, 30),
    ),
    # Gateways before Claude that count as Anthropic does; the figures are made up
    (
        "gateway",
        """{"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 12312, "cache_read_input_tokens": 12000,
            "cache_creation_input_tokens": 304}""",
        Usage(12307, 5, cached_tokens=12000, cache_write_tokens=304),
    ),
    (
        "gateway",
        '{"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8, "cache_read_input_tokens": 12000}',
        Usage(12003, 5, cached_tokens=12000),
    ),
    # Qwen's explicit cache: https://help.aliyun.com/zh/model-studio/context-cache; the figures are made up
    (
        "qwen",
        """{"prompt_tokens": 1500, "completion_tokens": 5, "total_tokens": 1505, "prompt_tokens_details":
            {"cached_tokens": 0, "cache_creation_input_tokens": 1400, "cache_type": "ephemeral"}}""",
        Usage(1500, 5, cache_write_tokens=1400),
    ),
    # Thoughts that are as many as the cached tokens: Gemini and xAI count them outside of the completion. Without a
    # word of them it is Claude's cache, which gateways leave out of the prompt.
    (
        "gemini-cached",
        """{"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1510,
            "prompt_tokens_details": {"cached_tokens": 500}, "completion_tokens_details": {"reasoning_tokens": 500}}""",
        Usage(1000, 510, cached_tokens=500, reasoning_tokens=500),
    ),
    (
        "gateway-cached",
        """{"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1510,
            "prompt_tokens_details": {"cached_tokens": 500}}""",
        Usage(1500, 10, cached_tokens=500),
    ),
    # Perplexity says how much was searched, and not what that costs
    (
        "perplexity-without-cost",
        '{"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16, "search_context_size": "low"}',
        Usage(7, 9, uncertain=True),
    ),
    # A name that is filled with 0 beside one that tells
    (
        "proxy",
        """{"prompt_tokens": 1500, "completion_tokens": 5, "prompt_cache_hit_tokens": 900,
            "prompt_tokens_details": {"cached_tokens": 0}}""",
        Usage(1500, 5, cached_tokens=900),
    ),
    # https://docs.mistral.ai/api
    (
        "mistral",
        '{"prompt_tokens": 16, "completion_tokens": 34, "total_tokens": 50}',
        Usage(16, 34),
    ),
    *(
        ("mistral-cached", f'{{"prompt_tokens": 1013, "completion_tokens": 30, "total_tokens": 1043, {cached}}}', used)
        for used in (Usage(1013, 30, cached_tokens=1008),)
        for cached in (
            '"num_cached_tokens": 1008',
            '"prompt_tokens_details": {"cached_tokens": 1008}',
            '"prompt_token_details": {"cached_tokens": 1008}',
        )
    ),
    # All tokens of the answer were thoughts: github.com/router-for-me/CLIProxyAPI, issue 5733
    (
        "gemini-thoughts-only",
        """{"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81,
            "completion_tokens_details": {"reasoning_tokens": 60}}""",
        Usage(21, 60, reasoning_tokens=60),
    ),
    ("no completion", '{"prompt_tokens": 21, "total_tokens": 81}', Usage(21, 60)),
    ("anthropic's names", '{"input_tokens": 21, "output_tokens": 7, "total_tokens": 28}', Usage(21, 7)),
    (
        "anthropic's names beside nothing",
        '{"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 21, "output_tokens": 7}',
        Usage(21, 7),
    ),
    (
        "sglang",
        '{"prompt_tokens": 21, "completion_tokens": 7, "total_tokens": 28, "reasoning_tokens": 5}',
        Usage(21, 7, reasoning_tokens=5),
    ),
]


@pytest.mark.parametrize(
    ("text", "expected"), [case[1:] for case in OPENAI_STYLE], ids=[case[0] for case in OPENAI_STYLE]
)
def test_openai_style(text: str, expected: Usage) -> None:
    assert openai._usage(json.loads(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # https://docs.claude.com/en/docs/build-with-claude/prompt-caching: 100,000 tokens read from the cache, none
        # written, 50 after the last breakpoint
        (
            """{"input_tokens": 50, "cache_read_input_tokens": 100000, "cache_creation_input_tokens": 0,
                "output_tokens": 1}""",
            Usage(100050, 1, cached_tokens=100000),
        ),
        # ibid., mixed TTLs
        (
            """{"input_tokens": 2048, "cache_read_input_tokens": 1800, "cache_creation_input_tokens": 248,
                "output_tokens": 503,
                "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100}}""",
            Usage(4096, 503, cached_tokens=1800, cache_write_tokens=248, cache_write_1h_tokens=100),
        ),
        # https://docs.claude.com/en/api/messages
        ('{"input_tokens": 2095, "output_tokens": 503}', Usage(2095, 503)),
        (
            '{"input_tokens": 9, "output_tokens": 90, "output_tokens_details": {"thinking_tokens": 70}}',
            Usage(9, 90, 0, 0, 70),
        ),
        # platform.claude.com/docs/en/build-with-claude/fast-mode: it costs more than the tokens' price
        ('{"input_tokens": 9, "output_tokens": 90, "speed": "fast"}', Usage(9, 90, uncertain=True)),
        ('{"input_tokens": 9, "output_tokens": 90, "speed": "standard"}', Usage(9, 90)),
        # platform.claude.com/docs/en/about-claude/pricing: inference in the United States alone costs a tenth more, and
        # a search has a fee
        ('{"input_tokens": 9, "output_tokens": 90, "inference_geo": "us"}', Usage(9, 90, price_factor=Decimal("1.1"))),
        ('{"input_tokens": 9, "output_tokens": 90, "inference_geo": "eu"}', Usage(9, 90, uncertain=True)),
        ('{"input_tokens": 9, "output_tokens": 90, "inference_geo": "global"}', Usage(9, 90)),
        ('{"input_tokens": 9, "output_tokens": 90, "inference_geo": "not_available"}', Usage(9, 90)),
        (
            '{"input_tokens": 9, "output_tokens": 90, "server_tool_use": {"web_search_requests": 3}}',
            Usage(9, 90, uncertain=True),
        ),
        ('{"input_tokens": 9, "output_tokens": 90, "server_tool_use": {"web_search_requests": 0}}', Usage(9, 90)),
        # https://platform.claude.com/docs/en/build-with-claude/compaction, with caching as in
        # github.com/BerriAI/litellm, pull request 27065
        (
            """{"input_tokens": 23000, "output_tokens": 1000, "iterations": [
                {"type": "compaction", "input_tokens": 180000, "output_tokens": 3500, "cache_read_input_tokens": 70,
                 "cache_creation_input_tokens": 30},
                {"type": "message", "input_tokens": 23000, "output_tokens": 1000}]}""",
            Usage(203100, 4500, cached_tokens=70, cache_write_tokens=30),
        ),
        # Another model's part has that one's price
        (
            """{"input_tokens": 9, "output_tokens": 90, "iterations": [{"type": "message", "input_tokens": 9},
                {"type": "advisor_message", "input_tokens": 50, "output_tokens": 9}]}""",
            Usage(9, 90, uncertain=True),
        ),
        ('{"input_tokens": 9, "output_tokens": 90, "iterations": [null, 3, {}]}', Usage(9, 90)),
    ],
)
def test_anthropic(text: str, expected: Usage) -> None:
    assert anthropic._usage(json.loads(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # https://platform.openai.com/docs/guides/reasoning (its example)
        (
            """{"input_tokens": 75, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 1186,
                "output_tokens_details": {"reasoning_tokens": 1024}, "total_tokens": 1261}""",
            Usage(75, 1186, reasoning_tokens=1024),
        ),
        # Measured on GPT-5.6 in https://github.com/charmbracelet/fantasy/pull/331: a read and a write at once; the
        # answer is made up
        (
            """{"input_tokens": 3438, "input_tokens_details": {"cached_tokens": 3423, "cache_write_tokens": 12},
                "output_tokens": 42, "output_tokens_details": {"reasoning_tokens": 25}, "total_tokens": 3480}""",
            Usage(3438, 42, cached_tokens=3423, cache_write_tokens=12, reasoning_tokens=25),
        ),
        (
            '{"input_tokens": 9, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 5}}',
            Usage(9, 2, 0, 0, 2),
        ),
    ],
)
def test_openai_responses(text: str, expected: Usage) -> None:
    assert openai_responses._usage(json.loads(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html (examples)
        ('{"inputTokens": 125, "outputTokens": 60, "totalTokens": 185}', Usage(125, 60)),
        # https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html says that the total input is the sum
        # of the three; the figures are made up
        (
            """{"inputTokens": 17, "outputTokens": 5, "totalTokens": 4622, "cacheReadInputTokens": 4100,
                "cacheWriteInputTokens": 500}""",
            Usage(4617, 5, cached_tokens=4100, cache_write_tokens=500),
        ),
        # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CacheDetail.html; the figures are made up
        (
            """{"inputTokens": 17, "outputTokens": 5, "totalTokens": 522, "cacheWriteInputTokens": 500,
                "cacheDetails": [{"inputTokens": 300, "ttl": "1h"}, {"inputTokens": 200, "ttl": "5m"}]}""",
            Usage(517, 5, cache_write_tokens=500, cache_write_1h_tokens=300),
        ),
    ],
)
def test_bedrock(text: str, expected: Usage) -> None:
    assert converse._usage(json.loads(text)) == expected


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"prompt_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": 10**40, "completion_tokens": 1},
        {"input_tokens": 1, "output_tokens": 10**9},
    ],
)
def test_what_is_no_usage(value: Any) -> None:
    assert openai._usage(value) is None
    assert openai_responses._usage(value) is None
    assert anthropic._usage(value) is None
    assert converse._usage(value) is None


def test_parts_are_never_more_than_the_whole() -> None:
    value = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 9},
        "completion_tokens_details": {"reasoning_tokens": 50},
    }
    assert openai._usage(value) == Usage(10, 5, 10, 0, 5, uncertain=True)
