"""Parameters of tools whose root is put together of several schemas, or says no type: one object for every provider."""

from __future__ import annotations

from typing import Any

import pytest
from support import schema_rules

from loopllama.llm.schema_restating import parameters


def test_a_union_at_the_root_of_parameters_is_put_into_words() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array"}}, "oneOf": [{"required": ["a"]}]}
    for subset in ("openai tools", "anthropic tools"):
        assert parameters(schema, subset) == {
            "type": "object",
            "properties": {"a": {"type": "array", "items": {}}},
            "description": '(oneOf: [{"required":["a"]}])',
        }


A = {"type": "object", "properties": {"k": {"const": "a"}, "x": {"type": "string"}}, "required": ["k", "x"]}
B = {"type": "object", "properties": {"k": {"const": "b"}, "y": {"type": "number"}}, "required": ["k", "y"]}
X = {"type": "string"}


@pytest.mark.parametrize("root", [{}, {"type": "object"}], ids=["without a type", "object"])
@pytest.mark.parametrize(
    ("schema", "properties", "required", "words"),
    [
        ({"anyOf": [A, B]}, {"k", "x", "y"}, ["k"], True),
        (
            {"oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}], "$defs": {"A": A, "B": B}},
            {"k", "x", "y"},
            ["k"],
            True,
        ),
        ({"anyOf": [A, {"type": "null"}]}, {"k", "x"}, ["k", "x"], False),
        ({"properties": {"z": X}, "required": ["z"], "oneOf": [A, B]}, {"z", "k", "x", "y"}, ["z", "k"], True),
        (
            {"allOf": [{"$ref": "#/$defs/A"}, {"properties": {"z": X}}], "$defs": {"A": A}},
            {"k", "x", "z"},
            ["k", "x"],
            False,
        ),
        ({"$ref": "#/$defs/A", "$defs": {"A": A}}, {"k", "x"}, ["k", "x"], False),
        ({}, set(), None, False),
    ],
)
def test_what_the_root_of_parameters_is_put_together_of_is_one_object(
    root: dict[str, Any], schema: dict[str, Any], properties: set[str], required: list[str] | None, words: bool
) -> None:
    for subset, refuses in schema_rules.TOOLS.items():
        made = parameters({**root, **schema}, subset)
        assert refuses(made) is None
        assert (made["type"], made["properties"].keys(), made.get("required")) == ("object", properties, required)
        assert ("x" in str(made.get("description", ""))) is (words and subset != "nova tools")
    if "anyOf" in schema and words:
        assert parameters(schema, "openai tools")["properties"]["k"] == {"anyOf": [{"const": "a"}, {"const": "b"}]}


def test_parameters_that_are_no_object_spoil_no_request() -> None:
    for subset, refuses in schema_rules.TOOLS.items():
        assert refuses(parameters({"type": "string"}, subset)) is None


def test_a_part_without_a_type_gets_one_where_each_needs_it() -> None:
    parts = {
        "any": {"description": "Anything."},
        "object": {"properties": {"a": {}}},
        "list": {"items": {"type": "string"}},
        "either": {"anyOf": [{"not": {}}, {"type": "string"}]},
    }
    made = parameters({"type": "object", "properties": parts}, "gemini tools")
    assert schema_rules.TOOLS["gemini tools"](made) is None
    assert [made["properties"][name].get("type") for name in parts] == ["string", "object", "array", None]


def test_an_all_of_itself_is_left_to_the_provider() -> None:
    schema = {"type": "object", "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}]}}, "$ref": "#/$defs/A"}
    assert parameters(schema, "openai tools") == schema
