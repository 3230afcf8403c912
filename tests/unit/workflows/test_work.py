"""Definitions and expressions that are small and ask for much: an answer comes at once, and is short."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.crews import agent

from loopllama.core.names import closest
from loopllama.errors import InvalidRequest, WorkflowInvalid
from loopllama.workflows import expressions, validation
from loopllama.workflows.schema import MAX_DEFINITION_BYTES, Workflow

ATTACKS: dict[str, tuple[int, Callable[[int], dict[str, Any]]]] = {
    "needs that do not exist": (120, lambda _: {"needs": [f"t{other}" for other in range(100)]}),
    "approval of tools that the agent lacks": (
        120,
        lambda _: {
            "tools": [f"t{tool}" for tool in range(64)],
            "approval": {"tools": [f"u{tool}" for tool in range(64)]},
        },
    ),
    "names in prompts that lead nowhere": (40, lambda _: {"prompt": "".join(f"{{{{item.a{i}}}}}" for i in range(550))}),
    "outputs that there are not": (40, lambda _: {"prompt": "".join(f"{{{{steps.a{i}.output}}}}" for i in range(370))}),
    "loops over the same steps": (
        200,
        lambda _: {"repeat": {"backTo": "s0", "until": "steps.s1.output", "max": 3}},
    ),
    "fields that a large schema does not have": (
        30,
        lambda place: (
            {"outputSchema": {"type": "object", "properties": {f"p{field}": {} for field in range(2000)}}}
            if place == 0
            else {"needs": ["s0"], "prompt": "".join(f"{{{{steps.s0.output.q{i}}}}}" for i in range(330))}
        ),
    ),
    "schemas in schemas": (
        75,
        lambda place: {"outputSchema": {"type": "object", "properties": {f"{place}x{i}": {} for i in range(300)}}},
    ),
    "references": (
        80,
        lambda place: {"outputSchema": {"properties": {f"{place}x{i}": {"$ref": "#"} for i in range(160)}}},
    ),
    "expressions that cannot be read": (200, lambda _: {"when": "a.b " * 250}),
    "more bytes than are taken": (200, lambda _: {"needs": ["t" * 100 + str(other) for other in range(40)]}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_definition_full_of_mistakes_gets_a_short_answer_at_once(name: str) -> None:
    agents, fields = ATTACKS[name]
    crew = [agent(name=f"s{place}", **fields(place)) for place in range(agents)]
    begun = time.process_time()
    with pytest.raises(WorkflowInvalid) as refused:
        Workflow(name="w", crew=crew)
    assert time.process_time() - begun < 3  # under a second alone; CI's machines are shared
    assert len(refused.value.details) <= validation.MAX_PROBLEMS
    assert len(json.dumps(refused.value.details)) < 150_000


def test_the_first_fifty_are_told_and_that_there_are_more() -> None:
    with pytest.raises(WorkflowInvalid, match=r"\(and 49 or more\)$") as refused:
        Workflow(name="w", crew=[agent(name="a", needs=[f"no{i}" for i in range(99)])])
    assert [detail["field"] for detail in refused.value.details] == [f"crew.0.needs.{i}" for i in range(50)]


def test_what_is_too_large_is_told_before_it_is_looked_into() -> None:
    schema = {"properties": {f"p{i}": {"type": 7} for i in range(MAX_DEFINITION_BYTES // 12)}}
    with pytest.raises(WorkflowInvalid, match="at most 350,000 fit") as refused:
        Workflow(name="w", crew=[agent(outputSchema=schema)])
    assert [detail["field"] for detail in refused.value.details] == ["crew"]


def test_names_of_any_length_and_number_are_compared_in_bounded_time() -> None:
    begun = time.process_time()
    assert closest("x" * 50_000, ["y" * 50_000]) == f"; there are: {'y' * 60}"
    assert closest("known", ["y" * 50_000, "knwon"]) == "; did you mean knwon?"
    closest("x", map(str, range(1_000_000)))
    assert time.process_time() - begun < 1


DOUBLING = "|".join(["[@, @]"] * 120)


@pytest.mark.parametrize(
    "text",
    [
        DOUBLING,
        "|".join(["[@, @][]"] * 100),
        "input.long | " + " | ".join(["join('', [@, @])"] * 50),
        f"{DOUBLING} | to_string(@)",
        f"{DOUBLING} | @ == @",
        f"{DOUBLING} | contains([@], @)",
        f"input.list[*].[{','.join(['@'] * 200)}] | [][] | length(@)",
        "join(input.long, input.list[*].to_string(@))",
    ],
)
def test_an_expression_that_multiplies_is_refused_by_name(text: str) -> None:
    expression = expressions.parse(text)
    document = {"input": {"list": list(range(2000)), "long": "x" * 100_000}, "steps": {}}
    begun = time.process_time()
    with pytest.raises(InvalidRequest) as refused:
        expression.of(document)
    assert time.process_time() - begun < 3
    assert str(refused.value).startswith(f"computing the expression {text!r} takes too much work, at ")


def test_what_people_compute_is_far_from_the_bounds() -> None:
    lines = [{"n": number, "kind": "x"} for number in range(20_000)]
    total = expressions.parse("input[?n > `3` && kind == 'x'].n | sum(@)").of({"input": lines, "steps": {}})
    assert total == sum(range(4, 20_000))
    long = ["x" * 1000] * 900
    assert len(expressions.parse("join(' ', input)").of({"input": long, "steps": {}})) == 900_899
    assert (
        expressions.parse("input == steps.a.output").of({"input": long, "steps": {"a": {"output": list(long)}}}) is True
    )
