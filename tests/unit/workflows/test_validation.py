"""What is checked over a whole crew: needs, circles, loops, templates."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.crews import agent, crew_of, refused

from loopllama.workflows.schema import Workflow
from loopllama.workflows.validation import find_cycle

AGENT = agent()
LOOP: list[Any] = [
    {"role": "R", "systemPrompt": "x", "name": "write"},
    {"role": "R", "systemPrompt": "x", "name": "review", "repeat": {"backTo": "write", "until": "input.ok", "max": 3}},
]


def test_the_whole_language_is_taken_and_normalised():
    crew: list[Any] = [
        {**AGENT, "name": "plan", "approval": True, "outputSchema": {"type": "object"}},
        {**AGENT, "name": "items", "forEach": "steps.plan.output.list", "maxConcurrency": 5, "maxFailures": 2},
        {
            **AGENT,
            "name": "write",
            "when": "length(steps.items.output) > `0`",
            "tools": ["t"],
            "approval": {"tools": ["t"]},
        },
        {
            **AGENT,
            "name": "review",
            "outputSchema": {"type": "object"},
            "repeat": {"backTo": "write", "until": "steps.review.output.ok", "max": 3},
        },
    ]
    steps = Workflow(name="w", crew=crew).to_definition()["crew"]
    assert steps[0]["approval"] == {"start": True}
    assert (steps[1]["for_each"], steps[1]["max_concurrency"], steps[1]["max_failures"]) == (crew[1]["forEach"], 5, 2)
    assert steps[2]["approval"] == {"start": False, "tools": ["t"]}
    assert steps[3]["repeat"] == {"back_to": "write", "until": "steps.review.output.ok", "max": 3}


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"when": "steps.no.output ="}, "when", "is no JMESPath expression"),
        ({"when": "steps.no.output"}, "when", "there is no step 'no'"),
        ({"when": "!steps.a.output"}, "when", "write !(steps.NAME"),
        ({"when": "steps.agent.output"}, "when", "a step cannot read its own output"),
        ({"maxFailures": 2}, "maxFailures", "is for steps with forEach"),
        ({"maxConcurrency": 41, "forEach": "input"}, "maxConcurrency", "less than or equal to 40"),
        ({"prompt": "{{ item }}"}, "prompt", "is for steps with forEach"),
        (
            {"repeat": {"backTo": "no", "until": "input", "max": 3}},
            "repeat.backTo",
            "'no' is no step that agent follows",
        ),
        ({"repeat": {"backTo": "agent", "until": "input", "max": 1}}, "repeat.max", "greater than or equal to 2"),
        ({"repeat": {"backTo": "agent", "until": "input", "max": 2, "x": 1}}, "repeat.x", "is unknown"),
        ({"repeat": {"backTo": "agent", "until": "input"}}, "repeat.max", "is missing"),
        ({"approval": {}}, "approval", "says nothing to approve"),
        ({"approval": {"tools": ["t"]}}, "approval.tools", "the agent has no tool 't'"),
        ({"forEach": "input", "repeat": {"backTo": "agent", "until": "input", "max": 2}}, "repeat", "with forEach"),
    ],
)
def test_what_is_wrong_with_the_language_is_said(fields, field, message):
    assert message in refused(agent(name="agent", **fields))[f"crew.0.{field}"]


def test_loops_go_over_lines():
    assert Workflow(name="w", crew=LOOP)
    fork = [LOOP[0], {**AGENT, "name": "other", "needs": ["write"]}, {**LOOP[1], "needs": ["write", "other"]}]
    assert "must be a line" in refused(*fork)["crew.2.repeat.backTo"]
    side = [*LOOP, {**AGENT, "name": "other", "needs": ["write"]}]
    assert "goes over write, which other needs as well" in refused(*side)["crew.1.repeat.backTo"]
    twice = [*LOOP, {**AGENT, "name": "more", "repeat": {"backTo": "review", "until": "input", "max": 2}}]
    assert "goes over review, which review repeats already" in refused(*twice)["crew.2.repeat.backTo"]


def test_inside_a_loop_a_step_may_read_what_a_later_one_said_last_time():
    crew: list[Any] = [{**LOOP[0], "prompt": "{{ input }} {{ steps.review.output }}"}, LOOP[1]]
    assert Workflow(name="w", crew=crew)


def test_needs_of_steps_that_do_not_exist():
    found = refused(agent("Extract facts"), agent("B", needs=["Extract Facts", "zzz"]))
    assert found["crew.1.needs.0"] == "there is no step 'Extract Facts'; did you mean extract_facts?"
    assert found["crew.1.needs.1"] == "there is no step 'zzz'; there are: extract_facts"


def test_the_cycle_is_shown():
    found = refused(agent("A", needs=["c"]), agent("B"), agent("C"), agent("D"))
    assert found == {"crew.0.needs": "the steps wait for each other: a → b → c → a; take one of these needs away"}
    assert "a → a" in refused(agent("A", needs=["a"]))["crew.0.needs"]


graphs = st.integers(1, 9).flatmap(
    lambda size: st.lists(st.sets(st.integers(0, size - 1), max_size=4), min_size=size, max_size=size).map(
        lambda rows: {str(step): [str(need) for need in needs] for step, needs in enumerate(rows)}
    )
)


def runs_out(needs):
    """Kahn's way: whether all steps can run, each after its needs."""
    left = dict(needs)
    while ready := [step for step, its in left.items() if not set(its) & left.keys()]:
        for step in ready:
            del left[step]
    return not left


@given(graphs)
@settings(max_examples=300)
def test_a_cycle_is_found_exactly_where_there_is_one(needs):
    cycle = find_cycle(needs)
    assert (cycle is None) == runs_out(needs)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1
        assert all(before in needs[after] for before, after in itertools.pairwise(cycle))


def test_long_and_dense_graphs_are_quick():
    dense = {str(step): [str(need) for need in range(step)] for step in range(200)}
    assert find_cycle(dense) is None
    chain = {str(step): [str(step + 1)] for step in range(1_999)}
    chain["1999"] = []
    assert find_cycle(chain) is None


# Templates

EXTRACTOR = agent(
    "Extractor",
    outputSchema={
        "type": "object",
        "properties": {
            "order_id": {"type": "string"},
            "items": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "open": {"type": "object", "properties": {}, "additionalProperties": True},
            "either": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        },
    },
)


@pytest.mark.parametrize(
    "reference",
    [
        "input",
        "input.anything.0",
        "steps.extractor.output",
        "steps.extractor.output.order_id",
        "steps.extractor.output.items.0.name",
        "steps.extractor.output.open.whatever",
        "steps.extractor.output.either.x",
    ],
)
def test_templates_that_can_be_filled(reference):
    crew_of(EXTRACTOR, agent("Between"), agent("Writer", prompt="{{ " + reference + " }}"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("inputs", "line 1, column 1: 'inputs' is unknown"),
        ("steps.extractor", "write {{ steps.extractor.output }}"),
        ("steps.extracter.output", "there is no step 'extracter'; did you mean extractor?"),
        ("steps.writer.output", "a step cannot read its own output"),
        ("steps.later.output", "later is not finished when writer starts; add it to needs"),
        ("steps.beside.output", "beside is not finished when writer starts; add it to needs"),
        ("steps.extractor.output.order", "the outputSchema of extractor has no 'order'; did you mean order_id?"),
        ("steps.extractor.output.items.first", "has no 'first'"),
        ("steps.extractor.output.order_id.x", "has no 'x'"),
        ("steps.between.output.x", "between has no outputSchema, so its output is a text without fields"),
    ],
)
def test_templates_that_cannot_be_filled(reference, message):
    found = refused(
        EXTRACTOR,
        agent("Beside", needs=[]),
        agent("Between", needs=["extractor"]),
        agent("Writer", prompt="{{ " + reference + " }}"),
        agent("Later"),
    )
    assert message in found["crew.3.prompt"]


def test_broken_templates_are_told_beside_broken_needs():
    found = refused(agent("A", prompt="{{ nobody }}"), agent("B", needs=["x"]))
    assert set(found) == {"crew.0.prompt", "crew.1.needs.0"}
