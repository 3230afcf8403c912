"""A run whose history does not fit into one execution goes on in another: nothing is lost, paid twice or left waiting.

Here an execution ends at so few events that a list of six needs more.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from support.asl.execution import MOST_EVENTS, Execution
from support.faults import Place
from support.people import answer_all
from support.world import World
from support.worlds import whole_world

from loopllama.core import clock
from loopllama.engine.cancel import cancel_run
from loopllama.engine.executions import _next_arn
from loopllama.engine.reconcile import execution_ended
from loopllama.providers.http import Reply

FEW = 260
WORDS = [f"word{number}" for number in range(6)]
LISTS = [
    {"name": name, "forEach": "input.words", "prompt": f"{name} {{{{ item }}}}"} for name in ("one", "two", "three")
]
CALLS = Counter(f"{step['name']} {word}" for step in LISTS for word in WORDS)
BUSY = Reply(429, {"retry-after": "7"}, b'{"error": {"message": "slow down"}}')
WRONG = Reply(400, {}, b'{"error": {"message": "no such thing"}}')


@pytest.fixture
def world() -> Iterator[World]:
    with whole_world(execution_events=FEW) as made:
        made.most_events = FEW
        yield made


def asked(body: dict[str, Any]) -> str:
    """What a model was asked."""
    return str(body["messages"][-1]["content"]).strip()


def began(world: World, crew: list[dict[str, Any]] = LISTS, name: str = "Lists") -> str:
    """Let an event ask for a run of a crew; its id."""
    workflow = world.push(crew, name=name, model="house:one")
    return world.request({"workflow": workflow, "input": {"words": WORDS}})


def answered(world: World, run_id: str) -> Counter[str]:
    """The answers that were paid, by step and item."""
    rows = [row for row in world.rows("RunsTable") if row["run_id"] == run_id and "item_index" in row]
    return Counter(
        f"{row['step']} {WORDS[int(row['item_index']) - 1]}"
        for row in rows
        for name, value in row.items()
        if name.startswith("attempt_") and value["outcome"] == "ok"
    )


def assert_whole(world: World, run_id: str, executions: int | None = None) -> list[Execution]:
    """The run is completed and paid once, nobody looks at it any more, and no execution came near its end."""
    run, stored = world.read(run_id), world.item(run_id, "RUN")
    assert run["status"] == "completed", run["error"]
    assert not {"active", "check_at", "pending", "starting"} & set(stored)
    found = world.executions_of(run_id)
    assert [one.name for one in found] == [run_id, *(f"{run_id}-{n}" for n in range(2, len(found) + 1))]
    assert all(one.events < FEW for one in found), [one.events for one in found]
    assert not [one.name for one in found if one.status == "RUNNING"]
    assert executions in (None, len(found))
    assert stored["execution_arn"] == found[-1].arn
    kinds = Counter(event["type"] for event in world.events(run_id))
    assert kinds["RunCompleted"] == 1
    return found


def test_three_lists_take_two_executions(world: World) -> None:
    run_id = began(world)
    world.finish(run_id)
    assert {one.status for one in assert_whole(world, run_id, executions=2)} == {"SUCCEEDED"}
    assert answered(world, run_id) == CALLS
    assert world.paid == CALLS.total()
    assert Counter(event["type"] for event in world.events(run_id))["RunStarted"] == 1


def test_what_fits_takes_one_execution(world: World) -> None:
    run_id = began(world, LISTS[:1])
    world.finish(run_id)
    assert_whole(world, run_id, executions=1)
    assert "executions" not in world.item(run_id, "RUN")


@pytest.mark.parametrize("times", [3, 5])
def test_items_that_are_put_off_wait_in_the_next_execution_too(world: World, times: int) -> None:
    turned_away: dict[str, list[int]] = {}

    def serve(body: dict[str, Any]) -> str | Reply:
        moments = turned_away.setdefault(asked(body), [])
        moments.append(clock.now_ms())
        return "fine" if len(moments) > times else BUSY

    world.serve = serve
    run_id = began(world, LISTS[:1])
    world.finish(run_id)
    assert len(assert_whole(world, run_id)) > 1
    assert {len(moments) for moments in turned_away.values()} == {times + 1}
    for moments in turned_away.values():
        gaps = [after - before for before, after in pairwise(moments)]
        assert min(gaps) >= 7_000, "as the provider said"


def test_lists_side_by_side_share_an_execution(world: World) -> None:
    """None of them would fit into its share: each begins with the items that do."""
    run_id = began(world, [{**step, "needs": []} for step in LISTS])
    world.finish(run_id)
    assert_whole(world, run_id)
    assert answered(world, run_id) == CALLS
    assert world.paid == CALLS.total()


def test_a_long_line_of_steps(world: World) -> None:
    names = [f"step{number}" for number in range(70)]
    run_id = began(world, [{"name": name, "prompt": name} for name in names])
    world.finish(run_id)
    assert len(assert_whole(world, run_id)) > 2
    assert world.paid == len(names)


def test_branches_that_do_not_fit_are_ready_in_the_next_execution(world: World) -> None:
    line = [{"name": f"step{number}", "prompt": "x"} for number in range(27)]
    wide = [{"name": f"wide{number}", "prompt": "x", "needs": ["step26"]} for number in range(3)]
    run_id = began(world, [*line, *wide, {"name": "last", "prompt": "x"}])
    world.finish(run_id)
    assert_whole(world, run_id, executions=2)
    assert world.paid == 31


def test_failures_that_are_tolerated_are_not_tried_again(world: World) -> None:
    seen: Counter[str] = Counter()

    def serve(body: dict[str, Any]) -> str | Reply:
        seen[asked(body)] += 1
        return WRONG if asked(body) in ("two word1", "two word3") else "fine"

    world.serve = serve
    run_id = began(world, [{**step, "maxFailures": 2} for step in LISTS])
    world.finish(run_id)
    assert_whole(world, run_id, executions=2)
    assert seen == CALLS


def test_people_are_asked_once(world: World) -> None:
    world.person = lambda run_id: answer_all(world.runs, run_id, {"approved": True})
    run_id = began(world, [{**step, "approval": True} for step in LISTS[:2]])
    world.finish(run_id)
    assert len(assert_whole(world, run_id)) > 1
    told = [event for event in world.events(run_id) if event["type"] == "RunWaiting"]
    assert len(told) == 2 * len(WORDS)
    assert world.paid == 2 * len(WORDS)


def test_cancelled_in_the_second_execution(world: World) -> None:
    run_id = began(world)

    def serve(body: dict[str, Any]) -> str:
        if asked(body) == "three word2":
            cancel_run(world.settings, run_id)
        return "fine"

    world.serve = serve
    world.finish(run_id)
    assert world.read(run_id)["status"] == "cancelled"
    assert [one.status for one in world.executions_of(run_id)] == ["SUCCEEDED", "ABORTED"]
    assert world.paid < CALLS.total()


@pytest.mark.parametrize("news", [True, False])
def test_failed_and_redriven_in_the_second_execution(world: World, news: bool) -> None:
    world.news = news
    broken = {"three word4"}
    world.serve = lambda body: WRONG if asked(body) in broken else "fine"
    run_id = began(world)
    world.finish(run_id)
    assert world.read(run_id)["status"] == "failed"
    broken.clear()
    world.redrive(run_id)
    assert_whole(world, run_id, executions=2)
    assert answered(world, run_id) == CALLS
    assert world.paid == CALLS.total()


@pytest.mark.parametrize("news", [True, False])
def test_an_execution_that_was_ended_for_its_history_is_followed_by_another(world: World, news: bool) -> None:
    """As where functions were invoked repeatedly, which nobody counts."""
    world.settings = replace(world.settings, execution_events=MOST_EVENTS)
    world.news = news
    run_id = began(world)
    world.finish(run_id)
    assert world.read(run_id)["status"] == "completed"
    found = world.executions_of(run_id)
    assert [one.status for one in found[:-1]] == ["FAILED"] * (len(found) - 1)
    assert len(found) > 1
    assert answered(world, run_id) == CALLS


def test_news_of_an_earlier_execution_closes_nothing(world: World) -> None:
    run_id = began(world)

    def serve(body: dict[str, Any]) -> str:
        if asked(body) == "three word1":
            first = world.executions_of(run_id)[0]
            first.status = "FAILED"
            told = {"executionArn": first.arn, "name": first.name, "status": "FAILED", "input": json.dumps(first.input)}
            execution_ended(world.settings, told)
            assert world.item(run_id, "RUN")["status"] == "running"
        return "fine"

    world.serve = serve
    world.finish(run_id)
    assert_whole(world, run_id, executions=2)


def test_news_of_the_next_execution_closes_its_run(world: World) -> None:
    run_id = began(world)

    def serve(body: dict[str, Any]) -> str:
        if asked(body) == "three word1":
            world.executions_of(run_id)[1].status = "TIMED_OUT"
        return "fine"

    world.serve = serve
    world.finish(run_id)
    assert "time limit" in world.read(run_id)["error"]


def places(world: World) -> list[tuple[Place, str]]:
    """Where AWS is called only because a run goes on in another execution, and how that may fail."""
    world.faults.arm(None)
    run_id = began(world, LISTS[:2])
    world.finish(run_id)
    assert_whole(world, run_id, executions=2)
    found = sorted(
        place
        for place in set(world.faults.places)
        if (place.function == "AdvanceRun" and "executions." in place.path)
        or (place.function == "StartRun" and place.path.endswith("store.steps"))
    )
    assert len(found) == 4, "the handover is written, read, started; what is done is read"
    return [(place, way) for place in found for way in place.ways]


def test_whatever_fails_there_is_one_next_execution(world: World) -> None:
    for number, (place, way) in enumerate(places(world)):
        world.forget()
        world.most_events = FEW
        world.faults.arm(place, way)
        run_id = began(world, LISTS[:2], name=f"Lists {number}")
        world.finish(run_id)
        for _ in range(2):
            if world.read(run_id)["status"] == "failed":
                assert "AwsRefused" in str(world.item(run_id, "RUN")["error"]) or way == "denied", (place, way)
                world.redrive(run_id)
        assert world.faults.happened, (place, way)
        assert_whole(world, run_id, executions=2)
        assert world.paid == 2 * len(WORDS), (place, way)


def test_advance_run_repeated_at_any_time_starts_no_third_execution(world: World) -> None:
    """Its answer was lost, and the state machine invokes it again, even when the next execution has ended."""
    run_id = began(world)
    advance = world.functions["AdvanceRun"]
    payloads: list[Any] = []

    def twice(payload: Any) -> Any:
        payloads.append(payload)
        advance(payload)
        return advance(payload)

    world.functions["AdvanceRun"] = twice
    world.finish(run_id)
    assert_whole(world, run_id, executions=2)
    assert advance(payloads[0])["outcome"] == "done"
    assert len(world.executions_of(run_id)) == 2


def test_a_run_started_by_hand(world: World) -> None:
    """Its execution has any name, perhaps a long one, perhaps one that ends in a number."""
    workflow = world.push(LISTS, name="Lists", model="house:one")
    name = "by-hand-" + "x" * 70 + "-2"
    assert len(name) == 80
    request = {"workflow": workflow, "input": {"words": WORDS}}
    world.executions[name] = world.execution(name, request, arn=world.arn(name), most_events=FEW)
    world.finish(name)
    assert world.read(name)["status"] == "completed"
    found = [*world.executions.values()]
    assert len(found) == 2
    assert len(found[1].name) <= 80
    assert found[1].input == {"contract": 2, "run_id": name}


@pytest.mark.parametrize("run_id", ["nightly", "nightly-2", "run_1-2", "x" * 80, "run_" + "x" * 76])
def test_names_of_executions_differ(run_id: str) -> None:
    others = ["nightly", "nightly-2", "nightly-2-2", "run_1", "run_1-2", "x" * 80, "x" * 79, "run_" + "x" * 76]
    arns = [_next_arn("arn:aws:states:r:1:execution:m:n", one, number) for one in others for number in (2, 3)]
    assert len(set(arns)) == len(arns)
    assert len(_next_arn("arn:aws:states:r:1:execution:m:n", run_id, 1_000).rpartition(":")[2]) <= 80


def test_an_execution_from_before_events_were_counted(world: World) -> None:
    """Its state machine hands no numbers on: nothing is set aside."""
    run_id = began(world)
    state = world.functions["StartRun"](
        {"request": {"contract": 1, "run_id": run_id}, "execution_arn": world.arn(run_id), "execution_name": run_id}
    )
    work = {name: state[name] for name in ("contract", "run_id", "workflow", "version")}
    forked = world.functions["RunStep"]({**work, **state["ready"][0], "depth": 0})
    assert (forked["outcome"], len(forked["ready"])) == ("fork", len(WORDS))
    more = world.functions["AdvanceRun"]({"contract": 1, "run_id": run_id, "round": 0, "ended": [], "retry": 0})
    assert (more["outcome"], len(more["ready"])) == ("more", 1)
