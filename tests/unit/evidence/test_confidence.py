"""Bounds that hold at every time."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import chance

from loopllama.evidence import comparison, confidence


@pytest.mark.parametrize("points", [(-1, 1), (-1, 0), (0.28, 1), (0.25, 0.35), (-0.9, 0.31)])
def test_the_mean_lies_between_the_bounds_at_all_times(points: tuple[float, float]) -> None:
    """Looked at after 200 samples in 20 looks, the mean being 0.3 or, of (-1, 0), -0.3."""
    low, high = points
    mean = -0.3 if high <= 0 else 0.3
    rng, paths, missed = chance.seeded(points), 60, 0
    for _ in range(paths):
        samples: list[float] = []
        for _ in range(20):
            samples += [high if rng.random() < (mean - low) / (high - low) else low for _ in range(10)]
            lower, upper = confidence.interval(samples)
            if not lower <= mean <= upper:
                missed += 1
                break
    assert missed <= chance.most(paths, 0.05)


def test_bounds_close_in_on_the_mean() -> None:
    rng = chance.seeded(3)
    samples = [rng.choice((-1, 0, 0, 0, 0, 0, 0, 0, 0, 1)) for _ in range(4000)]
    widths = []
    for count in (0, 1, 10, 100, 1000, 4000):
        lower, upper = confidence.interval(samples[:count])
        widths.append(upper - lower)
    assert widths[0] == 2
    assert widths[1] <= 2
    assert widths[2:] == sorted(widths[2:], reverse=True)
    assert widths[-1] < 0.06


@settings(max_examples=20)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=25), st.randoms(use_true_random=False))
def test_bounds_hold_the_mean_so_far_and_know_no_order(samples: list[float], rng: Random) -> None:
    lower, upper = confidence.interval(samples)
    assert -1 <= lower <= sum(samples) / len(samples) <= upper <= 1
    shuffled = rng.sample(samples, len(samples))
    assert confidence.interval(shuffled) == (lower, upper)
    mirrored = confidence.interval([-sample for sample in samples])
    assert mirrored == (-upper, -lower)


@pytest.mark.parametrize("margin", [0.05, 0.1, 0.5])
def test_the_lower_bound_says_what_the_verdict_says(margin: float) -> None:
    record, samples = comparison.start(margin), []
    while record["verdict"] == "not_enough_data":
        assert confidence.lower_bound(samples) <= -margin
        samples.append(0.2 if len(samples) % 3 else -0.3)
        record = comparison.add(record, samples[-1])
    assert record["verdict"] == "as_good"
    assert confidence.lower_bound(samples) >= -margin - confidence.STEP / 1e9
    assert confidence.lower_bound(samples) > confidence.interval(samples)[0]
    assert confidence.upper_bound(samples) < confidence.interval(samples)[1]


@pytest.mark.parametrize(("samples", "low", "high"), [([1] * 500, 0.97, 1), ([-1] * 500, -1, -0.97), ([], -1, 1)])
def test_extremes(samples: list[float], low: float, high: float) -> None:
    lower, upper = confidence.interval(samples)
    assert lower >= low
    assert upper <= high


@pytest.mark.parametrize("alpha", [0, 1, -0.5])
def test_a_wrong_level_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        confidence.interval([0.5], alpha)
