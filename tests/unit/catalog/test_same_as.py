"""An entry that says which model it is: a deployment, an ARN, a second account."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from loopllama.catalog.catalog import Catalog, bundled
from loopllama.catalog.presenter import view
from loopllama.catalog.takes import RULES, refused
from loopllama.core import clock
from loopllama.errors import CatalogInvalid
from loopllama.llm.types import Identity

PRICE = {"effective_from": "2026-01-01", "input": Decimal(9), "output": Decimal(9)}


def catalog(*items: dict[str, Any]) -> Catalog:
    return bundled().with_entries(items)


def test_what_the_entry_does_not_say_is_taken_over() -> None:
    known = bundled().resolve("gpt-5-mini")
    entry = {"model": "support-prod", "provider": "azure", "provider_model": "support", "same_as": "gpt-5-mini"}
    model = catalog({**entry, "max_output": 500}).resolve("support-prod")
    assert (model.provider, model.provider_model) == ("azure", "support")
    assert (model.prices, model.capabilities, model.context_window) == (
        known.prices,
        known.capabilities,
        known.context_window,
    )
    assert model.max_output == 500
    assert model.stands_for == Identity("openai", "gpt-5-mini")
    assert model.origin is not None
    assert (model.origin["prices"], model.origin["max_output"]) == ("same_as", "table")
    assert view(model, clock.now())["same_as"] == "gpt-5-mini"
    priced = catalog({**entry, "prices": [PRICE]}).resolve("support-prod")
    assert [price.input for price in priced.prices] == [9]


def test_an_entry_may_be_the_same_as_another_entry_or_an_alias() -> None:
    first = {"model": "a", "provider": "azure", "same_as": "b", "capabilities": ["tools"]}
    second = {"model": "b", "provider": "azure", "same_as": "mini", "prices": [PRICE]}
    alias = {"model": "mini", "alias_of": "gpt-5-mini"}
    made = catalog(first, second, alias)
    model = made.resolve("a")
    assert (model.capabilities, [price.input for price in model.prices]) == ({"tools"}, [9])
    assert model.stands_for == Identity("openai", "gpt-5-mini")
    assert model.context_window == bundled().resolve("gpt-5-mini").context_window
    assert made.problems == ()


@pytest.mark.parametrize(
    ("links", "why"),
    [
        ({"a": "nosuch"}, "no model 'nosuch'"),
        ({"a": "a"}, "goes round in a circle: a -> a"),
        ({"a": "b", "b": "a"}, "goes round in a circle: a -> b -> a"),
        ({"a": "b", "b": "c", "c": "b"}, "goes round in a circle: a -> b -> c -> b"),
    ],
)
def test_what_leads_nowhere_is_refused_when_written_and_skipped_when_read(links: dict[str, str], why: str) -> None:
    made = catalog(*({"model": name, "provider": "azure", "same_as": other} for name, other in links.items()))
    with pytest.raises(CatalogInvalid, match="same_as") as caught:
        made.check_same_as("a")
    assert why in str(caught.value)
    for name in links:
        assert made.resolve(name).stands_for is None
    assert {problem["model"] for problem in made.problems} == links.keys()


def test_every_rule_has_a_source_and_refuses_something() -> None:
    for rule in RULES:
        assert rule.source
        assert rule.seen
        assert rule.models or rule.providers
    assert refused("schema beside tools", "llama-3.3-70b-versatile", "groq")
    assert refused("schema beside tools", "llama-3.3-70b-versatile", "together") is None
    assert refused("unsigned thoughts", "us.anthropic.claude-haiku-4-5-20251001-v1:0", "bedrock")
