"""How routine a step looks."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support.recorded import agent, call, step

from loopllama.queries.advice.signals import ENOUGH_REPEATS, repairs, signals, weight, words

CHOICE = {"enum": ["a", "b"]}


def holds(definition: Any, records: Any = (), tools: Any = None) -> dict[str, bool | None]:
    return {signal["name"]: signal["holds"] for signal in signals(definition, records, tools or {})}


def schema(**properties: Any) -> Any:
    return agent("s", output_schema={"type": "object", "properties": properties})


@pytest.mark.parametrize(
    ("definition", "few", "fixed"),
    [
        (agent("s"), False, False),
        (schema(a=CHOICE, b={"type": "boolean"}), True, True),
        (schema(a=CHOICE, b={"type": "string"}), True, True),
        (schema(a=CHOICE, b={"type": "string"}, c={"type": "number"}), True, False),
        (schema(a={"type": "array", "items": CHOICE}, b={"anyOf": [CHOICE, {"type": "null"}]}), True, True),
        (schema(**{f"f{n}": CHOICE for n in range(9)}), False, True),
        (schema(a={"properties": {f"f{n}": {"type": "string"} for n in range(9)}}), False, False),
    ],
)
def test_what_a_schema_says(definition: Any, few: bool, fixed: bool) -> None:
    found = holds(definition)
    assert (found["few_fields"], found["enumerations"]) == (few, fixed)


def test_how_long_answers_are() -> None:
    lengths = [(10, True), (150, True), (151, False)]
    for tokens, short in lengths:
        assert holds(agent("s"), [step("s", call(tokens_out=tokens))])["short_output"] is short
    assert holds(agent("s"))["short_output"] is None


def test_repairs_are_answers_behind_the_first_that_no_tool_was_called_for() -> None:
    structured = schema(a=CHOICE)
    assert repairs(structured, step("s", call(), call())) == 1
    assert repairs(structured, step("s", call(), call(), tool_calls=[{"name": "t"}])) == 0
    assert repairs(agent("s"), step("s", call(), call())) == 0
    good = [step("s", call()) for _ in range(99)]
    assert holds(structured, [*good, step("s", call(), call())])["no_repairs"] is True
    assert holds(structured, [*good[:98], step("s", call(), call())])["no_repairs"] is False


def test_retries_are_failed_calls() -> None:
    failed = step("s", call(outcome="ModelTimeout"), call())
    assert holds(agent("s"), [failed])["no_retries"] is False
    assert holds(agent("s"), [step("s", call())])["no_retries"] is True
    assert holds(agent("s"))["no_retries"] is None


def test_the_same_input_with_the_same_output() -> None:
    same = [step("s", call(), input="i", output="o") for _ in range(ENOUGH_REPEATS + 1)]
    assert holds(agent("s"), same)["stable_output"] is True
    assert holds(agent("s"), same[1:])["stable_output"] is None
    other = step("s", call(), input="i", output="another")
    assert holds(agent("s"), [*same, other])["stable_output"] is False
    another_model = step("s", call("cheap"), input="i", output="another")
    assert holds(agent("s"), [*same, another_model])["stable_output"] is True
    assert holds(agent("s"), [step("s", call(), output="o")] * 10)["stable_output"] is None


@pytest.mark.parametrize(
    ("tools", "harmless"),
    [((), True), (("reads",), True), (("reads", "unknown"), None), (("unknown", "writes"), False)],
)
def test_tools(tools: tuple[str, ...], harmless: bool | None) -> None:
    known = {"reads": True, "writes": False}
    assert holds(agent("s", tools=list(tools)), (), known)["harmless_tools"] is harmless


def test_each_signal_against_halves_the_weight_and_free_text_counts_twice() -> None:
    routine = signals(schema(a=CHOICE), [step("s", call())], {})
    assert weight(routine) == 1
    free = signals(agent("s"), [step("s", call())], {})
    assert weight(free) == Decimal("0.25")
    assert words(free, False) == ["free text", "no fields with fixed values"]
    assert weight(free, without="few_fields") == Decimal("0.5")
