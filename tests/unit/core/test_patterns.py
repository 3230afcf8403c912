"""Patterns that are compiled when they are first used."""

from __future__ import annotations

import re

import pytest

from loopllama.core.patterns import late


def test_a_late_pattern_does_what_a_compiled_one_does() -> None:
    found = late(r"(?P<name>\w+)=(\d+)", re.IGNORECASE)
    compiled = re.compile(r"(?P<name>\w+)=(\d+)", re.IGNORECASE)
    match = found.search("a b=12 c=3")
    assert match
    assert (match["name"], match.span()) == ("b", (2, 6))
    assert found.findall("a b=12 c=3") == compiled.findall("a b=12 c=3")
    assert found.sub("x", "b=12, c=3") == "x, x"
    assert (found.pattern, found.flags) == (compiled.pattern, compiled.flags)


def test_nothing_is_compiled_before_its_first_use() -> None:
    wrong = late("(")
    with pytest.raises(re.error, match="missing"):
        wrong.search("x")


def test_a_late_pattern_has_no_more_than_a_compiled_one() -> None:
    with pytest.raises(AttributeError, match="seek"):
        late("x").seek  # type: ignore[attr-defined]  # noqa: B018
