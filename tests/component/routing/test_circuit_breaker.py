"""Models that keep failing are set aside for every process at once, and tried again by one probe."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.routing_tables import CONFIG, attempt_order, put, request

from loopllama.errors import (
    ContextTooLong,
    CredentialsRejected,
    InvalidModelResponse,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from loopllama.routing.circuit_breaker import (
    CLOSED,
    FIRST_MS,
    LONGEST_MS,
    PROBE_MS,
    WINDOW_MS,
    BreakerState,
    after_failure,
    parse_states,
)
from loopllama.routing.model_health import KEY
from loopllama.routing.router import Router

DOWN = ModelUnavailable("down")


def state_of(dynamodb, model="gpt-5"):
    from loopllama.aws import dynamo

    item = dynamodb.get_item(TableName="models", Key={"model": {"S": KEY}}).get("Item", {})
    dynamodb.taken()
    return parse_states(dynamo.from_item(item)).get(model, CLOSED)


# The rule


def test_three_failures_in_a_row_set_aside():
    state = CLOSED
    for at in (0, 20_000, 20_000 + WINDOW_MS):
        assert not state.is_open(at)
        state = after_failure(state, at)
    assert state.open_until == 20_000 + WINDOW_MS + FIRST_MS


def test_time_aside_doubles_with_each_failed_probe_up_to_a_limit_and_starts_anew_after_peace():
    state = BreakerState(failures=3, open_until=1_000, open_ms=FIRST_MS)
    lengths = []
    for _ in range(7):
        now = state.open_until + 1
        state = after_failure(state, now)
        lengths.append(state.open_until - now)
    assert lengths == [60_000, 120_000, 240_000, 480_000, 600_000, 600_000, 600_000]
    late = after_failure(state, state.open_until + LONGEST_MS + 1)
    assert late.open_ms == FIRST_MS


def test_a_late_failure_of_a_call_from_before_changes_nothing():
    state = BreakerState(failures=3, open_until=50_000, open_ms=FIRST_MS)
    assert after_failure(state, 49_999) == state


odd = st.none() | st.booleans() | st.integers() | st.decimals() | st.floats() | st.text(max_size=4) | st.binary()


@given(st.dictionaries(st.sampled_from(["m:a", "m:b", "model", "m:"]), odd | st.dictionaries(
    st.sampled_from(["failures", "last", "open_until", "open_ms", "probe_until"]), odd)))  # fmt: skip
def test_rubbish_in_the_item_is_no_state(item):
    for state in parse_states(item).values():
        assert state.until(10**12) <= 10**12 + 2 * LONGEST_MS
        assert after_failure(state, 10**12).open_until <= max(state.open_until, 10**12 + LONGEST_MS)


# Through the table


def test_all_processes_see_it_within_the_cache_time(dynamodb, clock):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", fallbacks=["gpt-5-mini"])
    here, there = (Router(CONFIG, dynamodb, clock) for _ in range(2))
    assert attempt_order(here.decide(request())) == attempt_order(there.decide(request())) == ["gpt-5", "gpt-5-mini"]
    for _ in range(3):
        here.circuit_breaker.failed("gpt-5", DOWN)
    # The process that saw it acts at once, the others when they read again.
    decided = here.decide(request())
    assert attempt_order(decided) == ["gpt-5-mini"]
    assert "its circuit breaker is open until 2027-01-15T08:00:30.000Z" in decided.ignored[0]["reason"]
    assert decided.invalid_overrides == 0
    clock.now += 5
    dynamodb.taken()
    assert attempt_order(there.decide(request())) == ["gpt-5-mini"]
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}
    assert attempt_order(there.decide(request())) == ["gpt-5-mini"]
    assert dynamodb.taken() == {}


def test_without_another_model_it_is_used_anyway(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    for _ in range(3):
        router.circuit_breaker.failed("gpt-5", DOWN)
    decided = router.decide(request(model="gpt-5"))
    assert (decided.source, attempt_order(decided)) == ("agent", ["gpt-5"])
    assert "circuit breaker is open" in decided.ignored[0]["reason"]


def test_one_invocation_probes_and_success_clears(dynamodb, clock):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", fallbacks=["gpt-5-mini"])
    routers = [Router(CONFIG, dynamodb, clock) for _ in range(4)]
    for _ in range(3):
        routers[0].circuit_breaker.failed("gpt-5", DOWN)
    clock.now += FIRST_MS / 1000
    firsts = [attempt_order(router.decide(request()))[0] for router in routers]
    assert sorted(firsts) == ["gpt-5", *["gpt-5-mini"] * 3]
    # The same process does not probe twice either.
    assert attempt_order(routers[firsts.index("gpt-5")].decide(request()))[0] == "gpt-5-mini"
    routers[firsts.index("gpt-5")].circuit_breaker.succeeded("gpt-5")
    assert state_of(dynamodb) == CLOSED
    clock.now += 5
    assert {attempt_order(router.decide(request()))[0] for router in routers} == {"gpt-5"}


def test_a_failed_probe_sets_aside_for_twice_as_long_and_a_dead_one_is_claimed_anew(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    row = request(model="gpt-5", fallbacks=["gpt-5-mini"])
    for _ in range(3):
        router.circuit_breaker.failed("gpt-5", DOWN)
    clock.now += 30
    assert attempt_order(router.decide(row))[0] == "gpt-5"
    router.circuit_breaker.failed("gpt-5", DOWN)
    assert state_of(dynamodb).open_until == int(clock.now * 1000) + 2 * FIRST_MS
    clock.now += 60
    assert attempt_order(router.decide(row))[0] == "gpt-5"
    clock.now += PROBE_MS / 1000 - 1
    assert attempt_order(Router(CONFIG, dynamodb, clock).decide(row))[0] == "gpt-5-mini"
    clock.now += 1
    assert attempt_order(Router(CONFIG, dynamodb, clock).decide(row))[0] == "gpt-5"


def test_a_fallback_whose_time_is_over_needs_no_probe(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    for _ in range(3):
        router.circuit_breaker.failed("gpt-5-mini", DOWN)
    clock.now += 30
    assert attempt_order(router.decide(request(model="gpt-5", fallbacks=["gpt-5-mini"]))) == ["gpt-5", "gpt-5-mini"]
    assert not state_of(dynamodb, "gpt-5-mini").probe_until


def test_what_does_not_speak_against_the_model_does_not_count(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    for error in (
        CredentialsRejected("no key"),
        ContextTooLong("too long"),
        InvalidModelResponse("empty"),
        ModelTimeout("no time was left for the call", against=False),
        ModelUnavailable("Secrets Manager does not answer", against=False),
    ):
        for _ in range(3):
            router.circuit_breaker.failed("gpt-5", error)
    assert dynamodb.taken() == {}


@pytest.mark.parametrize("seconds", [0.2, 3, 60, 895, None])
def test_what_does_counts_whatever_its_kind_and_length(dynamodb, clock, seconds):
    router = Router(CONFIG, dynamodb, clock)
    router.circuit_breaker.failed("gpt-5", ModelTimeout("late"), seconds=seconds)
    router.circuit_breaker.failed("gpt-5", ModelThrottled("slow down"), seconds=seconds)
    assert not state_of(dynamodb).open_until
    router.circuit_breaker.failed("gpt-5", InvalidModelResponse("no JSON", against=True), seconds=seconds)
    assert state_of(dynamodb).open_until


@pytest.mark.parametrize("seconds", [5, 120, 295])
def test_of_sequential_steps_on_a_server_that_never_answers_three_wait(dynamodb, clock, seconds):
    # Each in a process of its own, as Lambda may have it.
    waited = []
    for number in range(5):
        router = Router(CONFIG, dynamodb, clock)
        first = attempt_order(router.decide(request(model="gpt-5", fallbacks=["gpt-5-mini"])))[0]
        waited.append(first == "gpt-5")
        if waited[-1]:
            clock.now += seconds
            router.circuit_breaker.failed("gpt-5", ModelTimeout("no whole answer"), seconds)
        clock.now += 100 if number < 2 else 3  # the fallback answers, and the run's other steps
    assert waited == [True, True, True, False, False]


def test_a_step_that_goes_on_leaves_a_model_that_was_set_aside_in_the_meantime(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    kept = router.decide(request(model="gpt-5", fallbacks=["gpt-5-mini"])).to_record()
    alone = router.decide(request(model="gpt-5")).to_record()
    assert router.restore(kept) is not None
    for _ in range(3):
        router.circuit_breaker.failed("gpt-5", DOWN)
    assert router.restore(kept) is None
    assert attempt_order(cast("Any", router.restore(alone))) == ["gpt-5"], "there is no other"
    for _ in range(3):
        router.circuit_breaker.failed("gpt-5-mini", DOWN)
    assert attempt_order(cast("Any", router.restore(kept))) == ["gpt-5", "gpt-5-mini"]


def test_the_probe_is_claimed_for_as_long_as_its_call_may_take(dynamodb, clock):
    slow = replace(CONFIG, model_timeout_seconds=600.0)
    router, other = (Router(slow, dynamodb, clock) for _ in range(2))
    row = request(model="gpt-5", fallbacks=["gpt-5-mini"])
    for _ in range(3):
        router.circuit_breaker.failed("gpt-5", DOWN)
    clock.now += 30
    assert attempt_order(router.decide(row))[0] == "gpt-5"
    clock.now += 600
    assert attempt_order(other.decide(row))[0] == "gpt-5-mini"
    router.circuit_breaker.failed("gpt-5", ModelTimeout("no whole answer"), 600)
    assert state_of(dynamodb).open_ms == 2 * FIRST_MS


def test_who_only_looks_tells_nobody(dynamodb, clock):
    router, other = (Router(CONFIG, dynamodb, clock) for _ in range(2))
    router.decide(request(model="gpt-5"))
    other.circuit_breaker.failed("gpt-5", DOWN)
    clock.now += 1
    router.circuit_breaker.succeeded("gpt-5")  # knows of no failure
    clock.now += 5
    dynamodb.taken()
    router.look(request(model="gpt-5"))
    assert "update_item" not in dynamodb.taken()
    assert state_of(dynamodb).failures == 1
    router.decide(request(step="other", model="gpt-5"))
    assert state_of(dynamodb) == CLOSED


def test_success_costs_nothing_unless_the_model_was_failing(dynamodb, clock):
    router, other = (Router(CONFIG, dynamodb, clock) for _ in range(2))
    router.decide(request(model="gpt-5"))
    dynamodb.taken()
    router.circuit_breaker.succeeded("gpt-5")
    assert dynamodb.taken() == {}
    other.circuit_breaker.failed("gpt-5", DOWN)
    clock.now += 5
    router.decide(request(model="gpt-5"))
    dynamodb.taken()
    router.circuit_breaker.succeeded("gpt-5")
    assert dynamodb.taken() == {"update_item": 1}
    assert state_of(dynamodb) == CLOSED


def test_failures_of_many_processes_at_once_are_all_counted(dynamodb, clock):
    routers = [Router(CONFIG, dynamodb, clock) for _ in range(6)]
    threads = [threading.Thread(target=router.circuit_breaker.failed, args=("gpt-5", DOWN)) for router in routers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state_of(dynamodb).open_until == int(clock.now * 1000) + FIRST_MS


def test_items_of_machines_are_no_models(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    router.circuit_breaker.failed("gpt-5", DOWN)
    assert router._models.catalog(["gpt-5"], clock.now)[0].problems == ()
    put(dynamodb, "routes", workflow="w", step="writer", model=KEY)
    decided = Router(CONFIG, dynamodb, clock).decide(request())
    assert decided.source == "deployment-default"
    assert "no model" in decided.ignored[0]["reason"]
