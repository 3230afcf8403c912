"""What runs tell: numbered events in the record, on the event bus and over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from support.follower import Follower
from support.provider_server import Hold, Status, Text
from support.stream_records import record
from support.system import System

from loopllama.api.auth import KeyStore
from loopllama.core import exact_json
from loopllama.engine.cancel import cancel_run
from loopllama.engine.human_input import respond
from loopllama.events.log import EventLog
from loopllama.events.types import ShownEvent
from loopllama.runs.store import RunStore

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def log(system: System) -> EventLog:
    return EventLog(system.settings)


@pytest.fixture(scope="module")
def http(system: System) -> Iterator[httpx.Client]:
    key, _ = KeyStore(system.settings).create("tests")
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=system.outputs["ApiUrl"], headers=headers, timeout=40) as client:
        yield client


def kinds(events: list[ShownEvent]) -> list[str]:
    return [event["type"] for event in events]


def told(system: System, log: EventLog, run_id: str) -> list[ShownEvent]:
    """All events of a run that has ended, once the last one is there."""
    found: list[ShownEvent] = []

    def complete() -> bool:
        nonlocal found
        found = log.after(run_id, 0, 5000)
        return bool(found) and found[-1]["type"] in ("RunCompleted", "RunFailed", "RunCancelled")

    system.until(complete)
    return found


def test_twenty_runs_at_once_tell_everything_in_order(system: System, log: EventLog) -> None:
    follower = Follower(system)
    names = ["a", "b", "c", "d"]
    needs = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    workflow = system.push("Telling", [{"name": name, "needs": needs[name]} for name in names])
    with ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(lambda _: system.start(workflow), range(20)))
    for run_id in ids:
        run = system.wait(run_id)
        events = told(system, log, run_id)
        assert [event["id"] for event in events] == [str(number) for number in range(1, 7)]
        assert kinds(events) == ["RunStarted", *["StepCompleted"] * 4, "RunCompleted"]
        steps = [event["step"] for event in events if event["type"] == "StepCompleted"]
        assert sorted(map(str, steps)) == names
        assert (steps[0], steps[-1]) == ("a", "d")
        assert {event["workflow_id"] for event in events} == {workflow}
        last = events[-1]
        assert (last["tokens_in"], last["tokens_out"]) == (run["tokens_in"], run["tokens_out"])
        assert last["cost_usd"] == run["cost_usd"] == sum(event["cost_usd"] for event in events[1:5])
        # What a rule's target gets is what the record holds.
        system.until(lambda: len(follower.of(run_id)) == 6)  # noqa: B023 - waited for here
        assert follower.of(run_id) == exact_json.loads(exact_json.dumps(events))
    lost = system.client("sqs").receive_message(QueueUrl=system.resources["LostEvents"])
    assert not lost.get("Messages")


def test_a_publisher_that_is_killed_again_and_again_loses_and_doubles_nothing(system: System, log: EventLog) -> None:
    follower = Follower(system)
    workflow = system.push("Killed", [{"name": name} for name in "abc"])
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.3):
            system.kill("PublishEvents")

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        ids = [system.start(workflow) for _ in range(8)]
        for run_id in ids:
            system.wait(run_id)
    finally:
        over.set()
        killer.join()
    for run_id in ids:
        events = told(system, log, run_id)
        assert kinds(events) == ["RunStarted", *["StepCompleted"] * 3, "RunCompleted"]
        assert [event["step"] for event in events[1:4]] == ["a", "b", "c"]
        assert [event["id"] for event in events] == ["1", "2", "3", "4", "5"]
        system.until(lambda: len(follower.of(run_id)) == 5)  # noqa: B023 - waited for here


@pytest.mark.aws
def test_a_change_that_comes_again_is_no_second_event(system: System, log: EventLog) -> None:
    run_id = system.run(system.push("Again", [{"name": "only"}]))["id"]
    events = told(system, log, run_id)
    run = system.item(run_id, "RUN")
    change = record({**run, "status": "running"}, run)
    assert system.invoke("PublishEvents", {"Records": [change]}) == {"batchItemFailures": []}
    assert log.after(run_id, 0, 100) == events


@pytest.mark.aws
def test_a_run_that_asks_a_person_says_so_and_a_cancelled_one_too(system: System, log: EventLog) -> None:
    workflow = system.push("Asking", [{"name": "a"}, {"name": "b", "approval": True}])
    answered, cancelled = system.start(workflow), system.start(workflow)
    for run_id in (answered, cancelled):
        system.until(lambda: system.read(run_id)["pending"])  # noqa: B023 - waited for here
        system.until(lambda: len(log.after(run_id, 0, 10)) == 3)  # noqa: B023
        asked = log.after(run_id, 2, 1)[0]
        assert (asked["type"], asked["step"], asked["kind"]) == ("RunWaiting", "b", "approval")
    respond(RunStore(system.settings), answered, {"approved": True})
    assert kinds(told(system, log, answered))[3:] == ["StepCompleted", "RunCompleted"]
    cancel_run(system.settings, cancelled)
    assert kinds(told(system, log, cancelled))[3:] == ["RunCancelled"]


def test_a_failed_run_tells_where_and_no_more(system: System, log: EventLog, provider: Callable[..., Any]) -> None:
    _, model = provider(lambda _: Status(400, "the prompt was: top secret"))
    workflow = system.push("Failing", [{"name": "only"}], model=model)
    run_id = system.run(workflow, "top secret")["id"]
    events = told(system, log, run_id)
    assert kinds(events) == ["RunStarted", "StepFailed", "RunFailed"]
    assert events[-1]["error"] == {"type": "ModelRequestRejected", "step": "only"}
    assert "top secret" not in exact_json.dumps(events)


@pytest.mark.aws
def test_pages(system: System, log: EventLog, http: httpx.Client) -> None:
    run_id = system.run(system.push("Paged", [{"name": "a"}, {"name": "b"}]))["id"]
    events = exact_json.loads(exact_json.dumps(told(system, log, run_id)))
    path = f"/v1/runs/{run_id}/events"
    whole = http.get(path)
    assert whole.status_code == 200
    assert exact_json.loads(whole.text) == {"data": events, "next_cursor": None}
    first = http.get(path, params={"limit": 2}).json()
    assert first["next_cursor"] == "2"
    rest = exact_json.loads(http.get(path, params={"after": first["next_cursor"]}).text)
    assert rest == {"data": events[2:], "next_cursor": None}
    assert http.get(path, params={"after": 4}).json() == {"data": [], "next_cursor": None}


def test_streams_resume_wait_and_end(
    system: System, log: EventLog, http: httpx.Client, provider: Callable[..., Any]
) -> None:
    held = Hold(Text("done"))
    _, model = provider(lambda _: held)
    run_id = system.start(system.push("Streamed", [{"name": "only"}], model=model))
    path = f"/v1/runs/{run_id}/events"
    first = http.get(path, headers=STREAM)
    assert first.headers["content-type"] == "text/event-stream"
    assert "\nid: 1\nevent: RunStarted\ndata: {" in first.text
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(http.get, path, headers={**STREAM, "Last-Event-ID": "1"})
        held.wait_entered()
        assert not waiting.done()
        held.release()
        assert "\nid: 2\nevent: StepCompleted\n" in waiting.result().text
    told(system, log, run_id)
    last = http.get(path, headers={**STREAM, "Last-Event-ID": "2"})
    (line,) = [line for line in last.text.splitlines() if line.startswith("data: ")]
    assert exact_json.loads(line.removeprefix("data: ")) == exact_json.loads(
        exact_json.dumps(log.after(run_id, 2, 1)[0])
    )
    over = http.get(path, headers={**STREAM, "Last-Event-ID": "3"})
    assert (over.status_code, over.text) == (204, "")


@pytest.mark.aws
def test_the_events_routes_refusals(system: System, http: httpx.Client) -> None:
    assert http.get("/v1/runs/nobody/events").status_code == 404
    assert http.get("/v1/runs/nobody/events", headers=STREAM).status_code == 404
    assert http.get(f"/v1/runs/{'x' * 3000}/events").status_code == 404
    for bad in ({"after": "x"}, {"after": "-1"}, {"after": "9" * 9}, {"limit": "0"}, {"limit": "many"}):
        answer = http.get("/v1/runs/nobody/events", params=bad)
        assert answer.status_code == 400, bad
        assert answer.json()["details"][0]["field"] == next(iter(bad))
    assert http.get("/v1/runs/nobody/events", headers={"Last-Event-ID": "abc"}).status_code == 400
    assert http.post("/v1/runs/nobody/events").status_code == 405
    assert httpx.get(f"{system.outputs['ApiUrl']}/v1/runs/nobody/events").json() == {"error": "Missing Bearer token"}
