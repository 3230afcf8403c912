"""The ways in which a run starts and stops: events, executions by hand, the reconciler."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from support.provider_server import Hold, Text
from support.system import System

from loopllama.aws import dynamo
from loopllama.engine.accept import run_id_of


@pytest.fixture(scope="module")
def workflow(system: System) -> str:
    return system.push("Started by events", [{"name": "first"}, {"name": "second"}])


def run_requested(detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "source": "loopllama",
        "detail-type": "RunRequested",
        "detail": detail,
    }


def runs_of(system: System, workflow: str) -> list[str]:
    from loopllama.queries.runs import RunReader

    return [run["id"] for run in RunReader(system.settings).list(workflow, 100)[0]]


@pytest.mark.aws
@pytest.mark.parametrize("run_input", [{"order": 7}, {"text": "x" * 40_000}], ids=["small", "through the bucket"])
def test_an_event_on_the_bus_starts_a_run(system: System, run_input: dict[str, Any]) -> None:
    workflow = system.push("Started from the bus", [{"name": "only"}])
    answer = system.client("events").put_events(
        Entries=[
            {
                "EventBusName": system.outputs["EventBusName"],
                "Source": "loopllama",
                "DetailType": "RunRequested",
                "Detail": json.dumps({"workflow": workflow, "input": run_input, "tags": {"by": "bus"}}),
            }
        ]
    )
    event_id = answer["Entries"][0]["EventId"]
    run = system.wait(run_id_of(f"event/{event_id}"))
    assert run["status"] == "completed", run["error"]
    assert run["input"] == run_input
    assert run["tags"] == {"by": "bus"}


def test_the_same_event_twice_makes_one_run(system: System, provider: Any) -> None:
    script, model = provider(lambda _: Text("once"))
    workflow = system.push("Started twice", [{"name": "only"}], model=model)
    event = run_requested({"workflow": workflow, "input": "hello"})
    first = system.invoke("AcceptRun", event)
    again = system.invoke("AcceptRun", event)
    run = system.wait(first["run_id"])
    after_the_end = system.invoke("AcceptRun", event)
    assert first == again == after_the_end
    assert run["status"] == "completed", run["error"]
    assert runs_of(system, workflow) == [first["run_id"]]
    assert len(script.requests) == 1
    assert system.item(first["run_id"], "RUN")["status"] == "completed"


@pytest.mark.aws
def test_another_event_makes_another_run(system: System, workflow: str) -> None:
    detail = {"workflow": workflow, "input": "hello"}
    ids = {system.invoke("AcceptRun", run_requested(detail))["run_id"] for _ in range(2)}
    assert len(ids) == 2
    assert {system.wait(run_id)["status"] for run_id in ids} == {"completed"}


@pytest.mark.aws
def test_an_execution_started_by_hand_is_a_run(system: System, workflow: str) -> None:
    name = f"by-hand-{uuid.uuid4().hex[:8]}"
    execution = system.start_by_hand(name, {"workflow": workflow, "input": "hello", "models": {"*": "sim:tenth"}})
    assert execution["status"] == "SUCCEEDED"
    run = system.wait(name)
    assert run["status"] == "completed", run["error"]
    assert run["input"] == "hello"
    assert {(step["model"], step["source"]) for step in run["steps"]} == {("sim:tenth", "run")}
    assert name in runs_of(system, workflow)


@pytest.fixture(scope="module")
def stopped(system: System, provider: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run whose execution was stopped in the second step's model call: as it was then, and once the answer came."""
    call = Hold(Text("too late", 1000, 100))
    replies = iter([Text("first"), call])
    script, model = provider(lambda _: next(replies))
    crew = [{"name": "first"}, {"name": "second"}, {"name": "third"}]
    run_id = system.start(system.push("Stopped", crew, model=model))
    call.wait_entered()
    system.client("stepfunctions").stop_execution(executionArn=system.execution_arn(run_id), cause="enough")
    run = system.wait(run_id)
    call.release()
    system.until(lambda: len(system.usage(run_id)) == 2)
    assert script.models() == ["one", "one"]
    return run, system.read(run_id)


def test_a_stopped_execution_cancels_the_run(system: System, stopped: tuple[dict[str, Any], dict[str, Any]]) -> None:
    run, _ = stopped
    assert run["status"] == "cancelled"
    assert "the execution was stopped: enough" in run["error"]
    assert run["cost_basis"] == "unknown"
    assert [step["status"] for step in run["steps"]] == ["completed", "running", "queued"]
    assert system.metric("RunsFailed", workflow=run["workflow_id"])[1] == 0, "somebody stopped it"


BOTH = Decimal("0.00045") + Decimal("0.0045")
"""100 and 10 tokens, then 1000 and 100, at 3 and 15 USD a million."""


def test_an_answer_after_that_is_billed_and_changes_nothing_else(
    system: System, stopped: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    _, late = stopped
    assert late["status"] == "cancelled"
    assert late["cost_usd"] == BOTH
    assert late["cost_basis"] == "measured"
    assert sum(row["cost_usd"] for row in system.usage(late["id"])) == BOTH


def test_an_answer_after_that_is_in_the_totals_that_lists_show_once_the_reconciler_has_summed_again(
    system: System, stopped: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    run_id = stopped[1]["id"]
    assert system.item(run_id, "RUN")["check_at"] > stopped[1]["finished_at"]
    system.client("dynamodb").update_item(
        TableName=system.settings.runs_table,
        Key=dynamo.to_item({"run_id": run_id, "item": "RUN"}),
        UpdateExpression="SET check_at = :now",
        ExpressionAttributeValues={":now": {"S": stopped[1]["finished_at"]}},
    )
    system.invoke("ReconcileRuns", {"detail-type": "Scheduled Event"})
    item = system.item(run_id, "RUN")
    assert item["cost_usd"] == BOTH
    assert "check_at" not in item


def test_a_queued_run_that_was_never_started_is_started_by_the_reconciler(
    system: System, workflow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopllama.engine.accept.start_execution", lambda *_: None)  # the caller died right here
    run_id = system.start(workflow)
    assert system.invoke("ReconcileRuns", {"detail-type": "Scheduled Event"})["started"] == 0  # it may be on its way
    assert system.item(run_id, "RUN")["status"] == "queued"
    system.update_run(run_id, {"check_at": "2020-01-01T00:00:00.000Z"})
    assert system.invoke("ReconcileRuns", {"detail-type": "Scheduled Event"})["started"] == 1
    assert system.wait(run_id)["status"] == "completed"


def test_a_run_whose_execution_ended_unheard_is_closed_by_the_reconciler(system: System, provider: Any) -> None:
    call = Hold(Text("late"))
    _, model = provider(lambda _: call)
    run_id = system.start(system.push("Unheard", [{"name": "only"}], model=model))
    call.wait_entered()
    rule = system.resources["ReconcileRunsExecutionEnded"]
    events = system.client("events")
    events.disable_rule(Name=rule)  # the news is lost
    try:
        system.client("stepfunctions").stop_execution(executionArn=system.execution_arn(run_id))
    finally:
        events.enable_rule(Name=rule)
    assert system.item(run_id, "RUN")["status"] == "running"
    system.update_run(run_id, {"check_at": "2020-01-01T00:00:00.000Z"})
    assert system.invoke("ReconcileRuns", {"detail-type": "Scheduled Event"})["closed"] == 1
    assert system.read(run_id)["status"] == "cancelled"
    call.release()
