"""Models that keep failing are set aside for every process at once, and tried again by one probe."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.routing_tables import CONFIG, Clock, chain, put, request, tables

from loopllama.errors import CredentialsRejected, ModelThrottled, ModelTimeout, ModelUnavailable
from loopllama.routing import Router
from loopllama.routing.health import (
    FIRST_MS,
    KEY,
    LONGEST_MS,
    PROBE_MS,
    WELL,
    WINDOW_MS,
    State,
    after_failure,
    parse_states,
)

DOWN = ModelUnavailable("down")


@pytest.fixture
def dynamodb(monkeypatch):
    yield from tables(monkeypatch)


@pytest.fixture
def clock():
    return Clock()


def state_of(dynamodb, model="gpt-5"):
    from loopllama import aws

    item = dynamodb.get_item(TableName="models", Key={"model": {"S": KEY}}).get("Item", {})
    dynamodb.taken()
    return parse_states(aws.from_item(item)).get(model, WELL)


# The rule


def test_three_failures_within_a_minute_set_aside():
    state = WELL
    for at in (0, 20_000, WINDOW_MS):
        assert not state.aside(at)
        state = after_failure(state, at)
    assert state.aside_until == WINDOW_MS + FIRST_MS


def test_failures_that_are_far_apart_do_not_count_together():
    state = WELL
    for at in range(0, 10 * WINDOW_MS, WINDOW_MS // 2 + 1):
        state = after_failure(state, at) if at % (WINDOW_MS + 2) == 0 else state
    assert not state.aside_until


def test_time_aside_doubles_with_each_failed_probe_up_to_a_limit_and_starts_anew_after_peace():
    state = State(failures=3, aside_until=1_000, aside_ms=FIRST_MS)
    lengths = []
    for _ in range(7):
        now = state.aside_until + 1
        state = after_failure(state, now)
        lengths.append(state.aside_until - now)
    assert lengths == [60_000, 120_000, 240_000, 480_000, 600_000, 600_000, 600_000]
    late = after_failure(state, state.aside_until + LONGEST_MS + 1)
    assert late.aside_ms == FIRST_MS


def test_a_late_failure_of_a_call_from_before_changes_nothing():
    state = State(failures=3, aside_until=50_000, aside_ms=FIRST_MS)
    assert after_failure(state, 49_999) == state


odd = st.none() | st.booleans() | st.integers() | st.decimals() | st.floats() | st.text(max_size=4) | st.binary()


@given(st.dictionaries(st.sampled_from(["m:a", "m:b", "model", "m:"]), odd | st.dictionaries(
    st.sampled_from(["failures", "since", "aside_until", "aside_ms", "probe_until"]), odd)))  # fmt: skip
def test_rubbish_in_the_item_is_no_state(item):
    for state in parse_states(item).values():
        assert after_failure(state, 10**12) is not None


# Through the table


def test_all_processes_see_it_within_the_cache_time(dynamodb, clock):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", fallbacks=["gpt-5-mini"])
    here, there = (Router(CONFIG, dynamodb, clock) for _ in range(2))
    assert chain(here.decide(request())) == chain(there.decide(request())) == ["gpt-5", "gpt-5-mini"]
    for _ in range(3):
        here.health.failed("gpt-5", DOWN)
    # The process that saw it acts at once, the others when they read again.
    decided = here.decide(request())
    assert chain(decided) == ["gpt-5-mini"]
    assert "set aside after failures until 2027-01-15T08:00:30.000Z" in decided.ignored[0]["reason"]
    assert decided.invalid_overrides == 0
    clock.now += 5
    dynamodb.taken()
    assert chain(there.decide(request())) == ["gpt-5-mini"]
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}
    assert chain(there.decide(request())) == ["gpt-5-mini"]
    assert dynamodb.taken() == {}


def test_without_another_model_it_is_used_anyway(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    for _ in range(3):
        router.health.failed("gpt-5", DOWN)
    decided = router.decide(request(model="gpt-5"))
    assert (decided.source, chain(decided)) == ("agent", ["gpt-5"])
    assert "set aside" in decided.ignored[0]["reason"]


def test_one_invocation_probes_and_success_clears(dynamodb, clock):
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5", fallbacks=["gpt-5-mini"])
    routers = [Router(CONFIG, dynamodb, clock) for _ in range(4)]
    for _ in range(3):
        routers[0].health.failed("gpt-5", DOWN)
    clock.now += FIRST_MS / 1000
    firsts = [chain(router.decide(request()))[0] for router in routers]
    assert sorted(firsts) == ["gpt-5", *["gpt-5-mini"] * 3]
    # The same process does not probe twice either.
    assert chain(routers[firsts.index("gpt-5")].decide(request()))[0] == "gpt-5-mini"
    routers[firsts.index("gpt-5")].health.succeeded("gpt-5")
    assert state_of(dynamodb) == WELL
    clock.now += 5
    assert {chain(router.decide(request()))[0] for router in routers} == {"gpt-5"}


def test_a_failed_probe_sets_aside_for_twice_as_long_and_a_dead_one_is_claimed_anew(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    row = request(model="gpt-5", fallbacks=["gpt-5-mini"])
    for _ in range(3):
        router.health.failed("gpt-5", DOWN)
    clock.now += 30
    assert chain(router.decide(row))[0] == "gpt-5"
    router.health.failed("gpt-5", DOWN)
    assert state_of(dynamodb).aside_until == int(clock.now * 1000) + 2 * FIRST_MS
    clock.now += 60
    assert chain(router.decide(row))[0] == "gpt-5"
    clock.now += PROBE_MS / 1000 - 1
    assert chain(Router(CONFIG, dynamodb, clock).decide(row))[0] == "gpt-5-mini"
    clock.now += 1
    assert chain(Router(CONFIG, dynamodb, clock).decide(row))[0] == "gpt-5"


def test_a_fallback_whose_time_is_over_needs_no_probe(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    for _ in range(3):
        router.health.failed("gpt-5-mini", DOWN)
    clock.now += 30
    assert chain(router.decide(request(model="gpt-5", fallbacks=["gpt-5-mini"]))) == ["gpt-5", "gpt-5-mini"]
    assert not state_of(dynamodb, "gpt-5-mini").probe_until


def test_what_does_not_speak_against_the_model_does_not_count(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    for _ in range(5):
        router.health.failed("gpt-5", CredentialsRejected("no key"))
        router.health.failed("gpt-5", ModelTimeout("late"), seconds=3)
    assert dynamodb.taken() == {}
    for _ in range(2):
        router.health.failed("gpt-5", ModelTimeout("late"), seconds=60)
    router.health.failed("gpt-5", ModelThrottled("slow down"))
    assert state_of(dynamodb).aside_until


def test_success_costs_nothing_unless_the_model_was_failing(dynamodb, clock):
    router, other = (Router(CONFIG, dynamodb, clock) for _ in range(2))
    router.decide(request(model="gpt-5"))
    dynamodb.taken()
    router.health.succeeded("gpt-5")
    assert dynamodb.taken() == {}
    other.health.failed("gpt-5", DOWN)
    clock.now += 5
    router.decide(request(model="gpt-5"))
    dynamodb.taken()
    router.health.succeeded("gpt-5")
    assert dynamodb.taken() == {"update_item": 1}
    assert state_of(dynamodb) == WELL


def test_failures_of_many_processes_at_once_are_all_counted(dynamodb, clock):
    routers = [Router(CONFIG, dynamodb, clock) for _ in range(6)]
    threads = [threading.Thread(target=router.health.failed, args=("gpt-5", DOWN)) for router in routers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state_of(dynamodb).aside_until == int(clock.now * 1000) + FIRST_MS


def test_items_of_machines_are_no_models(dynamodb, clock):
    router = Router(CONFIG, dynamodb, clock)
    router.health.failed("gpt-5", DOWN)
    assert router.catalog_for("w").problems == ()
    put(dynamodb, "routes", workflow="w", step="writer", model=KEY)
    decided = Router(CONFIG, dynamodb, clock).decide(request())
    assert decided.source == "deployment"
    assert "no model" in decided.ignored[0]["reason"]
