"""Workflow definitions: what is taken, what it becomes, what is refused and how that is said."""

import itertools
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopllama.errors import WorkflowInvalid
from loopllama.workflows import schema as workflow
from loopllama.workflows.schema import Workflow, json_schema, workflow_id_of
from loopllama.workflows.validation import find_cycle


def agent(role="Writer", **fields):
    return {"role": role, "systemPrompt": "Write.", **fields}


def crew_of(*agents):
    return Workflow(name="Test", crew=list(agents)).to_definition()["crew"]


def refused(*agents, **fields):
    """Field to message of everything that is wrong."""
    with pytest.raises(WorkflowInvalid) as caught:
        Workflow.model_validate({"name": "Test", **({"crew": list(agents)} if agents else {}), **fields})
    details = caught.value.details
    first = f"The workflow cannot run: {details[0]['field']}: {details[0]['message']}"
    assert str(caught.value).startswith(first)
    return {str(detail["field"]): str(detail["message"]) for detail in details}


# What is taken


def test_a_workflow_without_a_crew_gets_a_planner_and_a_writer():
    for given_crew in ({}, {"crew": None}):
        crew = Workflow.model_validate({"name": "Test", **given_crew}).to_definition()["crew"]
        assert [(step["name"], step["needs"]) for step in crew] == [("planner", []), ("writer", ["planner"])]
        assert all(len(step["system_prompt"]) > 200 for step in crew)


def test_both_spellings_mean_the_same():
    camel = agent(
        outputSchema={"type": "object"},
        maxTokens=5,
        maxTurns=2,
        timeoutSeconds=9,
        model="b",
        fallbacks=["a"],
        tools=["now"],
    )
    snake = {
        "role": "Writer",
        "system_prompt": "Write.",
        "output_schema": {"type": "object"},
        "max_tokens": 5,
        "max_turns": 2,
        "timeout_seconds": 9,
        "model": "b",
        "fallbacks": ["a"],
        "tools": ["now"],
    }
    assert crew_of(camel) == crew_of(snake) == [{**snake, "name": "writer", "needs": []}]


def test_the_definition_is_the_whole_definition():
    given_workflow = Workflow.model_validate(
        {
            "name": "Test",
            "model": "balanced",
            "pin": "run",
            "crew": [
                agent(
                    name="split",
                    policy="weighted",
                    candidates=[{"model": "a", "weight": 70}, {"model": "b", "weight": 30}],
                    temperature=0,
                    retries=0,
                ),
                agent("Judge", policy="cheapest", candidates=["a", "b"], prompt="{{ input }}", model=None),
            ],
        }
    )
    assert given_workflow.to_definition() == {
        "model": "balanced",
        "pin": "run",
        "crew": [
            {
                "role": "Writer",
                "system_prompt": "Write.",
                "name": "split",
                "needs": [],
                "policy": "weighted",
                "candidates": [{"model": "a", "weight": 70}, {"model": "b", "weight": 30}],
                "temperature": 0,
                "retries": 0,
            },
            {
                "role": "Judge",
                "system_prompt": "Write.",
                "name": "judge",
                "needs": ["split"],
                "policy": "cheapest",
                "candidates": ["a", "b"],
                "prompt": "{{ input }}",
            },
        ],
    }


def test_a_definition_is_a_workflow_again():
    one = Workflow(name="Test", crew=[agent(), agent("B", needs=[]), agent("C", needs=["writer", "b"])])
    assert Workflow.model_validate({"name": "Test", **one.to_definition()}).to_definition() == one.to_definition()


def test_nulls_inside_a_schema_stay():
    schema = {"type": "object", "properties": {"a": {"enum": [None, 1.5, "x"], "default": None}}}
    assert crew_of(agent(outputSchema=schema))[0]["output_schema"] == schema


def test_needs_are_the_agent_before_unless_written():
    crew = crew_of(agent("A"), agent("B"), agent("C", needs=[]), agent("D"), agent("E", needs=["b", "d"]))
    assert [step["needs"] for step in crew] == [[], ["a"], [], ["c"], ["b", "d"]]


def test_needs_may_name_later_agents():
    crew = crew_of(agent("A", needs=["b"]), agent("B", needs=[]))
    assert crew[0]["needs"] == ["b"]


@pytest.mark.parametrize(
    ("roles", "names"),
    [
        (["Policy & Plan", "Réviseur"], ["policy_plan", "reviseur"]),
        (["Writer", "writer", "WRITER"], ["writer", "writer_2", "writer_3"]),
        (["分類", "!"], ["agent_1", "agent_2"]),
        (["x" * 60, "x" * 60], ["x" * 60, "x" * 58 + "_2"]),
    ],
)
def test_names_are_made_from_roles(roles, names):
    assert [step["name"] for step in crew_of(*map(agent, roles))] == names


def test_a_name_that_is_made_gives_way_to_one_that_is_written():
    assert [step["name"] for step in crew_of(agent("Writer"), agent("X", name="writer"))] == ["writer_2", "writer"]


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=12))
@settings(max_examples=60)
def test_whatever_the_roles_names_are_unique_and_valid(roles):
    try:
        names = [step["name"] for step in crew_of(*map(agent, roles))]
    except WorkflowInvalid as error:
        assert all(str(detail["field"]).endswith("role") for detail in error.details)  # noqa: PT017
        return
    assert len(set(names)) == len(names)
    assert all(0 < len(name) <= 60 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") for name in names)


@pytest.mark.parametrize(
    ("name", "workflow_id"),
    [("Support reply", "support_reply"), ("  Ünï—Cödé 2 ", "uni_code_2"), ("x" * 120, "x" * 120)],
)
def test_a_workflow_id_is_the_slug_of_its_name(name, workflow_id):
    assert workflow_id_of(name) == workflow_id


def test_a_name_without_latin_letters_has_an_id_of_its_own():
    assert workflow_id_of("客服") == workflow_id_of("客服") != workflow_id_of("售后")
    assert workflow_id_of("客服").startswith("workflow_")


# What is refused


def test_a_missing_name_is_told_in_one_line():
    with pytest.raises(WorkflowInvalid) as caught:
        Workflow.model_validate({"crew": [agent()]})
    assert str(caught.value.details[0]["message"]).startswith("is missing: ")
    assert "\n" not in str(caught.value)


def test_every_wrong_field_is_named_at_once():
    found = refused({"role": "A"}, agent(sytemPrompt="x", maxTokens="5"), agent(temperature=3, policy="weightd"))
    assert found["crew.0.systemPrompt"].startswith("is missing: ")
    assert found["crew.1.sytemPrompt"] == "is unknown; did you mean systemPrompt?"
    assert found["crew.1.maxTokens"] == "must be a whole number"
    assert found["crew.2.temperature"] == "must be less than or equal to 2"
    assert "'fixed', 'weighted', 'cheapest' or 'fastest'" in found["crew.2.policy"]


def test_what_was_handed_in_is_not_repeated():
    with pytest.raises(WorkflowInvalid) as caught:
        Workflow.model_validate(
            {"name": "x", "crew": [{"role": "A", "systemPrompt": ["SECRET"], "model": {"k": "SECRET"}}]}
        )
    assert "SECRET" not in str(caught.value) + str(caught.value.details)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"name": ""}, "name", "at least 1 character"),
        ({"name": " \t"}, "name", "blank"),
        ({"name": "a\nb"}, "name", "one line"),
        ({"name": "x" * 121}, "name", "at most 120 characters, not 121"),
        ({"name": 5}, "name", "must be a text"),
        ({"description": "x" * 501}, "description", "at most 500 characters"),
        ({"model": "x" * 257}, "model", "at most 256"),
        ({"model": ""}, "model", "at least 1"),
        ({"pin": "step"}, "pin", "'run'"),
        ({"crew": []}, "crew", "at least 1 item"),
        ({"crew": [agent()] * 201}, "crew", "at most 200 items"),
        ({"crew": "planner"}, "crew", "must be a valid list"),
        ({"crew": [5]}, "crew.0", "must be a mapping"),
        ({"steps": []}, "steps", "known are name, description, model, pin, budget, crew"),
        ({"id": "x"}, "id", "is unknown"),
    ],
)
def test_fields_of_the_workflow(fields, field, message):
    assert message in refused(**fields)[field]


@pytest.mark.parametrize("data", [None, "x", 5, [], {}])
def test_what_is_no_workflow_at_all(data):
    with pytest.raises(WorkflowInvalid):
        Workflow.model_validate(data)


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"role": "x" * 61}, "role", "at most 60"),
        ({"role": "a\x00"}, "role", "control characters"),
        ({"systemPrompt": ""}, "systemPrompt", "at least 1"),
        ({"systemPrompt": "x" * 8001}, "systemPrompt", "at most 8,000 characters, not 8,001"),
        ({"name": "Bad Name"}, "name", "a-z, 0-9 and _, for example bad_name"),
        ({"name": "*"}, "name", "a-z, 0-9 and _"),
        ({"name": "x\n"}, "name", "a-z, 0-9 and _"),
        ({"name": "x" * 61}, "name", "at most 60"),
        ({"needs": "a"}, "needs", "must be a valid list"),
        ({"tools": ["a b"]}, "tools.0", "must consist of"),
        ({"tools": ["now", "now"]}, "tools", "has 'now' twice"),
        ({"maxTokens": 0}, "maxTokens", "greater than or equal to 1"),
        ({"maxTokens": True}, "maxTokens", "whole number"),
        ({"maxTurns": 101}, "maxTurns", "less than or equal to 100"),
        ({"timeoutSeconds": 86401}, "timeoutSeconds", "86400"),
        ({"retries": 11}, "retries", "10"),
        ({"temperature": float("nan")}, "temperature", "finite"),
        ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
        ({"fallbacks": ["a", "a"]}, "fallbacks", "has 'a' twice"),
        ({"fallbacks": ["a"]}, "fallbacks", "behind the agent's own model"),
        ({"candidates": ["a"]}, "candidates", "name a policy"),
        ({"policy": "cheapest"}, "candidates", "is missing"),
        ({"policy": "cheapest", "candidates": []}, "candidates", "at least 1"),
        ({"policy": "fastest", "candidates": [{"model": "a", "weight": 1}]}, "candidates", "without weights"),
        ({"policy": "weighted", "candidates": ["a", {"model": "b", "weight": 1}]}, "candidates", "{model, weight}"),
        ({"policy": "weighted", "candidates": [{"model": "a", "weight": 0}]}, "candidates", "more than 0"),
        ({"policy": "weighted", "candidates": [{"model": "a", "weight": -1}]}, "candidates.0.weight", "or equal to 0"),
        ({"policy": "weighted", "candidates": [{"model": "a", "weigth": 1}]}, "candidates.0.weigth", "mean weight?"),
        ({"policy": "weighted", "candidates": [{"weight": 1}]}, "candidates.0.model", "is missing"),
        (
            {"policy": "weighted", "candidates": [{"model": "a", "weight": 1}, {"model": "a", "weight": 2}]},
            "candidates",
            "has 'a' twice",
        ),
        ({"system_prompt": "again"}, "system_prompt", "there twice"),
    ],
)
def test_fields_of_an_agent(fields, field, message):
    assert message in refused(agent(**fields))[f"crew.0.{field}"]


AGENT = agent()
LOOP: list[Any] = [
    {"role": "R", "systemPrompt": "x", "name": "write"},
    {"role": "R", "systemPrompt": "x", "name": "review", "repeat": {"backTo": "write", "until": "input.ok", "max": 3}},
]


def test_the_whole_language_is_taken_and_normalised():
    crew = [
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
    steps = Workflow.model_validate({"name": "w", "crew": crew}).to_definition()["crew"]
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
    assert Workflow.model_validate({"name": "w", "crew": LOOP})
    fork = [LOOP[0], {**AGENT, "name": "other", "needs": ["write"]}, {**LOOP[1], "needs": ["write", "other"]}]
    assert "must be a line" in refused(*fork)["crew.2.repeat.backTo"]
    side = [*LOOP, {**AGENT, "name": "other", "needs": ["write"]}]
    assert "goes over write, which other needs as well" in refused(*side)["crew.1.repeat.backTo"]
    twice = [*LOOP, {**AGENT, "name": "more", "repeat": {"backTo": "review", "until": "input", "max": 2}}]
    assert "goes over review, which review repeats already" in refused(*twice)["crew.2.repeat.backTo"]


def test_inside_a_loop_a_step_may_read_what_a_later_one_said_last_time():
    crew = [{**LOOP[0], "prompt": "{{ input }} {{ steps.review.output }}"}, LOOP[1]]
    assert Workflow.model_validate({"name": "w", "crew": crew})


def test_many_problems_are_cut():
    assert len(refused(agent(**{f"field_{number}": 1 for number in range(5000)}))) == workflow.MAX_PROBLEMS


def test_names_written_twice():
    found = refused(agent("A", name="x"), agent("B", name="x"))
    assert found == {"crew.1.name": "'x' is already the name of crew.0; choose another"}


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


# Schemas


@pytest.mark.parametrize(
    ("schema", "field", "message"),
    [
        ({"type": "objec"}, "", "'objec' is not"),
        ({"properties": {"a": 5}}, "", "5 is not of type"),
        ({"properties": {"a": {"pattern": "("}}}, "", "regex"),
        ({"$schema": "https://example.com/mine"}, "", "$schema"),
        ({"$schema": []}, "", "$schema"),
        ({"$ref": "https://example.com/other.json"}, "", "outside"),
        ({"$ref": "#/$defs/missing"}, "", "names nothing"),
        ({"properties": {1: {}}}, ".properties", "a key that is empty or no text"),
        ({"properties": {"": {}}}, ".properties", "a key that is empty or no text"),
        ({"const": float("inf")}, ".const", "cannot be stored"),
        ({"const": float("nan")}, ".const", "cannot be stored"),
        ({"const": 10**400}, ".const", "cannot be stored"),
        ({"enum": ["\ud800"]}, ".enum.0", "surrogate"),
        ({"enum": [{1, 2}]}, ".enum.0", "no JSON but a set"),
    ],
)
def test_schemas_that_cannot_be_used(schema, field, message):
    assert message in refused(agent(outputSchema=schema))[f"crew.0.outputSchema{field}"]


def test_a_schema_deeper_than_dynamodb_nests():
    schema = {}
    for _ in range(25):
        schema = {"items": schema}
    assert "nested deeper than 24" in next(iter(refused(agent(outputSchema=schema)).values()))


@pytest.mark.parametrize("schema", [True, [], "x", 5])
def test_a_schema_is_a_mapping(schema):
    assert "crew.0.outputSchema" in refused(agent(outputSchema=schema))


def test_a_definition_that_no_item_holds():
    found = refused(*[agent(systemPrompt="é" * 8000) for _ in range(30)])
    assert "at most 350,000 fit" in found["crew"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "crew", "role", "systemPrompt", "needs", "candidates", "outputSchema"])
                | st.text(),
                inner,
                max_size=4,
            )
        ),
        max_leaves=15,
    )
)
def test_any_json_is_taken_or_refused_in_words(data):
    for value in (data, {"name": "x", "crew": data}, {"name": "x", "crew": [data]}):
        try:
            json.dumps(Workflow.model_validate(value).to_definition())
        except WorkflowInvalid as error:
            assert error.details  # noqa: PT017
            assert all(detail["field"] and detail["message"] for detail in error.details)  # noqa: PT017


# For editors


def test_the_json_schema_agrees_with_the_model():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = {
        "name": "x",
        "crew": [
            agent(
                policy="weighted", candidates=[{"model": "a", "weight": 1}], outputSchema={"type": "object"}, needs=[]
            ),
            agent(policy="cheapest", candidates=["a", "b"]),
        ],
    }
    Workflow.model_validate(good)
    assert validator.is_valid(good)
    for bad in (
        {"crew": []},
        {"name": "x", "crew": [{"role": "A"}]},
        {"name": "x", "crew": [agent(when=5)]},
        {"name": "x", "extra": 1},
        {"name": "x", "crew": [agent(maxTokens=0)]},
    ):
        assert not validator.is_valid(bad)
    known = schema["$defs"]["Agent"]["properties"]
    assert {"systemPrompt", "outputSchema", "timeoutSeconds"} <= set(known)
    assert all(field.get("description") for field in known.values())
