"""Schemas and values that are small and ask for much: each is refused, or checked, in less than a second."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.core import json_schema, schema_drafts
from loopllama.core.schema_drafts import bounded, checker_of_schemas, drafts
from loopllama.errors import InvalidRequest

TOO_MUCH = "takes too much work, at "


def doubled(leaf: dict[str, Any], step: Any, depth: int = 40) -> dict[str, Any]:
    """A schema in which each of `depth` definitions applies the one before twice, as `step` says it."""
    definitions = {f"d{level + 1}": step({"$ref": f"#/$defs/d{level}"}) for level in range(depth)}
    return {"$defs": {"d0": leaf, **definitions}, "$ref": f"#/$defs/d{depth}"}


ATTACKS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "references that double": (doubled({"type": "string"}, lambda ref: {"allOf": [ref, ref]}), "x", ""),
    "references that double in what is evaluated": (
        {**doubled({}, lambda ref: {"dependentSchemas": {"a": ref, "b": ref}}), "unevaluatedProperties": False},
        {"a": 1, "b": 1},
        "",
    ),
    "a long list of different objects": (
        {"uniqueItems": True},
        [{"a": number} for number in range(60_000)],
        "uniqueItems",
    ),
    "a long list that is looked through for each item": (
        {"contains": {"type": "integer"}, "unevaluatedItems": False},
        list(range(30_000)),
        "unevaluatedItems",
    ),
    "a large constant, again and again": (
        {"$defs": {"c": {"const": [1] * 15_000}}, "allOf": [{"$ref": "#/$defs/c"}] * 1500},
        [1] * 15_000,
        "const",
    ),
    "many names, again and again": (
        {"anyOf": [{"additionalProperties": False}] * 1500},
        {str(number): 1 for number in range(50_000)},
        "additionalProperties",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_value_that_asks_for_too_much_is_refused_by_keyword(name: str) -> None:
    schema, value, keyword = ATTACKS[name]
    json_schema.check(schema)
    begun = time.process_time()
    with pytest.raises(InvalidRequest, match=f"checking a value against the schema {TOO_MUCH}{keyword}"):
        json_schema.violations(schema, value)
    assert time.process_time() - begun < 3  # under a second alone; CI's machines are shared


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{}] * 12_000},
        {"$defs": {"a": {}}, "properties": {f"f{number}": {"$ref": "#/$defs/a"} for number in range(1800)}},
        {
            "$defs": {f"a{number}": {"$anchor": f"x{number}"} for number in range(1000)},
            "allOf": [{"$ref": "#x1"}] * 800,
        },
        {
            "$defs": {f"a{number}": {"$anchor": f"x{number}"} for number in range(1000)},
            "properties": {f"p{number}": {"$ref": f"#x{number}"} for number in range(800)},
        },
    ],
    ids=["empty", "references", "one anchor", "anchors"],
)
def test_large_schemas_are_checked_at_once(schema: dict[str, Any]) -> None:
    begun = time.process_time()
    json_schema.check(schema)
    assert json_schema.violations(schema, {"f1": 1, "p1": 1}) == []
    assert time.process_time() - begun < 3


def test_errors_of_many_branches_do_not_hold_the_value_each() -> None:
    schema, value = {"anyOf": [{"type": "number"}] * 2500}, "x" * 900_000
    json_schema.violations(schema, 1)
    tracemalloc.start()
    try:
        assert json_schema.violations(schema, value) == [
            "$: the value is not valid under any of the given schemas (nearest: $: the value is not of type 'number')"
        ]
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


def test_what_people_use_is_far_from_the_bounds() -> None:
    line = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "pattern": "^[A-Z]{2}-\\d+$"},
            "price": {"type": "number", "minimum": 0},
        },
        "required": ["id", "price"],
        "additionalProperties": False,
    }
    lines = [{"id": f"AB-{number}", "price": 1.5} for number in range(3000)]
    assert json_schema.violations({"type": "array", "items": line}, lines) == []
    assert json_schema.violations({"type": "array", "items": line}, [*lines, {"id": "x", "price": 1}]) == [
        "$[3000].id: 'x' does not match '^[A-Z]{2}-\\\\d+$'"
    ]


KEYWORDS = st.sampled_from(
    (
        *("type", "properties", "items", "allOf", "anyOf", "not", "if", "required", "minLength", "maximum", "enum"),
        *("const", "uniqueItems", "dependentSchemas", "$defs", "contains", "prefixItems", "propertyNames", "format"),
        *("additionalProperties", "unevaluatedItems", "dependentRequired", "$comment", "a"),
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "object", "string", "#"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(KEYWORDS, JSON, max_size=4))
def test_a_schema_is_valid_just_where_the_drafts_own_metaschema_says_so(schema: dict[str, Any]) -> None:
    for cls in (jsonschema.Draft202012Validator, jsonschema.Draft201909Validator, jsonschema.Draft7Validator):
        draft = cls.META_SCHEMA["$schema"]
        with bounded("a test"):
            ours = not list(checker_of_schemas(draft).iter_errors(schema))
        assert ours == cls(cls.META_SCHEMA).is_valid(schema), draft


@given(st.lists(JSON, max_size=4))
def test_unique_items_are_those_of_the_library(value: list[Any]) -> None:
    ours = not json_schema.violations({"uniqueItems": True}, value)
    assert ours == jsonschema.Draft202012Validator({"uniqueItems": True}).is_valid(value)


def test_every_draft_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_drafts, "MOST_WORK", 30_000)
    for draft in drafts():
        schema = doubled({"type": "string"}, lambda ref: {"allOf": [ref, ref]})
        with pytest.raises(InvalidRequest, match=TOO_MUCH):
            json_schema.violations(
                {"$schema": draft, "allOf": [{"$ref": schema["$ref"]}], "$defs": schema["$defs"]}, "x"
            )
