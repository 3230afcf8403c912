"""How an invocation leaves its step: ended, put off, waiting for a person, or in another invocation's hands.

Each way writes the step's item once, and says by its outcome what the chain does next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopllama.agent import loop
from loopllama.agent.tool_calls import Waiting
from loopllama.core import clock
from loopllama.engine import human_input, loops, metrics
from loopllama.engine.step_context import FINISHED, View
from loopllama.engine.transitions import ended, follow
from loopllama.errors import (
    LONGEST_WAIT_SECONDS,
    PATIENCE_SECONDS,
    ApprovalTimedOut,
    LeaseLost,
    LoopLlamaError,
    ModelBusy,
)
from loopllama.policies.registry import share_of
from loopllama.runs import bill, step_writer, waits
from loopllama.runs.attempt_log import StepLedger
from loopllama.runs.step_ref import Work
from loopllama.runs.step_writer import StepWriter
from loopllama.runs.store import RunStore
from loopllama.runs.totals import ATTEMPTS_BEFORE_RETRY, QUEUED_AT, THROTTLED_AT, attempts_of, totals
from loopllama.runs.value_store import ValueStore

if TYPE_CHECKING:
    from loopllama.runs.records import StepOutcome, StepRecord

RETRIES = 5
"""How often a step is tried later where the agent sets no `retries`."""
LONGEST_QUEUE_SECONDS = 60


class StepEnding:
    """Writes what becomes of steps. Each of its ways but `lost` raises `LeaseLost` where the step is another's."""

    def __init__(self, store: RunStore, values: ValueStore) -> None:
        self._store = store
        self._values = values

    def complete(
        self, view: View, writer: StepWriter, ledger: StepLedger, output: Any, model: str | None
    ) -> StepOutcome:
        """Complete the step with its agent's output; a loop's last step says whether there is another round."""
        sums, spent = ledger.closing()
        values: StepRecord = {
            "status": "completed",
            "output": self.stored(view, writer, output),
            "model": model,
            **sums,
            **loops.verdict(view, output),
        }
        return self.finish(view, writer, values, remove=spent)

    def finish(self, view: View, writer: StepWriter, values: StepRecord, remove: Sequence[Any] = ()) -> StepOutcome:
        """Write the end of the step, in one conditional write, and let the chain go on."""
        finished_at = clock.now_text()
        remove = [*remove, *(name for name in ("pending", "token") if name in writer.record)]
        writer.write({**values, **_times(writer.record, finished_at)}, release=True, remove=remove)
        view.records[view.work.step] = writer.record
        # At once: an invocation that makes up for what this one does not get done knows nothing of metrics.
        if attempts_of(writer.record):
            metrics.step_ended(view.work.workflow_id, view.work.run_id, writer.record)
        return self.go_on(view)

    def fail(self, view: View, writer: StepWriter, ledger: StepLedger, error: LoopLlamaError) -> StepOutcome:
        """Fail the step for what the error says."""
        work, finished_at, attempts = view.work, clock.now_text(), ledger.attempts
        writer.write(
            {
                "status": "failed",
                "error": {"type": type(error).__name__, "message": str(error)[:4000]},
                "model": list(attempts.values())[-1]["model"] if attempts else None,
                **_times(writer.record, finished_at),
                **totals(attempts.values()),
            },
            release=True,
        )
        metrics.step_ended(work.workflow_id, work.run_id, writer.record)
        return self.give_up(view, writer.record)

    def give_up(self, view: View, record: StepRecord) -> StepOutcome:
        """Write a failed step's usage, and a sign to its siblings, which look at it before their next model call. It is
        harmless where that was done. AdvanceRun decides what becomes of the run."""
        work = view.work
        bill.add_usage(self._store, work, record)
        if not work.item:
            self._store.change(work.run_id, {"stopping": True}, only_from=("running",))
            human_input.wake(self._store, work.run_id)
        elif not int(view.step.get("max_failures", 0)):
            step_writer.stop(self._store, work.run_id, work.parent.key)
            human_input.wake(self._store, work.run_id, work.step)
        return ended(work, "failed")

    def retry_later(self, view: View, writer: StepWriter, ledger: StepLedger, trouble: loop.RetryLater) -> StepOutcome:
        """Put the step off, or fail it where it has been put off as often as its agent says. To wait for a place among
        a model's calls, or for a provider's quota of a minute, is no failure and uses no retry. Where one waits for a
        place, fallbacks that have failed meanwhile do; when all retries are used, the wait goes on without them."""
        now, record = clock.now_ms(), writer.record
        retries = int(view.step.get("retries", RETRIES))
        throttled_at = int(record.get(THROTTLED_AT) or now)
        patient = not trouble.failed and retries > 0 and now - throttled_at < PATIENCE_SECONDS * 1000
        tries = int(record.get("tries", 0)) + (not patient)
        queues, spent = isinstance(trouble.error, ModelBusy), tries > retries
        if spent and not queues:
            return self.fail(view, writer, ledger, trouble.error)
        again: StepRecord = {"tries": tries, ATTEMPTS_BEFORE_RETRY: len(ledger.attempts)}
        if trouble.throttled:
            again[THROTTLED_AT] = throttled_at
        writer.write(again if (trouble.failed or trouble.throttled) and not spent else {}, release=True)
        # Up to half as much again: items of a list that a provider has turned away together do not come back together.
        spread = 1 + share_of(f"{view.work.run_id}/{view.work.key}") / 2
        asked = trouble.seconds or 0
        if queues or patient:
            # Who has waited long comes back seldom: each time costs transitions of the state machine.
            waited = (now - min(int(record.get(QUEUED_AT) or now), throttled_at)) / 1000
            seconds = max(asked, min(LONGEST_QUEUE_SECONDS, max(2 * (not asked), waited / 4) * spread))
        else:
            seconds = asked or 2 ** min(tries, 6) * spread
        return {**ended(view.work, "retry_later"), "seconds": min(LONGEST_WAIT_SECONDS, max(1, round(seconds)))}

    def wait(self, view: View, writer: StepWriter, ledger: StepLedger, question: Waiting) -> StepOutcome:
        """Let the step wait for a person, or fail it where nobody answered in time."""
        try:
            return human_input.wait(self._store, self._values, view.step, writer, question, view.run.get("reopened_at"))
        except ApprovalTimedOut as error:
            return self.fail(view, writer, ledger, error)

    def go_on(self, view: View) -> StepOutcome:
        """Write a finished step's usage, and let the chain go on. It is written here, so that the next invocation makes
        up for one that died before it could."""
        bill.add_usage(self._store, view.work, view.record)
        if view.work.item:
            return ended(view.work, "done")
        return follow(self._store, view)

    def lost(self, view: View, lost: LeaseLost) -> StepOutcome:
        """Leave the step to the invocation that has it, or go on where that has ended it. What this one paid is settled
        already."""
        record = self._store.items(view.work.run_id, [view.work.key]).get(view.work.key, {})
        view.records[view.work.step] = record
        if record.get("status") in FINISHED:
            return self.go_on(view)
        if record.get("status") == "failed":
            return ended(view.work, "failed")
        return later(view.work, lost.until)

    def stored(self, view: View, writer: StepWriter, output: Any) -> Any:
        """Store a step's output, in the bucket where it is large; returns what its item holds."""
        return self._values.store(view.work.run_id, f"{writer.path}/output", output)


def _times(record: StepRecord, finished_at: str) -> StepRecord:
    """Return when a step has ended and how long it took (ms): without what it waited for people, which is apart. A
    forEach step was told what its items waited together."""
    waited_ms = int(record.get("waited_ms") or 0) if "item_count" in record else waits.of_step(record, finished_at)
    took_ms = clock.ms_between(record["started_at"], finished_at)
    times: StepRecord = {"finished_at": finished_at, "latency_ms": max(0, took_ms - waited_ms)}
    return {**times, "waited_ms": waited_ms} if waited_ms else times


def later(work: Work, until_ms: int) -> StepOutcome:
    """Return the outcome that takes the step up again when `until_ms` has come."""
    seconds = max(1, -(-(until_ms - clock.now_ms()) // 1000))
    return {**ended(work, "retry_later"), "seconds": seconds}
