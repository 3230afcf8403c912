"""The Runs table, which is checkpoint and trace at once: what becomes of a run's own item, and what a run's items say.

Every write is conditional or idempotent. Reads that decide are strongly consistent. `runs.step_writer` writes the items
of steps, `runs.bill` what they used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from loopllama.aws import clients, dynamo
from loopllama.budgets.budget import ITEM as BUDGET
from loopllama.core import clock
from loopllama.core.patterns import late
from loopllama.errors import RunNotFound
from loopllama.runs.step_ref import ITERATION, Work
from loopllama.runs.totals import TOOL
from loopllama.settings import Settings

if TYPE_CHECKING:
    from loopllama.runs.records import (
        Question,
        RouteRecord,
        Run,
        RunStatus,
        RunTotals,
        StepRecord,
    )

RUN, PIN = "RUN", "PIN"
ANSWER, START = "human_", "start"
"""Prefix of a step's attributes that hold people's answers, and the question whether the step may start."""
UNANSWERED: Final = "unanswered"
"""A step's attribute that holds the question to which nobody answered in time."""
RUN_ID = late(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
"""An id by which a run can be asked for: addresses and commands hold it as it is."""
FINAL: Final = ("completed", "failed", "cancelled")
ACTIVE_SHARDS = 16
"""Partitions of the index of unfinished runs, so that it is no hot key (docs/scale.md); each of the lists of `Watch`
has so many."""
Watch = Literal["start", "run", "wait"]
"""The lists of unfinished runs, so that none keeps another waiting: runs that are to start, that are under way, that
wait for people."""
QUEUED_CHECK_SECONDS, STARTED_CHECK_SECONDS, WAITING_CHECK_SECONDS = 60, 900, 86_400
"""When the reconciler looks at a run that has not ended: its end is announced, so this only catches lost news."""
_WAITING_SHARE = 8
"""A run that waits for people is looked at so often within `RetentionDays`, if these are few (`engine.retention`)."""
SETTLED_CHECK_SECONDS = 960
"""When every call that was under way has been settled: Lambda's longest invocation, and a minute."""


class RunStore:
    """Reads the items of runs, and writes the `RUN` and `PIN` items."""

    def __init__(self, settings: Settings, dynamodb: Any = None) -> None:
        self._settings = settings
        self.table = settings.runs_table
        self.usage_table = settings.usage_table
        self.usage_row_days = settings.usage_row_days
        self._dynamodb = dynamodb

    @property
    def dynamodb(self) -> Any:
        """The client."""
        if self._dynamodb is None:
            self._dynamodb = clients.client("dynamodb")
        return self._dynamodb

    # The run

    def create(self, run: Run) -> bool:
        """Put a new run's `RUN` item; `False` when one of its id exists."""
        item: Run = {
            "item": RUN,
            "pending": {},
            "created_at": clock.now_text(),
            **watched(run["run_id"], "start"),
            "delete_at": clock.now_ms() // 1000 + self._settings.retention_days * 86400,
            **run,
        }
        return dynamo.put_new(self.dynamodb, self.table, item, "run_id")

    def run(self, run_id: str) -> Run:
        """Return the `RUN` item. Raises `RunNotFound`."""
        item = self.dynamodb.get_item(
            TableName=self.table, Key=dynamo.to_item({"run_id": run_id, "item": RUN}), ConsistentRead=True
        ).get("Item")
        if item is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        return cast("Run", dynamo.from_item(item))

    def change(
        self,
        run_id: str,
        values: Run | RunTotals,
        *,
        only_from: Sequence[RunStatus],
        remove: Sequence[str] = (),
        check_at: str | None = None,
    ) -> bool:
        """Change the `RUN` item if its status is one of `only_from`, and, where `check_at` says so, nobody has asked
        for another look since then; `False` if it is not."""
        states = f"#status IN ({', '.join(f':from{i}' for i in range(len(only_from)))})"
        done, _ = dynamo.update(
            self.dynamodb,
            self.table,
            {"run_id": run_id, "item": RUN},
            values,
            remove=remove,
            condition=states if check_at is None else f"{states} AND check_at = :seen",
            names={"#status": "status"},
            parameters={
                **{f":from{i}": status for i, status in enumerate(only_from)},
                **({} if check_at is None else {":seen": check_at}),
            },
        )
        return done

    def close(self, run_id: str, status: RunStatus, values: Run, *, settled: bool = False) -> bool:
        """End an unfinished run; `False` if it had ended before. Unless all is `settled`, calls may be under way or
        rows of the bill missing: the reconciler makes up for it when they must have ended."""
        removed = ("stopping", "starting", "pending", *(("active", "check_at") if settled else ()))
        later: Run = {} if settled else watched(run_id, "run", SETTLED_CHECK_SECONDS)
        return self.change(
            run_id,
            {"status": status, "finished_at": clock.now_text(), **later, **values},
            only_from=("queued", "running"),
            remove=removed,
        )

    def hand_over(self, run: Run, arn: str, number: int) -> bool:
        """Name the run's next execution, of which nobody knows yet that it has begun; `False` where the run has ended,
        or is another execution's than `run` says."""
        done, _ = dynamo.update(
            self.dynamodb,
            self.table,
            {"run_id": run["run_id"], "item": RUN},
            {
                "execution_arn": arn,
                "executions": number,
                "starting": True,
                **watched(run["run_id"], "start"),
            },
            condition="execution_arn = :before AND #status = :running",
            names={"#status": "status"},
            parameters={":before": run["execution_arn"], ":running": "running"},
        )
        return done

    def reopen(self, run_id: str) -> bool:
        """Let a failed run go on."""
        return self.change(
            run_id,
            {
                "status": "running",
                "reopened_at": clock.now_text(),
                **watched(run_id, "run"),
                "pending": {},  # closing took it away, and its steps may ask people again
            },
            only_from=("failed",),
            remove=("error", "finished_at", "stopping"),
        )

    def pin(self, run: Mapping[str, Any], routes: Mapping[str, Any]) -> None:
        """Keep the routes of a run's pinned steps; those of an earlier start stay."""
        item = {"run_id": run["run_id"], "item": PIN, "routes": dict(routes), "delete_at": run.get("delete_at")}
        dynamo.put_new(self.dynamodb, self.table, item, "run_id")
        self.change(run["run_id"], {"pinned": True}, only_from=("running",))

    def items(self, run_id: str, keys: Iterable[str], attributes: Sequence[str] = ()) -> dict[str, StepRecord]:
        """Several steps' items, or only some of their attributes, by their sort keys; missing ones are left out."""
        return cast("dict[str, StepRecord]", self._items(run_id, keys, attributes))

    def run_with(self, run_id: str, keys: Iterable[str]) -> tuple[Run | None, dict[str, StepRecord]]:
        """Return the run, `None` where it is gone, and several steps' items, read in one BatchGetItem."""
        items = self._items(run_id, [*keys, RUN])
        return cast("Run | None", items.pop(RUN, None)), cast("dict[str, StepRecord]", items)

    def pins(self, run_id: str) -> dict[str, RouteRecord]:
        """Return the routes that the steps of a pinned run keep, by step."""
        kept: dict[str, RouteRecord] = self._items(run_id, [PIN]).get(PIN, {}).get("routes", {})
        return kept

    def budget_used(self, run_id: str) -> dict[str, Any]:
        """Return the item of a run's budget (`budgets/budget.py`); empty before its first call."""
        return self._items(run_id, [BUDGET]).get(BUDGET, {})

    def _items(self, run_id: str, keys: Iterable[str], attributes: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        wanted = [{"run_id": run_id, "item": key} for key in keys]
        return dynamo.batch_get(self.dynamodb, self.table, wanted, by="item", attributes=attributes)

    def steps(self, run_id: str) -> list[StepRecord]:
        """Return all step items of a run without what their tools took and gave, of which a thousand could fill the
        memory."""
        items = dynamo.each(
            self.dynamodb,
            self.table,
            "run_id = :run AND begins_with(#item, :prefix)",
            {":run": run_id, ":prefix": "STEP#"},
            names={"#item": "item"},
            consistent=True,
        )
        kept = [{name: item[name] for name in item if not name.startswith(TOOL)} for item in items]
        return cast("list[StepRecord]", kept)

    def everything(self, run_id: str) -> Iterator[dict[str, Any]]:
        """Return all items of a run."""
        return dynamo.each(self.dynamodb, self.table, "run_id = :run", {":run": run_id}, consistent=True)

    def iterate(self, run_id: str, name: str, iteration: int) -> None:
        """Let the loop of step `name` be in `iteration`; harmless where it is already."""
        dynamo.update(
            self.dynamodb,
            self.table,
            {"run_id": run_id, "item": RUN},
            {ITERATION + name: iteration},
            condition="attribute_exists(run_id) AND (attribute_not_exists(#loop) OR #loop < :iteration)",
            names={"#loop": ITERATION + name},
            parameters={":iteration": iteration},
        )

    def set_pending(self, work: Work, pending: Question) -> None:
        """Show on the run that a step waits for a person."""
        dynamo.update(
            self.dynamodb,
            self.table,
            {"run_id": work.run_id, "item": RUN},
            {("pending", work.key): {**pending, "step": work.step}, **self.waiting(work.run_id)},
            condition="attribute_exists(pending)",
        )

    def clear_pending(self, run_id: str, key: str, question: str) -> None:
        """Take a step's question off the run; another one that the step asks by now stays."""
        dynamo.update(
            self.dynamodb,
            self.table,
            {"run_id": run_id, "item": RUN},
            watched(run_id, "run"),
            remove=[("pending", key)],
            condition="pending.#step.#question = :question",
            names={"#step": key, "#question": "key"},
            parameters={":question": question},
        )

    def watch(self, run_id: str, watch: Watch, seconds: int) -> None:
        """Let the reconciler look at a run in so many seconds, if it has to look at all."""
        dynamo.update(
            self.dynamodb,
            self.table,
            {"run_id": run_id, "item": RUN},
            watched(run_id, watch, seconds),
            condition="attribute_exists(active)",
            returning=(),
        )

    def waiting(self, run_id: str) -> Run:
        """Return what lets the reconciler look at a run that waits for people: rarely, as nothing can have been lost
        that it would not be told of."""
        often = self._settings.retention_days * 86_400 // _WAITING_SHARE
        return watched(run_id, "wait", min(WAITING_CHECK_SECONDS, often))

    def due(self, watch: Watch, shard: int, before: str, limit: int) -> list[Run]:
        """Unfinished runs of a shard of one list whose check is due, by the index."""
        items = dynamo.query(
            self.dynamodb,
            self.table,
            "active = :shard AND check_at < :before",
            {":shard": _key(watch, shard), ":before": before},
            index="by_active",
            limit=limit,
        )
        return cast("list[Run]", items)

    def active(self) -> Iterator[Run]:
        """Yield all unfinished runs, with what the index has of them."""
        for watch in get_args(Watch):
            for shard in range(ACTIVE_SHARDS):
                key = {":shard": _key(watch, shard)}
                found = dynamo.each(self.dynamodb, self.table, "active = :shard", key, index="by_active")
                yield from cast("Iterator[Run]", found)


def watched(run_id: str, watch: Watch, seconds: int | None = None) -> Run:
    """Return what lets the reconciler look at a run, by default when news of it must have been lost."""
    if seconds is None:
        seconds = QUEUED_CHECK_SECONDS if watch == "start" else STARTED_CHECK_SECONDS
    number = int(hashlib.sha256(run_id.encode()).hexdigest(), 16) % ACTIVE_SHARDS
    at = clock.now_text(clock.now_seconds() + seconds)
    return {"active": _key(watch, number), "check_at": at}


def _key(watch: Watch, shard: int) -> str:
    return str(shard) if watch == "run" else f"{watch}-{shard}"
