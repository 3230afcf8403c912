"""Types of values before there are any, against values that have them."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from loopllama.errors import InvalidRequest
from loopllama.workflows import expressions
from loopllama.workflows.expression_checks import follow
from loopllama.workflows.static_types import ANYTHING, Described, Listed, Named, Text, Type

# Nothing that can hold is refused: schemas, values of them and paths, all at random

NAMES = ("a", "b", "c")
schemas = st.recursive(
    st.sampled_from(
        [{}, {"type": "string"}, {"type": "number"}, {"type": ["string", "null"]}, {"anyOf": [{}]}, {"type": "object"}]
    ),
    lambda inner: (
        st.fixed_dictionaries(
            {"type": st.sampled_from(["array", ["array", "null"], ["array", "string"]]), "items": inner}
        )
        | st.fixed_dictionaries(
            {"properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)},
            optional={
                "type": st.sampled_from(["object", ["object", "array"], ["null", "object"]]),
                "additionalProperties": st.sampled_from([True, {}]),
            },
        )
    ),
    max_leaves=8,
)
rich = st.recursive(
    st.sampled_from([1, "x", True]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2) | st.fixed_dictionaries({"a": inner, "b": st.just(1), "c": inner})
    ),
    max_leaves=4,
)
"""Values in which a path finds something, where it can."""


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Answers of a schema that hold no field which it does not name, unless it says that there may be more."""
    said = schema.get("type")
    types = [said] if isinstance(said, str) else said or []
    if "anyOf" in schema or (not types and "properties" not in schema):
        return rich
    kinds: list[st.SearchStrategy[Any]] = []
    if "string" in types:
        kinds.append(st.just("x"))
    if "number" in types:
        kinds.append(st.integers(0, 3))
    if "null" in types:
        kinds.append(st.none())
    if "array" in types:
        kinds.append(st.lists(values(schema.get("items", {})), min_size=1, max_size=2))
    if "object" in types or "properties" in schema:
        if "properties" in schema:
            named = {name: values(inner) for name, inner in schema["properties"].items()}
            further = st.sampled_from([name for name in NAMES if name not in named] or ["d"])
            is_open = "additionalProperties" in schema
            others = st.dictionaries(further, rich, min_size=1) if is_open else st.just({})
            fixed = st.fixed_dictionaries(named)
            kinds.append(st.tuples(fixed, others).map(lambda two: {**two[1], **two[0]}))
        else:
            kinds.append(rich)
    return st.one_of(kinds)


path_parts = st.sampled_from(
    (".a", ".b", ".c", "[0]", "[-1]", "[*]", "[]", "[:2]", ".*", "[?a]", "[?b == `1`]", " | a", " | [0]", " | @[*].b")
)
paths = st.lists(path_parts, min_size=1, max_size=5).map("".join)
wrappers = st.sampled_from(["{}", "sort_by({}, &a)", "max_by({}, &b).c", "map(&c, {})", "reverse({})[0]"])


class Root(Named):
    def __init__(self, inner: Type) -> None:
        self.inner = inner

    def field(self, name: str) -> Type:
        return self.inner


@settings(max_examples=150)
@given(st.data(), schemas, paths, wrappers)
def test_what_is_refused_gives_nothing_whatever_the_values(data: Any, schema: Any, path: str, wrapper: str) -> None:
    expression = expressions.parse(wrapper.format("x" + path))
    _, problems = follow(expression, Root(Described("s", schema)))
    if not problems:
        return
    for _ in range(5):
        value = data.draw(values(schema))
        with contextlib.suppress(InvalidRequest):
            assert _is_empty(expression.of({"x": value})), value


def _is_empty(value: Any) -> bool:
    """Whether it holds nothing but nulls: a list that is passed on before a wrong name filters it may be there."""
    if isinstance(value, list):
        return all(map(_is_empty, value))
    return value is None


@given(schemas)
def test_types_of_lists(schema: Any) -> None:
    listed = Listed("x", Described("s", schema))
    assert follow(expressions.parse("x[0]"), Root(listed))[0] == Described("s", schema)
    assert follow(expressions.parse("x[*].a"), Root(Text("s")))[1]
    assert follow(expressions.parse("x.a[*].b"), Root(ANYTHING))[1] == []
