"""Calls of a model at once: places with an end, races, dead holders, and what throttling makes of the limit."""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.routing_tables import CONFIG, put, request

from loopllama.aws import dynamo
from loopllama.catalog.model import MAX_CALLS, Model
from loopllama.errors import ModelBusy
from loopllama.routing.call_slots import (
    FORGET_MS,
    HERE_SECONDS,
    MARGIN_MS,
    RAISE_MS,
    SLOTS,
    START,
    CallSlots,
    Learned,
    allowed,
    lowered,
)
from loopllama.routing.model_health import KEY, ModelHealth
from loopllama.routing.router import Router

NOW = 1_800_000_000_000
FREE = Model("free", "openai", "free")


def limited(calls: int) -> Model:
    return Model("one", "own", "one", max_concurrent_calls=calls)


class Process:
    """A process with slots of its own view of the table; it sleeps by moving the clock."""

    def __init__(self, dynamodb: Any, clock: Any) -> None:
        self.item: dict[str, Any] = {}
        self.slept = 0.0
        self.clock = clock
        health = ModelHealth("models", lambda: dynamodb, lambda: self.item, self.keep)
        self.slots = CallSlots(health, clock, self.sleep)

    def keep(self, item: Any) -> None:
        self.item = dict(item)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.clock.now += seconds


@pytest.fixture
def process(dynamodb, clock):
    return Process(dynamodb, clock)


def stored(dynamodb, key=SLOTS + "one"):
    item = dynamodb.get_item(TableName="models", Key={"model": {"S": key}}).get("Item", {})
    dynamodb.taken()
    return dynamo.from_item(item)


def test_a_model_without_a_limit_that_does_not_throttle_costs_nothing(dynamodb, process):
    assert process.slots.take(FREE, "a", 60, 60) is None
    process.slots.give_back(None)
    assert dynamodb.taken() == {}


def test_a_place_costs_one_write_and_one_to_give_it_back(dynamodb, process, clock):
    slot = process.slots.take(limited(1), "a", 60, 60)
    assert stored(dynamodb)["s0"] == {
        "by": "a",
        "since": int(clock.now * 1000),
        "until": int(clock.now * 1000) + 60_000 + MARGIN_MS,
    }
    process.slots.give_back(slot)
    assert dynamodb.taken() == {"update_item": 1}
    # What is left goes by itself, and its stream's filter knows it by that.
    assert stored(dynamodb) == {"model": SLOTS + "one", "delete_at": int(clock.now) + 3 * 24 * 3600}
    slot = process.slots.take(limited(1), "a", 60, 60)
    assert dynamodb.taken() == {"update_item": 1}


def test_an_entrys_limit_holds_for_all_its_efforts_and_tiers_together(dynamodb, process):
    process.slots.take(limited(1), "a", 600, 60)
    thoughtful = replace(limited(1), id="one@high@flex", effort="high", service_tier="flex")
    with pytest.raises(ModelBusy):
        process.slots.take(thoughtful, "b", 600, 0)


def test_without_a_limit_each_tier_is_throttled_by_itself(dynamodb, process):
    process.slots.throttled(replace(FREE, id="free@flex", service_tier="flex"), 1)
    assert process.slots.limit(FREE) is None
    assert process.slots.limit(replace(FREE, id="free@flex", service_tier="flex")) == START // 2


def test_who_comes_too_late_waits_a_little_here_and_then_comes_back(dynamodb, process, clock):
    process.slots.take(limited(1), "a", 600, 60)
    with pytest.raises(ModelBusy, match="one: 1 call is under way, as many as may be at once") as caught:
        process.slots.take(limited(1), "b", 600, 60)
    assert 0 < process.slept <= HERE_SECONDS
    assert caught.value.retry_after
    assert caught.value.later
    assert caught.value.next_model
    # The longer the oldest call takes, the longer the wait; no longer than half a minute and its spread.
    clock.now += 300
    slept = process.slept
    with pytest.raises(ModelBusy) as caught:
        process.slots.take(limited(1), "b", 600, 60)
    assert process.slept == slept
    assert 30 <= (caught.value.retry_after or 0) <= 45
    # Who has little time left waits no longer than that.
    clock.now -= 300
    with pytest.raises(ModelBusy):
        process.slots.take(limited(1), "b", 600, 0)
    assert process.slept == slept


def test_a_holder_that_died_keeps_its_place_until_its_call_must_be_over(dynamodb, process, clock):
    process.slots.take(limited(1), "dead", 60, 60)
    clock.now += 60 + MARGIN_MS / 1000
    with pytest.raises(ModelBusy):
        process.slots.take(limited(1), "b", 60, 0)
    clock.now += 0.001
    slot = process.slots.take(limited(1), "b", 60, 0)
    # The dead one's own step takes it up again at once, and what comes late of it takes nothing from anybody.
    assert process.slots.take(limited(1), "b", 60, 0) == slot
    with pytest.raises(ModelBusy):
        process.slots.take(limited(1), "dead", 60, 0)
    assert slot is not None
    process.slots.give_back(type(slot)("one", slot.name, "dead"))
    assert stored(dynamodb)[slot.name]["by"] == "b"


@pytest.mark.parametrize("calls", [1, 3])
def test_of_those_who_come_at_once_no_more_than_the_limit_get_a_place(dynamodb, clock, calls):
    start = threading.Barrier(12)
    taken: list[Any] = []
    busy: list[int] = []

    def come(number: int) -> None:
        process = Process(dynamodb, clock)
        start.wait()
        try:
            taken.append(process.slots.take(limited(calls), f"step-{number}", 60, 0))
        except ModelBusy:
            busy.append(number)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len({slot.name for slot in taken}), len(taken), len(busy)) == (calls, calls, 12 - calls)


@pytest.mark.parametrize(
    "value",
    [7, "x", None, {}, {"by": "x"}, {"by": "x", "until": "soon"}, {"by": "x", "until": 10**15}, [1]],
    ids=str,
)
def test_what_somebody_wrote_by_hand_blocks_nobody(dynamodb, process, value):
    put(dynamodb, "models", model=SLOTS + "one", s0=value)
    assert process.slots.take(limited(1), "a", 60, 0) is not None


def test_a_lowered_limit_waits_for_the_calls_that_are_under_way(dynamodb, process):
    for holder in "abc":
        process.slots.take(limited(3), holder, 60, 0)
    with pytest.raises(ModelBusy):
        process.slots.take(limited(1), "d", 60, 0)


# What throttling makes of it


def test_being_throttled_halves_the_limit_and_time_gives_it_back():
    limit, learned = None, None
    for expected in (8, 4, 2, 1):
        learned = lowered(None, learned, NOW, NOW)
        limit = allowed(None, learned, NOW)
        assert limit == expected
    assert [allowed(None, learned, NOW + n * RAISE_MS) for n in (1, 7, 14, 15, 10_000)] == [2, 8, 15, None, None]
    learned = lowered(100, None, NOW, NOW)
    assert allowed(100, learned, NOW) == 50
    assert [allowed(100, learned, NOW + n * RAISE_MS) for n in (1, 8, 9)] == [56, 98, 100]


@pytest.mark.parametrize(
    ("full", "asked", "pause"), [(None, 0, 5_000), (1, 0, 5_000), (16, 20_000, 20_000), (1, 900_000, RAISE_MS)]
)
def test_throttled_at_one_call_none_begins_for_a_while(full, asked, pause):
    learned = lowered(full, Learned(1, NOW - 1_000), NOW, NOW - 500, asked)
    assert learned == Learned(1, NOW + pause)
    assert [allowed(full, learned, NOW + at) for at in (0, pause - 1, pause)] == [0, 0, 1]
    assert lowered(full, learned, NOW + 10, NOW - 400) == learned, "what began before says nothing new"


def test_who_comes_in_the_pause_waits_until_it_is_over(process, clock):
    for _ in range(5):
        process.slots.throttled(FREE, 0, 12)
    with pytest.raises(ModelBusy, match="free: its provider throttles, so no call begins for 12 s") as caught:
        process.slots.take(FREE, "a", 60, 60)
    assert 12 <= (caught.value.retry_after or 0) <= 18
    assert process.slept == 0
    clock.now += 12
    assert process.slots.take(FREE, "a", 60, 60) is not None


def test_calls_side_by_side_lower_it_once():
    first = lowered(None, None, NOW, NOW - 500)
    assert lowered(None, first, NOW + 100, NOW - 400) == first
    assert lowered(None, first, NOW + 100, NOW + 50) == Learned(4, NOW + 100)


@given(full=st.none() | st.integers(1, MAX_CALLS), limit=st.integers(1, 10**15), at=st.integers(0, 10**15))
def test_no_limit_is_ever_below_one_or_above_the_entrys(full, limit, at):
    now = allowed(full, Learned(limit, at), NOW)
    assert now is None or (0 if NOW < at <= NOW + RAISE_MS else 1) <= now <= (full or START)


def test_all_processes_learn_it_and_then_queue(dynamodb, clock):
    put(dynamodb, "models", model="gpt-5", max_concurrent_calls=Decimal(2))
    router, other = Router(CONFIG, dynamodb, clock), Router(CONFIG, dynamodb, clock)
    routes = [one.decide(request(model="gpt-5")) for one in (router, other)]
    model, mini = routes[0].attempt_order[0], Model("gpt-5-mini", "openai", "gpt-5-mini")
    assert model.max_concurrent_calls == 2
    assert (router.call_slots.limit(model), router.call_slots.limit(mini)) == (2, None)
    dynamodb.taken()
    router.call_slots.throttled(model, 0.1)
    router.call_slots.throttled(mini, 0.1)
    assert dynamodb.taken() == {"update_item": 2}
    assert (router.call_slots.limit(model), router.call_slots.limit(mini)) == (1, 8)
    clock.now += 6
    other.decide(request(model="gpt-5"))
    assert (other.call_slots.limit(model), other.call_slots.limit(mini)) == (1, 8)
    # The breakers beside it in the item go on as ever.
    assert other.circuit_breaker.states() == {}
    clock.now += 15 * RAISE_MS / 1000
    dynamodb.taken()
    assert (other.call_slots.limit(model), other.call_slots.limit(mini)) == (2, None)
    assert other.call_slots.take(mini, "a", 60, 0) is None
    assert dynamodb.taken() == {}


@pytest.mark.parametrize("value", [7, "x", {}, {"limit": "x", "at": 1}, {"limit": 0, "at": NOW + 10**9}], ids=str)
def test_a_limit_that_somebody_wrote_by_hand_breaks_nothing(process, value):
    process.item = {"c:one": value}
    assert process.slots.limit(limited(5)) in (5, 1)


def test_what_throttled_once_is_forgotten_so_that_the_item_never_grows_full(dynamodb, process, clock):
    names = [f"openai:{number}-{'x' * 200}@high@flex" for number in range(150)]
    for name in names:
        process.slots.throttled(replace(FREE, id=name), 1)
        clock.now += 20
    kept = {name for name in stored(dynamodb, KEY) if name.startswith("c:")}
    assert f"c:{names[-1]}" in kept
    assert len(kept) <= FORGET_MS / 20_000 + 2
    # What somebody wrote by hand goes too; what counts, and what is a breaker's, stays.
    process.keep({})
    item = {"c:rubbish": "x", "c:ahead": {"limit": 1, "at": NOW * 2}, "m:one": {"failures": 2}}
    now = int(clock.now * 1000)
    item |= {"c:fresh": {"limit": 1, "at": now - FORGET_MS}, "c:old": {"limit": 1, "at": now - FORGET_MS - 1}}
    put(dynamodb, "models", model=KEY, **item)
    process.slots.throttled(FREE, 1)
    process.slots.throttled(replace(FREE, id="other"), 1)
    assert stored(dynamodb, KEY).keys() == {"model", "m:one", "c:fresh", "c:free", "c:other"}


@given(full=st.none() | st.integers(1, MAX_CALLS), limit=st.integers(1, MAX_CALLS))
def test_nothing_is_forgotten_that_counts(full, limit):
    assert allowed(full, Learned(limit, NOW - FORGET_MS), NOW) == full


def test_the_places_of_the_largest_limit_fit_one_item():
    """DynamoDB takes no item over 400 KB, names and values counted; numbers take at most a byte for each two digits and
    one more, maps and what is in them three and one (Developer Guide, "DynamoDB item sizes and formats")."""
    holder = "run_" + 24 * "0" + "/" + 150 * "x"
    place = len("s999") + 3 + len("by") + len(holder) + len("since") + len("until") + 2 * 8 + 3
    assert MAX_CALLS * place < 400 * 1024
