"""Expressions over exact numbers, against a reference that computes with fractions."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jmespath_reference import FUNCTIONS, Refused, called, canonical, kind

from loopllama.core import exact_json
from loopllama.errors import InvalidRequest
from loopllama.workflows import expressions

decimals = st.builds(
    lambda sign, digits, exponent: Decimal((sign, tuple(map(int, str(digits))), exponent)),
    st.integers(0, 1),
    st.integers(0, 10**35),
    st.integers(-80, 80),
)
near = st.sampled_from(
    [Decimal(text) for text in ("0.1", "0.10", "0.2", "0.3", "0.8", "0.80", "1.0", "-0.0", "1E+100")]
)
numbers = st.integers(-3, 3) | st.integers() | decimals | near
texts = st.sampled_from(["", "0", "0.8", "1E+2", "01", "nan", "true", "high", "é"]) | st.text(max_size=5)
scalars = st.none() | st.booleans() | numbers | texts
values = (
    scalars
    | st.lists(scalars, max_size=4)
    | st.lists(numbers, max_size=5)
    | st.dictionaries(texts, scalars, max_size=2)
)
lists = st.lists(numbers, max_size=5) | st.lists(texts, max_size=4) | st.lists(scalars, max_size=4)


def kept(value: Any) -> Any:
    """A value as an expression gets it: through a run's record."""
    return exact_json.loads(exact_json.dumps(value))


def found(text: str, **document: Any) -> Any:
    return expressions.parse(text).of(kept(document))


# Comparisons

ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda one, two: one < two,
    "<=": lambda one, two: one <= two,
    ">": lambda one, two: one > two,
    ">=": lambda one, two: one >= two,
}


@given(values, values)
def test_comparisons_of_every_pair(left: Any, right: Any) -> None:
    same = canonical(left) == canonical(right)
    assert found("a == b", a=left, b=right) is same
    assert found("a != b", a=left, b=right) is not same
    assert found("contains([a], b)", a=left, b=right) is same
    comparable = kind(left) == kind(right) and kind(left) in ("number", "string")
    for sign, holds in ORDERINGS.items():
        expected = holds(canonical(left)[1], canonical(right)[1]) if comparable else None
        assert found(f"a {sign} b", a=left, b=right) is expected
        kept_ones = found(f"list[?@ {sign} b]", list=[left], b=right)
        assert kept_ones == [], "inside a filter `b` is a field of the item"
        assert len(found(f"pairs[?a {sign} b]", pairs=[{"a": left, "b": right}])) == (expected is True)


@given(values.map(exact_json.dumps).filter(lambda text: len(text) < 400 and "`" not in text))
def test_a_literal_is_what_it_is_written_as(text: str) -> None:
    assert canonical(found(f"`{text}`")) == canonical(exact_json.loads(text))
    assert found(f"a == `{text}`", a=exact_json.loads(text)) is True


@given(values)
def test_what_counts_as_false(value: Any) -> None:
    expression = expressions.parse("a")
    expected = value not in (None, False, "", [], {}) or kind(value) == "number"
    assert expression.holds({"a": kept(value)}) is expected
    assert found("!a", a=value) is not expected
    assert canonical(found("a && 'x'", a=value)) == canonical("x" if expected else kept(value))
    assert canonical(found("a || 'x'", a=value)) == canonical(kept(value) if expected else "x")


# Functions


OF_ONE = [name for name, function in FUNCTIONS.items() if function.__code__.co_argcount == 1]


def expect(text: str, expected: Callable[[], Any], **document: Any) -> None:
    """The expression gives what `expected` gives, and is refused where that is."""
    try:
        right = expected()
    except Refused:
        with pytest.raises(InvalidRequest, match=r"cannot be computed: \w+\(\) takes"):
            found(text, **document)
    else:
        assert canonical(found(text, **document)) == canonical(right), text


@given(values | lists)
def test_functions_of_one_value(value: Any) -> None:
    for name in OF_ONE:
        if name != "avg":  # below: not every mean ends
            expect(f"{name}(a)", lambda name=name: called(name, [kept(value)]), a=value)


@given(values | lists, values)
def test_functions_of_two_values(one: Any, two: Any) -> None:
    for name in ("contains", "starts_with", "ends_with", "join", "not_null", "merge"):
        expect(f"{name}(a, b)", lambda name=name: called(name, [kept(one), kept(two)]), a=one, b=two)


@given(lists)
def test_functions_of_a_field(keys: list[Any]) -> None:
    items = [{"key": key, "place": place} for place, key in enumerate(keys)]

    key = operator.itemgetter("key")
    for name in ("sort_by", "min_by", "max_by"):
        expect(f"{name}(a, &key)", lambda name=name: called(name, [kept(items), key]), a=items)
    expect("map(&key, a)", lambda: called("map", [key, kept(items)]), a=items)


@given(st.lists(numbers, max_size=6))
def test_a_mean_is_exact_where_it_ends(given_numbers: list[Any]) -> None:
    mean = found("avg(a)", a=given_numbers)
    if not given_numbers:
        assert mean is None
        return
    right = Fraction(sum(map(Fraction, given_numbers))) / len(given_numbers)
    rest = right.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    assert Fraction(mean) == right if rest == 1 else abs(Fraction(mean) - right) <= abs(right) / 10**38


@pytest.mark.parametrize(
    ("text", "document", "value"),
    [
        ("sum(input)", [Decimal("0.1"), Decimal("0.2")], "0.3"),
        ("avg(input) >= `0.2`", [Decimal("0.1"), Decimal("0.2"), Decimal("0.3")], "true"),
        ("sum(input)", [12345678901234567890, Decimal("0.123456789")], "12345678901234567890.123456789"),
        ("sum(input)", [], "0"),
        ("sum(input)", [Decimal("1E+100"), 1, Decimal("-1E+100")], "1"),
        ("input[0] == `1`", [True], "false"),
        ("input == `[1]`", [True], "false"),
        ("input == `{\"a\": 0}`", {"a": False}, "false"),
        ("contains(input, `1`)", [True], "false"),
        ("input > `0.1234567890123456789`", Decimal("0.12345678901234567891"), "true"),
        ("input == `12345678901234567890.123456789`", Decimal("12345678901234567890.123456789"), "true"),
        ("to_number(input)", "12345678901234567.89", "12345678901234567.89"),
        ("to_number(input) >= `8`", "9\n", "true"),
        ("to_number(input)", " \t8.50\r\n", "8.5"),
        ("to_number(input)", "\u00a08", "null"),
        ("to_number(input)", "8 0", "null"),
        ("to_string(input)", Decimal("0.80"), '"0.8"'),
        ("input[?@ >= `0.2`]", [Decimal("0.1"), Decimal("0.2"), 3, "4", True, None], "[0.2,3]"),
        ("'a' < `1`", None, "null"),
        ("contains('a1', `1`)", None, "false"),
        ("input.a[1:].b | [0]", {"a": [{"b": 1}, {"b": Decimal("2.5")}]}, "2.5"),
    ],
)  # fmt: skip
def test_the_edges(text: str, document: Any, value: str) -> None:
    assert exact_json.dumps(found(text, input=document)) == value


@pytest.mark.parametrize("text", ["0.10", "12345678901234567890.123456789", "1E+100", "1E-7", "5", "-3"])
def test_what_is_picked_is_the_records_own_number(text: str) -> None:
    number = exact_json.loads(text)
    document = {"input": {"list": [{"n": number}, {"n": Decimal("0.5")}]}}
    for expression in ("input.list[*].n", "sort_by(input.list, &n)[*].n", "input.list[?n == `" + text + "`].n"):
        picked = expressions.parse(expression).of(document)
        assert any(one is number for one in picked)


def test_numbers_of_other_users_of_the_library_stay_as_they_were() -> None:
    text = "a == `0.25`"
    assert expressions.parse(text).of({"a": Decimal("0.25")}) is True
    assert jmespath.search(text, {"a": 0.25}) is True
    assert isinstance(jmespath.search("`0.25`", {}), float)
    with pytest.raises(jmespath.exceptions.JMESPathTypeError):
        jmespath.search("abs(a)", {"a": Decimal(1)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.score > '9'", "compares the text '9', and texts are compared letter by letter"),
        ("b && '0.5' <= a", "compares the text '0.5'"),
        ('xs[?@ < `"1e3"`]', "compares the text '1e3'"),
        ("score >= 0.8", "numbers, true, false and null in backquotes"),
        ("a == `NaN`", "Bad token NaN"),
        ("a < `Infinity`", "Bad token Infinity"),
        ("(" * 450 + "a" + ")" * 450, "is nested deeper than 200 levels"),
        ("!" * 900 + "a", "is nested deeper than 200 levels"),
        ("a||" * 300 + "a", "is nested deeper than 200 levels"),
        ("a ==", "is no JMESPath expression"),
        ("x" * 1001, "at most 1,000 characters"),
    ],
)
def test_what_is_no_expression(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        expressions.parse(text)


@pytest.mark.parametrize(
    "text", ["(" * 190 + "a" + ")" * 190, "!" * 190 + "a", "[" * 190 + "a" + "]" * 190, "a||" * 190 + "a"]
)
def test_what_is_taken_can_be_computed(text: str) -> None:
    expressions.parse(text).of({"a": None})


def test_an_error_shows_no_content() -> None:
    with pytest.raises(InvalidRequest) as caught:
        found("sum(input)", input=[1, "a secret"])
    assert str(caught.value) == (
        "the expression 'sum(input)' cannot be computed: sum() takes array of numbers, not array of numbers and strings"
    )
    with pytest.raises(InvalidRequest, match=r"max_by\(\) takes string, not number"):
        found("max_by(input, &@)", input=["a", 1])
    with pytest.raises(InvalidRequest, match="step of a slice"):
        found("input[::0]", input=[1])


@pytest.mark.parametrize(
    ("written", "right"),
    [
        ("steps.2nd_review.output", 'steps."2nd_review".output'),
        ("steps.2nd_review.output.ok && input.x", 'steps."2nd_review".output.ok && input.x'),
        ("steps.0.output", 'steps."0".output'),
        ("input.größe == 'x'", "input.\"größe\" == 'x'"),
        ("input.日本", 'input."日本"'),
        ("input.first-name == 'a-b'", "input.\"first-name\" == 'a-b'"),
        ("input.$ref", 'input."$ref"'),
        ("input.@type", 'input."@type"'),
        ("input.first name", 'input."first name"'),
        ("input['first name']", 'input."first name"'),
        ('input["first name"].x', 'input."first name".x'),
        ("input[first]", "input.first"),
        ("input.'first name'", 'input."first name"'),
        ("input.l[?größe > `1`].2nd", 'input.l[?"größe" > `1`]."2nd"'),
        ("sort_by(input.l, &größe)", 'sort_by(input.l, &"größe")'),
        ("input.{a: größe}", 'input.{a: "größe"}'),
        ("steps.a.output == high-risk", "steps.a.output == 'high-risk'"),
    ],
)
def test_a_name_that_needs_quotes_is_told_as_it_should_be(written: str, right: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"did you mean {right}?")):
        expressions.parse(written)
    expressions.parse(right)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("input.l.0", "an item of a list is [0]"),
        ("input.a and input.b", "write && for and"),
        ("input.a or not input.b", "write || for or"),
        ("not input.b", "write ! for not"),
        ("input.a = 'x'", "write == for ="),
        ("input.n > 5", "numbers, true, false and null in backquotes"),
    ],
)
def test_what_other_languages_write_is_told(written: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        expressions.parse(written)


@pytest.mark.parametrize(
    "written", ["input.", "input..a", "(", "input.a b:c", "`1` + `2`", "'", '"', "[", "=", "&", "é'"]
)
def test_a_hint_is_given_only_where_it_can_be_read(written: str) -> None:
    with pytest.raises(ValueError, match="is no JMESPath expression") as told:
        expressions.parse(written)
    if found := re.search(r"did you mean (.*)\? ", str(told.value)):
        expressions.parse(found[1])
