"""Workflow definitions: what is taken, what it becomes, what is refused and how that is said."""

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.crews import agent, crew_of, refused

from loopllama.errors import WorkflowInvalid
from loopllama.policies.registry import POLICIES
from loopllama.workflows import validation
from loopllama.workflows.schema import Workflow, json_schema, workflow_id_of

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
    *others, last = map(repr, POLICIES)
    assert found["crew.2.policy"] == f"must be {', '.join(others)} or {last}"


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
        ({"OUTPUT_SCHEMA": {"type": "object"}}, "OUTPUT_SCHEMA", "is unknown; did you mean outputSchema?"),
        ({"Output_Schema": {"type": "object"}}, "Output_Schema", "is unknown; did you mean outputSchema?"),
        ({"OutputSchema": {"type": "object"}}, "OutputSchema", "is unknown; did you mean outputSchema?"),
    ],
)
def test_fields_of_an_agent(fields, field, message):
    assert message in refused(agent(**fields))[f"crew.0.{field}"]


def test_many_problems_are_cut():
    assert len(refused(agent(**{f"field_{number}": 1 for number in range(5000)}))) == validation.MAX_PROBLEMS


def test_names_written_twice():
    found = refused(agent("A", name="x"), agent("B", name="x"))
    assert found == {"crew.1.name": "'x' is already the name of crew.0; choose another"}


# Schemas


@pytest.mark.parametrize(
    ("schema", "field", "message"),
    [
        ({"type": "objec"}, "", "'objec' is not"),
        ({"properties": {"a": 5}}, "", "5 is not of type"),
        ({"properties": {"a": {"pattern": "("}}}, "", "$.properties.a.pattern: the pattern '(' cannot be used"),
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
