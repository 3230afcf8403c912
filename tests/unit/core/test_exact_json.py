"""Exact JSON: what goes in comes out, and it is JSON."""

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.core import exact_json

numbers = st.integers() | st.decimals(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.text() | numbers,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(values, st.sampled_from([None, 2]))
def test_reading_back_gives_equal_values(value, indent):
    assert exact_json.loads(exact_json.dumps(value, indent)) == value


@given(values)
def test_any_json_reader_takes_it(value):
    json.loads(exact_json.dumps(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("-0.6"), "-0.6"),
        (Decimal("0.10"), "0.1"),
        (Decimal("3.000"), "3"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("-0"), "0"),
        (Decimal("12345678901234567890.123456789012345678"), "12345678901234567890.123456789012345678"),
        ({3, 1, 2}, "[1,2,3]"),
        ((Decimal(1), "é"), '[1,"\\u00e9"]'),
        ({"a": {}, "b": [Decimal(2)]}, '{"a":{},"b":[2]}'),
        ({7: Decimal(1), None: 0, True: 2}, '{"7":1,"null":0,"true":2}'),
    ],
)
def test_the_text(value, text):
    assert exact_json.dumps(value) == text


def test_the_indented_text_is_that_of_the_standard_library():
    value = {"a": [1, {"b": []}], "c": {}, "d": "x"}
    exact = {"a": [Decimal(1), {"b": []}], "c": {}, "d": "x"}
    assert exact_json.dumps(exact, indent=2) == json.dumps(value, indent=2)
    assert exact_json.dumps(exact) == json.dumps(value, separators=(",", ":"))


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), float("nan"), [float("inf"), Decimal(1)]])
def test_what_json_has_no_number_for_is_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        exact_json.dumps(value)
    with pytest.raises(ValueError, match="no JSON number"):
        exact_json.loads("[NaN]")


@pytest.mark.parametrize("value", [object(), b"bytes", {(1, 2): Decimal(1)}])
def test_what_is_no_json_is_refused(value):
    with pytest.raises(TypeError):
        exact_json.dumps(value)


def test_what_models_write_into_texts_is_no_json_elsewhere() -> None:
    text = '{"a": "x\n\ty"}'
    assert exact_json.loads(text, by_model=True) == {"a": "x\n\ty"}
    with pytest.raises(ValueError, match="control character"):
        exact_json.loads(text)
    with pytest.raises(exact_json.NotTaken):
        exact_json.loads('{"a": "x\n", "b": 1e400}', by_model=True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"input": "a", "input": "b"}', "$.input"),
        ('{"a": [0, {"b": {"c": 1, "d": 2, "c": 1}}]}', "$.a[1].b.c"),
        ('[{"a": 1}, {"a": 1, "a": 1}]', "$[1].a"),
        ('{"a": {"x": 1, "x": 2}, "a": 5}', "$.a"),
        ('{"a": {"x": 1, "x": 2}, "b": {"y": 1, "y": 2}}', "$.b.y"),
        ('{"a b": {"": 1, "": 1}}', "$['a b']['']"),
        ('{"\\u0061": 1, "a": 2}', "$.a"),
    ],
)
def test_a_key_that_is_there_twice_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(exact_json.NotTaken) as refused:
        exact_json.loads(text)
    assert str(refused.value) == f"{place} is there twice; keep one"
    assert exact_json.loads(text, last_wins=True) == json.loads(text), "of what a model wrote the last counts"


def test_a_key_that_is_there_twice_among_many_is_found_at_once() -> None:
    keys = [f"k{number}" for number in range(50_000)]
    text = "{" + ",".join(f'"{key}":1' for key in [*keys, keys[-1]]) + "}"
    started = time.process_time()
    with pytest.raises(exact_json.NotTaken, match="k49999 is there twice"):
        exact_json.loads(text)
    assert time.process_time() - started < 5, "comparing all with all takes a minute"


@pytest.mark.parametrize("depth", [201, 3000])
def test_what_is_nested_too_deeply_is_named(depth: int) -> None:
    deep: Any = None
    for _ in range(depth):
        deep = [deep]
    with pytest.raises(exact_json.NotTaken) as refused:
        exact_json.check({"workflow": "x", "input": deep})
    assert refused.value.field == "input"
