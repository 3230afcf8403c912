"""The events of runs: what the stream's filter lets through, for them and for figures of steps; what their schemas
say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from moto.events.models import EventPattern
from pydantic import TypeAdapter
from support.stream_records import TOTALS, moment, record, run_item, step_item
from template.project import template

from loopllama.api.event_models import Event
from loopllama.core import exact_json
from loopllama.events.derive import STEP_ENDED, TYPES, events_of
from loopllama.routing.step_figures import settled_calls

FILTERS = [
    EventPattern.load(one["Pattern"])
    for one in template()["Resources"]["RunChanges"]["Properties"]["FilterCriteria"]["Filters"]
]
STARTED = run_item("r", "running", started_at=moment(1), check_at=moment(9))
QUESTION = {"key": "start", "kind": "approval", "step": "a", "asked_at": moment(2), "expires_at": moment(50)}
ENDED = {"finished_at": moment(9), **TOTALS}
EXCEEDED = {"type": "BudgetExceeded", "message": "m", "step": "a"}
RUNNING = step_item("r", "a", "running")
METRICS_REPORTED = {
    "RunStarted": (run_item("r", "queued"), STARTED),
    "RunWaiting": (STARTED, {**STARTED, "pending": {"STEP#a#0#0": QUESTION}}),
    "QuestionExpiring": (
        {**STARTED, "pending": {"STEP#a#0#0": QUESTION}},
        {**STARTED, "pending": {"STEP#a#0#0": {**QUESTION, "expiring_since": QUESTION["expires_at"]}}},
    ),
    "StepCompleted": (RUNNING, {**RUNNING, "status": "completed", **ENDED}),
    "StepFailed": (RUNNING, {**RUNNING, "status": "failed", **ENDED, "error": EXCEEDED}),
    "RunCompleted": (STARTED, {**STARTED, "status": "completed", **ENDED, "cost_usd": None}),
    "RunFailed": (STARTED, {**STARTED, "status": "failed", **ENDED, "error": EXCEEDED}),
    "BudgetExceeded": (
        STARTED,
        {**STARTED, "status": "failed", **ENDED, "error": EXCEEDED, "budget": {"max_steps": 3}},
    ),
    "RunCancelled": (STARTED, {**STARTED, "status": "cancelled"}),
}
NOISE = [
    (None, run_item("r", "queued")),
    (None, RUNNING),
    (RUNNING, None),
    (None, step_item("r", "a", "skipped")),
    (None, {"run_id": "r", "item": "EVENT#00000001", "status": "completed"}),
    (None, {"run_id": "r", "item": "CLAIM#a#0#0", "status": "completed"}),
    (None, {"run_id": "r", "item": "BUDGET", "status": "completed"}),
]


CALL = {"model": "test:a", "outcome": "open"}
OPEN = {**RUNNING, "workflow_id": "support", "attempt_0002": CALL}


def passes(one: dict[str, Any]) -> bool:
    return any(pattern.matches_event(one) for pattern in FILTERS)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", TYPES)
def test_the_filter_lets_every_event_through(kind: str) -> None:
    change = record(*METRICS_REPORTED[kind])
    assert kind in [event.type for event in events_of(change)]
    assert passes(change)


@pytest.mark.parametrize(("old", "new"), NOISE)
def test_the_filter_keeps_out_what_can_be_no_event(old: dict[str, Any] | None, new: dict[str, Any] | None) -> None:
    change = record(old, new)
    assert events_of(change) == []
    assert not passes(change)


@pytest.mark.parametrize("outcome", ["ok", "ModelTimeout"])
def test_the_filter_lets_every_call_through_that_settles(outcome: str) -> None:
    change = record(OPEN, {**OPEN, "attempt_0002": {**CALL, "outcome": outcome, "latency_ms": 7}})
    assert [key for key, _, _ in settled_calls(change)] == ["observed#support#a"]
    assert events_of(change) == []
    assert passes(change)


def test_a_step_that_begins_is_not_handed_over() -> None:
    assert not passes(record(None, OPEN))


@pytest.mark.parametrize("kind", TYPES)
def test_events_follow_their_schema(kind: str) -> None:
    for event in events_of(record(*METRICS_REPORTED[kind])):
        workflow = {"workflow_id": "support", "workflow_version": 3}
        behind = {"late": True} if event.type in STEP_ENDED.values() else {}  # which `EventLog` adds
        shown = {"id": "1", "type": event.type, "at": event.at, "run_id": "r", **workflow, **behind, **event.detail}
        TypeAdapter(Event).validate_python(json.loads(exact_json.dumps(shown)), strict=True)
