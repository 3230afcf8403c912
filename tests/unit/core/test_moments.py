"""Times as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.core import clock, moments
from loopllama.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-11-28T06:07:08.123Z", "2026-11-28T06:07:08.123Z"),
        ("2026-11-28T06:07:08z", "2026-11-28T06:07:08.000Z"),
        ("2026-11-28 06:07", "2026-11-28T06:07:00.000Z"),
        ("2026-11-28T06:07:08,5+02:00", "2026-11-28T04:07:08.500Z"),
        ("2026-11-28T06:07:08 02:00", "2026-11-28T04:07:08.000Z"),
        ("2026-11-28T06:07-0530", "2026-11-28T11:37:00.000Z"),
        ("20261128T060708Z", "2026-11-28T06:07:08.000Z"),
        ("20261128", "2026-11-28T00:00:00.000Z"),
        ("2026-11-28", "2026-11-28T00:00:00.000Z"),
        ("2026-W48-6", "2026-11-28T00:00:00.000Z"),
        ("2026-332", "2026-11-28T00:00:00.000Z"),
        ("2026332T06Z", "2026-11-28T06:00:00.000Z"),
        ("2026-11", "2026-11-01T00:00:00.000Z"),
        ("2026", "2026-01-01T00:00:00.000Z"),
        (" 2026-11-28 ", "2026-11-28T00:00:00.000Z"),
    ],
)
def test_any_form_of_iso_8601_is_read(text: str, read: str) -> None:
    assert moments.read(text, "since") == read


@pytest.mark.parametrize(
    "text", ["", "2h", "yesterday", "2026-13-01", "2026-366", "2026-000", "2026-11-28T25:00Z", "28.11.2026", "٢٠٢٦"]
)
def test_anything_else_is_refused_and_told_what_is_right(text: str) -> None:
    with pytest.raises(InvalidRequest, match="2026-11-28T06:00:00Z") as told:
        moments.read(text, "since")
    assert [one["field"] for one in told.value.details] == ["since"]


@given(st.text(max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        assert len(moments.read(text, "since")) == 24


@given(st.integers(0, 4_000_000_000_000))
def test_what_records_say_stays_and_a_millisecond_goes_back(ms: int) -> None:
    said = clock.now_text(ms / 1000)
    assert moments.read(said, "since") == said
    assert clock.ms_between(moments.before(said), said) == 1
