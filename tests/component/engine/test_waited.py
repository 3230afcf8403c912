"""Waiting for people is no latency: not of a step, a run, its metrics and its events; it is recorded apart."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.deployment import Deployment
from support.scripts import reject

from loopllama.engine import human_input
from loopllama.engine.cancel import cancel_run
from loopllama.errors import RunFailed
from loopllama.events.derive import events_of
from loopllama.queries.runs import RunReader

HOUR = 3600


def asked(live: Deployment, *crew: dict[str, Any]) -> tuple[str, Any, list[Any]]:
    """A run that has come to its question, and an hour that has passed since."""
    run_id = live.accept(live.push(list(crew)))
    state = live.start(run_id)
    works = live.map(state)
    for work in works:
        assert live.chain(work)["outcome"] == "waiting"
    live.wait(HOUR)
    return run_id, state, works


def test_an_hour_for_an_answer_is_no_latency(live: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    run_id, state, (work,) = asked(live, {"name": "pay", "approval": True})
    human_input.respond(live.runs, run_id, {"approved": True})
    capsys.readouterr()
    live.chain(work)
    live.advance(state)
    run = live.read(run_id)
    (step,) = run["steps"]
    listed: Any = RunReader(live.settings).list()[0][0]
    for part in (run, step, listed):
        assert part["latency_ms"] < 60_000 < HOUR * 1000 <= part["waited_ms"] < HOUR * 1000 + 60_000
    (wait,) = step["waits"]
    assert (wait["reason"], wait["until"] > wait["since"]) == ("person", True)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    latencies = {name: line[name] for line in told for name in ("StepLatency", "RunLatency") if name in line}
    assert len(latencies) == 2
    assert max(latencies.values()) < 60_000
    assert all(line["waited_ms"] >= HOUR * 1000 for line in told if {"StepLatency", "RunLatency"} & {*line})


def test_a_run_that_waits_says_for_how_long(live: Deployment) -> None:
    run_id, _, _ = asked(live, {"name": "pay", "approval": True})
    run = live.read(run_id)
    assert min(run["waited_ms"], run["steps"][0]["waited_ms"]) >= HOUR * 1000
    assert run["steps"][0]["waits"][0]["until"] is None
    assert RunReader(live.settings).list()[0][0]["waited_ms"] >= HOUR * 1000


def test_no_answer_is_waiting_too(live: Deployment) -> None:
    approval = {"start": True, "timeoutSeconds": HOUR - 60}
    run_id, state, (work,) = asked(live, {"name": "pay", "approval": approval})
    assert live.step(work)["outcome"] == "failed"
    with pytest.raises(RunFailed):
        live.advance(state)
    run = live.read(run_id)
    assert run["waited_ms"] == run["steps"][0]["waited_ms"] == (HOUR - 60) * 1000
    assert run["failure"] == {"type": "ApprovalTimedOut", "step": "pay", "message": run["failure"]["message"]}
    assert run["error"] == f"step 'pay': ApprovalTimedOut: {run['failure']['message']}"


def test_a_cancelled_run_has_waited(live: Deployment) -> None:
    run_id, _, _ = asked(live, {"name": "pay", "approval": True})
    cancel_run(live.settings, run_id)
    live.wait(HOUR)
    run = live.read(run_id)
    assert run["latency_ms"] < 60_000 < HOUR * 1000 <= run["waited_ms"] < 2 * HOUR * 1000


def test_a_list_waits_while_none_of_its_items_works(live: Deployment) -> None:
    each = {"name": "each", "forEach": "input.list", "approval": True}
    run_id = live.accept(live.push([each]), {"list": [1, 2]})
    (work,) = live.map(live.start(run_id))
    items = live.map(live.step(work), depth=1)
    assert [live.chain(item)["outcome"] for item in items] == ["waiting", "waiting"]
    live.wait(HOUR)
    for question in live.read(run_id)["questions"]:
        human_input.respond(live.runs, run_id, {"approved": True}, question=question["id"])
    ended = [live.chain(item) for item in items]
    live.step({**work, "ended": ended})
    each_step = next(step for step in live.read(run_id)["steps"] if (step["step"], step["item"]) == ("each", None))
    assert each_step["status"] == "completed"
    assert each_step["latency_ms"] < 60_000 < HOUR * 1000 <= each_step["waited_ms"] < HOUR * 1000 + 60_000


def test_events_tell_it_apart() -> None:
    from support.stream_records import moment, record, run_item, step_item

    running = run_item("r", "running", started_at=moment(0))
    (done,) = events_of(
        record(running, {**running, "status": "completed", "finished_at": moment(90), "waited_ms": 60_000})
    )
    assert (done.detail["latency_ms"], done.detail["waited_ms"]) == (30_000, 60_000)
    before, after = (step_item("r", "a", status, waited_ms=5) for status in ("running", "completed"))
    (step,) = events_of(record(before, {**after, "finished_at": moment(2)}))
    assert step.detail["waited_ms"] == 5


def test_no_step_takes_the_time_in_which_its_run_had_failed(live: Deployment) -> None:
    """Another step failed while it waited; an hour later the run is redriven, and it is asked anew."""
    crew = [{"name": "pay", "needs": [], "approval": True, "timeoutSeconds": 300}, {"name": "other", "needs": []}]
    run_id = live.accept(live.push(crew))
    state = live.start(run_id)
    pay, other = live.map(state)
    assert live.step(pay)["outcome"] == "waiting"
    live.provider.script = reject
    assert live.step(other)["outcome"] == "failed"
    with pytest.raises(RunFailed):
        live.advance(state)
    live.wait(HOUR)
    live.advance(state)
    assert live.step(pay)["outcome"] == "waiting"
    live.wait(HOUR)
    human_input.respond(live.runs, run_id, {"approved": True})
    live.provider.script = lambda call: "fine"
    assert live.step(pay)["outcome"] == "done", "an hour in which nothing ran is none of its 300 seconds"
    paid = next(step for step in live.read(run_id)["steps"] if step["step"] == "pay")
    assert paid["latency_ms"] < 60_000 < HOUR * 1000 <= paid["waited_ms"] < HOUR * 1000 + 60_000


def test_what_a_run_waited_before_it_failed_stays_when_it_is_redriven(live: Deployment) -> None:
    """Who declined is asked again, and the answer of before is forgotten; the hour is none of the run's latency."""
    run_id, state, (work,) = asked(live, {"name": "pay", "approval": {"start": True}})
    human_input.respond(live.runs, run_id, {"approved": False})
    assert live.step(work)["outcome"] == "failed"
    with pytest.raises(RunFailed):
        live.advance(state)
    live.advance(state)
    assert live.step(work)["outcome"] == "waiting"
    live.wait(HOUR)
    for waiting in (live.read(run_id), RunReader(live.settings).list()[0][0]):
        assert 2 * HOUR * 1000 <= waiting["waited_ms"] < 2 * HOUR * 1000 + 60_000
    human_input.respond(live.runs, run_id, {"approved": True})
    live.chain(work)
    live.advance(state)
    ended: list[Any] = [live.read(run_id), RunReader(live.settings).list()[0][0]]
    for run in ended:
        assert run["latency_ms"] < 60_000 < 2 * HOUR * 1000 <= run["waited_ms"] < 2 * HOUR * 1000 + 60_000


def test_a_redriven_list_has_not_waited_for_what_was_answered_before(live: Deployment) -> None:
    run_id = live.accept(live.push([{"name": "each", "forEach": "input.list", "approval": True}]), {"list": [1, 2]})
    state = live.start(run_id)
    (work,) = live.map(state)
    one, other = live.map(live.step(work), depth=1)
    assert [live.chain(one)["outcome"], live.chain(other)["outcome"]] == ["waiting", "waiting"]
    live.wait(HOUR)
    first, second = live.read(run_id)["questions"]
    human_input.respond(live.runs, run_id, {"approved": True}, question=first["id"])
    human_input.respond(live.runs, run_id, {"approved": False}, question=second["id"])
    ended = [live.chain(item) for item in (one, other)]
    assert live.step({**work, "ended": ended})["outcome"] == "failed"
    with pytest.raises(RunFailed):
        live.advance(state)
    live.advance(state)
    (again,) = live.map(live.step(work), depth=1)
    assert live.chain(again)["outcome"] == "waiting"
    human_input.respond(live.runs, run_id, {"approved": True})
    assert live.step({**work, "ended": [live.chain(again)]})["outcome"] == "done"
    live.advance(state)
    run = live.read(run_id)
    each = next(step for step in run["steps"] if (step["step"], step["item"]) == ("each", None))
    assert max(each["latency_ms"] or 0, each["waited_ms"]) < 60_000
    assert HOUR * 1000 <= run["waited_ms"] < HOUR * 1000 + 60_000
