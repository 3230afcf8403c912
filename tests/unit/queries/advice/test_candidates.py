"""Which models may take a step over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.recorded import ALWAYS, CHEAP, DEAR, agent, call, priced, step

from loopllama.queries.advice.candidates import SHOWN, lacks, needs_of, shortlist

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
USABLE = {"openai": True, "bedrock": True}


def needs(records: Any = None, **fields: Any) -> Any:
    return needs_of(agent("s", **fields), records or [step("s", call())])


@pytest.mark.parametrize(
    ("changes", "asked", "reason"),
    [
        ({}, {}, ""),
        ({}, {"tools": ["t"], "output_schema": SCHEMA}, ""),
        ({"enabled": False}, {}, "disabled"),
        ({"enabled": False, "barred": True}, {}, "not allowed in this deployment"),
        ({"provider": "mistral"}, {}, "no key of its provider"),
        ({"capabilities": None}, {}, "its capabilities are not known"),
        ({"capabilities": frozenset()}, {"tools": ["t"]}, "lacks tools"),
        ({"capabilities": frozenset()}, {"output_schema": SCHEMA}, "lacks structured output"),
        ({"capabilities": frozenset({"tools"})}, {"output_schema": SCHEMA}, ""),
        ({"capabilities": frozenset()}, {}, ""),
        # The record's longest prompt and answer have 1,100 tokens together; 1,650 leave room.
        ({"context_window": 1650}, {}, ""),
        ({"context_window": 1649}, {}, "context window too small or not known"),
        ({"context_window": None}, {}, "context window too small or not known"),
        ({"max_output": 100}, {}, ""),
        ({"max_output": 99}, {}, "answers too short"),
        ({"max_output": 500}, {"max_tokens": 501}, "answers too short"),
    ],
)
def test_what_a_model_lacks(changes: dict[str, Any], asked: dict[str, Any], reason: str) -> None:
    assert lacks(replace(CHEAP, **changes), needs(**asked), USABLE) == reason


def test_a_step_that_called_tools_needs_them_whatever_its_definition_says_now() -> None:
    called = [step("s", call(), tool_calls=[{"name": "t"}])]
    assert lacks(replace(CHEAP, capabilities=frozenset()), needs(called), USABLE) == "lacks tools"


def test_what_is_named_comes_first_and_then_what_costs_least() -> None:
    others = [priced(f"m{n}", str(n), "3") for n in range(1, 9)]
    found, left_out = shortlist(
        [DEAR, *others, priced("dearer", "20", "60")], needs(), DEAR, ALWAYS, usable=USABLE, named={"m6", "m4"}
    )
    assert [model.id for model in found] == ["m4", "m6", "m1", "m2", "m3"]
    assert len(found) == SHOWN
    assert left_out == {"not cheaper": 1}


def test_only_those_that_were_asked_for() -> None:
    others = [priced(f"m{n}", str(n), "3") for n in range(1, 9)]
    found, _ = shortlist([DEAR, *others], needs(), DEAR, ALWAYS, usable=USABLE, named=(), wanted={"m7"})
    assert [model.id for model in found] == ["m7"]


def test_what_costs_the_same_or_has_no_price_is_no_candidate() -> None:
    same, unpriced = replace(DEAR, id="same"), replace(CHEAP, id="free", prices=())
    found, left_out = shortlist([same, unpriced], needs(), DEAR, ALWAYS, usable=USABLE, named=())
    assert not found
    assert left_out == {"not cheaper": 1, "no price": 1}


def test_a_model_of_several_geographies_is_there_once_by_the_one_of_the_step() -> None:
    def on_bedrock(name: str, price: str) -> Any:
        return priced(f"bedrock:{name}", price, "3", provider="bedrock", provider_model=name)

    now = on_bedrock("us.amazon.pro", "10")
    models = [on_bedrock(f"{place}amazon.lite", "1") for place in ("", "eu.", "us.")]
    found, _ = shortlist(models, needs(), now, ALWAYS, usable=USABLE, named=())
    assert [model.id for model in found] == ["bedrock:us.amazon.lite"]
    found, _ = shortlist(models, needs(), now, ALWAYS, usable=USABLE, named={"bedrock:eu.amazon.lite"})
    assert [model.id for model in found] == ["bedrock:eu.amazon.lite"]


def test_dearer_models_are_those_that_somebody_here_has_named() -> None:
    found, _ = shortlist(
        [DEAR, priced("good", "20", "60"), priced("best", "30", "90")],
        needs(),
        CHEAP,
        ALWAYS,
        usable=USABLE,
        named={"good"},
        dearer=True,
    )
    assert [model.id for model in found] == ["good"]
