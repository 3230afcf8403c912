"""What the circuit breaker's rule makes of many processes at once: a simulation with the product's own code in each."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from support.breaker import HUNG, START, Process, Table

from loopllama.errors import ModelUnavailable
from loopllama.routing.circuit_breaker import (
    FAILURES,
    LONGEST_MS,
    probe_length,
)

# Many processes at once


@dataclass
class Tally:
    """What a simulation saw of the model that has a fallback."""

    answered: int = 0
    failed: int = 0
    passed_over: int = 0
    writes: int = 0
    failed_at: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of the steps, how many passed the model over."""
        return self.passed_over / (self.answered + self.failed + self.passed_over)


def simulate(
    behave: Callable[[float, int, random.Random], tuple[bool, float]],
    *,
    workers: int,
    minutes: float,
    cache: float = 5.0,
    call_seconds: float = 120.0,
) -> Tally:
    """`workers` processes, each with one step after the other for `minutes`. `behave` says of a call at a moment (s) by
    a worker whether it is answered, and how long it takes, at most `call_seconds`."""
    chance, table, tally = random.Random(1), Table(), Tally()  # noqa: S311 - the same at each run
    now = [START]
    processes = [Process(table, lambda: now[0], cache, probe_length(call_seconds)) for _ in range(workers)]
    numbers: Iterator[int] = itertools.count()
    events: list[tuple[float, int, Process, Any]] = []

    def later(seconds: float, process: Process, ended: Any) -> None:
        heapq.heappush(events, (now[0] + seconds, next(numbers), process, ended))

    for process in processes:
        later(chance.uniform(0, 5), process, None)
    while events[0][0] < START + minutes * 60:
        now[0], _, process, ended = heapq.heappop(events)
        if ended is not None:
            good, seconds = ended
            if good:
                tally.answered += 1
                process.circuit_breaker.succeeded("m")
            else:
                tally.failed += 1
                tally.failed_at.append(now[0] - START)
                process.circuit_breaker.failed("m", HUNG if seconds >= 5 else ModelUnavailable("busy"), seconds)
            later(chance.expovariate(2), process, None)
        elif process.uses("m"):
            good, seconds = behave(now[0] - START, processes.index(process), chance)
            later(seconds, process, (good, seconds))
        else:
            tally.passed_over += 1
            later(3 + chance.expovariate(2), process, None)  # the fallback answers
    tally.writes = table.writes
    return tally


Behaviour = Callable[[float, int, random.Random], tuple[bool, float]]


def mostly_well(rate: float, shortest: float, longest: float) -> Behaviour:
    """A model that answers in 1 to 5 s; a share of the calls fails after `shortest` to `longest` seconds."""

    def behave(at: float, worker: int, chance: random.Random) -> tuple[bool, float]:
        if chance.random() < rate:
            return False, chance.uniform(shortest, longest)
        return True, chance.uniform(1, 5)

    return behave


def hung_until(end: float, seconds: float) -> Behaviour:
    """A model that does not answer before `end` (s); calls are given `seconds`."""

    def behave(at: float, worker: int, chance: random.Random) -> tuple[bool, float]:
        return (True, chance.uniform(1, 5)) if at + seconds > end else (False, seconds)

    return behave


@pytest.mark.parametrize("slow", [False, True], ids=["errors", "time-outs"])
@pytest.mark.parametrize(
    ("rate", "cache", "most"),
    [(0.001, 5, 0.0), (0.001, 3600, 0.0), (0.01, 5, 0.002), (0.01, 3600, 0.02), (0.05, 0, 0.01), (0.05, 5, 0.02)],
)
def test_a_model_that_answers_most_calls_is_not_set_aside(rate: float, cache: float, most: float, slow: bool) -> None:
    tally = simulate(mostly_well(rate, *((20, 120) if slow else (0.1, 3))), workers=40, minutes=20, cache=cache)
    assert tally.failed >= 10
    assert tally.answered > 5_000
    assert tally.share <= most
    assert tally.writes < 6 * tally.failed


def test_one_worker_whose_calls_have_a_second_left_does_not_set_a_well_model_aside() -> None:
    def behave(at: float, worker: int, chance: random.Random) -> tuple[bool, float]:
        return (False, 1.0) if worker == 0 else (True, chance.uniform(1, 5))

    tally = simulate(behave, workers=20, minutes=20)
    assert tally.failed > 500
    assert tally.share < 0.005


@pytest.mark.parametrize(("workers", "seconds"), [(1, 5), (1, 120), (1, 295), (1, 895), (10, 120), (40, 295)])
def test_of_a_server_that_never_answers_only_the_first_calls_and_the_probes_wait(workers: int, seconds: float) -> None:
    tally = simulate(hung_until(float("inf"), seconds), workers=workers, minutes=120, call_seconds=seconds)
    assert tally.answered == 0
    # What was under way before it was known; then one at a time: after 30 s, 60, 120, 240, 480, 600, 600, …
    first = FAILURES if workers == 1 else workers
    assert tally.failed <= first + 5 + (120 * 60 - seconds) / (600 + seconds)
    probes = tally.failed_at[first:]
    assert all(after - before >= 30 + seconds for before, after in itertools.pairwise(probes))


@pytest.mark.parametrize("workers", [1, 10, 40])
def test_a_server_that_answers_again_is_back_with_the_next_probe(workers: int) -> None:
    tally = simulate(hung_until(600, 120), workers=workers, minutes=40)
    steps = tally.answered + tally.failed + tally.passed_over
    assert max(tally.failed_at) < 600 + LONGEST_MS / 1000
    assert tally.answered > 0.5 * steps
