"""Whose prices count where another name has answered than the one that was asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from loopllama.catalog.answering import priced_as
from loopllama.catalog.catalog import bundled
from loopllama.catalog.model import Model
from loopllama.catalog.pricing import cost
from loopllama.errors import ModelUnknown
from loopllama.llm.types import Identity, Usage

DAY = date(2026, 11, 27)
MILLION = Usage(1_000_000, 0)
AZURE = {"provider": "azure", "provider_model": "prod", "same_as": "gpt-5"}
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"


def usd(asked: str, name: str, usage: Usage = MILLION, **entries: dict[str, Any]) -> tuple[Decimal | None, bool]:
    """What a million tokens of `asked` cost where `name` answered, and whether that is certain."""
    catalog = bundled().with_entries({"model": model, **fields} for model, fields in entries.items())

    def find(provider: str, name: str) -> Model | None:
        try:
            found = catalog.resolve(f"{provider}:{name}")
        except ModelUnknown:
            return None
        return found if found.prices else None

    model, certain = priced_as(catalog.resolve(asked), name, find)
    return cost(model, usage, DAY), certain


@pytest.mark.parametrize("name", ["gpt-5", "gpt-5-2025-08-07"])
def test_a_deployment_that_says_what_it_is_is_the_same_by_that_name(name: str) -> None:
    assert usd("prod", name, prod=AZURE) == (Decimal("1.25"), True)
    assert usd("prod@flex", name, prod=AZURE) == (Decimal("0.625"), True)
    assert usd("prod", "gpt-5-mini", prod=AZURE) == (Decimal("1.25"), False)
    assert usd("prod", "gpt-4.1", prod=AZURE) == (Decimal("1.25"), False)


@pytest.mark.parametrize(
    ("asked", "tier", "expected"),
    [
        ("gpt-5-mini@flex", "", "0.625"),
        ("gpt-5-mini@low@flex", "", "0.625"),
        ("gpt-5-mini@low", "", "1.25"),
        ("gpt-5-mini@flex", "standard", "1.25"),
        ("gpt-5-mini", "flex", "0.625"),
    ],
)
def test_another_model_answers_at_the_tier_that_was_asked_unless_the_answer_says_another(
    asked: str, tier: str, expected: str
) -> None:
    assert usd(asked, "gpt-5", replace(MILLION, service_tier=tier)) == (Decimal(expected), True)


@pytest.mark.parametrize("model", ["bedrock:{}.amazon.nova-2-lite-v1:0", "bedrock-openai:{}.openai.gpt-5.6-luna"])
def test_the_same_model_of_another_geography_costs_what_it_costs_there(model: str) -> None:
    asked, answered = (model.format(place) for place in ("us", "global"))
    there = cost(bundled().resolve(answered), MILLION, DAY)
    assert there != cost(bundled().resolve(asked), MILLION, DAY)
    assert usd(asked, answered.partition(":")[2]) == (there, True)


def test_a_profile_answers_at_its_tier_by_the_name_behind_it() -> None:
    name = "amazon.nova-pro-v1:0"
    base = bundled().resolve("bedrock:us.amazon.nova-pro-v1:0")
    profile = replace(
        bundled().resolve(f"{ARN}@flex"), prices=base.prices, stands_for=Identity("bedrock", base.provider_model)
    )
    model, certain = priced_as(profile, name, lambda *_: base)
    at_flex = cost(bundled().resolve("bedrock:us.amazon.nova-pro-v1:0@flex"), MILLION, DAY)
    assert (cost(model, MILLION, DAY), certain) == (at_flex, True)
    assert at_flex == (cost(base, MILLION, DAY) or 0) / 2
