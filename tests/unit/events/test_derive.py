"""Which events a change of the Runs table stands for."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from support.stream_records import SECRET, TOTALS, moment, record, run_item, step_item

from loopllama.core import exact_json
from loopllama.events.derive import TYPES, events_of
from loopllama.llm.usage import shown
from loopllama.runs.step_ref import question_id

STARTED = run_item("r", "running", started_at=moment(1), check_at=moment(900))
QUESTION = {
    "key": "start",
    "kind": "approval",
    "prompt": SECRET,
    "tool": "refund",
    "tool_input": SECRET,
    "asked_at": moment(5),
    "expires_at": moment(600),
    "step": "a",
}
FAILURE = {"type": "ModelRequestRejected", "message": SECRET}


def ended(status: str, **more: Any) -> dict[str, Any]:
    return {**STARTED, "status": status, "finished_at": moment(9), "output": SECRET, **TOTALS, **more}


def kinds(old: dict[str, Any] | None, new: dict[str, Any] | None) -> list[str]:
    return [event.type for event in events_of(record(old, new))]


CHANGES: list[tuple[dict[str, Any] | None, dict[str, Any] | None, list[str]]] = [
    (None, run_item("r", "queued"), []),
    (run_item("r", "queued"), STARTED, ["RunStarted"]),
    (STARTED, {**STARTED, "iteration_b": 1}, []),
    (STARTED, {**STARTED, "stopping": True}, []),
    (STARTED, {**STARTED, "pending": {"STEP#a#0#0": QUESTION}}, ["RunWaiting"]),
    (
        {**STARTED, "pending": {"STEP#a#0#0": QUESTION}},
        {**STARTED, "pending": {"STEP#a#0#0": {**QUESTION, "expiring_since": moment(480)}}},
        ["QuestionExpiring"],
    ),
    # Of a run that was redriven when most of the time was over.
    (
        STARTED,
        {**STARTED, "pending": {"STEP#a#0#0": {**QUESTION, "expiring_since": moment(480)}}},
        ["RunWaiting", "QuestionExpiring"],
    ),
    (
        {**STARTED, "pending": {"STEP#a#0#0": {**QUESTION, "expiring_since": moment(480)}}},
        {**STARTED, "pending": {"STEP#a#0#0": {**QUESTION, "key": "t1", "asked_at": moment(590)}}},
        ["RunWaiting"],
    ),
    (
        {**STARTED, "pending": {"STEP#a#0#0": {**QUESTION, "expiring_since": moment(480)}}},
        {**STARTED, "pending": {"STEP#a#0#0": {**QUESTION, "expiring_since": moment(480)}, "STEP#b#0#0": QUESTION}},
        ["RunWaiting"],
    ),
    ({**STARTED, "pending": {"STEP#a#0#0": QUESTION}}, STARTED, []),
    ({**STARTED, "pending": {"STEP#a#0#0": QUESTION}}, {**STARTED, "pending": {"STEP#a#0#0": QUESTION}, "x": 1}, []),
    (STARTED, ended("completed"), ["RunCompleted"]),
    (ended("completed"), ended("completed", input_tokens=900), []),
    (STARTED, ended("failed", error={**FAILURE, "step": "a"}), ["RunFailed"]),
    (STARTED, ended("failed", error={"type": "BudgetExceeded", "message": SECRET}), ["BudgetExceeded", "RunFailed"]),
    (STARTED, ended("cancelled"), ["RunCancelled"]),
    (run_item("r", "queued"), ended("cancelled"), ["RunCancelled"]),
    (ended("failed"), {**STARTED, "check_at": moment(950)}, ["RunStarted"]),
    (ended("completed"), None, []),
    (None, step_item("r", "a", "running"), []),
    (step_item("r", "a", "running"), step_item("r", "a", "running", tries=1), []),
    (
        step_item("r", "a", "running"),
        step_item("r", "a", "completed", finished_at=moment(2), **TOTALS),
        ["StepCompleted"],
    ),
    (
        step_item("r", "a", "running"),
        step_item("r", "a", "failed", finished_at=moment(2), error=FAILURE),
        ["StepFailed"],
    ),
    (step_item("r", "a", "completed"), step_item("r", "a", "completed", input_tokens=9), []),
    (step_item("r", "a", "failed"), step_item("r", "a", "running"), []),
    (None, step_item("r", "a", "skipped"), []),
    (None, step_item("r", "a", "completed", finished_at=moment(2), replayed_from="other"), []),
    (None, {"run_id": "r", "item": "CLAIM#a#0#0", "claimant": "x", "status": "completed"}, []),
    (None, {"run_id": "r", "item": "EVENT#00000001", "type": "RunStarted", "status": "completed"}, []),
    (None, {"run_id": "r", "item": "BUDGET", "status": "completed"}, []),
]


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES)
def test_a_change_stands_for_its_events(
    old: dict[str, Any] | None, new: dict[str, Any] | None, expected: list[str]
) -> None:
    assert kinds(old, new) == expected
    assert set(expected) <= set(TYPES)


def test_every_type_is_derived_from_something() -> None:
    assert {kind for _, _, expected in CHANGES for kind in expected} == set(TYPES)


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES)
def test_events_show_no_prompt_output_or_message(
    old: dict[str, Any] | None, new: dict[str, Any] | None, expected: list[str]
) -> None:
    told = [{**event.detail, "change": event.change, "at": event.at} for event in events_of(record(old, new))]
    assert SECRET not in exact_json.dumps(told)


@pytest.mark.parametrize(("old", "new", "expected"), CHANGES)
def test_the_same_change_gives_the_same_events(
    old: dict[str, Any] | None, new: dict[str, Any] | None, expected: list[str]
) -> None:
    one = record(old, new)
    again = json.loads(json.dumps(one))
    assert events_of(one) == events_of(again)
    # What a stream calls the change does not matter: a table that was restored has another stream.
    assert [event.change for event in events_of(one)] == [event.change for event in events_of(record(old, new))]


def test_what_a_completed_step_says() -> None:
    new = step_item(
        "r", "a", "completed", finished_at=moment(2), latency_ms=1000, model="test:base", source="step-override",
        item_index=4,
        iteration=2, **TOTALS,
    )  # fmt: skip
    (event,) = events_of(record(step_item("r", "a", "running"), new))
    assert event.detail == {
        "step": "a",
        "order": 0,
        "role": "Writer",
        "iteration": 2,
        "item": 4,
        "model": "test:base",
        "source": "step-override",
        "started_at": moment(1),
        "latency_ms": 1000,
        "waited_ms": 0,
        **shown(TOTALS),
        "error": None,
    }
    assert (event.run_id, event.at, event.delete_at) == ("r", moment(2), Decimal(1_800_000_000))


def test_what_a_completed_run_says() -> None:
    (event,) = events_of(record(STARTED, ended("completed")))
    assert event.detail == {
        "workflow_id": "support",
        "workflow_version": 3,
        "total_steps": 2,
        "tags": {"customer": "42"},
        "started_at": moment(1),
        "finished_at": moment(9),
        "latency_ms": 8000,
        "waited_ms": 0,
        "unsatisfied_loops": None,
        **shown(TOTALS),
        "error": None,
    }


def test_an_unpriced_run_costs_null() -> None:
    (event,) = events_of(record(STARTED, ended("completed", cost_usd=None, unpriced=True)))
    assert event.detail["cost_usd"] is None
    assert event.detail["unpriced"] is True


def test_a_failure_names_its_step_and_type() -> None:
    (event,) = events_of(record(STARTED, ended("failed", error={**FAILURE, "step": "a"})))
    assert event.detail["error"] == {"type": "ModelRequestRejected", "step": "a"}
    failed = step_item("r", "a", "failed", finished_at=moment(2), error=FAILURE)
    (event,) = events_of(record(step_item("r", "a", "running"), failed))
    assert event.detail["error"] == {"type": "ModelRequestRejected", "step": "a"}


def test_what_a_waiting_run_says() -> None:
    (event,) = events_of(record(STARTED, {**STARTED, "pending": {"STEP#a#1#3": QUESTION}}))
    assert event.detail == {
        "workflow_id": "support",
        "workflow_version": 3,
        "tags": {"customer": "42"},
        "question": question_id("STEP#a#1#3", "start"),
        "step": "a",
        "iteration": 1,
        "item": 3,
        "kind": "approval",
        "tool": "refund",
        "asked_at": moment(5),
        "expires_at": moment(600),
    }


def test_each_question_is_its_own_event() -> None:
    other = {**QUESTION, "key": "call_1", "asked_at": moment(4), "step": "b"}
    pending = {"STEP#a#0#0": QUESTION, "STEP#b#0#0": other}
    events = events_of(record(STARTED, {**STARTED, "pending": pending}))
    assert [event.detail["step"] for event in events] == ["b", "a"]
    asked_again = {**QUESTION, "key": "call_2", "asked_at": moment(8)}
    old, new = ({**STARTED, "pending": {"STEP#a#0#0": one}} for one in (QUESTION, asked_again))
    (event,) = events_of(record(old, new))
    assert event.change not in {one.change for one in events}


def test_a_run_that_fails_twice_has_two_failures() -> None:
    first, second = ended("failed"), ended("failed", finished_at=moment(30))
    changes = [events_of(record(STARTED, one))[0].change for one in (first, second)]
    assert len(set(changes)) == 2


def test_a_redriven_run_says_that_it_goes_on() -> None:
    (begun,) = events_of(record(run_item("r", "queued"), STARTED))
    (again,) = events_of(record(ended("failed"), {**STARTED, "check_at": moment(950)}))
    assert (begun.detail["resumed"], again.detail["resumed"]) == (False, True)
    assert begun.change != again.change


def test_a_run_closed_by_hand_is_told_too() -> None:
    (event,) = events_of(record(STARTED, {**STARTED, "status": "cancelled"}))
    assert event.at == "2026-11-24T06:00:00.000Z"  # when the table changed
