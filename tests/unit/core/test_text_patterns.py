"""Patterns that others write: what they mean, and that they end."""

from __future__ import annotations

import re
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.core import json_schema
from loopllama.core.text_patterns import TextPattern
from loopllama.core.work import Work
from loopllama.errors import InvalidRequest


def found(pattern: str, text: str) -> bool:
    work = Work(1_000_000, "a test")
    return TextPattern(pattern, work).is_in(text, work)


@pytest.mark.parametrize(
    ("pattern", "text", "is_found"),
    [
        ("^(a+)+$", "a" * 100_000 + "!", False),
        ("^(a+)+$", "a" * 100_000, True),
        ("(x+x+)+y", "x" * 100_000, False),
        ("^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 20_000, False),
        ("(a|aa)+$", "a" * 20_000 + "b", False),
    ],
)
def test_patterns_that_blow_up_elsewhere_end_at_once(pattern: str, text: str, is_found: bool) -> None:
    begun = time.process_time()
    assert found(pattern, text) is is_found
    assert time.process_time() - begun < 1


PATTERNS = [
    *(
        "^[a-z]+$",
        "a|b",
        "^\\w+$",
        "^(a{1,2}|-)",
        "[^a-z]",
        "\\bb\\b",
        "^.{1,2}$",
        "(?i)^ÄB$",
        "a*?b",
        "(a|ab)(c|bcd)$",
    ),
    *(
        "\\Bb",
        "^$",
        "",
        "(?m)^b$",
        "(?s)a.b",
        "a.b",
        "\\Aa",
        "b\\Z",
        "(?a)\\w-",
        "\\s\\S",
        "\\d\\D",
        "\\W",
        "x{0}a",
        "(?:){5}a",
    ),
    *(
        "^(?!a)",
        "(?=b)b",
        "a(?!b)",
        "(?<=a)b",
        "(?<!a)b",
        "(?<!a|b)b",
        "^(?!.*-).*b",
        "(?i:A)b",
        "(?P<n>a)b",
        "[\\]\\sé]",
    ),
    *(
        "\\u00e9",
        "[\\u4e00-\\u9fa5]",
        "(a*)*b",
        "(a|b|)*$",
        "(?=(?!b).)a",
        "b$",
        "[^\\W\\d]",
        "(?i)[^A]",
        "(?i)k",
        "(?i)S",
    ),
]


@given(st.sampled_from(PATTERNS), st.text("abAB-\n 1é\u0667\u4e01\u017fK\u212a_", max_size=8))
def test_patterns_mean_what_they_mean_in_python(pattern: str, text: str) -> None:
    assert found(pattern, text) is (re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    "pattern",
    [
        *("(?i)\\u03c3", "(?i)\\u0131", "(?i)İ", "(?i)[k-s]", "(?i)[^k-s]", "(?i)[\\u0391-Ω]"),
        *("(?ai)[k-s]", "(?a)\\s"),
    ],
)
def test_characters_are_in_classes_where_they_are_in_python(pattern: str) -> None:
    work = Work(10_000_000, "a test")
    ready, compiled = TextPattern(pattern, work), re.compile(pattern)
    characters = [chr(number) for number in (*range(0x590), *range(0x1E00, 0x2140))]
    assert [one for one in characters if ready.is_in(one, work)] == list(filter(compiled.search, characters))


def test_what_was_learnt_of_one_text_is_known_of_the_next() -> None:
    work, texts = Work(1_000_000, "a test"), [f"someone.{number}@example.com" for number in range(10_000)]
    pattern = TextPattern(r"^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$", work)
    assert all(pattern.is_in(text, work) for text in texts)
    assert not any(pattern.is_in(text + "\n\n", work) for text in texts)


@pytest.mark.parametrize(
    ("pattern", "is_found"),
    [(r"^(?!\s*$)[\s\S]+$", True), (r"^(?![\s\S]*TODO)", True), (r"^(?=[\s\S]*TODO)", False)],
)
def test_what_is_looked_for_ahead_may_be_far(pattern: str, is_found: bool) -> None:
    assert found(pattern, "word \n" * 40_000 + "word") is is_found


@given(st.sampled_from(PATTERNS), st.lists(st.text("abB- \n", max_size=5), max_size=6))
def test_one_text_changes_nothing_of_another(pattern: str, texts: list[str]) -> None:
    work = Work(1_000_000, "a test")
    ready = TextPattern(pattern, work)
    assert [ready.is_in(text, work) for text in texts] == [bool(re.search(pattern, text)) for text in texts]


@given(st.recursive(
    st.sampled_from(("a", "b", ".", "^", "$", "\\b", "[ab]", "[^a]", "\\n", "")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(("*", "+", "?", "{2}", "{1,3}"))).map(lambda two: f"(?:{two[0]}){two[1]}"),
        st.tuples(st.sampled_from(("=", "!")), inner).map(lambda two: f"(?{two[0]}{two[1]})"),
    ),
    max_leaves=8,
), st.text("ab\n", max_size=6))  # fmt: skip
def test_any_pattern_means_what_it_means_in_python(pattern: str, text: str) -> None:
    assert found(pattern, text) is (re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "cannot be used: missing )"),
        (r"\p{L}", "bad escape"),
        (r"(a)\1", "refers back to a group"),
        ("(?P<a>x)(?(a)y|z)", "refers back to a group"),
        ("(?<=a*)b", "must have one length"),
        ("(a{500}){500}", "it is too large once its repetitions are written out"),
        ("(){1000000000}", "it is too large once its repetitions are written out"),
        ("(" * 150 + ")" * 150, "nested deeper than 100"),
        ("(" * 1900 + ")" * 1900, "nested too deeply"),
        ("a{99999999999999}", "cannot be used"),
        ("a" * 4001, "has 4,001 characters; at most 4,000"),
    ],
)
def test_patterns_that_cannot_be_run_are_refused_by_name(pattern: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^the pattern .*{re.escape(why)}"):
        found(pattern, "x")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(.{0,30}){0,30}z", "é" * 900_000),
        ("(a|b)*a(a|b){400}", "a" + "b" * 399),
        ("(a|b)*a(a|b){400}c", "".join("ab"[number * number // 7 % 2] for number in range(300_000))),
        ("(?!.*b).$", "a" * 100_000 + "bb"),
        ("[^x]{0,1000}x[^y]{0,1000}y", "xab" * 300_000),
        ("(" + "|".join(f".*{letter}.*" for letter in "bcdefghijkl") + "){9}z", "".join(map(chr, range(256, 60_000)))),
    ],
)
def test_a_search_ends_by_an_answer_or_by_naming_the_pattern(pattern: str, text: str) -> None:
    begun = time.process_time()
    try:
        answer = str(found(pattern, text))
    except InvalidRequest as error:
        answer = str(error)
    assert time.process_time() - begun < 3
    assert answer == "False" or (
        "takes too much work, at the pattern '" in answer and answer.endswith(f"a text of {len(text):,} characters")
    )


def test_what_a_search_remembers_is_bounded_by_its_work() -> None:
    text = "".join("ab"[number * 2654435761 >> 13 & 1] for number in range(100_000))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="takes too much work"):
            found("(a|b)*a(a|b){2000}c", text)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_plain_patterns_are_looked_for_in_long_texts() -> None:
    assert found("^[a-z ]+$", "some words " * 50_000)
    assert not found("^[a-z ]+$", "some words " * 50_000 + "!")


@pytest.mark.parametrize("where", ["pattern", "patternProperties"])
def test_a_schema_tells_where_its_pattern_stands(where: str) -> None:
    schema: dict[str, object] = {"pattern": "("} if where == "pattern" else {"patternProperties": {"(": {}}}
    with pytest.raises(InvalidRequest, match=re.escape(f"$.properties.a.{where}: the pattern '('")):
        json_schema.check({"properties": {"a": schema}})


def test_patterns_of_names() -> None:
    schema = {"patternProperties": {"^n_": {"type": "number"}, "^(a+)+$": {}}, "additionalProperties": False}
    assert json_schema.violations(schema, {"n_1": 1, "aaa": None}) == []
    assert json_schema.violations(schema, {"n_1": "1", "a" * 40 + "!": 1}) == [
        "$.n_1: '1' is not of type 'number'",
        f"$: Additional properties are not allowed ('{'a' * 40}!' was unexpected)",
    ]
    typed = {**schema, "properties": {"x": {}}, "additionalProperties": {"type": "string"}}
    assert json_schema.violations(typed, {"x": 1, "n_1": 1, "y": 1}) == ["$.y: 1 is not of type 'string'"]


def test_what_cannot_be_bounded_together_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="patternProperties and unevaluatedProperties"):
        json_schema.check({"patternProperties": {"a": {}}, "unevaluatedProperties": False})
    with pytest.raises(InvalidRequest, match="51 different patterns; at most 50"):
        json_schema.check({"allOf": [{"pattern": f"a{number}"} for number in range(51)]})


def test_the_simulated_model_looks_for_patterns_in_the_same_way() -> None:
    from loopllama.providers.simulated import text_kinds

    begun = time.process_time()
    assert not text_kinds.follows("a" * 40 + "!", {"pattern": "^(a+)+$"})
    assert text_kinds.follows("x", {"pattern": "("})
    assert time.process_time() - begun < 1
