"""The writes of steps' items: those of the invocation that has a step's lease, and the few that need none.

A lease is part of each write of `StepWriter`. The functions below it are for whoever looks after a step from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from loopllama.aws import dynamo
from loopllama.core import clock
from loopllama.errors import ApprovalDeclined, LeaseLost
from loopllama.runs import bill
from loopllama.runs.step_ref import Work
from loopllama.runs.store import ANSWER, START, UNANSWERED, RunStore
from loopllama.runs.totals import (
    ATTEMPT,
    ATTEMPTS_BEFORE_RETRY,
    FIRST_TURN,
    METRICS_REPORTED,
    QUEUED_AT,
    THROTTLED_AT,
    TURNS,
    attempts_of,
)

if TYPE_CHECKING:
    from loopllama.runs.records import Attempt, Number, Run, StepRecord, ToolCallRecord

CRASH_COUNT: Final = "crash_count"
"""The step's attribute that counts the invocations which have died with its lease, one after the other."""


class StepWriter:
    """Writes one step's item for one invocation.

    The lease is part of every write: the first one takes it, later ones keep it, until the invocation's deadline. Who
    lost it may still settle what was paid, and nothing else. It is taken only from who had it when the record was read:
    of two invocations that read the same record, the second would write over what the first has done meanwhile.
    """

    def __init__(self, store: RunStore, work: Work, record: StepRecord, owner: str, lease_until_ms: int) -> None:
        self._store = store
        self._owner = owner
        self._until = lease_until_ms
        self._pending: StepRecord = {}
        self._gone: set[str] = set()
        self.work = work
        self._holder = record.get("lease_owner")
        self.record: StepRecord = {**record}
        """The item as last seen."""

    @property
    def path(self) -> str:
        """The step's name, iteration and item, as a path for its large values."""
        return f"{self.work.step}/{self.work.iteration}/{self.work.item}"

    def decide(self, values: StepRecord) -> None:
        """Attributes that shall go with the next write; `None` takes away what was decided before."""
        self._gone |= {name for name, value in values.items() if value is None and self.record.get(name) is not None}
        self._pending |= values
        self.record |= values

    def write(self, values: StepRecord, *, release: bool = False, remove: Sequence[str | tuple[str, ...]] = ()) -> None:
        """Write attributes while holding the lease. Raises `LeaseLost` when another invocation holds it or the step
        has ended. An invocation that lets go of the lease has not died."""
        if release:
            self.decide({CRASH_COUNT: None})
        values = {"status": "running", **self._pending, **values}
        if self.record.get("workflow_id") is None:
            # For the consumer of the table's stream: it sees the step's item and not the run's.
            values |= {"workflow_id": self.work.workflow_id, "usage_by_hour": True}
        values |= {"lease_owner": self._owner, "lease_until": 0 if release else self._until}
        remove = [*remove, *(name for name in sorted(self._gone) if values.get(name) is None)]
        running = values["status"] == "running"
        parameters: dict[str, Any] = {":owner": self._owner, ":running": "running"}
        free = "attribute_not_exists(lease_owner)"
        if self._holder is not None:
            free = "(lease_owner = :holder AND lease_until < :now)"
            parameters |= {":holder": self._holder, ":now": clock.now_ms()}
        done, item = dynamo.update(
            self._store.dynamodb,
            self._store.table,
            self._key,
            values,
            remove=remove,
            condition=(f"(lease_owner = :owner OR {free}) AND (attribute_not_exists(#status) OR #status = :running)"),
            names={"#status": "status"},
            parameters=parameters,
            # The end of a step must know of every call that was settled, late ones by other invocations too.
            returning=() if running and not remove else None,
        )
        # The second half is this very write, sent again by the SDK because its first answer was lost.
        if not (done or (item.get("lease_owner") == self._owner and item.get("status") == values["status"])):
            raise LeaseLost(
                f"step {self.work.step!r} of run {self.work.run_id} is held by another invocation",
                until=int(item.get("lease_until", 0)),
            )
        self.record = cast("StepRecord", item) or {**self.record, **values}
        self._pending, self._gone = {}, set()

    def open(self, key: str, entry: Attempt | ToolCallRecord) -> None:
        """Write that a call is about to be made. Raises `LeaseLost`."""
        self.write(cast("StepRecord", {key: entry}))

    def settle(self, key: str, entry: Attempt | ToolCallRecord) -> None:
        """Write what a call gave, lease or no lease: it has been paid."""
        done, item = dynamo.update(
            self._store.dynamodb,
            self._store.table,
            self._key,
            {key: dict(entry)},
            condition="attribute_exists(#key)",
            names={"#key": key},
            returning=("status",),
        )
        if done:
            cast("dict[str, Any]", self.record)[key] = {**entry}
            if item["status"] == "completed" and key.startswith(ATTEMPT):
                # Late: another invocation has completed the step in the meantime.
                ended = self._store.items(self.work.run_id, [self.work.key])[self.work.key]
                bill.add_usage(self._store, self.work, ended)
                run: Run = {"run_id": self.work.run_id, "workflow_id": self.work.workflow_id}
                bill.settle_totals(self._store, run, last=False)  # other steps of it may have calls under way

    @property
    def _key(self) -> dict[str, str]:
        return {"run_id": self.work.run_id, "item": self.work.key}


def reopen(store: RunStore, record: StepRecord) -> None:
    """Make a failed step unfinished; what its calls gave and cost stays.

    It goes on from its settled calls, with `maxTurns` calls more. Where all calls together gave no valid output,
    they would give none again: the conversation begins anew behind them.
    """
    attempts = attempts_of(record)
    turns = 1 + max((int(attempt["turn"]) for attempt in attempts.values()), default=-1)
    first = turns if record["error"]["type"] == "OutputInvalid" else None
    declined = (ANSWER + START,) if record["error"]["type"] == ApprovalDeclined.__name__ else ()
    dynamo.update(
        store.dynamodb,
        store.table,
        {"run_id": record["run_id"], "item": record["item"]},
        {
            "status": "running",
            "lease_until": 0,
            ATTEMPTS_BEFORE_RETRY: len(attempts),
            METRICS_REPORTED: len(attempts),
            TURNS: turns,
            FIRST_TURN: first,
        },
        # A person who declined is asked again, as is one who did not answer in time.
        remove=(
            "error",
            "finished_at",
            "started_at",
            "waited_ms",
            "tries",
            "stopping",
            "set_aside",
            "retry_at",
            QUEUED_AT,
            THROTTLED_AT,
            UNANSWERED,
            *declined,
        ),
        condition="#status = :failed",
        names={"#status": "status"},
        parameters={":failed": "failed"},
    )


def stop(store: RunStore, run_id: str, key: str) -> None:
    """Let the other items of a forEach step stop before their next model call."""
    dynamo.update(
        store.dynamodb,
        store.table,
        {"run_id": run_id, "item": key},
        {"stopping": True},
        condition="#status = :running",
        names={"#status": "status"},
        parameters={":running": "running"},
    )


def put_off(store: RunStore, work: Work, seconds: int) -> None:
    """Let nobody go on with a step for so many seconds: nothing waits for it in the run's next execution."""
    dynamo.update(
        store.dynamodb,
        store.table,
        {"run_id": work.run_id, "item": work.key},
        {"retry_at": clock.now_ms() + seconds * 1000},
        condition="#status = :running",
        names={"#status": "status"},
        parameters={":running": "running"},
        returning=(),
    )


def claim(store: RunStore, work: Work, claimant: str, delete_at: Number | None) -> bool:
    """Claim a join for a completed step; `True` as well when it was this step's already."""
    key = "CLAIM#" + work.key.removeprefix("STEP#")
    done, _ = dynamo.update(
        store.dynamodb,
        store.table,
        {"run_id": work.run_id, "item": key},
        {"claimant": claimant, "delete_at": delete_at},
        condition="attribute_not_exists(claimant) OR claimant = :claimant",
        parameters={":claimant": claimant},
    )
    return done
