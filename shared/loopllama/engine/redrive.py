"""Redriving a failed run: its execution goes on with the state that failed, and AdvanceRun opens the run again.

Step Functions decides which executions can be redriven, and says why not (DescribeExecution's `redriveStatusReason`):
one that ended more than 14 days ago, or that has 24,999 events, cannot. It keeps the state machine's definition that
the execution began with. See
https://docs.aws.amazon.com/step-functions/latest/apireference/API_RedriveExecution.html
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients
from loopllama.engine.accept import execution_arn, is_of_this_stack
from loopllama.errors import Conflict, WorkflowNotFound
from loopllama.runs.store import RunStore
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.runs.records import Run

_GOING_ON = ("RUNNING", "PENDING_REDRIVE")


def redrive_run(settings: Settings, run_id: str) -> bool:
    """Let a failed run go on where it failed; what is done is not done or paid again. `False` where it goes on already.

    Two who ask at once redrive it once. Raises `RunNotFound`, and `Conflict` for a run that did not fail or whose
    execution cannot be redriven, with what to do instead. The run's status changes when AdvanceRun has opened it.
    """
    run = RunStore(settings).run(run_id)
    if run["status"] in ("queued", "running"):
        return False
    if run["status"] != "failed":
        raise Conflict(f"Run {run_id} is {run['status']}, not failed; {_instead(run_id)}")
    try:
        DefinitionStore(settings).get(run["workflow_id"], int(run["workflow_version"]))
    except WorkflowNotFound:
        message = f"Run {run_id} cannot go on: workflow '{run['workflow_id']}' was deleted. Push it and start another."
        raise Conflict(message) from None
    arn = run.get("execution_arn") or execution_arn(settings, run_id)
    if not is_of_this_stack(settings, arn):
        raise _refused(run_id, "its execution went with the stack that began it, whose tables this one has taken over")
    execution = _describe(arn, run_id)
    if execution["status"] in _GOING_ON:
        return _goes_on(run, execution)
    if execution.get("redriveStatus") == "NOT_REDRIVABLE":
        raise _refused(run_id, execution.get("redriveStatusReason"))
    states = clients.client("stepfunctions")
    # For 15 minutes a token means one redrive: this one's number.
    number = f"{arn}#{execution.get('redriveCount', 0)}"
    try:
        states.redrive_execution(executionArn=arn, clientToken=hashlib.sha256(number.encode()).hexdigest()[:64])
    except states.exceptions.ExecutionNotRedrivable as error:
        execution = _describe(arn, run_id)
        if execution["status"] in _GOING_ON:
            return False  # somebody was faster
        raise _refused(run_id, error.response["Error"].get("Message")) from error
    return True


def _describe(arn: str, run_id: str) -> dict[str, Any]:
    states = clients.client("stepfunctions")
    try:
        described: dict[str, Any] = states.describe_execution(executionArn=arn)
    except states.exceptions.ExecutionDoesNotExist as error:
        raise _refused(run_id, "Step Functions does not know its execution any more") from error
    return described


def _goes_on(run: Run, execution: dict[str, Any]) -> bool:
    """Return `False`; raises `Conflict` where the execution runs on because it has not ended yet with the failure that
    the record tells of."""
    redriven, failed_at = execution.get("redriveDate"), run.get("finished_at")
    if redriven is None or (failed_at and redriven < datetime.fromisoformat(failed_at)):
        raise Conflict(f"Run {run['run_id']} has failed, and its execution is about to end; try again in a moment.")
    return False


def _refused(run_id: str, reason: str | None) -> Conflict:
    because = f": {reason.strip().rstrip('.')}" if reason else ""
    return Conflict(f"Run {run_id} cannot be redriven{because}; {_instead(run_id)}")


def _instead(run_id: str) -> str:
    return (
        f"a replay does the rest of it in a new run: loopllama runs replay {run_id} --from-step STEP, or "
        f"POST /v1/runs/{run_id}/replay."
    )
