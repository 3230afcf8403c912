"""Samples of calls: what is kept of them, whoever puts them together, and what they say."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.policies import samples
from loopllama.policies.samples import (
    FAILURE_MS,
    NEWEST,
    SLOT_SECONDS,
    WINDOW_SECONDS,
    Recent,
    Sample,
    merged,
    parse,
    recent,
)

NOW = 1_795_500_000


def sample(at: int = NOW, ms: int = 100, *, failed: bool = False, turn: str = "t", attempt: str = "0001") -> Sample:
    """A call of 1,000 tokens in and 100 out."""
    return Sample(at, ms, failed, 1000, 100, 10, turn, attempt)


calls = st.builds(
    sample,
    at=st.integers(NOW - 60, NOW),
    ms=st.integers(0, 9),
    failed=st.booleans(),
    turn=st.sampled_from([f"t{number}" for number in range(40)]),
    attempt=st.sampled_from(["0001", "0002"]),
)


@given(st.lists(calls, max_size=120), st.randoms(use_true_random=False), st.integers(1, 8))
def test_any_order_any_batches_and_any_repeats_give_the_same(found: list[Sample], chance: random.Random, parts: int):
    """Each consumer sees some of the calls, in batches, some of them twice, and puts them to what others wrote."""
    batches = [[one for one in found if chance.random() < 0.4] for _ in range(parts)]
    batches += [[one for place, one in enumerate(found) if place % 3 == rest] for rest in range(3)]
    chance.shuffle(batches)
    item: samples.Group = ()
    for batch in batches:
        item = merged(item, batch)
        assert merged(item, batch) == item
    assert item == merged(found)
    assert item == merged(*reversed(batches))


def test_what_is_kept_of_a_busy_step_is_bounded_and_fair():
    chance = random.Random(1)  # noqa: S311 - not for secrets
    item: samples.Group = ()
    for second in range(SLOT_SECONDS):
        # 3,000 calls a second, the later the slower.
        batch = [sample(NOW + second, 100 + second, turn=f"{chance.random()}") for _ in range(3_000)]
        item = merged(item, batch)
        assert len(item) <= NEWEST
    assert {one.at for one in item} > {NOW, NOW + SLOT_SECONDS - 1}, "of all of the time, not of its end only"


def test_the_newest_count_and_old_ones_are_kept_until_newer_ones_come():
    old = [sample(NOW - 3600, turn=f"o{n:02}") for n in range(NEWEST)]
    few = [sample(NOW, turn=f"n{n:02}") for n in range(NEWEST - 1)]
    assert merged(old, few) == tuple(sorted([*few, old[0]], reverse=True))
    enough = [*few, sample(NOW, turn="last")]
    assert merged(old, enough) == tuple(sorted(enough, reverse=True))
    assert len(merged(old[:5], enough[:15])) == 20


@pytest.mark.parametrize(
    ("group", "mean", "weight"),
    [
        ([sample(ms=100), sample(ms=300, attempt="2")], 200, 2),
        ([sample(ms=100), sample(NOW - WINDOW_SECONDS // 2, 400, attempt="2")], 200, 1.5),
        ([sample(ms=5, failed=True)], FAILURE_MS, 1),
        ([sample(ms=120_000, failed=True)], 120_000, 1),
        ([sample(NOW + 30, 100)], 100, 1),
    ],
)
def test_a_mean_of_recent_samples(group: list[Sample], mean: float, weight: float):
    found = recent(group, NOW, FAILURE_MS)
    assert (found.ms, found.weight, found.count) == (pytest.approx(mean), pytest.approx(weight), len(group))


def test_what_is_older_than_the_window_says_nothing():
    assert recent([sample(NOW - WINDOW_SECONDS)], NOW, FAILURE_MS) == Recent()
    assert recent([], NOW, FAILURE_MS) == Recent()


def test_a_failure_is_never_faster_than_an_answer():
    slow = (sample(ms=90_000),)
    assert samples.failure_ms([slow, (sample(ms=200_000, failed=True),)]) == 90_000
    assert samples.failure_ms([(sample(),)]) == FAILURE_MS


def test_tokens_are_means_of_answered_calls():
    one = [Sample(NOW, 1, False, 100, 10, 50, "a", "1"), Sample(NOW, 1, False, 300, 10, 50, "a", "2")]
    two = [Sample(NOW, 1, True, 9, 0, 0, "a", "3"), Sample(NOW, 1, False, 100, 0, 50, "b", "1")]
    assert samples.tokens([tuple(one), tuple(two)]) == {
        "input_tokens": 167,
        "output_tokens": 7,
        "cached_tokens": 50,
        "calls": 1.5,
    }
    assert samples.tokens([(sample(failed=True),)]) == {}
    # The newest calls of all models count, be one model's ever so many.
    old = tuple(Sample(NOW - 9999, 1, False, 1, 1, 1, f"o{n}", "1") for n in range(NEWEST))
    new = tuple(Sample(NOW, 1, False, 7, 7, 7, f"n{n}", "1") for n in range(NEWEST))
    assert samples.tokens([old, new])["input_tokens"] == 7


@given(calls)
def test_an_item_holds_a_sample_as_text(one: Sample):
    assert parse(one.text()) == one
    assert len(one.text()) <= 60


NO_SAMPLES = (
    *(None, 5, "", "1 2 ok 3 4 5 t", "1 2 fine 3 4 5 t 1", "x 2 ok 3 4 5 t 1", "1 -2 ok 3 4 5 t 1"),
    f"{10**13} 2 ok 3 4 5 t 1",
)


@pytest.mark.parametrize("text", NO_SAMPLES)
def test_what_is_no_sample_is_none(text: object):
    assert parse(text) is None


def test_what_somebody_wrote_by_hand_is_read_as_far_as_it_is_samples():
    good = sample()
    assert samples.read({"m": ["?", good.text(), good.text()], "n": "x", "o": ["?"]}, 9) == {"m": (good,)}
    assert samples.read("x", 9) == {}
    assert len(samples.read({str(n): [good.text()] for n in range(9)}, 3)) == 3
