"""A tag as one text: no two tags have the same, and each is read back."""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.core import tags
from loopllama.errors import InvalidRequest
from loopllama.queries.run_index import Filter
from loopllama.queries.usage_sums import TAG, Sums
from loopllama_cli.commands.common import pairs

ODD = ["a", "b", "c", "=", '"', "\\", "a=b", "b=c", '"a"', '"a=b"', "a\\", "\\=", "Größe", "🎉", " x "]
NAMES = st.text(st.sampled_from('ab="\\ ö'), min_size=1, max_size=5)


def test_texts_that_people_write_stay_as_they_are() -> None:
    assert tags.text_of("team", "a=b") == "team=a=b"
    assert tags.text_of("a=b", "c") == '"a=b"=c'
    assert tags.text_of('"x"', "y") == '"\\"x\\""=y'
    assert tags.split("team=a=b") == ("team", "a=b")
    assert tags.split('quote"=x') == ('quote"', "x")
    assert tags.split('"half=x') == ('"half', "x")


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_tags_have_one_text(name: str, value: str, other: str, other_value: str) -> None:
    text = tags.text_of(name, value)
    assert tags.split(text) == (name, value)
    assert (text == tags.text_of(other, other_value)) == ((name, value) == (other, other_value))


def test_usage_keeps_every_tag_apart() -> None:
    sums = Sums(TAG)
    row = {"steps": 1, "input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "cost_basis": "measured"}
    rows: list[Any] = [row | {"tags": {name: value}, "cost_usd": Decimal(1)} for name, value in product(ODD, ODD)]
    sums.add_rows({}, rows)
    again = Sums(TAG)
    again.add_packed({}, sums.pack())
    for told in (sums, again):
        assert {tags.split(tag) for (tag,), _ in told.told()} == set(product(ODD, ODD))
        assert {figures["steps"] for _, figures in told.told()} == {1}


@pytest.mark.parametrize(
    ("asked", "admitted"),
    [
        ("a=b", {"name", "plain"}),
        ('"a=b"', {"name"}),
        ('"a=b"=c', {"name"}),
        ("a", {"plain", "value"}),
        ("a=b=c", {"name", "value"}),
    ],
)
def test_a_list_of_runs_by_tag_can_name_each(asked: str, admitted: set[str]) -> None:
    runs: dict[str, Any] = {"name": {"a=b": "c"}, "plain": {"a": "b"}, "value": {"a": "b=c"}}
    which = Filter.of(tag=asked)
    assert {name for name, kept in runs.items() if which.admits({"status": "running", "tags": kept})} == admitted


def test_commands_take_a_quoted_name() -> None:
    assert pairs(['"a=b"=c', "a=b=c", " x = y "], "--tag", "KEY=VALUE") == {"a=b": "c", "a": "b=c", "x": "y"}
    for wrong in ("a", "=b", "a=", '""=x', '"a=b"'):
        with pytest.raises(InvalidRequest, match="is not valid"):
            pairs([wrong], "--tag", "KEY=VALUE")
