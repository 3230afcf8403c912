"""The circuit breaker's rule by itself: what is in a row, as a state machine, and what it makes of many processes at
once, by a simulation with the product's own code in each of them."""

from __future__ import annotations

import copy
import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from loopllama.aws import dynamo
from loopllama.errors import ModelTimeout, ModelUnavailable
from loopllama.routing.circuit_breaker import (
    CLOSED,
    FAILURES,
    FIRST_MS,
    FORGET_MS,
    LONGEST_MS,
    PROBE_MS,
    WINDOW_MS,
    BreakerState,
    CircuitBreaker,
    after_failure,
    parse_states,
    probe_length,
)

START = 1_800_000_000.0
HUNG = ModelTimeout("no whole answer")


class Refused(Exception):
    """The condition did not hold."""

    def __init__(self, item: dict[str, Any]) -> None:
        super().__init__()
        self.response = {"Item": item}


class Table:
    """The one item, as DynamoDB keeps it: `aws.update`'s expressions, and nothing else."""

    class exceptions:  # noqa: N801 - botocore's name
        ConditionalCheckFailedException = Refused

    def __init__(self) -> None:
        self.item: dict[str, Any] = {}
        self.writes = 0

    def read(self) -> dict[str, Any]:
        return dynamo.from_item(copy.deepcopy(self.item))

    def update_item(self, **request: Any) -> dict[str, Any]:
        names, values = request["ExpressionAttributeNames"], request.get("ExpressionAttributeValues", {})
        self.writes += 1
        for part in request["ConditionExpression"].split(" AND "):
            if part.startswith("attribute_not_exists("):
                held = names[part[21:-1]] not in self.item
            elif part.startswith("attribute_type("):
                name, value = part[15:-1].split(", ")
                held = values[value]["S"] in self.item.get(names[name], {})
            else:
                name, value = part.split(" = ")
                held = self.item.get(names[name]) == values[value]
            if not held:
                raise Refused(copy.deepcopy(self.item))
        sets, _, removes = request["UpdateExpression"].partition("REMOVE ")
        for part in filter(None, sets.removeprefix("SET ").strip().split(", ")):
            name, value = part.split(" = ")
            self.item[names[name]] = values[value]
        for part in filter(None, removes.split(", ")):
            self.item.pop(names[part], None)
        return {"Attributes": {"model": {"S": "health#"}, **copy.deepcopy(self.item)}}


class Process:
    """A process with the product's `CircuitBreaker`: what it has read counts for `cache` seconds."""

    def __init__(self, table: Table, clock: Callable[[], float], cache: float, probe: int = PROBE_MS) -> None:
        self._table, self._clock, self._cache = table, clock, cache
        self._item: dict[str, Any] = {}
        self._until = 0.0
        self.circuit_breaker = CircuitBreaker("models", lambda: table, clock, lambda: self._item, self._keep, probe)

    def _keep(self, item: Any) -> None:
        self._item = dict(item)

    def uses(self, model: str) -> bool:
        """Whether a step here uses the model, which has a fallback: the router's decision."""
        now = int(self._clock() * 1000)
        if self._clock() >= self._until:
            self._item, self._until = self._table.read(), self._clock() + self._cache
        state = self.circuit_breaker.states(write=True).get(model, CLOSED)
        return not state.is_open(now) and (not state.due(now) or self.circuit_breaker.claim_probe(model))


# What is in a row


@pytest.mark.parametrize("seconds", [0.5, 5, 19, 60, 119, 120, 121, 295, 895])
@pytest.mark.parametrize("pause", [0, 1, 100, 600])
def test_calls_that_time_out_one_after_the_other_set_aside_whatever_their_length(seconds, pause):
    now, table = [START], Table()
    process = Process(table, lambda: now[0], 5)
    waited = 0
    for _ in range(5):
        if process.uses("m"):
            now[0] += seconds
            process.circuit_breaker.failed("m", HUNG, seconds)
            waited += 1
        now[0] += pause if waited < FAILURES else 0
    assert waited == FAILURES


def test_failures_without_a_link_between_them_are_not_in_a_row():
    state = CLOSED
    for run in range(10):
        state = after_failure(state, run * (WINDOW_MS + 1_000) + 10**12)
    assert state.failures == 1


def test_the_probes_call_may_take_as_long_as_calls_are_given():
    assert probe_length(5) == probe_length(120) == PROBE_MS
    assert probe_length(900) == 915_000


def test_doubling_goes_by_when_the_probe_began_not_by_how_long_it_took():
    state = BreakerState(failures=3, last=10**12, open_until=10**12 + FIRST_MS, open_ms=FIRST_MS)
    began = state.open_until + 1_000
    assert after_failure(state, began + 895_000, began).open_ms == 2 * FIRST_MS


def test_calls_from_before_it_was_set_aside_do_not_double_the_time():
    # Forty workers call a server that hangs; their calls end within two minutes, most of them after the time aside.
    now, state = 10**12, CLOSED
    for end in range(120_000, 240_000, 3_000):
        state = after_failure(state, now + end, now + end - 120_000)
    assert state.open_ms == FIRST_MS
    assert state.due(now + 240_000)


def test_moments_that_the_rule_would_not_write_set_nothing_aside():
    now = 10**12
    for state in (BreakerState(open_until=10**15, open_ms=10**15), BreakerState(failures=1, probe_until=10**15)):
        assert not state.is_open(now)
    rubbish = BreakerState(failures=10**15, last=10**15, open_until=10**15, open_ms=10**15, probe_until=10**15)
    assert rubbish.due(now)
    assert after_failure(rubbish, now, probing=True).open_until == now + FIRST_MS
    assert after_failure(BreakerState(failures=10**15, last=10**15), now) == BreakerState(1, now)


@pytest.mark.parametrize("value", [None, True, "x", 7, [], {}, {"failures": "many"}, {"failures": None}, b"x", {"a"}])
def test_rubbish_for_a_model_is_written_over(value):
    table = Table()
    table.item = {"m:m": dynamo.to_item({"x": value}).get("x", {"NULL": True})}
    process = Process(table, lambda: START, 5)
    for _ in range(FAILURES):
        assert process.uses("m")
        process.circuit_breaker.failed("m", HUNG, 1)
    assert not process.uses("m")


def test_models_that_nobody_has_used_for_a_day_leave_the_item():
    now, table = [START], Table()
    process = Process(table, lambda: now[0], 5)
    for name in "abc":
        process.circuit_breaker.failed(name, HUNG)
    table.item["m:rubbish"] = {"NULL": True}
    now[0] += FORGET_MS / 1000 + 1
    process.uses("d")
    process.circuit_breaker.failed("d", HUNG)
    assert set(parse_states(table.read())) == {"d"}
    assert set(table.item) == {"m:d"}


# A success counts, whoever had it


def test_a_success_that_its_process_did_not_tell_counts_when_it_reads_the_item_next():
    now, table = [START], Table()
    here, there = (Process(table, lambda: now[0], 5) for _ in range(2))
    assert there.uses("m")
    for _ in range(10):
        here.circuit_breaker.failed("m", HUNG, 1)
        now[0] += 1
        there.circuit_breaker.succeeded("m")  # it knows of no failure
        now[0] += 5
        assert there.uses("m")
        assert table.item == {}
        assert here.uses("m")


def test_a_success_that_its_process_did_not_tell_counts_when_it_fails_itself():
    now, table = [START], Table()
    processes = [Process(table, lambda: now[0], 3600) for _ in range(3)]
    for process in processes * 10:
        assert process.uses("m")
        now[0] += 1
        process.circuit_breaker.succeeded("m")
        now[0] += 1
        process.circuit_breaker.failed("m", HUNG, 1)
        assert parse_states(table.read())["m"].failures == 1


def test_only_who_may_write_tells():
    now, table = [START], Table()
    here, there = (Process(table, lambda: now[0], 0) for _ in range(2))
    here.circuit_breaker.failed("m", HUNG)
    now[0] += 1
    there.circuit_breaker.succeeded("m")
    there._item, writes = table.read(), table.writes
    assert there.circuit_breaker.states() == {}
    assert table.writes == writes
    assert there.circuit_breaker.states(write=True) == {}
    assert table.item == {}


# The rule as a state machine, against what it says in words

moments = st.integers(0, 20 * 60) | st.integers(0, 2)


class Rule(RuleBasedStateMachine):
    """One process that calls a model with a fallback. What the module's text says is kept beside it, in other words."""

    @initialize()
    def begin(self):
        self.now, self.table = START, Table()
        self.process = Process(self.table, lambda: self.now, 0)
        self.row: list[tuple[float, float]] = []  # begin and end of the failures since the last success
        self.ends = 0.0  # when the time aside is over
        self.length = 0.0

    @rule(seconds=moments)
    def nothing(self, seconds):
        self.now += seconds

    @rule(seconds=moments, success=st.booleans())
    def call(self, seconds, success):
        used = self.process.uses("m")
        assert used == (self.now >= self.ends)
        if not used:
            return
        began, self.now = self.now, self.now + min(seconds, 895)
        if success:
            self.process.circuit_breaker.succeeded("m")
            self.row, self.ends, self.length = [], 0.0, 0.0
            return
        self.process.circuit_breaker.failed("m", HUNG, self.now - began)
        if self.length:  # that was the probe
            early = began - self.ends <= LONGEST_MS / 1000
            self.length = min(2 * self.length, LONGEST_MS / 1000) if early else FIRST_MS / 1000
            self.ends = self.now + self.length
            return
        if self.row and began - self.row[-1][1] > WINDOW_MS / 1000:
            self.row = []
        self.row.append((began, self.now))
        if len(self.row) == FAILURES:
            self.length = FIRST_MS / 1000
            self.ends = self.now + self.length

    @rule()
    def look(self):
        writes = self.table.writes
        self.process.circuit_breaker.states()
        assert self.table.writes == writes

    @invariant()
    def nothing_is_kept_of_a_model_that_is_well(self):
        if hasattr(self, "table"):
            assert bool(self.table.item) == bool(self.row)


TestRule = Rule.TestCase
TestRule.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


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
