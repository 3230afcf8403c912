"""Structured outputs, leaf by leaf."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopllama.evidence import agreement as scoring
from loopllama.evidence.agreement import agreement, difference
from loopllama.evidence.leaves import normalised

DATE, MOMENT = {"format": "date"}, {"format": "date-time"}
WHOLE, NUMBER = {"type": "integer"}, {"type": "number"}
COLOUR = {"enum": ["red", "Red", None, 1]}


@pytest.mark.parametrize(
    ("schema", "expected", "actual", "agrees"),
    [
        # null, booleans, and what only looks alike
        ({}, None, None, True),
        ({}, None, False, False),
        ({}, None, "", False),
        ({}, True, True, True),
        ({}, True, False, False),
        ({}, True, 1, False),
        ({}, 0, False, False),
        ({}, 1, "1", False),
        ({}, [], {}, False),
        ({}, [], [], True),
        ({}, {}, {}, True),
        ({}, [], None, False),
        ({}, "", [], False),
        # integers
        (WHOLE, 3, 3, True),
        (WHOLE, 3, 4, False),
        (WHOLE, 3, Decimal("3.0"), True),
        (WHOLE, 10**9, 10**9 + 1, False),
        ({}, 10**9, 10**9 + 1, False),
        ({"type": ["integer", "null"]}, 10**9, 10**9 + 1, False),
        # numbers
        (NUMBER, 10**9, 10**9 + 1, True),
        (NUMBER, Decimal("19.99"), 19.99, True),
        (NUMBER, 19.99, 19.98, False),
        (NUMBER, 0.1 + 0.2, 0.3, True),
        ({}, 0.1 + 0.2, 0.3, True),
        (NUMBER, 0, 1e-9, False),
        (NUMBER, -1, 1, False),
        (NUMBER, Decimal("9e999999"), Decimal("-9e999999"), False),
        # enumerations and constants, to the letter
        (COLOUR, "red", "red", True),
        (COLOUR, "red", "Red", False),
        (COLOUR, "red", " red", False),
        (COLOUR, 1, 1.0, True),
        ({"enum": [0.3]}, 0.3, 0.1 + 0.2, False),
        ({"const": "a"}, "a", "A", False),
        # dates
        (DATE, "2026-11-28", "20261128", True),
        (DATE, "2026-11-28", "2026-11-29", False),
        (DATE, "2026-11-28", "soon", False),
        (DATE, "soon", "Soon", True),
        (DATE, "soon", "later", False),
        (MOMENT, "2026-11-28T12:00:00Z", "2026-11-28t13:00:00+01:00", True),
        (MOMENT, "2026-11-28T12:00:00Z", "2026-11-28T12:00:01Z", False),
        ({}, "2026-11-28", "20261128", False),
        # texts
        ({}, "Straße  1", " STRASSE 1\n", True),
        ({}, "ﬁne \uff21", "fine a", True),
        ({}, "e\u0301", "é", True),
        ({}, "a b", "ab", False),
        ({}, "fine", "fine.", False),
        ({}, "", " ", True),
    ],
)
def test_one_leaf(schema: dict, expected: Any, actual: Any, agrees: bool) -> None:
    result = agreement(schema, expected, actual)
    assert result == (float(agrees), 1, () if agrees else ("$",))
    inside = agreement({"properties": {"a": {"items": schema}}}, {"a": [expected]}, {"a": [actual]})
    if expected not in ([], {}) and actual not in ([], {}):
        assert inside == (float(agrees), 1, () if agrees else ("$.a[0]",))


@pytest.mark.parametrize(
    ("expected", "actual", "share", "count", "wrong"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, 1, 2, ()),
        ({"a": 1, "b": 2}, {"a": 1}, 1 / 2, 2, ("$.b",)),
        ({"a": 1}, {"a": 1, "b": {"c": 1, "d": [2, 3]}}, 1 / 4, 4, ("$.b.c", "$.b.d[0]", "$.b.d[1]")),
        ({"a": None}, {}, 0, 1, ("$.a",)),
        ([1, 2, 3], [1, 2], 2 / 3, 3, ("$[2]",)),
        ([1], [1, 2, 3], 1 / 3, 3, ("$[1]", "$[2]")),
        ([1, 2], [2, 1], 0, 2, ("$[0]", "$[1]")),
        ([], [1], 0, 1, ("$[0]",)),
        ({"a": {}}, {"a": {}}, 1, 1, ()),
        ({"a": {"b": 1, "c": 2}}, {"a": 3}, 0, 3, ("$.a.b", "$.a.c", "$.a")),
        ({"a": {"b": 1}}, {"a": [1]}, 0, 2, ("$.a.b", "$.a[0]")),
        ({"a": 1}, None, 0, 2, ("$.a", "$")),
        ([{"n": "x", "p": 1}, {"n": "y", "p": 2}], [{"n": "X", "p": 1}, {"n": "y", "p": 3}], 3 / 4, 4, ("$[1].p",)),
    ],
)
def test_objects_and_lists(expected: Any, actual: Any, share: float, count: int, wrong: tuple[str, ...]) -> None:
    assert agreement({}, expected, actual) == (share, count, wrong)
    turned = agreement({}, actual, expected)
    assert (turned.share, turned.leaves, set(turned.disagreeing)) == (share, count, set(wrong))


BRANCHES = {
    "$defs": {
        "kind": {"enum": ["A", "a"]},
        "code": {"type": "object", "required": ["code"], "properties": {"code": {"$ref": "#/$defs/kind"}}},
        "loop": {"$ref": "#/$defs/loop"},
        "tree": {
            "properties": {"kind": {"$ref": "#/$defs/kind"}, "below": {"items": {"$ref": "#/$defs/tree"}}},
        },
    },
    "properties": {
        "any": {"anyOf": [{"type": "object", "required": ["text"]}, {"$ref": "#/$defs/code"}]},
        "one": {"oneOf": [{"type": "null"}, {"enum": ["B", "b"]}, {"type": "string", "maxLength": 0}]},
        "free": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "all": {"allOf": [{"type": "string"}, {"$ref": "#/$defs/kind"}]},
        "loop": {"$ref": "#/$defs/loop"},
        "tree": {"$ref": "#/$defs/tree"},
        "far": {"anyOf": [{"$ref": "#/properties/all"}, True]},
        "nowhere": {"$ref": "#/$defs/none/of/it"},
        "pair": {"prefixItems": [{"enum": ["x", "X"]}], "items": {"type": "string"}},
        "old": {"items": [{"enum": ["x", "X"]}], "additionalItems": {"enum": ["y", "Y"]}},
    },
    "additionalProperties": {"enum": ["z", "Z"]},
}


@pytest.mark.parametrize(
    ("key", "expected", "actual", "share"),
    [
        ("any", {"code": "A"}, {"code": "a"}, 0),
        ("any", {"text": "A", "code": "A"}, {"text": "a", "code": "a"}, 1),
        ("one", "B", "b", 0),
        ("one", None, None, 1),
        ("free", "A", "a", 1),
        ("all", "A", "a", 0),
        ("loop", "A", "a", 1),
        ("tree", {"kind": "A", "below": [{"kind": "a"}]}, {"kind": "A", "below": [{"kind": "A"}]}, 1 / 2),
        ("far", "A", "a", 0),
        ("nowhere", "A", "a", 1),
        ("pair", ["x", "x"], ["X", "X"], 1 / 2),
        ("old", ["x", "y"], ["X", "Y"], 0),
        ("more", "z", "Z", 0),
    ],
)
def test_what_the_schema_says_by_references_and_branches(key: str, expected: Any, actual: Any, share: float) -> None:
    assert agreement(BRANCHES, {key: expected}, {key: actual}).share == share


@pytest.mark.parametrize(
    "schema", [None, True, False, [], {"type": 3}, {"$ref": 4}, {"allOf": 1, "anyOf": {}, "items": 2}]
)
def test_no_schema_breaks_it(schema: Any) -> None:
    assert agreement(schema, {"a": [1, "x"]}, {"a": [1, "X"]}).share == 1


def test_a_tolerance_of_ones_own() -> None:
    assert agreement(NUMBER, 100, 101, Decimal("0.01")).share == 1
    assert agreement(NUMBER, 100, 102, Decimal("0.01")).share == 0
    assert agreement(WHOLE, 100, 101, Decimal("0.01")).share == 0


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.sampled_from(["a", "A", "b", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(values, values)
def test_a_score_is_a_share_and_the_same_both_ways(one: Any, other: Any) -> None:
    result, turned = agreement({}, one, other), agreement({}, other, one)
    assert 0 <= result.share <= 1 <= result.leaves
    assert (result.share, result.leaves) == (turned.share, turned.leaves)
    assert agreement({}, one, one).share == 1
    assert -1 <= difference(result, agreement({}, one, one)) <= 0


def test_a_deep_answer_is_walked_and_a_long_list_of_places_is_cut() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    assert agreement({}, deep, deep).share == 1
    result = agreement({}, list(range(500)), list(range(1, 501)))
    assert (result.share, result.leaves, len(result.disagreeing)) == (0, 500, 20)


def test_texts_are_normalised_once_and_for_all() -> None:
    for text in ("Ǆ x", "ϓ", "İstanbul", "\u00a0a\u2003b ", "ﬀ"):
        assert normalised(normalised(text)) == normalised(text)


def test_no_value_is_told_where_leaves_disagree() -> None:
    assert "secret" not in str(agreement({}, {"a": "secret"}, {"a": "other secret"}))
    assert scoring.TOLERANCE > 0
