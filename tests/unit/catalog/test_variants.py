"""A model's name may say its effort and its service tier: what it stands for, what is refused, what it costs."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from loopllama.catalog import variants
from loopllama.catalog.catalog import Catalog, bundled
from loopllama.catalog.model import EFFORTS, SERVICE_TIERS
from loopllama.catalog.presenter import view
from loopllama.catalog.pricing import cache_saving, cost, known
from loopllama.core import clock
from loopllama.errors import ModelUnknown
from loopllama.llm.types import Usage

DAY = date(2026, 11, 23)
MILLION = Usage(1_000_000, 100_000)


def catalog(*items: dict[str, Any]) -> Any:
    return bundled().with_entries(items)


@pytest.mark.parametrize(
    ("name", "model_id", "effort", "tier"),
    [
        ("gpt-5@low", "gpt-5@low", "low", None),
        ("gpt-5@flex", "gpt-5@flex", None, "flex"),
        ("gpt-5@low@flex", "gpt-5@low@flex", "low", "flex"),
        ("gpt-5@flex@low", "gpt-5@low@flex", "low", "flex"),
        ("openai:gpt-5@low", "gpt-5@low", "low", None),
        ("openai:gpt-5-2025-08-07@minimal@flex", "openai:gpt-5-2025-08-07@minimal@flex", "minimal", "flex"),
        ("bedrock:us.amazon.nova-pro-v1:0@flex", "bedrock:us.amazon.nova-pro-v1:0@flex", None, "flex"),
        ("groq:unlisted@high", "groq:unlisted@high", "high", None),
        ("fast", "gpt-5@low", "low", None),
        ("fast@high", "gpt-5@high", "high", None),
        ("fast@flex", "gpt-5@low@flex", "low", "flex"),
        ("mine@none", "mine@none", "none", None),
        ("here@low", "here@low", None, None),  # an entry of that very name
    ],
)
def test_what_a_name_stands_for(name: str, model_id: str, effort: str | None, tier: str | None) -> None:
    model = catalog(
        {"model": "fast", "alias_of": "gpt-5@low"},
        {"model": "mine", "provider": "vllm", "provider_model": "m"},
        {"model": "here@low", "provider": "vllm", "provider_model": "m"},
    ).resolve(name)
    assert (model.id, model.effort, model.service_tier) == (model_id, effort, tier)
    assert "@" not in model.provider_model
    assert model.id == model.entry + model.suffix


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpt-5@max", "gpt-5 has no effort 'max': its efforts are minimal, low, medium, high"),
        ("gpt-4o@low", "gpt-4o has no effort 'low': it has no efforts"),
        ("gpt-5@batch", "gpt-5 is not called in batches: its service tiers are flex, priority"),
        ("claude-sonnet-5@flex", "claude-sonnet-5 has no price at service tier 'flex': it has no service tiers"),
        ("fast@max", "gpt-5 has no effort 'max': its efforts are minimal, low, medium, high"),
        ("gpt-5@lo", "'gpt-5@lo' says 'lo', which gpt-5 has not: its efforts are minimal, low, medium, high, its "),
        ("openai:gpt-5@lo", "'openai:gpt-5@lo' says 'lo', which gpt-5 has not"),
        ("gpt-5@low@high", "'gpt-5@low@high' says more than one effort or service tier"),
        ("gpt5@low", "no model 'gpt5'; did you mean gpt-5"),
        ("own@high", "own has no effort 'high': its efforts are low"),
        ("own@flex", "own has no price at service tier 'flex': it has no service tiers"),
    ],
)
def test_what_a_model_does_not_have_is_refused_with_what_it_has(name: str, says: str) -> None:
    own: dict[str, Any] = {"model": "own", "provider": "openai", "provider_model": "gpt-5", "efforts": ["low"]}
    own["prices"] = [{"input": 1, "output": 2}]
    with pytest.raises(ModelUnknown) as refused:
        catalog({"model": "fast", "alias_of": "gpt-5@low"}, own).resolve(name)
    assert str(refused.value).startswith(says)


def test_an_at_sign_of_the_providers_own_stays() -> None:
    item = {"model": "vertex", "provider": "vertex", "provider_model": "claude-sonnet-4-5@20250929"}
    assert catalog(item).resolve("vertex@low").provider_model == "claude-sonnet-4-5@20250929"
    assert bundled().resolve("groq:some@20250929").provider_model == "some@20250929"


def test_what_disables_a_model_disables_it_at_every_effort_and_tier() -> None:
    model = catalog({"model": "gpt-5", "enabled": False, "replaced_by": "gpt-5-mini"}).resolve("gpt-5@low@flex")
    assert (model.enabled, model.replaced_by) == (False, "gpt-5-mini")


@pytest.mark.parametrize("name", ["gpt-5", "openai:gpt-5", "gpt-5.6-luna", "bedrock:us.amazon.nova-pro-v1:0"])
def test_a_tier_is_priced_as_such_and_an_effort_is_not(name: str) -> None:
    usage = Usage(10_000, 1_000, cached_tokens=4_000)
    plain, flex = (cost(bundled().resolve(f"{name}{at}"), usage, DAY) for at in ("", "@flex"))
    assert plain is not None
    assert flex == plain / 2
    assert (cache_saving(bundled().resolve(f"{name}@flex"), usage, DAY) or 0) * 2 == cache_saving(
        bundled().resolve(name), usage, DAY
    )
    effort = (bundled().resolve(name).efforts or ("",))[0]
    if effort:
        assert cost(bundled().resolve(f"{name}@{effort}"), usage, DAY) == plain


def test_long_prompts_have_prices_of_their_own_at_each_tier() -> None:
    long = Usage(300_000, 1_000, cached_tokens=200_000, cache_write_tokens=50_000)
    # developers.openai.com/api/docs/pricing: 0.2, 0.02, 0.25 (written) and 0.9 USD, half of the standard one's.
    written = 50_000 * Decimal("0.2") + 200_000 * Decimal("0.02") + 50_000 * Decimal("0.25") + 1_000 * Decimal("0.9")
    assert cost(bundled().resolve("gpt-5.6-luna@flex"), long, DAY) == written / 1_000_000


@pytest.mark.parametrize(
    ("name", "answered", "as_if", "certain"),
    [
        ("gpt-5@flex", "", "gpt-5@flex", True),
        ("gpt-5@flex", "flex", "gpt-5@flex", True),
        ("gpt-5@flex", "standard", "gpt-5", True),  # OpenAI answers at another tier than was asked
        ("gpt-5@priority", "standard", "gpt-5", True),
        ("gpt-5", "priority", "gpt-5@priority", True),  # the project's own setting
        ("gpt-5", "scale", "gpt-5", False),  # paid for in advance
        ("claude-sonnet-5", "priority", "claude-sonnet-5", False),  # by contract
        ("claude-sonnet-5", "standard", "claude-sonnet-5", True),
        ("optioned", "flex", "optioned", True),  # whose own price is what its options ask for
    ],
)
def test_the_tier_that_answered_decides_the_price(name: str, answered: str, as_if: str, certain: bool) -> None:
    options = {"service_tier": "flex"}
    item = {"model": "optioned", "provider": "openai", "provider_model": "gpt-5", "options": options}
    ours = catalog(item | {"prices": [{"input": Decimal("0.6"), "output": 5}]})
    usage = Usage(10_000, 500, service_tier=answered)
    assert cost(ours.resolve(name), usage, DAY) == cost(ours.resolve(as_if), Usage(10_000, 500), DAY) is not None
    assert known(ours.resolve(name), usage, DAY) is certain


def test_what_is_kept_an_hour_in_the_cache_has_its_own_price() -> None:
    """docs.claude.com/en/docs/build-with-claude/prompt-caching (pricing): 1.25 and 2 times the input, 0.1 for reads."""
    model = bundled().resolve("claude-sonnet-5")
    usage = Usage(10_000, 100, cached_tokens=1_000, cache_write_tokens=6_000, cache_write_1h_tokens=4_000)
    parts = 3_000 * 2 + 1_000 * Decimal("0.2") + 2_000 * Decimal("2.5") + 4_000 * 4 + 100 * 10
    assert cost(model, usage, DAY) == parts / Decimal(1_000_000)
    saved = 1_000 * Decimal("1.8") - 2_000 * Decimal("0.5") - 4_000 * 2
    assert cache_saving(model, usage, DAY) == saved / Decimal(1_000_000)


def test_without_a_price_of_its_own_an_hour_costs_what_five_minutes_do() -> None:
    own = {"model": "own", "provider": "anthropic", "provider_model": "x"}
    model = catalog(own | {"prices": [{"input": 1, "output": 2, "cache_write": Decimal("1.25")}]}).resolve("own")
    usage = Usage(100, 0, cache_write_tokens=100, cache_write_1h_tokens=60)
    assert cost(model, usage, DAY) == Decimal("0.000125")


def test_every_bundled_model_says_its_efforts_and_tiers() -> None:
    for model in bundled().models():
        assert model.efforts is not None, model.id
        assert set(model.efforts) <= set(EFFORTS)
        for effort in model.efforts:
            assert bundled().resolve(f"{model.id}@{effort}").effort == effort
        for tier in variants.called_tiers(model):
            at_tier = bundled().resolve(f"{model.id}@{tier}")
            assert cost(at_tier, MILLION, DAY) not in (None, cost(model, MILLION, DAY))
            assert variants.standard(at_tier) == model
        shown = view(model, clock.now())
        assert set(shown["price"]["service_tiers"]) <= set(SERVICE_TIERS)
        assert shown["service_tiers"] == variants.called_tiers(model)
    assert variants.called_tiers(bundled().resolve("gpt-5")) == ["flex", "priority"]
    assert variants.priced_tiers(bundled().resolve("claude-sonnet-5")) == ["batch"]


@pytest.mark.parametrize(
    "prices",
    [
        [{"input": 1, "output": 2, "service_tiers": {"cheap": {"input": 1, "output": 1}}}],
        [{"input": 1, "output": 2, "service_tiers": {"flex": 3}}],
        [{"input": 1, "output": 2, "service_tiers": {"flex": {"input": 1}}}],
        [{"input": 1, "output": 2, "service_tiers": ["flex"]}],
    ],
)
def test_a_row_whose_tiers_are_invalid_is_skipped_and_told(prices: list[Any]) -> None:
    made = catalog({"model": "own", "provider": "openai", "provider_model": "x", "prices": prices})
    assert made.resolve("own").prices == ()
    assert [problem["model"] for problem in made.problems] == ["own"]


@pytest.mark.parametrize(("answered", "certain"), [("", False), ("flex", False), ("standard", True)])
def test_a_tier_that_a_later_price_does_not_have_counts_as_standard(answered: str, certain: bool) -> None:
    price = {"effective_from": "2026-11-01", "input": 1, "output": 8}
    model = catalog({"model": "gpt-5", "prices": [price]}).resolve("gpt-5@flex")
    usage = Usage(1_000_000, 0, service_tier=answered)
    assert cost(model, usage, DAY) == 1
    assert known(model, usage, DAY) is certain
    assert cost(model, usage, date(2026, 10, 31)) == Decimal("0.625" if answered != "standard" else "1.25")


@pytest.mark.parametrize(
    "name", ["@" * 256, "a@" * 127 + "a", "gpt-5" + "@x" * 120, "@low" * 64, "gpt-5" + "@low@x" * 40]
)
def test_a_name_of_many_words_is_looked_for_a_few_times_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []
    monkeypatch.setattr(Catalog, "near", lambda _, name: searched.append(name) or [])
    with pytest.raises(ModelUnknown):
        catalog().resolve(name)
    assert len(searched) <= 4
    for odd in ("groq:m@1@2@3@4@5", "groq:m@1@2@3@4@5@low"):
        assert catalog().resolve(odd).provider_model == "m@1@2@3@4@5"
