"""Exact JSON: what goes in comes out, and it is JSON."""

import json
from decimal import Decimal

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
