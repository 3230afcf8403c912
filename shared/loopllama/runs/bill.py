"""What a run used and cost: its rows in the Usage table, and the sums on its own item."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from loopllama.aws import dynamo
from loopllama.llm.usage import TOTALS
from loopllama.runs import usage_periods
from loopllama.runs.step_ref import Work
from loopllama.runs.store import FINAL, RunStore
from loopllama.runs.totals import attempts_of, of_run

if TYPE_CHECKING:
    from loopllama.runs.records import Attempt, Run, StepRecord, Usage, UsageRow


def add_usage(store: RunStore, work: Work, record: StepRecord) -> None:
    """Write the usage of a step that has ended: a row for each of its calls. A row says what the call's entry says,
    so writing it again is harmless, and makes it right where the answer came late. A step is billable once, when
    it is completed: its last call counts it."""
    attempts = attempts_of(record)
    last = next((key for key in reversed(attempts) if attempts[key]["outcome"] == "ok"), None)
    rows: list[UsageRow] = [
        {
            "day_workflow": f"{attempt['started_at'][:10]}#{work.workflow_id}",
            "run_step_model": (
                usage_periods.prefix(attempt["started_at"], record)
                + f"{work.run_id}#{work.step}#{work.iteration}#{work.item}#{attempt['model']}#{key}"
            ),
            "run_id": work.run_id,
            "step": work.step,
            "model": attempt["model"],
            "steps": 1 if key == last and record["status"] == "completed" else 0,
            **_usage(attempt),
            "tags": record.get("tags"),
            "key": record.get("api_key"),
            "delete_at": _gone_at(store, attempt["started_at"]),
        }
        for key, attempt in attempts.items()
    ]
    dynamo.batch_put(store.dynamodb, store.usage_table, rows)
    # Afterwards, so that sums which are made between the two are made once more.
    usage_periods.mark_late(store.dynamodb, store.usage_table, rows)


def settle_totals(store: RunStore, run: Run, *, last: bool) -> None:
    """Sum an ended run again, some time after: calls that were under way when it was closed have been settled.
    `last`: all of them, so that the reconciler need not look again."""
    steps = [step for step in store.steps(run["run_id"]) if "step" in step]
    for step in steps:
        # Completed ones too: an invocation may have died for good between a step's record and its usage.
        add_usage(store, Work.of_item(run, step), step)
    sums = of_run(steps)
    store.change(run["run_id"], {**sums}, only_from=FINAL, remove=("active", "check_at") if last else ())


def _gone_at(store: RunStore, started_at: str) -> int:
    """Return when a row may go (epoch seconds): all of a day at one time, so that its sums are not made of a part."""
    day = datetime.fromisoformat(f"{started_at[:10]}T00:00:00+00:00")
    return int((day + timedelta(days=1 + store.usage_row_days)).timestamp())


def _usage(attempt: Attempt) -> Usage:
    return cast("Usage", {name: attempt.get(name) for name in TOTALS})
