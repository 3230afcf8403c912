"""Which event patterns and filters the local stack takes: those that AWS documents, each for its service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loopllama_cli.local.patterns import PatternRefused, check_event_pattern, check_filters

BOTH = [
    ["a"],
    [""],
    [None],
    [1],
    [True],
    [{"prefix": "a"}],
    [{"suffix": "a"}],
    [{"equals-ignore-case": "a"}],
    [{"exists": False}],
    [{"numeric": ["=", 1]}],
    [{"numeric": [">", 0, "<=", 5]}],
    [{"anything-but": ["a", "b"]}],
    [{"anything-but": "a"}],
]
RULES_ONLY = [
    [{"anything-but": {"prefix": "a"}}],
    [{"anything-but": {"suffix": ["a", "b"]}}],
    [{"anything-but": {"equals-ignore-case": "a"}}],
    [{"anything-but": {"wildcard": "*/a/*"}}],
    [{"prefix": {"equals-ignore-case": "a"}}],
    [{"wildcard": "a*"}],
    [{"cidr": "10.0.0.0/24"}],
]
NEITHER = [
    [{"regex": "a"}],
    [{"prefix": 1}],
    [{"exists": "true"}],
    [{"numeric": ["~", 1]}],
    [{"numeric": [">", "1"]}],
    [{"numeric": [">"]}],
    [{"anything-but": {"exists": True}}],
    [{"anything-but": {"prefix": 1}}],
    [{"prefix": "a", "suffix": "b"}],
    [["a"]],
    "a",
    {},
]


def criteria(rule: Any) -> dict[str, Any]:
    return {"Filters": [{"Pattern": json.dumps({"dynamodb": {"Keys": {"k": {"S": rule}}}})}]}


@pytest.mark.parametrize("rule", BOTH, ids=json.dumps)
def test_both_take(rule: Any) -> None:
    check_filters(criteria(rule))
    check_event_pattern({"detail": {"k": rule}})


@pytest.mark.parametrize("rule", RULES_ONLY, ids=json.dumps)
def test_rules_take_and_filters_refuse(rule: Any) -> None:
    check_event_pattern({"detail": {"k": rule}})
    with pytest.raises(PatternRefused, match=r"dynamodb\.Keys\.k\.S: AWS documents no operator"):
        check_filters(criteria(rule))


@pytest.mark.parametrize("rule", NEITHER, ids=json.dumps)
def test_neither_takes(rule: Any) -> None:
    with pytest.raises(PatternRefused, match=r"detail\.k"):
        check_event_pattern({"detail": {"k": rule}})
    with pytest.raises(PatternRefused, match=r"dynamodb\.Keys\.k\.S"):
        check_filters(criteria(rule))


def test_several_fields_by_or() -> None:
    check_event_pattern({"$or": [{"source": ["a"]}, {"detail": {"k": [{"prefix": "b"}]}}]})
    with pytest.raises(PatternRefused, match=r"\$or must be a list of two"):
        check_event_pattern({"$or": [{"source": ["a"]}]})


def test_what_the_template_says_later_is_taken() -> None:
    check_event_pattern({"detail": {"bucket": {"name": [{"Ref": "Bucket"}]}, "arn": [{"Fn::GetAtt": ["A", "Arn"]}]}})


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ([{"Pattern": '{"a": ["b"]}'}] * 6, "has 6 filters; an event source mapping may have 5"),
        ([{"Pattern": json.dumps({"a": ["b" * 4096]})}], "at most 4096 characters"),
        ([{"Pattern": "{"}], "is not JSON"),
        ([{"Pattern": "{}"}], "must be an object of names"),
        ([{"Pattern": {"a": ["b"]}}], "must be text"),
    ],
)
def test_the_form_of_filters(filters: list[Any], says: str) -> None:
    with pytest.raises(PatternRefused, match=says):
        check_filters({"Filters": filters})
