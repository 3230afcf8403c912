"""What a call costs beside its tokens, or instead of them: fees, costs that providers say, dearer addresses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from loopllama.llm.types import ModelRequest, Usage
from loopllama.providers import openai, openai_responses, wire
from loopllama.settings import Settings


@pytest.mark.parametrize("kind", ["web_search_call", "file_search_call", "code_interpreter_call"])
def test_what_openais_own_tools_cost_is_in_no_token(kind: str) -> None:
    counts = {"input_tokens": 9, "output_tokens": 2}
    assert openai_responses._usage(counts, [{"type": kind}, {"type": "message"}]) == Usage(9, 2, uncertain=True)
    assert openai_responses._usage(counts, [{"type": "message"}, None, {"type": "reasoning"}]) == Usage(9, 2)


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        ({"cost": Decimal("0.00512")}, "0.00512"),
        ({"cost": 0}, "0"),
        # https://openrouter.ai/docs/use-cases/usage-accounting: a part of the charge, unless the key is one's own.
        ({"cost": Decimal("0.02"), "cost_details": {"upstream_inference_cost": Decimal("0.02")}}, "0.02"),
        (
            {
                "cost": Decimal("0.001"),
                "is_byok": True,
                "cost_details": {"upstream_inference_cost": Decimal("0.0360795")},
            },
            "0.0370795",
        ),
        ({"cost": 0, "is_byok": True}, None),
        ({"cost": {"total_cost": Decimal("0.0054"), "currency": "USD", "tool_calls_cost": Decimal("0.005")}}, "0.0054"),
        ({"cost": {"total_cost": Decimal("0.005156"), "request_cost": Decimal("0.005")}}, "0.005156"),
        ({"cost": {"total_cost": 1, "currency": "EUR"}}, None),
        *(({"cost": odd}, None) for odd in (None, "0.1", True, -1, 10**6, [1], {}, {"total_cost": "1"})),
        ({"cost": Decimal("0.1234567890123456789")}, "0.123456789012"),
        # xAI's ticks: github.com/BerriAI/litellm, pull request 36281
        ({"cost_in_usd_ticks": 2_709_000, "cost": 1}, "0.0002709"),
        ({"cost_in_usd_ticks": 0}, "0"),
        *(({"cost_in_usd_ticks": odd}, None) for odd in ("1", True, -1, 10**16)),
        ({}, None),
        (None, None),
    ],
)
def test_what_a_provider_says_that_a_call_costs(usage: Any, said: str | None) -> None:
    assert wire.said_usd(usage) == (None if said is None else Decimal(said))


@pytest.mark.parametrize(
    ("base_url", "model", "uncertain"),
    [
        ("https://eu.api.openai.com/v1", "gpt-5.4-mini", True),
        ("https://us.api.openai.com/v1", "gpt-5.5", True),
        ("https://us.api.openai.com/v1", "gpt-6.1-sol", True),
        ("https://api.openai.com/v1", "gpt-5.5", False),
        ("https://eu.api.openai.com/v1", "gpt-4.1", False),
        ("https://eu.api.openai.com/v1", "gpt-5-mini", False),
        ("https://eu.api.openai.com.example.com/v1", "gpt-5.5", False),
    ],
)
@pytest.mark.parametrize("dialect", [openai.OpenAI, openai_responses.OpenAIResponses])
def test_openais_regional_addresses_have_prices_of_their_own(
    monkeypatch: pytest.MonkeyPatch, dialect: Any, base_url: str, model: str, uncertain: bool
) -> None:
    """github.com/BerriAI/litellm, pull request 31136: a tenth more for GPT-5.4 and later."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    monkeypatch.setenv("OPENAI_BASE_URL", base_url)
    counts = {"input_tokens": 9, "output_tokens": 2}
    value = {"choices": [{"message": {"content": "x"}}], "output": [], "usage": counts}
    adapter = dialect("openai", Settings())
    read = adapter.read(ModelRequest(model, model, "", (), 5.0), value)
    assert read.usage == Usage(9, 2, uncertain=uncertain)
