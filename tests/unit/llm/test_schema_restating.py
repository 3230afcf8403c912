"""Schemas restated in what providers can enforce: whatever follows the restated one follows the original."""

from __future__ import annotations

import itertools
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import schema_rules

from loopllama.llm.schema_restating import holds, parameters, restated
from loopllama.llm.schema_subsets import SUBSETS

ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def one(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": parts}, "required": ["x"]}


def for_openai(schema: dict[str, Any]) -> Any:
    return restated(schema, "openai strict").schema


def for_anthropic(schema: dict[str, Any]) -> Any:
    return restated(schema, "anthropic").schema


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
        one(type="array"),
        one(type="array", items={}),
        one(enum=["a", {"b": 1}]),
        one(allOf=[{"type": "string"}, {"pattern": "x"}]),
        {**one(type="string"), "required": ["x", "y"]},
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
        one(**{"if": {"type": "string"}}),
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
    for subset in ("openai strict", "anthropic", "gemini"):
        made = restated(schema, subset).schema
        assert made is not None
        jsonschema.Draft202012Validator.check_schema(made)
        if subset == "openai strict" and jsonschema.Draft202012Validator(made).is_valid({"x": value}):
            jsonschema.validate({"x": value}, schema)


# Every schema that there is, against rules that others wrote

_texts = st.sampled_from(["a", "b", "^(?!x)", "uri", "date", "#/$defs/d", "#/$defs/e", "#"])
_bits: dict[str, st.SearchStrategy[Any]] = {
    "enum": st.lists(st.sampled_from(["a", "b", 1, 2.5, True, None, {"k": 1}]), min_size=1, max_size=3),
    "const": st.sampled_from(["a", 1, None, [1]]),
    "format": _texts,
    "pattern": _texts,
    "$ref": st.sampled_from(["#/$defs/d", "#/$defs/e", "#"]),
    "title": _texts,
    "default": st.sampled_from(["a", 1, None]),
    "description": _texts,
    "minLength": st.integers(0, 3),
    "minItems": st.integers(0, 3),
    "minimum": st.integers(-3, 3),
    "exclusiveMinimum": st.integers(-3, 3) | st.booleans(),
    "multipleOf": st.integers(1, 3),
    "uniqueItems": st.booleans(),
    "required": st.lists(st.sampled_from("pqz"), max_size=2, unique=True),
    "type": st.sampled_from(
        ["string", "integer", "object", "array", "null", ["string", "null"], ["object", "null"], ["array", "null"]]
    ),
    "$schema": st.just("http://json-schema.org/draft-07/schema#"),
    "discriminator": st.just({"propertyName": "p"}),
}


def _any_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    parts: dict[str, st.SearchStrategy[Any]] = {
        "properties": st.dictionaries(st.sampled_from("pqr"), inner, max_size=3),
        "additionalProperties": st.booleans() | inner,
        "items": st.booleans() | inner | st.lists(inner, max_size=2),
        **{key: st.lists(inner, min_size=1, max_size=2) for key in ("anyOf", "oneOf", "allOf")},
        **dict.fromkeys(("not", "if", "contains"), inner),
        "patternProperties": st.dictionaries(_texts, inner, max_size=1),
    }
    return st.fixed_dictionaries({}, optional={**_bits, **parts})


_any_schema = st.recursive(st.booleans() | st.fixed_dictionaries({}, optional=_bits), _any_of, max_leaves=5)
_roots = st.builds(
    lambda inner, d, e, closed: {
        **(inner if isinstance(inner, dict) else {}),
        "type": "object",
        "$defs": {"d": d, "e": e},
        **({"additionalProperties": False} if closed else {}),
    },
    _any_schema | _schemas.map(lambda part: one(p=part)),
    _any_schema | _schemas,
    _any_schema | _schemas,
    st.booleans(),
)


def test_every_subset_has_a_checker() -> None:
    assert schema_rules.ANSWERS.keys() | schema_rules.TOOLS.keys() | {"any"} == SUBSETS.keys()


@pytest.mark.parametrize("subset", schema_rules.ANSWERS)
@settings(max_examples=50)
@given(schema=_roots)
def test_whatever_is_restated_for_answers_is_taken(subset: str, schema: dict[str, Any]) -> None:
    made, why_not = restated(schema, subset)
    assert (made is None) is bool(why_not)
    if made is not None:
        assert schema_rules.ANSWERS[subset](made) is None
        assert holds(made, subset)


@pytest.mark.parametrize("subset", schema_rules.TOOLS)
@settings(max_examples=50)
@given(schema=_roots, typed=st.booleans())
def test_parameters_that_are_restated_are_taken(subset: str, schema: dict[str, Any], typed: bool) -> None:
    root = schema if typed else {key: value for key, value in schema.items() if key != "type"}
    assert schema_rules.TOOLS[subset](parameters(root, subset)) is None


def test_a_tool_is_said_to_gemini_in_its_own_words() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "max": {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}], "default": None},
            "kind": {"const": "a"},
            "who": {"$ref": "#/$defs/Person", "description": "Whom to ask."},
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
            "note": {"type": ["string", "null"], "format": "uri"},
        },
        "required": ["kind", "gone"],
        "additionalProperties": False,
        "$defs": {"Person": {"type": "object", "properties": {"id": {"type": "integer"}}, "title": "Person"}},
    }
    assert parameters(schema, "gemini tools") == {
        "type": "object",
        "properties": {
            "max": {"type": "integer", "description": "(exclusiveMinimum: 0)", "nullable": True},
            "kind": {"type": "string", "enum": ["a"]},
            "who": {
                "type": "object",
                "properties": {"id": {"type": "integer"}},
                "description": "Whom to ask.",
            },
            "tags": {"type": "array", "items": {"type": "string"}, "description": "(uniqueItems: true)"},
            "note": {"type": "string", "description": '(format: "uri")', "nullable": True},
        },
        "required": ["kind"],
        "description": "(additionalProperties: false)",
    }


def test_a_chain_of_references_ends() -> None:
    """It would take 2^200 steps to follow each way, and more levels than Python has."""
    names = [f"d{place}" for place in range(200)]
    after = dict(itertools.pairwise(names))
    two_on = {name: after.get(after[name], names[-1]) for name in after}
    defs = {
        name: one(anyOf=[{"$ref": f"#/$defs/{two_on[name]}"}, {"$ref": f"#/$defs/{after[name]}"}]) for name in after
    }
    schema = {**one(**{"$ref": "#/$defs/d0"}), "$defs": {**defs, names[-1]: {"type": "string"}}}
    for subset in SUBSETS:
        restated(schema, subset)
        parameters(schema, subset)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "object", "properties": {"x": {"type": "string"}}}, "a property is optional"),
        (one(type="string", format="uri"), 'format "uri"'),
        (one(type="array"), "a list may hold anything"),
        (_many(5001, 5001, type="string"), "5,001 properties, at most 5,000"),
    ],
)
def test_why_a_schema_cannot_be_said_is_told(schema: dict[str, Any], why: str) -> None:
    assert why in restated(schema, "openai strict").why


def test_one_of_pydantics_unions_is_said_as_any_of() -> None:
    cat, dog = ({**one(const=name), "title": name} for name in ("cat", "dog"))
    schema = one(oneOf=[cat, dog], discriminator={"propertyName": "x"})
    made = for_openai(schema)
    assert [part["properties"]["x"] for part in made["properties"]["x"]["anyOf"]] == [
        {"const": "cat", "type": "string"},
        {"const": "dog", "type": "string"},
    ]
