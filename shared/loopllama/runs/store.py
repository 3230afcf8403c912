"""The Runs table, which is checkpoint and trace at once: what becomes of a run's own item, and what a run's items say.

Every write is conditional or idempotent. Reads that decide are strongly consistent. `runs.step_writer` writes the items
of steps, `runs.bill` what they used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from loopllama.aws import clients, dynamo
from loopllama.budgets.budget import ITEM as BUDGET
from loopllama.core import clock
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
FINAL: Final = ("completed", "failed", "cancelled")
ACTIVE_SHARDS = 16
"""Partitions of the index of unfinished runs, so that it is no hot key (docs/scale.md)."""
QUEUED_CHECK_SECONDS, STARTED_CHECK_SECONDS = 60, 900
"""When the reconciler looks at a run that has not ended: its end is announced, so this only catches lost news."""
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
            "active": _shard(run["run_id"]),
            "check_at": check_time(QUEUED_CHECK_SECONDS),
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
    ) -> bool:
        """Change the `RUN` item if its status is one of `only_from`; `False` if it is not."""
        done, _ = dynamo.update(
            self.dynamodb,
            self.table,
            {"run_id": run_id, "item": RUN},
            values,
            remove=remove,
            condition=f"#status IN ({', '.join(f':from{i}' for i in range(len(only_from)))})",
            names={"#status": "status"},
            parameters={f":from{i}": status for i, status in enumerate(only_from)},
        )
        return done

    def close(self, run_id: str, status: RunStatus, values: Run, *, settled: bool = False) -> bool:
        """End an unfinished run; `False` if it had ended before. Unless all is `settled`, calls may be under way or
        rows of the bill missing: the reconciler makes up for it when they must have ended."""
        removed = ("stopping", "starting", "pending", *(("active", "check_at") if settled else ()))
        later: Run = {} if settled else {"check_at": check_time(SETTLED_CHECK_SECONDS)}
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
                "check_at": check_time(QUEUED_CHECK_SECONDS),
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
                "active": _shard(run_id),
                "check_at": check_time(STARTED_CHECK_SECONDS),
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
            {("pending", work.key): {**pending, "step": work.step}},
            condition="attribute_exists(pending)",
        )

    def clear_pending(self, run_id: str, key: str, question: str) -> None:
        """Take a step's question off the run; another one that the step asks by now stays."""
        dynamo.update(
            self.dynamodb,
            self.table,
            {"run_id": run_id, "item": RUN},
            {},
            remove=[("pending", key)],
            condition="pending.#step.#question = :question",
            names={"#step": key, "#question": "key"},
            parameters={":question": question},
        )

    def postpone(self, run_id: str, seconds: int) -> None:
        """Let the reconciler look at a run later, if it has to look at all."""
        dynamo.update(
            self.dynamodb,
            self.table,
            {"run_id": run_id, "item": RUN},
            {"check_at": check_time(seconds)},
            condition="attribute_exists(active)",
            returning=(),
        )

    def due(self, shard: int, before: str, limit: int) -> list[Run]:
        """Unfinished runs of a shard whose check is due, by the index."""
        items = dynamo.query(
            self.dynamodb,
            self.table,
            "active = :shard AND check_at < :before",
            {":shard": str(shard), ":before": before},
            index="by_active",
            limit=limit,
        )
        return cast("list[Run]", items)

    def active(self, shard: int) -> list[Run]:
        """Return all unfinished runs of a shard, by the index."""
        items = dynamo.query(self.dynamodb, self.table, "active = :shard", {":shard": str(shard)}, index="by_active")
        return cast("list[Run]", items)


def check_time(seconds: int) -> str:
    """Return when the reconciler shall look at a run, `seconds` from now."""
    return clock.now_text(clock.now_ms() / 1000 + seconds)


def _shard(run_id: str) -> str:
    return str(int(hashlib.sha256(run_id.encode()).hexdigest(), 16) % ACTIVE_SHARDS)
