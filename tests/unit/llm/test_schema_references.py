"""Schemas that refer to themselves or to nothing, and truths in a schema's place, as providers take them."""

from __future__ import annotations

from typing import Any

import pytest
from support import schema_rules

from loopllama.llm.schema_restating import parameters, restated, says_less


def one(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": parts}, "required": ["x"]}


NODE = {
    "type": "object",
    "properties": {"v": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#/$defs/N"}}},
}


@pytest.mark.parametrize("subset", ["gemini tools", "nova tools"])
@pytest.mark.parametrize(
    "schema",
    [
        {**one(**{"$ref": "#/$defs/N"}), "$defs": {"N": NODE}},
        {"type": "object", "properties": {"v": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#"}}}},
    ],
    ids=["by a definition", "by the root"],
)
def test_parameters_that_refer_to_themselves_are_said_some_levels_deep(subset: str, schema: dict[str, Any]) -> None:
    made: Any = parameters(schema, subset)
    assert schema_rules.TOOLS[subset](made) is None
    assert says_less(schema, subset)
    made, levels = made["properties"].get("x", made), 0
    while "properties" in made:
        made, levels = made["properties"]["kids"]["items"], levels + 1
    assert (levels, made["type"], made["description"].startswith("The same once more: #")) == (levels, "object", True)
    assert levels in (3, 4)


def test_parameters_that_would_be_too_large_are_said_less_deep() -> None:
    parts = {f"p{place}": {"$ref": "#/$defs/N"} for place in range(20)}
    schema = {**one(**{"$ref": "#/$defs/N"}), "$defs": {"N": {"type": "object", "properties": parts}}}
    made = parameters(schema, "gemini tools")
    assert made["properties"]["x"]["properties"]["p0"] == {
        "type": "object",
        "description": "The same once more: #/$defs/N.",
    }


def test_a_reference_to_nothing_is_described() -> None:
    made = parameters(one(**{"$ref": "https://example.com/s.json", "description": "A shape."}), "gemini tools")
    said = "A shape. What https://example.com/s.json names."
    assert made["properties"]["x"] == {"type": "object", "description": said}


@pytest.mark.parametrize("subset", schema_rules.ANSWERS)
def test_a_definition_that_nothing_uses_is_left_out(subset: str) -> None:
    schema = {**one(type="string"), "$defs": {"N": NODE, "M": {"$ref": "#/$defs/N"}}}
    made = restated(schema, subset).schema
    assert made is not None
    assert "$defs" not in made
    assert not says_less(schema, "gemini tools")


@pytest.mark.parametrize("subset", schema_rules.ANSWERS)
@pytest.mark.parametrize(
    ("part", "why"),
    [
        ({"type": "array", "items": True}, "a value may be anything"),
        ({"type": "array", "items": False}, "a value may be nothing"),
        ({"anyOf": [True, {"type": "null"}]}, "a value may be anything"),
        ({"anyOf": [False]}, "a value may be nothing"),
    ],
)
def test_truths_in_a_schemas_place_cannot_be_said_in_answers(subset: str, part: dict[str, Any], why: str) -> None:
    assert why in restated(one(**part), subset).why


@pytest.mark.parametrize(
    ("subset", "anything", "nothing"),
    [
        ("openai tools", {}, {"not": {}}),
        ("anthropic tools", {}, {"not": {}}),
        ("nova tools", {}, {"not": {}}),
        ("gemini tools", {"type": "string"}, {"type": "string", "description": "(nothing is valid)"}),
    ],
)
def test_truths_in_a_schemas_place_are_schemas_in_parameters(subset: str, anything: Any, nothing: Any) -> None:
    for truth, said in ((True, anything), (False, nothing)):
        made = parameters(one(type="array", items=truth), subset)
        assert made["properties"]["x"]["items"] == said


def test_a_property_that_may_not_be_given_is_left_out() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string"}, "y": False}, "required": ["x"]}
    closed = {**one(type="string"), "additionalProperties": False}
    assert restated(schema, "openai strict").schema == restated(schema, "anthropic").schema == closed
    worded = {**one(type="string"), "description": '(without: ["y"])'}
    for subset in ("openai tools", "anthropic tools", "gemini tools"):
        assert parameters(schema, subset) == worded
    assert restated({**schema, "required": ["x", "y"]}, "openai strict").why.endswith(
        "required property is not described"
    )
