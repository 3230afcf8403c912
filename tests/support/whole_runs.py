"""What holds for every completed run, whatever happened on its way."""

from __future__ import annotations

from collections import Counter
from typing import Any

from loopllama.core import exact_json
from loopllama.events.log import EventLog
from loopllama.events.types import ShownEvent
from loopllama.llm.usage import shown
from loopllama.runs.step_ref import step_key
from support.system import System

SUMS = ("tokens_in", "tokens_out", "tokens_cached", "cost_usd")


def turns(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The run's steps in which an agent had its turn: without those that gather their items'."""
    return [step for step in run["steps"] if step["attempts"]]


def assert_whole(system: System, run: dict[str, Any], *, settled: bool = True) -> None:
    """The run is completed and closed, its steps are completed, and record, totals and bill say the same. Unless it is
    `settled`, because functions died in it, the reconciler may look at it once more."""
    assert run["status"] == "completed", (run["id"], run["error"])
    assert {step["status"] for step in run["steps"]} <= {"completed", "skipped"}
    assert system.wait_execution(run["id"])["status"] == "SUCCEEDED"
    stored = shown(system.item(run["id"], "RUN"))
    gone = {"pending", "stopping"} | ({"active", "check_at"} if settled else set())
    assert not gone.intersection(stored)
    assert not [name for name in system.item(run["id"], "BUDGET") if name.startswith("open_")]
    rows = [shown(row) for row in system.usage(run["id"])]
    attempts = [attempt for step in run["steps"] for attempt in step["attempts"]]
    assert len(rows) == len(attempts)
    for name in SUMS:
        told = [one.get(name) or 0 for one in attempts]
        assert run[name] == stored[name] == sum(told) == sum(row.get(name) or 0 for row in rows), (run["id"], name)
    billed = Counter()
    for row in rows:
        _hour, _run, step, iteration, item, *_ = row["run_step_model"].split("#")
        billed[step_key(step, int(iteration), int(item))] += int(row["steps"])
    assert billed == Counter(step["id"] for step in turns(run))


def events_of(system: System, log: EventLog, run_id: str) -> list[ShownEvent]:
    """All events of a completed run, once the last one is there."""
    found: list[ShownEvent] = []

    def complete() -> bool:
        nonlocal found
        found = log.after(run_id, 0, 5000)
        return bool(found) and found[-1]["type"] == "RunCompleted"

    system.until(complete)
    return found


def assert_told_in_order(run: dict[str, Any], events: list[ShownEvent], needs: dict[str, list[str]]) -> None:
    """The events have numbers without gaps; each step's completion is told once, after those of the steps it needs."""
    assert [event["id"] for event in events] == [str(number) for number in range(1, len(events) + 1)]
    kinds = Counter(event["type"] for event in events)
    completed = [event for event in events if event["type"] == "StepCompleted"]
    assert (events[0]["type"], events[-1]["type"]) == ("RunStarted", "RunCompleted")
    assert kinds["RunStarted"] == kinds["RunCompleted"] == 1
    assert len(completed) + kinds["RunWaiting"] + 2 == len(events)
    places = {step_key(str(e["step"]), e["iteration"], e["item"] or 0): n for n, e in enumerate(completed)}
    steps = [step for step in run["steps"] if step["status"] == "completed"]
    assert len(completed) == len(places)
    assert set(places) == {step["id"] for step in steps}
    first: dict[str, int] = {}
    for number, event in enumerate(completed):
        first.setdefault(str(event["step"]), number)
    for step, number in first.items():
        assert all(first[need] < number for need in needs.get(step, ())), (step, events)
    last = exact_json.loads(exact_json.dumps(events[-1]))
    assert all(last[name] == exact_json.loads(exact_json.dumps(run[name])) for name in SUMS)
