"""Cancelling a run: what is done stays recorded and paid, nothing more is begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopllama.aws import clients
from loopllama.core import clock
from loopllama.engine.accept import is_of_this_stack
from loopllama.errors import Conflict
from loopllama.runs import waits
from loopllama.runs.store import RunStore
from loopllama.runs.totals import of_run
from loopllama.settings import Settings

if TYPE_CHECKING:
    from loopllama.runs.records import RecordedError


def cancel_run(settings: Settings, run_id: str, by: str | None = None) -> None:
    """End a run as `cancelled`; harmless for one that is already. `by` is who asks, for the record. Raises
    `RunNotFound`, and `Conflict` for a run that has completed or failed."""
    store = RunStore(settings)
    run = store.run(run_id)
    if run["status"] not in ("completed", "failed", "cancelled"):
        # The record first: steps look at it before their next model call, so even an execution that cannot be
        # stopped ends by itself.
        steps = store.steps(run_id)
        sums, waited_ms = of_run(steps), waits.of_run(run, steps, clock.now_text())
        error: RecordedError = {"type": "Cancelled", "message": f"cancelled by {by}" if by else "cancelled"}
        store.close(run_id, "cancelled", {"error": error, "waited_ms": waited_ms, **sums})
        run = store.run(run_id)
    if run["status"] != "cancelled":
        raise Conflict(f"Run {run_id} has {run['status']} already; there is nothing to cancel.")
    if (arn := run.get("execution_arn")) and is_of_this_stack(settings, arn):
        _stop(arn)


def _stop(execution_arn: str) -> None:
    states = clients.client("stepfunctions")
    try:
        states.stop_execution(executionArn=execution_arn, error="Cancelled", cause="the run was cancelled")
    except states.exceptions.ExecutionDoesNotExist:
        return
