"""RedriveExecution, which moto does not have: an execution goes on with the state of its top level that failed.

Of a Map, AWS takes up again the iterations that failed; that is not modelled, and such an execution is refused.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.core.exceptions import AWSError
from moto.core.responses import ActionResult
from moto.stepfunctions.parser.api import ExecutionStatus, HistoryEventType
from moto.stepfunctions.parser.asl.component.common.flow.start_at import StartAt
from moto.stepfunctions.responses import StepFunctionResponse

from loopllama_cli.local.moto_patches.patching import replace

PERIOD = timedelta(days=14)
TOKENS = 10
"""Of a caller's, which mean a redrive that has been."""
_LOCK = threading.Lock()


class ExecutionNotRedrivable(AWSError):
    """The execution cannot be redriven, for the reason that is said."""

    TYPE = "ExecutionNotRedrivable"


class Redrives:
    """What became of one execution's redrives."""

    def __init__(self) -> None:
        self.count = 0
        self.at: datetime | None = None
        self.tokens: dict[str, datetime] = {}


def install(status_changed: Callable[[Any, str], None]) -> None:
    """Add RedriveExecution, and what DescribeExecution tells of it."""

    def redrive_execution(response: StepFunctionResponse) -> ActionResult:
        execution: Any = response.stepfunction_backend.describe_execution(response._get_param("executionArn"))
        token = response._get_param("clientToken")
        with _LOCK:
            redrives = _of(execution)
            if token in redrives.tokens:
                return ActionResult({"redriveDate": redrives.tokens[token]})
            if reason := why_not(execution):
                raise ExecutionNotRedrivable(reason)
            redrives.count += 1
            redrives.at = datetime.now(tz=UTC)
            if token:
                redrives.tokens[token] = redrives.at
                for old in list(redrives.tokens)[:-TOKENS]:
                    del redrives.tokens[old]
            _go_on(execution, redrives.count)
        status_changed(execution, "RUNNING")
        return ActionResult({"redriveDate": redrives.at})

    StepFunctionResponse.redrive_execution = redrive_execution  # type: ignore[attr-defined]

    def describe_execution(response: StepFunctionResponse) -> ActionResult:
        answer: ActionResult = describe(response)
        execution: Any = response.stepfunction_backend.describe_execution(response._get_param("executionArn"))
        reason, redrives = why_not(execution), _of(execution)
        told: Any = answer.result
        told["redriveCount"] = redrives.count
        told["redriveStatus"] = "NOT_REDRIVABLE" if reason else "REDRIVABLE"
        if redrives.at:
            told["redriveDate"] = redrives.at
        if reason:
            told["redriveStatusReason"] = reason
        return answer

    describe = replace(StepFunctionResponse, "describe_execution", describe_execution)


def why_not(execution: Any) -> str:
    """Return why an execution cannot be redriven, in AWS's words where it would say so; empty where it can."""
    if execution.exec_status in (ExecutionStatus.RUNNING, ExecutionStatus.SUCCEEDED):
        return f"Execution is {execution.status} and cannot be redriven"
    if "maximum number of history events" in (execution.cause or ""):
        return "Execution history event limit exceeded"
    if execution.stop_date and datetime.now(tz=UTC) - execution.stop_date > PERIOD:
        return "Execution redrivable period exceeded"
    state = _states(execution).get(_failed_in(execution).get("name", ""), {})
    if state.get("Type") != "Task":
        return "the local stack redrives no execution that ended in another state than a task of its top level"
    return ""


def _go_on(execution: Any, count: int) -> None:
    """Begin again with the state that failed: its input, the history so far, and no try of it counted."""
    entered, before = _failed_in(execution), execution.exec_worker.env.event_manager
    worker = execution._get_start_execution_worker()
    program, environment = worker._get_evaluation_entrypoint, worker._get_evaluation_environment

    def begin_there() -> Any:
        made = program()
        made.start_at = StartAt(entered["name"])
        return made

    def environment_so_far() -> Any:
        made = environment()
        made.states.reset(json.loads(entered["input"]))
        manager = made.event_manager
        manager._history_event_list = before._history_event_list
        manager._event_id_gen = before._event_id_gen

        def first_event(context: Any, event_type: Any, event_details: Any = None, **how: Any) -> int:
            del manager.add_event, event_type, event_details
            details = {"executionRedrivenEventDetails": {"redriveCount": count}}
            return int(manager.add_event(context, HistoryEventType.ExecutionRedriven, details, **how))

        manager.add_event = first_event
        return made

    worker._get_evaluation_entrypoint, worker._get_evaluation_environment = begin_there, environment_so_far
    execution.exec_status = ExecutionStatus.RUNNING
    execution.stop_date = execution.error = execution.cause = None
    execution.exec_worker = worker
    worker.start()


def _failed_in(execution: Any) -> Mapping[str, Any]:
    """Return how an execution entered the state of the top level that it was in when it ended; empty where it had
    entered none. Names of states are unique in a state machine."""
    environment = execution.exec_worker.env if execution.exec_worker else None
    events, top = environment.event_manager._history_event_list if environment else [], _states(execution)
    entered = (event.get("stateEnteredEventDetails", {}) for event in reversed(events))
    return next((details for details in entered if details.get("name") in top), {})


def _states(execution: Any) -> dict[str, Any]:
    states: dict[str, Any] = json.loads(execution.state_machine.definition)["States"]
    return states


def _of(execution: Any) -> Redrives:
    if not hasattr(execution, "redrives"):
        execution.redrives = Redrives()
    redrives: Redrives = execution.redrives
    return redrives
