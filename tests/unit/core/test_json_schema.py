"""Numbers in JSON Schemas, which are compared as they are written."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.numerals import NUMERALS, soon, taken

from loopllama.core import exact_json, json_schema
from loopllama.errors import InvalidRequest

# JSON Schema


def follows(value: str, schema: str) -> bool:
    return not json_schema.violations(exact_json.loads(schema), exact_json.loads(value))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (
            '{"multipleOf": 0.01}',
            "4.02 1.11 606.67 600.03 12.30 19.99 0.07 10001.12 1e15 -0.01 0 1e300 123456789012345678901234567890.12",
            "4.021 0.005 19.990000000000001 1e-300 123456789012345678901234567890.123",
        ),
        ('{"multipleOf": 0.0001}', "0.0075 1.0001", "0.00751"),
        ('{"multipleOf": 1e-8}', "1e300 12391239123", "1.23e-9"),
        ('{"multipleOf": 3}', "9 9.0 9e0 -3 1" + "0" * 100 + "2", "10 9.1 1e300"),
        ('{"multipleOf": 2.5}', "5 7.5 1e2", "6 7.6"),
        ('{"maximum": 0.1}', "0.1 0.10 1e-1 -5", "0.1000000000000000000001 1"),
        ('{"minimum": 0.3}', "0.3 1" + "0" * 300, "0.29999999999999999999999"),
        ('{"exclusiveMaximum": 0.3}', "0.29999999999999999999999", "0.3 3e-1"),
        ('{"exclusiveMinimum": 9007199254740992}', "9007199254740993 9007199254740992.5", "9007199254740992"),
        ('{"const": 0.1}', "0.1 0.10 1e-1", "0.10000000000000000001 0.11"),
        ('{"enum": [0.1, 1, true]}', "0.1 1.0 1e0 true", "0.2 false 0"),
        ('{"const": 1}', "1 1.0 10e-1", "true 1.00000000000000000001"),
        ('{"type": "integer"}', "1 1.0 1e2 -0 -0.0 1e300 1" + "0" * 300, "1.5 1e-1 1.00000000000000000001 true"),
        ('{"type": "number"}', "1 1.0 1e2", 'true "1"'),
        ('{"uniqueItems": true}', "[1,2,1.5] [1,true] [0,false] [0.1,0.10000000000000000001]", "[1,1.0] [0.1,1e-1]"),
        ('{"minLength": 2.0, "maxItems": 1e0}', '"ab" [1]', '"a" [1,2]'),
        (
            '{"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "multipleOf": 0.5}',
            "1",
            "1.0 1.5",
        ),
        ('{"$schema": "http://json-schema.org/draft-07/schema#", "type": "integer"}', "1 1.0", "1.5"),
    ],
)
def test_schemas_compare_numbers_as_they_are_written(schema: str, good: str, bad: str) -> None:
    for value in good.split():
        assert follows(value, schema), value
    for value in bad.split():
        assert not follows(value, schema), value


@given(
    NUMERALS, NUMERALS, st.sampled_from(["multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])
)
def test_schemas_against_fractions(one: str, other: str, keyword: str) -> None:
    value, bound = taken(one), taken(other)
    if value is None or bound is None or (keyword == "multipleOf" and bound <= 0):
        return
    expected = {
        "multipleOf": lambda: (value / bound).denominator == 1,
        "minimum": lambda: value >= bound,
        "maximum": lambda: value <= bound,
        "exclusiveMinimum": lambda: value > bound,
        "exclusiveMaximum": lambda: value < bound,
    }[keyword]()
    with soon():
        assert follows(one, f'{{"{keyword}": {other}}}') == expected
        assert follows(one, f'{{"enum": [{other}]}}') == (value == bound)
        assert follows(one, '{"type": "integer"}') == (value.denominator == 1)
        assert follows(f"[{one}, {other}]", '{"uniqueItems": true}') == (value != bound)


def test_what_does_not_follow_is_told_in_json() -> None:
    schema = {"properties": {"price": {"multipleOf": 0.01, "maximum": Decimal("99.90")}}}
    assert json_schema.violations(schema, {"price": Decimal("100.005")}) == [
        "$.price: 100.005 is not a multiple of 0.01",
        "$.price: 100.005 is greater than the maximum of 99.9",
    ]


@pytest.mark.parametrize("group", ["properties", "$defs", "patternProperties", "dependentSchemas"])
@pytest.mark.parametrize("name", ["default", "enum", "const", "examples", "$ref", "properties", "a"])
def test_references_are_looked_at_under_any_name(group: str, name: str) -> None:
    for reference, said in (("#/$defs/nope", "names nothing"), ("https://example.com/a.json", "outside the schema")):
        with pytest.raises(InvalidRequest, match=said):
            json_schema.check({group: {name: {"$ref": reference}}})
    json_schema.check({group: {name: {"type": "string", "default": {"$ref": "#/nope"}, "enum": [{"$ref": "x"}]}}})
