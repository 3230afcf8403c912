"""Schemas restated in what providers can enforce: whatever follows the restated one follows the original."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.llm.schema_subsets import for_anthropic, for_openai

ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def one(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": parts}, "required": ["x"]}


def test_objects_are_closed_and_annotations_left_out() -> None:
    schema = {"$schema": "x", "title": "T", **one(**ADDRESS, title="A", description="Where.")}
    expected = one(**ADDRESS, description="Where.", additionalProperties=False) | {"additionalProperties": False}
    assert for_openai(schema) == expected
    assert for_anthropic(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"x": {"type": "string"}}},
        one(type="string", minLength=3),
        one(type="string", format="uri"),
        one(type="object"),
        one(type="object", additionalProperties={"type": "string"}),
        one(oneOf=[{"type": "string"}]),
        one(description="anything"),
        {"type": "array", "items": {"type": "string"}},
        {"anyOf": [one(type="string")]},
        one(**{"not": {"type": "string"}}),
    ],
)
def test_what_openai_cannot_enforce(schema: dict[str, Any]) -> None:
    assert for_openai(schema) is None


def test_a_reference_stands_alone_at_openai() -> None:
    """pydantic puts a nested model's description beside the `$ref`."""
    chart = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    schema = {**one(**{"$ref": "#/$defs/Chart", "description": "The main chart."}), "$defs": {"Chart": chart}}
    restated = for_openai(schema)
    assert restated
    assert restated["properties"]["x"] == {"$ref": "#/$defs/Chart"}
    assert for_openai({**one(**{"$ref": "#/$defs/Chart", "minLength": 1}), "$defs": {"Chart": chart}}) is None


def test_a_pattern_that_looks_around_is_put_into_words() -> None:
    restated = for_openai(one(type="string", pattern=r"^(?!x)\w+$"))
    assert restated
    assert restated["properties"]["x"] == {"type": "string", "description": r'(pattern: "^(?!x)\\w+$")'}
    assert for_openai(one(type="string", pattern=r"^(?:a|b)$")) is not None


def _many(count: int, required: int, **part: Any) -> dict[str, Any]:
    names = [f"f{place}" for place in range(count)]
    return {"type": "object", "properties": dict.fromkeys(names, part), "required": names[:required]}


@pytest.mark.parametrize(
    ("schema", "is_taken"),
    [
        (_many(25, 1, type="string"), True),
        (_many(26, 1, type="string"), False),
        (_many(16, 16, type=["string", "null"]), True),
        (_many(17, 17, type=["string", "null"]), False),
        (_many(17, 17, anyOf=[{"type": "string"}, {"type": "null"}]), False),
        (one(type="array", items=_many(30, 5, type="string")), False),
        ({**one(**{"$ref": "#/$defs/a"}), "$defs": {"a": _many(30, 5, type="string")}}, False),
    ],
)
def test_anthropic_counts_optional_properties_and_unions(schema: dict[str, Any], is_taken: bool) -> None:
    assert (for_anthropic(schema) is not None) is is_taken


def test_openai_counts_properties_and_enum_values() -> None:
    assert for_openai(_many(5000, 5000, type="string")) is not None
    assert for_openai(_many(5001, 5001, type="string")) is None
    assert for_openai(one(enum=[str(place) for place in range(1001)])) is None


@pytest.mark.parametrize(
    "schema",
    [
        one(type="object"),
        one(type="array", items={"$ref": "#"}),
        {**one(**{"$ref": "#/$defs/a"}), "$defs": {"a": one(anyOf=[{"$ref": "#/$defs/a"}, {"type": "null"}])}},
        one(oneOf=[{"type": "string"}]),
        {"type": "array", "items": {"type": "string"}},
    ],
)
def test_what_anthropic_cannot_enforce(schema: dict[str, Any]) -> None:
    assert for_anthropic(schema) is None


def test_openai_takes_what_refers_to_itself_and_bounds() -> None:
    schema = {**one(**{"$ref": "#/$defs/a"}), "$defs": {"a": one(anyOf=[{"$ref": "#/$defs/a"}, {"type": "null"}])}}
    assert for_openai(schema) is not None
    bounded = for_openai(one(type="integer", minimum=1, maximum=5))
    assert bounded is not None
    assert bounded["properties"]["x"] == {"type": "integer", "minimum": 1, "maximum": 5}


def test_anthropic_is_told_of_bounds_in_words() -> None:
    schema = for_anthropic(one(type="integer", minimum=1, maximum=5, description="How urgent."))
    assert schema is not None
    assert schema["properties"]["x"] == {"type": "integer", "description": "How urgent. (minimum: 1, maximum: 5)"}


def test_anthropic_takes_optional_properties() -> None:
    schema = for_anthropic(
        {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "null"}}, "required": ["x"]}
    )
    assert schema is not None
    assert schema["required"] == ["x"]


def test_a_reference_used_twice_is_no_circle() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/p"}, "b": {"$ref": "#/$defs/p"}},
        "required": ["a", "b"],
        "$defs": {"p": one(type="string")},
    }
    assert for_anthropic(schema) is not None


_leaves = st.sampled_from(
    [
        {"type": "string"},
        {"type": "integer"},
        {"type": "boolean"},
        {"enum": ["a", "b"]},
        {"const": "k"},
        {"type": "integer", "minimum": 0},
        {"type": ["string", "null"]},
    ]
)
_schemas = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("pqr"), inner, min_size=1, max_size=3).map(
            lambda p: {"type": "object", "properties": p, "required": sorted(p)}
        ),
        inner.map(lambda i: {"type": "array", "items": i}),
        st.lists(inner, min_size=1, max_size=2).map(lambda o: {"anyOf": o}),
    ),
    max_leaves=6,
)
_values = st.recursive(
    st.sampled_from(["a", "k", "", 0, 1, -1, True, None]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("pqrs"), inner, max_size=3),
    max_leaves=6,
)


@given(_schemas, _values)
def test_what_follows_the_restated_schema_follows_the_schema(inner: dict[str, Any], value: Any) -> None:
    schema = one(**inner)
    for restated in (for_openai(schema), for_anthropic(schema)):
        assert restated is not None
        jsonschema.Draft202012Validator.check_schema(restated)
        if restated == for_openai(schema) and jsonschema.Draft202012Validator(restated).is_valid({"x": value}):
            jsonschema.validate({"x": value}, schema)
