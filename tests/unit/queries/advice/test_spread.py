"""Intervals: hand-computed, and how often they hold."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.recorded import NOW

from loopllama.queries.advice.spread import (
    A_RUN,
    MIN_RUNS,
    RunRate,
    interval,
    more_runs,
    rate_of,
    t_quantile,
)

D = Decimal
DAY = timedelta(days=1)


@pytest.mark.parametrize(("freedom", "table"), [(4, 2.132), (9, 1.833), (19, 1.729), (99, 1.660)])
def test_students_t_is_that_of_tables(freedom: int, table: float) -> None:
    assert t_quantile(freedom) == pytest.approx(table, rel=0.002)


def test_a_runs_interval() -> None:
    # Mean 3, variance 2.5, of the mean 0.5; t of 4 degrees of freedom 2.13: 3 ± 2.13 · 0.7071.
    found = interval([D(n) for n in (1, 2, 3, 4, 5)])
    assert found is not None
    assert [float(found[end]) for end in ("low", "estimate", "high")] == pytest.approx([1.494, 3, 4.506], abs=0.003)


def test_a_months_interval_has_the_spread_of_runs_and_of_their_rate() -> None:
    # 0.5 + 9 · 0.01 + 0.5 · 0.01 = 0.595; 2.13 · 100 · 0.7714 = 164.3.
    found = interval([D(n) for n in (1, 2, 3, 4, 5)], RunRate(100, 0.01))
    assert found is not None
    assert [float(found[end]) for end in ("low", "estimate", "high")] == pytest.approx([135.7, 300, 464.3], abs=0.3)


def test_no_end_lies_below_the_floor() -> None:
    values = [D(n) for n in (0, 0, 0, 0, 1)]
    lows = [found["low"] for floor in (None, D(0)) if (found := interval(values, floor=floor))]
    assert lows[0] < 0
    assert lows[1] == 0


def test_fewer_runs_have_none() -> None:
    assert interval([D(1)] * (MIN_RUNS - 1)) is None
    assert more_runs([D(1)] * 2) == MIN_RUNS - 2


def test_the_rate_of_a_window_that_is_full() -> None:
    found = rate_of([NOW - DAY * (n + 0.5) for n in range(30)], NOW, all_of_window=True)
    assert found is not None
    assert (found.per_month, found.runs, found.days, found.dispersion) == (30, 30, 30, 1)
    assert found.relative_variance == pytest.approx(1 / 30)


def test_the_oldest_run_starts_the_clock_where_there_is_none_before() -> None:
    found = rate_of([NOW - DAY / 2 * n for n in range(11)], NOW, all_of_window=False)
    assert found is not None
    assert (found.per_month, found.runs, found.days) == (pytest.approx(60), 10, 5)


def test_runs_that_come_all_on_one_day_make_a_wide_interval() -> None:
    # Counts 30, 0, 0 … over 30 days: mean 1, variance (29² + 29 · 1²) / 29 = 30.
    found = rate_of([NOW - DAY / 2] * 30, NOW, all_of_window=True)
    assert found is not None
    assert found.dispersion == pytest.approx(30)
    assert found.relative_variance == pytest.approx(1)


def test_an_hour_is_no_month() -> None:
    assert rate_of([NOW - timedelta(minutes=n) for n in range(60)], NOW, all_of_window=False) is None
    assert rate_of([], NOW, all_of_window=False) is None
    days = rate_of([NOW - DAY * n for n in range(3)], NOW, all_of_window=False)
    assert days is not None
    assert days.dispersion is None


def test_nine_of_ten_intervals_hold() -> None:
    """Months of a workflow whose costs and rate of runs are known, seen through twenty runs of the month before."""
    dice = random.Random(7)  # noqa: S311 - costs and times of runs
    held = 0
    for _ in range(400):
        moments = [NOW - DAY * dice.uniform(0, 30) for _ in range(round(dice.gauss(300, 300**0.5)))]
        rate = rate_of(sorted(moments, reverse=True), NOW, all_of_window=True)
        found = interval([D(str(dice.gammavariate(4, 0.25))) for _ in range(20)], rate or A_RUN)
        assert found is not None
        held += found["low"] <= 300 <= found["high"]
    assert 0.86 <= held / 400 <= 0.95


VALUES = st.lists(st.decimals(-1000, 1000, places=3), min_size=MIN_RUNS, max_size=30)


@given(VALUES, st.floats(1, 1e6), st.floats(0, 2))
def test_the_estimate_lies_within_and_a_surer_rate_is_no_wider(
    values: list[Decimal], rate: float, spread: float
) -> None:
    wide, narrow = interval(values, RunRate(rate, spread)), interval(values, RunRate(rate))
    assert wide is not None
    assert narrow is not None
    assert wide["low"] <= narrow["low"] <= wide["estimate"] == narrow["estimate"] <= narrow["high"] <= wide["high"]


@given(VALUES)
def test_what_is_told_from_nothing_needs_no_more_runs(values: list[Decimal]) -> None:
    found = interval(values)
    assert found is not None
    if found["low"] > D("1e-6") or found["high"] < D("-1e-6"):
        assert more_runs(values) == 0
    elif found["low"] < D("-1e-6") and found["high"] > D("1e-6"):
        assert more_runs(values) > 0
