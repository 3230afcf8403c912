"""Runs whose history does not fit into one execution, on a stack where one ends at few events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.system import PARAMETERS, ROOT, System

from loopllama.aws import clients
from loopllama_cli.local.handle import LocalStack

FEW = 260
LISTS = [{"name": name, "forEach": "input", "prompt": f"{name} {{{{ item }}}}"} for name in ("one", "two", "three")]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    lines: list[str] = []
    with (
        LocalStack(ROOT, PARAMETERS, log=lines.append, execution_events=FEW) as stack,
        pytest.MonkeyPatch.context() as patch,
    ):
        made = System(stack)
        patch.setattr(clients, "client", made.client)
        yield made


def executions(system: System, run_id: str) -> list[dict[str, Any]]:
    """The run's executions, oldest first, each with the number of its events."""
    states = system.client("stepfunctions")
    listed = states.list_executions(stateMachineArn=system.outputs["RunWorkflowArn"])["executions"]
    found = []
    for one in listed:
        execution = states.describe_execution(executionArn=one["executionArn"])
        if json.loads(execution["input"]).get("run_id") == run_id:
            pages = states.get_paginator("get_execution_history").paginate(executionArn=one["executionArn"])
            found.append({**execution, "events": sum(len(page["events"]) for page in pages)})
    return sorted(found, key=lambda execution: execution["startDate"])


def finished(system: System, name: str) -> str:
    run_id = system.start(system.push(name, LISTS), [f"word{number}" for number in range(6)])
    run = system.wait(run_id)
    assert run["status"] == "completed", run["error"]
    assert len([step for step in run["steps"] if step["attempts"]]) == 18
    return run_id


def test_a_run_goes_on_in_another_execution(system: System) -> None:
    with system.configured("StartRun", EXECUTION_EVENTS=str(FEW)):
        found = executions(system, run_id := finished(system, "Counted"))
    assert [(one["name"], one["status"]) for one in found] == [(run_id, "SUCCEEDED"), (f"{run_id}-2", "SUCCEEDED")]
    assert all(one["events"] < FEW for one in found)


def test_an_execution_ends_at_its_most_events_and_another_one_follows(system: System) -> None:
    """As where the functions do not know what the state machine counts."""
    found = executions(system, finished(system, "Uncounted"))
    assert len(found) > 1
    assert {one["status"] for one in found[:-1]} == {"FAILED"}
    assert (found[0]["error"], found[0]["events"]) == ("States.Runtime", FEW)
    assert found[0]["cause"] == f"The execution reached the maximum number of history events ({FEW})."
    assert found[-1]["status"] == "SUCCEEDED"
