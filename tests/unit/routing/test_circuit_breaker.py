"""The circuit breaker's rule by itself: what is in a row, as cases and as a state machine."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.breaker import HUNG, START, Process, Table

from loopllama.aws import dynamo
from loopllama.routing.circuit_breaker import (
    CLOSED,
    FAILURES,
    FIRST_MS,
    FORGET_MS,
    LONGEST_MS,
    PROBE_MS,
    WINDOW_MS,
    BreakerState,
    after_failure,
    parse_states,
    probe_length,
)

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
