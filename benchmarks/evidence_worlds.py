"""Simulated experiments and canaries whose truth is known, and how others decide them: for bench_evidence.py.

A world is a seed and what is true in it; each function gives what was decided. All look as often as they say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from loopllama.evidence import comparison, confidence, guard, judging, sample_ratio
from loopllama.evidence.guard import Guard, Past
from loopllama.evidence.judging import Judgement

PAIRS = 400
"""Pairs of an experiment, and of a canary that is to be found worse."""
HISTORY = 2_000
"""Runs of the incumbent before a canary."""

Draw = Callable[[Random], float]


def seeded(seed: str) -> Random:
    """The chance of a world."""
    return Random(seed)  # noqa: S311 - not for secrets


def same_items(candidate: float, incumbent: float) -> Draw:
    """Differences where both agree on the easy items, and who agrees with fewer fails on the others."""

    def draw(rng: Random) -> float:
        at = rng.random()
        return (at < candidate) - (at < incumbent)

    return draw


def independent(candidate: float, incumbent: float) -> Draw:
    """Differences where each agrees with the recorded answer by chance."""
    return lambda rng: (rng.random() < candidate) - (rng.random() < incumbent)


def judged(won: float, tie: float) -> Draw:
    """A judge's scores."""

    def draw(rng: Random) -> float:
        at = rng.random()
        return 1 if at < won else 0 if at < won + tie else -1

    return draw


CANDIDATES: dict[str, Draw] = {
    "identical answers": same_items(1, 1),
    "both agree in 95 %, independently": independent(0.95, 0.95),
    "judge: 10 % won, 80 % tie, 10 % lost": judged(0.1, 0.8),
    "5 points worse, on the same items": same_items(0.95, 1),
    "5 points worse, independently": independent(0.90, 0.95),
    "5 points worse, by a judge": judged(0.1, 0.75),
    "10 points worse, on the same items": same_items(0.90, 1),
    "30 points worse, on the same items": same_items(0.70, 1),
}


def experiment(seed: str, candidate: str, margin: float) -> tuple[str, int]:
    """The verdict of an experiment of at most 400 pairs, looked at after each, and after how many pairs it ended."""
    rng, record = seeded(seed), comparison.start(margin)
    while record["verdict"] == "not_enough_data" and record["samples"] < PAIRS:
        record = comparison.add(record, CANDIDATES[candidate](rng))
    return record["verdict"], record["samples"]


def interval_missed(seed: str, candidate: str, mean: float) -> bool:
    """Whether the mean was outside its 95 % interval at any of 50 looks at 1,000 samples."""
    rng, samples = seeded(seed), list[float]()
    for _ in range(50):
        samples += [CANDIDATES[candidate](rng) for _ in range(20)]
        lower, upper = confidence.interval(samples)
        if not lower <= mean <= upper:
            return True
    return False


class Rates(NamedTuple):
    """The true rates of a signal, and that of the history (the incumbent's, where it is not another)."""

    candidate: float
    incumbent: float
    before: float | None = None


def canary(seed: str, rates: Rates, runs: int, delta: float, history: int = HISTORY, share: float = 0.5) -> Guard:
    """A canary guarded by one signal, looked at after each run, until it is found worse or the runs are over."""
    rng = seeded(seed)
    before = rates.incumbent if rates.before is None else rates.before
    past = Past(history, sum(rng.random() < before for _ in range(history)))
    record = guard.start(delta=delta, past=past, seed=seed)
    for _ in range(runs):
        if rng.random() < share:
            record = guard.observe(record, "candidate", rng.random() < rates.candidate)
        else:
            record = guard.observe(record, "incumbent", rng.random() < rates.incumbent)
        if record["worse_after"]:
            break
    return record


def rolled_back(seed: str, rates: Rates, runs: int, delta: float, history: int = HISTORY) -> bool:
    """Whether a canary was rolled back."""
    return canary(seed, rates, runs, delta, history)["worse_after"] > 0


def pairs(seed: str, rates: Rates, count: int) -> list[tuple[bool, bool]]:
    """The failures of candidate and incumbent, one run of each in turn."""
    rng = seeded(seed)
    return [(rng.random() < rates.candidate, rng.random() < rates.incumbent) for _ in range(count)]


def by_two_points(seed: str, rates: Rates, count: int) -> int:
    """Arbr's default: back when the candidate's error rate is over the incumbent's by more than 2 points, from 20
    samples on. Looked at every 10 pairs; over the whole canary, which is kinder than its window of an hour. The pair
    after which it went back, 0 for never."""
    return _looked_at(seed, rates, count, lambda own, other, n: (own - other) / n > 0.02)


def by_p_value(seed: str, rates: Rates, count: int) -> int:
    """A test for a fixed number of samples, looked at every 10 pairs: back when the difference of the two rates has
    p < 0.05, one-sided, by the normal approximation. The pair after which it went back, 0 for never."""

    def significant(own: int, other: int, n: int) -> bool:
        pooled = (own + other) / (2 * n)
        spread = math.sqrt(2 * pooled * (1 - pooled) / n)
        return spread > 0 and (own - other) / n / spread > 1.6449

    return _looked_at(seed, rates, count, significant)


def by_evidence(seed: str, rates: Rates, count: int) -> int:
    """The guard, looked at after each run."""
    record = guard.start(past=Past(HISTORY, sum(bad for _, bad in pairs(f"{seed} before", rates, HISTORY))), seed=seed)
    for number, (candidate, incumbent) in enumerate(pairs(seed, rates, count), 1):
        record = guard.observe(guard.observe(record, "incumbent", incumbent), "candidate", candidate)
        if record["worse_after"]:
            return number
    return 0


RULES: dict[str, Callable[[str, Rates, int], int]] = {
    "over by 2 points, from 20 samples (Arbr's default), every 10 pairs": by_two_points,
    "p < 0.05, every 10 pairs": by_p_value,
    "LoopLlama's guard (delta half a point), after every run": by_evidence,
}


def decided(seed: str, rule: str, rates: Rates, count: int) -> int:
    """The pair after which a rule went back, 0 for never."""
    return RULES[rule](seed, rates, count)


def _looked_at(seed: str, rates: Rates, count: int, goes_back: Callable[[int, int, int], bool]) -> int:
    own = other = 0
    for number, (candidate, incumbent) in enumerate(pairs(seed, rates, count), 1):
        own, other = own + candidate, other + incumbent
        if number >= 20 and number % 10 == 0 and goes_back(own, other, number):
            return number
    return 0


def arms_refuted(seed: str, stages: Sequence[tuple[int, int]], runs: int) -> bool:
    """Whether arms that are filled as their shares say, for so many runs a stage, were ever said not to be."""
    rng, record = seeded(seed), sample_ratio.start(stages[0])
    for stage in stages:
        record = sample_ratio.next_stage(record, stage)
        for arm in rng.choices((0, 1), stage, k=runs):
            record = sample_ratio.observe(record, arm)
    return record["mismatch_after"] > 0


def judge_refused(seed: str, first: float, wins: float, pairs: int = 300) -> bool:
    """Whether a judge was refused on A/A: one that never says tie, and either names a place (`wins` is 0), the first
    with a probability of `first`, or an answer, that of the same side with a probability of `wins`."""
    rng = seeded(seed)

    def said() -> Judgement:
        if wins:
            return Judgement("first", "second") if rng.random() < wins else Judgement("second", "first")
        return Judgement(*("first" if rng.random() < first else "second" for _ in range(2)))

    return judging.refused(said() for _ in range(pairs)) is not None
