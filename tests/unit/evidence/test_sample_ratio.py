"""Arms that are not filled as their shares say."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import chance

from loopllama.aws import dynamo
from loopllama.evidence import sample_ratio
from loopllama.evidence.sample_ratio import SampleRatio


def filled(rng: Random, record: SampleRatio, weights: Sequence[float], runs: int) -> SampleRatio:
    for arm in rng.choices(range(len(weights)), weights, k=runs):
        record = sample_ratio.observe(record, arm)
    return record


@given(st.lists(st.integers(0, 400), min_size=2, max_size=4), st.lists(st.integers(1, 99), min_size=4, max_size=4))
def test_the_next_run_changes_the_e_value_by_nothing_on_average(counts: list[int], weights: list[int]) -> None:
    """Exact: what makes it a martingale under the null hypothesis."""
    shares = weights[: len(counts)]
    record: SampleRatio = {**sample_ratio.start(shares, 1e-9), "counts": counts}
    before = sample_ratio.log_e(record)
    mean = sum(
        share / sum(shares) * math.exp(sample_ratio.log_e(sample_ratio.observe(record, arm)) - before)
        for arm, share in enumerate(shares)
    )
    assert mean == pytest.approx(1, abs=1e-6)


def test_arms_filled_as_said_through_all_stages_seldom_end_a_canary() -> None:
    rng, lives, ends = chance.seeded(1), 60, 0
    for _ in range(lives):
        record = sample_ratio.start((5, 95), 0.05)
        for stage in ((5, 95), (25, 75), (50, 50)):
            record = filled(rng, sample_ratio.next_stage(record, stage), stage, 400)
        ends += record["mismatch_after"] > 0
    assert ends <= chance.most(lives, 0.05)


@pytest.mark.parametrize(
    ("shares", "true", "within"), [((5, 95), (0, 100), 600), ((5, 95), (10, 90), 800), ((50, 50), (60, 40), 1000)]
)
def test_arms_filled_otherwise_are_found(shares: tuple[int, int], true: tuple[int, int], within: int) -> None:
    record = filled(chance.seeded(shares, true), sample_ratio.start(shares), true, within)
    assert 0 < record["mismatch_after"] < within


def test_what_one_stage_shows_counts_in_the_next() -> None:
    record = sample_ratio.start((50, 50), 1e-6)
    for _ in range(60):
        record = sample_ratio.observe(sample_ratio.observe(record, 0), 0)
        record = sample_ratio.observe(record, 1)
    shown = sample_ratio.log_e(record)
    assert shown > 2
    record = sample_ratio.next_stage(record, (25, 75))
    assert sample_ratio.log_e(record) == pytest.approx(shown, abs=1e-8)
    assert (record["counts"], record["runs"]) == ([0, 0], 180)


def test_a_run_in_an_arm_without_a_share_says_it_at_once_and_for_good() -> None:
    record = filled(chance.seeded(2), sample_ratio.start((100, 0)), (1, 0), 500)
    assert (sample_ratio.log_e(record), record["mismatch_after"]) == (0, 0)
    record = sample_ratio.observe(record, 1)
    assert record["mismatch_after"] == 501
    assert math.isinf(sample_ratio.log_e(record))
    record = sample_ratio.observe(sample_ratio.next_stage(record, (50, 50)), 0)
    assert record["mismatch_after"] == 501
    json.dumps(record, allow_nan=False)


def test_a_stored_record_goes_on_with_the_same_digits() -> None:
    whole = stored = sample_ratio.start((5, 95))
    for arm in chance.seeded(3).choices((0, 1), (5, 95), k=50):
        whole = sample_ratio.observe(whole, arm)
        stored = sample_ratio.resume(dynamo.from_item(dynamo.to_item(sample_ratio.observe(stored, arm))))
        assert json.dumps(stored) == json.dumps(whole)


@pytest.mark.parametrize("shares", [(), (1,), (0, 0), (-1, 2)])
def test_what_are_no_shares_is_refused(shares: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no shares"):
        sample_ratio.start(shares)


def test_what_is_no_level_or_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        sample_ratio.start((1, 1), 0)
    with pytest.raises(ValueError, match="2 arms, and 3 shares"):
        sample_ratio.next_stage(sample_ratio.start((1, 1)), (1, 1, 1))
