"""A provider's quota of a minute makes a run slow, and does not fail it; a quota of a day is told at once."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from support.world import World

from loopllama.core import clock
from loopllama.errors import PATIENCE_SECONDS
from loopllama.providers.http import Reply

ITEMS = 24
A_MINUTE = 60_000


class Quota:
    """A provider that takes so many calls a minute, and says how long to wait where it is asked to."""

    def __init__(self, calls: int, says: bool = False) -> None:
        self._calls, self._says = calls, says
        self._taken: deque[int] = deque()
        self.served = self.refused = 0

    def __call__(self, body: dict[str, Any]) -> str | Reply:
        now = clock.now_ms()
        while self._taken and self._taken[0] <= now - A_MINUTE:
            self._taken.popleft()
        if len(self._taken) < self._calls:
            self._taken.append(now)
            self.served += 1
            return "fine"
        self.refused += 1
        headers = {"retry-after": f"{(self._taken[0] + A_MINUTE - now) / 1000:.3f}"} if self._says else {}
        return Reply(429, headers, b'{"error": {"message": "slow down"}}')


def ran(world: World, count: int = ITEMS, **agent: Any) -> dict[str, Any]:
    """Run a list of so many items; the run as the API shows it, with how long it took (`minutes`)."""
    crew = [{"name": "one", "forEach": "input.items", "prompt": "{{ item }}", **agent}]
    run_id = world.request(
        {"workflow": world.push(crew, name="List", model="house:one"), "input": {"items": [*range(count)]}}
    )
    world.finish(run_id)
    run = world.read(run_id)
    return {**run, "minutes": clock.ms_between(run["created_at"], run["finished_at"]) / A_MINUTE}


@pytest.mark.parametrize("says", [False, True])
def test_more_items_than_a_quota_of_a_minute_takes(world: World, says: bool) -> None:
    world.serve = quota = Quota(6, says)
    run = ran(world)
    assert run["status"] == "completed", run["error"]
    assert quota.served == ITEMS
    assert quota.refused < 2 * ITEMS, "what is turned away waits, and is few at a time"
    assert run["minutes"] < 2 * ITEMS / 6


def test_a_list_of_one_step_with_few_retries_waits_as_well(world: World) -> None:
    world.serve = Quota(6)
    assert ran(world, 12, retries=1)["status"] == "completed"


def test_who_wants_no_later_try_gets_none(world: World) -> None:
    world.serve = Quota(6)
    run = ran(world, 12, retries=0)
    assert run["status"] == "failed"
    assert "ModelThrottled" in run["error"]


def test_patience_ends(world: World) -> None:
    world.serve = quota = Quota(0)
    run = ran(world, 1)
    assert run["status"] == "failed"
    assert "slow down" in run["error"], run["error"]
    assert PATIENCE_SECONDS / 60 < run["minutes"] < PATIENCE_SECONDS / 60 + 15
    assert quota.refused < 120, "who has waited long comes back seldom"


def test_patience_is_new_for_each_call(world: World) -> None:
    """Half an hour for each of three steps is not an hour and a half for one."""
    quota = Quota(0)
    since = clock.now_ms()

    def serve(body: dict[str, Any]) -> str | Reply:
        nonlocal since
        if clock.now_ms() - since < 30 * A_MINUTE:
            return quota(body)
        since = clock.now_ms()
        return "fine"

    world.serve = serve
    crew = [{"name": name, "prompt": "x"} for name in ("one", "two", "three")]
    run_id = world.request({"workflow": world.push(crew, name="Line", model="house:one"), "input": "x"})
    world.finish(run_id)
    run = world.read(run_id)
    assert run["status"] == "completed", run["error"]


def test_a_quota_of_a_day_is_told_at_once(world: World) -> None:
    said = b'{"error": {"message": "Too many tokens per day, please wait before trying again."}}'
    world.serve = lambda body: Reply(429, {}, said)
    run = ran(world, 1)
    assert run["status"] == "failed"
    assert "per day" in run["error"]
    assert run["minutes"] < 1


def test_behind_a_quota_of_a_day_the_fallback_answers(world: World) -> None:
    def serve(body: dict[str, Any]) -> str | Reply:
        return "fine" if body["model"] == "two" else Reply(429, {}, b'{"error": {"message": "daily limit reached"}}')

    world.serve = serve
    run = ran(world, 3, model="house:one", fallbacks=["house:two"])
    assert run["status"] == "completed"
    assert run["minutes"] < 1
