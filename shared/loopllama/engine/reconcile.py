"""Mending runs whose execution and record disagree: an execution that ended without AdvanceRun, a start that was lost.

News of an execution's end is best effort, so a scheduled call also asks about runs that nobody has heard of for long.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from loopllama.aws import clients
from loopllama.core import clock
from loopllama.engine import executions, metrics
from loopllama.engine.accept import execution_arn, is_of_this_stack, start_execution
from loopllama.engine.human_input import redeliver
from loopllama.engine.retention import extend
from loopllama.errors import RunNotFound
from loopllama.runs import bill, waits
from loopllama.runs.store import ACTIVE_SHARDS, FINAL, STARTED_CHECK_SECONDS, RunStore, Watch, watched
from loopllama.runs.totals import of_run
from loopllama.settings import Settings
from loopllama.telemetry import logs

if TYPE_CHECKING:
    from loopllama.runs.records import RecordedError, Run

_HISTORY_FULL = "maximum number of history events"
"""What Step Functions says of an execution that it ended at 25,000 events."""
Outcome = Literal["checked", "started", "closed", "failed"]
_CHECKS: Mapping[Watch, int] = {"start": 12, "run": 8, "wait": 4}
"""Runs of a shard that one scheduled call looks at, of each list: DescribeExecution allows about 15 a second. A hundred
thousand runs that wait for people are looked at within 26 hours, and those that are to start do not wait for them."""
_STATUS: Mapping[str, Literal["failed", "cancelled"]] = {
    "FAILED": "failed",
    "TIMED_OUT": "failed",
    "ABORTED": "cancelled",
    "SUCCEEDED": "failed",
}
_OF_A_DELETED_STACK: Mapping[str, str] = {
    "status": "FAILED",
    "cause": "its stack was deleted, and this one has taken over its tables: replay the run",
}
"""An execution of another state machine, which went with it."""
_REASON = {
    "FAILED": "the execution failed",
    "TIMED_OUT": "the run exceeded the state machine's time limit",
    "ABORTED": "the execution was stopped",
    "SUCCEEDED": "the execution ended without completing the run",
}


def execution_ended(settings: Settings, detail: Mapping[str, Any]) -> None:
    """Close the run of an execution that ended, by the `detail` of Step Functions' status change event."""
    if detail.get("executionArn") and _execution(detail["executionArn"])["status"] not in _STATUS:
        return  # The news is old: somebody has redriven the execution since.
    store, run_id = RunStore(settings), _run_id(detail)
    try:
        run = store.run(run_id)
    except RunNotFound:
        return  # Started by hand with an input that StartRun refused: there is no record.
    if detail.get("executionArn") in (None, run.get("execution_arn") or execution_arn(settings, run_id)):
        _ended(store, run, detail["status"], detail.get("error"), detail.get("cause"))


def reconcile_due(settings: Settings) -> dict[Outcome, int]:
    """Look at the runs whose check is due; returns how many were looked at, started again, closed, and could not be
    looked at: one run's trouble must not keep the others waiting."""
    store = RunStore(settings)
    counts: dict[Outcome, int] = {"checked": 0, "started": 0, "closed": 0, "failed": 0}
    for watch, shard in itertools.product(_CHECKS, range(ACTIVE_SHARDS)):
        for run in store.due(watch, shard, clock.now_text(), _CHECKS[watch]):
            try:
                outcome: Outcome = reconcile_run(settings, store, run["run_id"])
            except Exception as error:
                log_fields = {"run_id": run["run_id"], "error": logs.safe_text(error)}
                logs.logger().error("a run could not be reconciled", extra=log_fields)
                outcome = "failed"
                # Behind the others, so that it does not fill the page for ever.
                with contextlib.suppress(Exception):
                    store.watch(run["run_id"], watch, STARTED_CHECK_SECONDS)
            counts[outcome] += 1
    return counts


def reconcile_run(settings: Settings, store: RunStore, run_id: str) -> Outcome:
    """Compare one run with its execution and fix it; `"started"`, `"closed"` or `"checked"` (nothing to fix)."""
    run = store.run(run_id)
    if run["status"] in FINAL:
        bill.settle_totals(store, run, last=True)
        return "checked"
    if (run["status"] == "queued" and start_execution(settings, run_id)) or executions.start_announced(run):
        store.change(run_id, watched(run_id, "start", STARTED_CHECK_SECONDS), only_from=(run["status"],))
        return "started"
    # A queued run comes here where its execution ended before StartRun could say that it runs.
    arn = run.get("execution_arn") or execution_arn(settings, run_id)
    execution = _execution(arn) if is_of_this_stack(settings, arn) else _OF_A_DELETED_STACK
    if execution["status"] in _STATUS:
        return _ended(store, run, execution["status"], execution.get("error"), execution.get("cause"))
    open_questions = [
        key for key, pending in (run.get("pending") or {}).items() if not redeliver(store, run_id, key, pending)
    ]
    extend(settings, store, run)
    later = store.waiting(run_id) if open_questions else watched(run_id, "run")
    # Who answers meanwhile has asked for a look within the minute, which must stay.
    store.change(run_id, later, only_from=(run["status"],), check_at=run.get("check_at"))
    return "checked"


def _execution(arn: str) -> dict[str, Any]:
    states = clients.client("stepfunctions")
    try:
        execution: dict[str, Any] = states.describe_execution(executionArn=arn)
    except states.exceptions.ExecutionDoesNotExist:
        return {"status": "FAILED", "cause": "the execution is gone: Step Functions keeps it for 90 days"}
    return execution


def _run_id(detail: Mapping[str, Any]) -> str:
    """Return which run an execution is of: its input says so, or it was started by hand and is its name."""
    try:
        request = json.loads(detail.get("input") or "{}")
    except ValueError:
        request = None
    named = request.get("run_id") if isinstance(request, dict) else None
    return named if isinstance(named, str) else str(detail["name"])


def _ended(store: RunStore, run: Run, status: str, error: str | None, cause: str | None) -> Outcome:
    """Make up for what the end of a run's current execution left undone."""
    if status == "FAILED" and _HISTORY_FULL in (cause or "") and run["status"] == "running":
        executions.hand_over(store, run)  # more invocations were repeated than AdvanceRun could know
        return "started"
    _close(store, run, status, error, cause)
    return "closed"


def _close(store: RunStore, run: Run, status: str, error: str | None, cause: str | None) -> None:
    """Close a run that its execution left unfinished; one that AdvanceRun closed stays as it is."""
    run_id = run["run_id"]
    if run["status"] in FINAL:
        return
    steps = store.steps(run_id)
    now = clock.now_text()
    unfinished = sorted(
        (step for step in steps if step.get("status") == "running"),
        key=lambda step: step.get("started_at", now),  # none where it was opened again and has not begun anew
    )
    sums, waited_ms = of_run(steps), waits.of_run(run, steps, now)
    because = f"{_REASON[status]}" + "".join(f": {text[:1000]}" for text in (error, cause) if text)
    failure: RecordedError = {
        "step": unfinished[0]["step"] if unfinished else None,
        "type": "ExecutionEnded",
        "message": because,
    }
    # An invocation may have died with the execution, between a step's record and its bill. A redrive opens the run
    # before the reconciler's last look at it, so the run has to remember that its bill may lack rows.
    closing: Run = {"error": failure, "crashed": True, "waited_ms": waited_ms, **sums}
    closed = store.close(run_id, _STATUS[status], closing)
    # A stopped run counts as little as one that is cancelled over the API: an alarm rings for those that failed.
    if closed and _STATUS[status] == "failed":
        metrics.run_ended(run, sums, completed=False, waited_ms=waited_ms)
