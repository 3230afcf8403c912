"""Every function and comparison of the crew's language over every kind of value, each beside each: against a reference
made from the specification, and against the jmespath library where that computes with floats exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jmespath
import pytest
from support.jmespath_reference import FUNCTIONS, Refused, called, canonical, kind

from loopllama.core import exact_json
from loopllama.core.numbers import exact, floats
from loopllama.errors import InvalidRequest
from loopllama.workflows import expressions
from loopllama.workflows.exact_jmespath import SIGNATURES

VALUES: dict[str, Any] = {
    name: exact_json.loads(text)
    for name, text in {
        "null": "null",
        "true": "true",
        "false": "false",
        "zero": "0",
        "one": "1",
        "minus": "-3",
        "minus_zero": "-0.0",
        "one_point": "1.0",
        "half": "2.5",
        "tenth": "0.1",
        "huge": "1" + "0" * 40,
        "huge_decimal": "1E+40",
        "beyond_floats": "9007199254740993",
        "tiny": "1E-130",
        "largest": "1.5e308",
        "long": "0.12345678901234567890123456789012345678901",
        "empty": '""',
        "text": '"ab"',
        "number_text": '"2.50"',
        "list": "[]",
        "numbers": "[1, 0.1, -0.0, 1e-130, 9007199254740993]",
        "texts": '["b", "a", ""]',
        "mixed": '[1, "a"]',
        "with_null": "[null, 1]",
        "with_true": "[true, 1]",
        "nested": "[[1], [2.5]]",
        "objects": '[{"k": 2}, {"k": 1.5}, {"k": 1e-130}]',
        "text_objects": '[{"k": "b"}, {"k": "a"}]',
        "odd_objects": '[{"k": 1}, {"k": "a"}]',
        "bare_objects": '[{"k": 1}, {}]',
        "pairs": '[["k", 1], ["l", 2]]',
        "object": '{"k": 1}',
        "other_object": '{"k": 0.1, "l": null}',
        "no_fields": "{}",
    }.items()
}


def of_k(item: Any) -> Any:
    return item.get("k") if isinstance(item, dict) else None


ARGUMENTS: dict[str, Any] = {**VALUES, "&k": of_k, "&@": lambda item: item}
FEW = ["null", "true", "one", "half", "text", "numbers", "object", "other_object", "&k"]


def calls(name: str) -> Iterator[tuple[str, ...]]:
    for count in (0, 1, 2):
        yield from itertools.product(ARGUMENTS, repeat=count)
    yield from itertools.product(FEW, repeat=3)


def computed(text: str) -> tuple[bool, Any]:
    """Whether the expression has a value over `VALUES`, and the value."""
    try:
        return True, expressions.parse(text).of(VALUES)
    except InvalidRequest:
        return False, None


def test_the_reference_has_every_function() -> None:
    assert set(SIGNATURES) == set(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_every_function_of_every_kind_of_values(name: str) -> None:
    for arguments in calls(name):
        text = f"{name}({', '.join(arguments)})"
        try:
            right = canonical(called(name, [ARGUMENTS[argument] for argument in arguments]))
        except Refused:
            assert computed(text) == (False, None), text
            continue
        found, value = computed(text)
        assert found, text
        if name == "avg" and value is not None and canonical(value) != right:
            assert abs(Fraction(value) - right[1]) <= abs(right[1]) / 10**38, text
        else:
            assert canonical(value) == right, text


ORDERINGS = {"<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}


@pytest.mark.parametrize("sign", ["==", "!=", *ORDERINGS])
def test_every_comparison_of_every_pair(sign: str) -> None:
    for one, two in itertools.product(VALUES, repeat=2):
        left, right = VALUES[one], VALUES[two]
        expected: bool | None
        if sign in ORDERINGS:
            comparable = kind(left) == kind(right) and kind(left) in ("number", "string")
            exact = [canonical(value)[1] for value in (left, right)]
            expected = getattr(exact[0], ORDERINGS[sign])(exact[1]) if comparable else None
        else:
            expected = (canonical(left) == canonical(right)) is (sign == "==")
        assert computed(f"{one} {sign} {two}") == (True, expected), f"{one} {sign} {two}"


# The library itself, with floats

SMALL = [name for name in ARGUMENTS if name not in ("huge", "huge_decimal", "beyond_floats", "long", "tiny", "largest")]
FLOATS = {**VALUES, "numbers": [1, Decimal("0.5"), -2, 8], "objects": [{"k": 2}, {"k": Decimal("1.5")}]}


OURS_ALONE = {
    # 1 is true to Python.
    *("contains(with_true, one)", "contains(with_true, one_point)", "contains(numbers, true)", "contains(mixed, true)"),
    "contains(with_null, true)",
    # A float is written with its point, and minus nothing with its sign.
    *("to_string(one_point)", "to_string(minus_zero)"),
}


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_the_library_gives_the_same_where_floats_are_exact(name: str) -> None:
    compared = 0
    for arguments in calls(name):
        text = f"{name}({', '.join(arguments)})"
        try:
            called(name, [ARGUMENTS[argument] for argument in arguments])
        except Refused:
            continue  # the test above says what is then right
        if name == "contains" and kind(VALUES[arguments[0]]) == "string" != kind(ARGUMENTS[arguments[1]]):
            continue  # the library lets Python's error out
        if text not in OURS_ALONE and set(arguments) <= set(SMALL):
            ours, theirs = expressions.parse(text).of(FLOATS), jmespath.search(text, floats(FLOATS))
            assert canonical(ours) == canonical(exact(theirs)), text
            compared += 1
    assert compared >= 2
