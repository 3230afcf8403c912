"""What a call costs beside its tokens, or instead of them: fees, costs that providers say, dearer addresses."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from loopllama.catalog import pricing
from loopllama.catalog.model import Model, Price
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


_DEARER, _UNKNOWN, _AS_LISTED = Usage(9, 2, price_factor=Decimal("1.1")), Usage(9, 2, uncertain=True), Usage(9, 2)


@pytest.mark.parametrize(
    ("base_url", "model", "usage"),
    [
        ("https://eu.api.openai.com/v1", "gpt-5.4-mini", _DEARER),
        ("https://EU.api.openai.com:443/v1", "gpt-5.4-2026-03-05", _DEARER),
        ("https://us.api.openai.com/v1", "gpt-5.5", _DEARER),
        ("https://us.api.openai.com/v1", "gpt-6.1-sol", _DEARER),
        ("https://us.api.openai.com/v1", "gpt-10", _DEARER),
        ("https://us.api.openai.com/v1", "ft:gpt-5.4-mini:acme::1", _DEARER),
        ("https://us.api.openai.com/v1", "o7-mini", _UNKNOWN),
        ("https://us.api.openai.com/v1", "chat-latest", _UNKNOWN),
        ("https://api.openai.com/v1", "gpt-5.5", _AS_LISTED),
        ("https://api.openai.com/v1", "chat-latest", _AS_LISTED),
        ("https://eu.api.openai.com/v1", "gpt-4.1", _AS_LISTED),
        ("https://eu.api.openai.com/v1", "gpt-4o-mini", _AS_LISTED),
        ("https://eu.api.openai.com/v1", "o4-mini", _AS_LISTED),
        ("https://eu.api.openai.com/v1", "gpt-5-mini", _AS_LISTED),
        ("https://eu.api.openai.com/v1", "gpt-5.3-codex", _AS_LISTED),
        ("https://eu.api.openai.com.example.com/v1", "gpt-5.5", _AS_LISTED),
    ],
)
@pytest.mark.parametrize("dialect", [openai.OpenAI, openai_responses.OpenAIResponses])
@pytest.mark.parametrize("provider", ["openai", "openai-eu"])
def test_openais_regional_addresses_cost_a_tenth_more(
    monkeypatch: pytest.MonkeyPatch, dialect: Any, provider: str, base_url: str, model: str, usage: Usage
) -> None:
    """https://developers.openai.com/api/docs/guides/data-residency: models released since 5 March 2026."""
    name = provider.upper().replace("-", "_")
    monkeypatch.setenv(f"{name}_API_KEY", "sk-0123456789")
    monkeypatch.setenv(f"{name}_BASE_URL", base_url)
    counts = {"input_tokens": 9, "output_tokens": 2}
    value = {"choices": [{"message": {"content": "x"}}], "output": [], "usage": counts}
    adapter = dialect(provider, Settings())
    assert adapter.read(ModelRequest(model, model, "", (), 5.0), value).usage == usage


def test_a_surcharge_comes_on_top_of_list_prices_and_of_no_price_that_somebody_gave() -> None:
    price = Price(date(2026, 1, 1), input=Decimal(2), output=Decimal(10), cache_read=Decimal(1))
    listed = Model("m", "openai", "m", prices=(price,))
    usage = Usage(1_000_000, 100_000, cached_tokens=500_000)
    dearer = replace(usage, price_factor=Decimal("1.1"))
    day = date(2026, 11, 1)
    assert pricing.cost(listed, usage, day) == Decimal("2.5")
    assert pricing.cost(listed, dearer, day) == Decimal("2.75")
    assert pricing.cache_saving(listed, dearer, day) == Decimal("0.55")
    ours = replace(listed, origin={"prices": "table"})
    assert pricing.cost(ours, dearer, day) == Decimal("2.5")
    assert pricing.cache_saving(ours, dearer, day) == Decimal("0.5")
