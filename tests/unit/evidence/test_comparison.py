"""Verdicts on paired differences: what they promise, their record, their extremes, and how many samples they take."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import chance

from loopllama.aws import dynamo
from loopllama.evidence import betting, comparison
from loopllama.evidence.betting import BETS, BILLION
from loopllama.evidence.comparison import Comparison

differences = st.floats(-1, 1)


def after(samples: Sequence[betting.Number], margin: float = 0.05, alpha: float = 0.05) -> Comparison:
    record = comparison.start(margin, alpha)
    for sample in samples:
        record = comparison.add(record, sample)
    return record


# What it promises.


@given(
    st.integers(-BILLION, BILLION),
    st.integers(0, BILLION),
    st.integers(0, BILLION),
    st.sampled_from(["above", "below"]),
)
def test_no_bet_gains_on_average_where_the_mean_is_at_the_bound(bound, down, up, side) -> None:
    """Exact: each distribution with this mean is a mixture of those on two points around it, which are all tried."""
    low = bound - down * (bound + BILLION) // BILLION
    high = bound + up * (BILLION - bound) // BILLION
    weight = (bound - low) / (high - low) if high > low else 0.0
    gains = zip(betting.gains(low, bound, side), betting.gains(high, bound, side), strict=True)
    for at_low, at_high in gains:
        assert (1 - weight) * math.exp(at_low / BILLION) + weight * math.exp(at_high / BILLION) <= 1 + 1e-9


def adversary(name: str, bound: float) -> Callable[[Random, Comparison], float]:
    """A distribution on [-1, 1] whose mean is `bound`, whatever the record says."""

    def two_points(rng: Random, low: float, high: float) -> float:
        return high if rng.random() < (bound - low) / (high - low) else low

    return {
        "all or nothing": lambda rng, _: two_points(rng, -1, 1),
        "mostly equal": lambda rng, _: two_points(rng, -1, 0),
        "rare wins": lambda rng, _: two_points(rng, bound - 0.02, 1),
        "small steps": lambda rng, _: two_points(rng, bound - 0.01, bound + 0.01),
        # Careful while it leads, and bold while it does not.
        "adaptive": lambda rng, record: two_points(
            rng, *((-1, 1) if betting.log_e(record["as_good"]) < 1 else (bound - 0.05, 1))
        ),
    }[name]


@pytest.mark.parametrize("margin", [0.05, 0.3])
@pytest.mark.parametrize("name", ["all or nothing", "mostly equal", "rare wins", "small steps", "adaptive"])
def test_a_candidate_at_the_margin_is_seldom_called_either(name: str, margin: float) -> None:
    """Looked at after each of 300 samples."""
    rng, draw, paths = chance.seeded(name, margin), adversary(name, -margin), 150
    verdicts = []
    for _ in range(paths):
        record = comparison.start(margin)
        while record["verdict"] == "not_enough_data" and record["samples"] < 300:
            record = comparison.add(record, draw(rng, record))
        verdicts.append(record["verdict"])
    assert verdicts.count("as_good") <= chance.most(paths, 0.05)
    assert verdicts.count("worse") <= chance.most(paths, 0.05)


# Its record.


@settings(max_examples=30)
@given(st.lists(differences, max_size=40), st.integers(0, 40))
def test_a_stored_record_goes_on_with_the_same_digits(samples: list[float], place: int) -> None:
    record = after(samples[:place])
    through_json = json.loads(json.dumps(record))
    through_dynamo = comparison.resume(dynamo.from_item(dynamo.to_item(record)))
    assert record == through_json == through_dynamo
    for sample in samples[place:]:
        record, through_dynamo = comparison.add(record, sample), comparison.add(through_dynamo, sample)
    assert json.dumps(record) == json.dumps(through_dynamo) == json.dumps(after(samples))


@settings(max_examples=30)
@given(st.lists(differences, max_size=30).flatmap(lambda one: st.tuples(st.just(one), st.permutations(one))))
def test_the_order_of_samples_changes_no_digit_of_the_wealth(orders: tuple[list[float], list[float]]) -> None:
    first, second = (after(order) for order in orders)
    for name in ("samples", "total", "as_good", "worse"):
        assert first[name] == second[name]


def test_a_record_does_not_change_by_what_is_added_to_it() -> None:
    record = comparison.start()
    comparison.add(record, 1)
    assert record == comparison.start()


def test_a_decimal_and_a_float_are_the_same_sample() -> None:
    assert after([Decimal("0.1"), Decimal(-1)]) == after([0.1, -1.0])


# Its extremes.


@pytest.mark.parametrize(
    ("sample", "margin", "verdict", "most"),
    [
        (1, 0.05, "as_good", 8),
        (-1, 0.05, "worse", 8),
        (0, 0.05, "as_good", 95),
        (0, 1, "as_good", 3),
        (-1, 1, "not_enough_data", 1000),
        (1, 1, "as_good", 2),
        (1, 0, "as_good", 8),
        (-1, 0, "worse", 8),
        (0, 0, "not_enough_data", 1000),
        (-0.05, 0.05, "not_enough_data", 1000),
    ],
)
def test_always_the_same_sample(sample: float, margin: float, verdict: str, most: int) -> None:
    record = after([sample] * most, margin)
    assert record["verdict"] == verdict
    assert comparison.mean(record) == sample
    if verdict != "not_enough_data":
        assert 0 < record["decided_after"] <= most


def test_one_sample_is_never_enough() -> None:
    for sample in (-1, 0, 1):
        assert after([sample])["verdict"] == "not_enough_data"


def test_no_wealth_overflows() -> None:
    record = after([1] * 20_000)
    assert comparison.e_values(record) == (pytest.approx(1e300), pytest.approx(0))
    assert comparison.e_values(after([])) == (1, 1)


def test_a_verdict_stays_as_it_was_first() -> None:
    record = after([0] * 95 + [-1] * 95)
    assert (record["verdict"], record["decided_after"]) == ("as_good", 90)
    assert comparison.e_values(record)[0] < 1


@pytest.mark.parametrize("wrong", [1.01, -1.01, math.nan, math.inf, Decimal("NaN"), Decimal("-Infinity")])
def test_what_is_no_difference_is_refused(wrong: betting.Number) -> None:
    with pytest.raises(ValueError, match="is not from -1 to 1"):
        comparison.add(comparison.start(), wrong)


@pytest.mark.parametrize(("margin", "alpha"), [(-0.1, 0.05), (1.1, 0.05), (0.05, 0), (0.05, 1), (0.05, math.nan)])
def test_no_comparison_starts_with_a_wrong_margin_or_level(margin: float, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"is not from 0 to 1|between 0 and 1"):
        comparison.start(margin, alpha)


# How many samples it takes.


def test_samples_that_go_on_alike_take_as_many_as_was_told() -> None:
    for margin, sample in ((0.05, 0.0), (0.1, 0.0), (0.05, -0.2), (0.05, 0.3)):
        record = after([sample] * 5, margin)
        told = record["samples"] + (comparison.more_needed(record) or 0)
        while record["verdict"] == "not_enough_data":
            record = comparison.add(record, sample)
        assert told == record["decided_after"]
        assert comparison.more_needed(record) == 0


def test_no_number_is_told_where_the_data_tell_none() -> None:
    assert comparison.more_needed(comparison.start()) is None
    assert comparison.more_needed(after([0] * 50, margin=0)) is None
    assert comparison.more_needed(after([-0.05] * 50)) is None


def independent(rng: Random, candidate: float, incumbent: float) -> int:
    return (rng.random() < candidate) - (rng.random() < incumbent)


def judged(rng: Random, won: float, tie: float) -> int:
    at = rng.random()
    return 1 if at < won else 0 if at < won + tie else -1


@pytest.mark.parametrize(
    ("draw", "margin", "verdict", "pairs"),
    [
        (lambda rng: independent(rng, 0.95, 0.95), 0.05, "as_good", 176),
        (lambda rng: independent(rng, 0.95, 0.95), 0.10, "as_good", 67),
        (lambda rng: judged(rng, 0.1, 0.8), 0.10, "as_good", 113),
        (lambda rng: independent(rng, 0.90, 1), 0.05, "worse", 144),
        (lambda rng: independent(rng, 0.70, 1), 0.05, "worse", 26),
    ],
)
def test_what_to_expect(draw, margin: float, verdict: str, pairs: int) -> None:
    """The median of the experiments of 400 pairs that end so lies within a third of what is documented."""
    rng, took = chance.seeded(16), []
    for _ in range(120):
        record = comparison.start(margin)
        while record["verdict"] == "not_enough_data" and record["samples"] < 400:
            record = comparison.add(record, draw(rng))
        if record["verdict"] == verdict:
            took.append(record["samples"])
    assert len(took) > 60
    assert pairs * 2 / 3 < median(took) < pairs * 4 / 3


def test_what_identical_answers_take() -> None:
    assert [after([0] * 100, margin)["decided_after"] for margin in (0.05, 0.10)] == [90, 44]


# The numbers below it.


def test_the_mean_wealth_is_the_mean() -> None:
    logs = [round(math.log(wealth) * BILLION) for wealth in (1, 2, 9)]
    assert math.exp(betting.log_e(logs)) == pytest.approx(4)
    assert betting.crossed(logs, 0.25 + 1e-6)
    assert not betting.crossed(logs, 0.25 - 1e-6)
    assert betting.log_e([10**13, 0]) == pytest.approx(10_000 - math.log(2))


def test_each_gain_is_the_logarithm_of_its_factor_rounded_down() -> None:
    for sample, bound in itertools.product((-BILLION, -123, 0, 7 * 10**8, BILLION), (-(10**8), 0, 5 * 10**8)):
        for bet, gain in zip(BETS, betting.gains(sample, bound, "above"), strict=True):
            exact = math.log(1 + bet * (sample - bound) / (BILLION + bound)) * BILLION
            assert gain <= exact + 1e-3
            assert gain > exact - 1 - 1e-3
        assert betting.gains(sample, bound, "above") == betting.gains(-sample, -bound, "below")
