"""The guard of a canary: what it promises for equal arms, what it finds, and what it keeps."""

from __future__ import annotations

import itertools
import json
import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import chance

from loopllama.aws import dynamo
from loopllama.evidence import betting, guard
from loopllama.evidence.betting import BILLION
from loopllama.evidence.guard import Guard, Past

rates = st.floats(0, 1)


def life(rng: Random, rate: dict[guard.Arm, float], runs: int, share: float = 0.5, **how) -> Guard:
    """A canary until it is found worse, or for so many runs."""
    record = guard.start(seed=str(rng.random()), **how)
    for _ in range(runs):
        arm: guard.Arm = "candidate" if rng.random() < share else "incumbent"
        record = guard.observe(record, arm, rng.random() < rate[arm])
        if record["worse_after"]:
            break
    return record


def past(rng: Random, rate: float, runs: int = 2000) -> Past:
    return Past(runs, sum(rng.random() < rate for _ in range(runs)))


# What it promises.


@settings(max_examples=200)
@given(st.lists(rates, min_size=1, max_size=4), rates, st.floats(-0.9, 0.9), st.integers(1, 999))
def test_no_bet_gains_on_average_where_the_candidate_is_as_good(incumbents, low, delta, reference) -> None:
    """Exact, over all outcomes of a block on two points, with a rate for each incumbent and the candidate at delta."""
    mean = min(max(sum(incumbents) / len(incumbents) + delta, 0), 1)
    if mean > sum(incumbents) / len(incumbents) + delta:
        return  # the null hypothesis cannot be met
    bottom = low * min(mean, 1 - 1e-9)
    candidates = {bottom: 1 - (mean - bottom) / (1 - bottom), 1.0: (mean - bottom) / (1 - bottom)}
    wealth = [0.0] * len(guard.BETS)
    for (signal, weight), *others in itertools.product(candidates.items(), *([(0, 1 - p), (1, p)] for p in incumbents)):
        for _, part in others:
            weight *= part
        signals = tuple(sorted(value * BILLION for value, _ in others))
        gains = guard._gains(round(signal * BILLION), signals, reference * BILLION // 1000, round(delta * BILLION))
        wealth = [sum_ + weight * math.exp(gain / BILLION) for sum_, gain in zip(wealth, gains, strict=True)]
    assert max(wealth) <= 1 + 1e-6


@pytest.mark.parametrize("rate", [0.01, 0.1])
@pytest.mark.parametrize("history", [0, 2000])
def test_an_equal_candidate_is_seldom_rolled_back(rate: float, history: int) -> None:
    """Looked at after each of 2,000 runs, with nothing conceded."""
    rng, lives = chance.seeded(rate, history), 40
    ends = [
        life(rng, {"candidate": rate, "incumbent": rate}, 2000, delta=0, past=past(rng, rate, history))
        for _ in range(lives)
    ]
    assert sum(record["worse_after"] > 0 for record in ends) <= chance.most(lives, 0.05)


def test_a_candidate_that_is_worse_by_the_margin_is_seldom_called_safe() -> None:
    rng, lives = chance.seeded(2), 40
    ends = []
    for _ in range(lives):
        record = guard.start(delta=1, margin=0.05)
        for _ in range(800):
            record = guard.observe(record, "incumbent", rng.random() < 0.05)
            record = guard.observe(record, "candidate", rng.random() < 0.10)
        ends.append(record["safe_after"] > 0)
    assert sum(ends) <= chance.most(lives, 0.05)


def test_rates_that_rise_for_both_arms_roll_back_nothing_that_concurrent_runs_do_not_show() -> None:
    """The history is false: both arms now fail in 15 % and not in 5 %."""
    rng, lives = chance.seeded(3), 60
    ends = [
        life(rng, {"candidate": 0.15, "incumbent": 0.15}, 1000, past=past(rng, 0.05), delta=0.01) for _ in range(lives)
    ]
    assert sum(record["worse_after"] > 0 for record in ends) <= chance.most(lives, 1 / 3)
    concurrent = [record for record in ends if record["worse_after"]]
    assert all(betting.log_e(record["concurrent"]) >= math.log(3) for record in concurrent)
    filled_alone = [record for record in ends if betting.log_e(record["filled"]) > math.log(25)]
    assert len(filled_alone) > len(concurrent) + 10


@pytest.mark.parametrize("history", [Past(), Past(3000, 60)])
def test_it_goes_back_just_when_the_bets_have_what_is_told(history: Past) -> None:
    rng, both_alone = chance.seeded(8), []
    for _ in range(30):
        record = guard.start(delta=0, past=history, seed=str(rng.random()))
        for _ in range(400):
            record = guard.observe(record, "incumbent", rng.random() < 0.02)
            record = guard.observe(record, "candidate", rng.random() < 0.1)
            filled, concurrent = (math.exp(betting.log_e(record[name])) for name in ("filled", "concurrent"))
            alone = concurrent >= (100 if history.runs else 20)
            together = history.runs > 0 and filled >= 25 and concurrent >= 3
            assert (record["worse_after"] > 0) == (alone or together)
            if record["worse_after"]:
                both_alone.append(alone)
                break
    assert both_alone.count(False) > 20 if history.runs else set(both_alone) == {True}


def test_the_reference_of_a_block_knows_nothing_of_the_block() -> None:
    """Else a bet could follow from what it is a bet on."""
    for incumbent, candidate in itertools.product((0, 1), (0, 1)):
        record = guard.observe(guard.start(delta=0), "incumbent", incumbent)
        record = guard.observe(guard.observe(record, "incumbent", 1 - incumbent), "candidate", candidate)
        expected = guard._gains(candidate * BILLION, (incumbent * BILLION,), BILLION // 2, 0)
        assert record["concurrent"] == list(expected)


def test_some_incumbents_are_left_for_candidates_that_come_in_a_row() -> None:
    record, waiting = guard.start(), []
    for arm in ("incumbent",) * 7 + ("candidate",) * 5:
        record = guard.observe(record, arm, 0)
        waiting.append(len(record["waiting"]))
    assert waiting == [1, 2, 3, 4, 5, 6, 7, 3, 1, 0, 0, 0]
    assert (record["blocks"], len(record["held"])) == (3, 2)
    record = guard.observe(record, "incumbent", 0)
    assert (record["blocks"], len(record["held"]), record["waiting"]) == (4, 1, [])


# What it finds.


@pytest.mark.parametrize(("rate", "history"), [(0.01, 0), (0.01, 2000), (0.05, 2000), (0.1, 2000)])
def test_ten_points_more_errors_are_found_within_400_pairs(rate: float, history: int) -> None:
    rng, lives, found = chance.seeded(rate, history), 80, 0
    for _ in range(lives):
        record = guard.start(past=past(rng, rate, history), seed=str(rng.random()))
        for _ in range(400):
            record = guard.observe(record, "incumbent", rng.random() < rate)
            record = guard.observe(record, "candidate", rng.random() < rate + 0.1)
        found += record["worse_after"] > 0
    assert found >= chance.least(lives, 0.95)


def test_a_small_share_needs_no_history() -> None:
    """At 5 %, nineteen incumbents come with each candidate."""
    rng = chance.seeded(4)
    ends = [life(rng, {"candidate": 0.2, "incumbent": 0.1}, 8000, share=0.05) for _ in range(15)]
    assert sum(0 < record["worse_after"] <= 400 for record in ends) >= chance.least(15, 0.95)


def test_an_equal_candidate_is_soon_called_safe() -> None:
    rng = chance.seeded(5)
    record = life(rng, {"candidate": 0.05, "incumbent": 0.05}, 3000)
    assert 100 < record["safe_after"] < 1500
    assert record["worse_after"] == 0


def test_a_latency_that_rises_is_found() -> None:
    rng = chance.seeded(6)
    record = guard.start(delta=0.02)
    speeds: dict[guard.Arm, float] = {"incumbent": 1.0, "candidate": 1.6}
    for _ in range(600):
        for arm, slower in speeds.items():
            milliseconds = 900 * slower * rng.gammavariate(4, 1 / 4)
            record = guard.observe(record, arm, guard.clipped(milliseconds, 5000))
    assert 0 < record["worse_after"] < 400
    candidate, incumbent = guard.means(record)
    assert candidate == pytest.approx(0.288, abs=0.03)
    assert incumbent == pytest.approx(0.18, abs=0.03)


# What it keeps.


def test_a_stored_record_goes_on_with_the_same_digits() -> None:
    rng = chance.seeded(7)
    whole = stored = guard.start(past=Past(40, 3), seed="canary-1")
    for _ in range(150):
        arm: guard.Arm = "candidate" if rng.random() < 0.4 else "incumbent"
        signal = rng.choice((0, 1, 0.25))
        whole = guard.observe(whole, arm, signal)
        stored = guard.resume(dynamo.from_item(dynamo.to_item(guard.observe(stored, arm, signal))))
        assert json.dumps(stored) == json.dumps(whole) == json.dumps(json.loads(json.dumps(whole)))
    assert whole["history_left"] < whole["history"]
    assert len(json.dumps(whole)) < 2000


def test_history_is_drawn_by_the_seed_and_used_up_once() -> None:
    ends = []
    for seed in ("a", "a", "b"):
        record = guard.start(past=Past(30, 10), seed=seed)
        for _ in range(20):
            record = guard.observe(guard.observe(record, "incumbent", 0), "candidate", 1)
        ends.append(record)
        assert (record["history_left"], record["history_left_bad"]) == (0, 0)
        assert (record["history"], record["history_bad"]) == (30, 10)
    assert ends[0]["filled"] == ends[1]["filled"] != ends[2]["filled"]


def test_an_arm_without_the_other_decides_nothing() -> None:
    arms: tuple[guard.Arm, guard.Arm] = ("candidate", "incumbent")
    for arm in arms:
        record = guard.start()
        for _ in range(500):
            record = guard.observe(record, arm, 1)
        assert (record["blocks"], record["worse_after"], record["safe_after"]) == (0, 0, 0)
        assert len(record["waiting"]) + len(record["held"]) == guard.MOST_WAITING
        assert guard.means(record) == ((1.0, None) if arm == "candidate" else (None, 1.0))


@pytest.mark.parametrize(
    ("candidate", "incumbent", "worse", "safe"), [(1, 0, 1, 0), (0, 1, 0, 1), (0, 0, 0, 1), (1, 1, 0, 1)]
)
@pytest.mark.parametrize("history", [Past(), Past(500, 0), Past(500, 500)])
def test_extremes(candidate: int, incumbent: int, worse: int, safe: int, history: Past) -> None:
    record = guard.start(past=history)
    for _ in range(10_000 if candidate == incumbent else 300):
        record = guard.observe(guard.observe(record, "candidate", candidate), "incumbent", incumbent)
        if record["safe_after"]:
            break
    assert (record["worse_after"] > 0, record["safe_after"] > 0) == (bool(worse), bool(safe))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_what_is_no_signal_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="is not from 0 to 1"):
        guard.observe(guard.start(), "candidate", wrong)


@pytest.mark.parametrize("how", [{"alpha": 0}, {"delta": -1}, {"margin": 2}, {"past": Past(3, 4)}])
def test_no_guard_starts_with_what_is_impossible(how) -> None:
    with pytest.raises(ValueError, match=r"is not from 0 to 1|between 0 and 1|no history"):
        guard.start(**how)


@pytest.mark.parametrize(("value", "share"), [(-1, 0), (0, 0), (2, 0.5), (4, 1), (9, 1)])
def test_what_is_over_the_cap_counts_as_the_cap(value: float, share: float) -> None:
    assert guard.clipped(value, 4) == share
