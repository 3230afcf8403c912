"""The record of runs: one table that is checkpoint, trace and bill at once.

Every write is conditional or idempotent. Reads that decide are strongly consistent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import aws, clock
from .errors import LeaseLost, RunNotFound
from .settings import Settings

RUN = "RUN"
FINAL = ("completed", "failed", "cancelled")
ACTIVE_SHARDS = 4
"""Partitions of the index of unfinished runs, so that it is no hot key."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one RunStep invocation is asked to do: one step of one run. `depth` is 1 inside a fork."""

    run_id: str
    workflow_id: str
    version: int
    step: str
    iteration: int = 0
    item: int = 0
    depth: int = 0

    def to_payload(self) -> dict[str, Any]:
        """The state machine's form; zeros are left out because a thousand of these travel together."""
        payload: dict[str, Any] = {
            "contract": 1,
            "run_id": self.run_id,
            "workflow": self.workflow_id,
            "version": self.version,
            "step": self.step,
        }
        for name in ("iteration", "item", "depth"):
            if value := getattr(self, name):
                payload[name] = value
        return payload

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Work:
        """Read what the state machine hands over."""
        return cls(
            run_id=payload["run_id"],
            workflow_id=payload["workflow"],
            version=int(payload["version"]),
            step=payload["step"],
            iteration=int(payload.get("iteration", 0)),
            item=int(payload.get("item", 0)),
            depth=int(payload.get("depth", 0)),
        )

    @property
    def key(self) -> str:
        """The step's item in the run's record."""
        return step_key(self.step, self.iteration, self.item)


def step_key(name: str, iteration: int = 0, item: int = 0) -> str:
    """The sort key of a step's item."""
    return f"STEP#{name}#{iteration}#{item}"


class RunStore:
    """Reads and writes the Runs table and its bill, the Usage table."""

    def __init__(self, settings: Settings, dynamodb: Any = None) -> None:
        self._settings = settings
        self._table = settings.runs_table
        self._dynamodb = dynamodb

    @property
    def dynamodb(self) -> Any:
        """The client."""
        if self._dynamodb is None:
            self._dynamodb = aws.client("dynamodb")
        return self._dynamodb

    # The run

    def create(self, run: Mapping[str, Any]) -> bool:
        """Put a new run's `RUN` item; `False` when one of its id exists."""
        shard = int(hashlib.sha256(run["run_id"].encode()).hexdigest(), 16) % ACTIVE_SHARDS
        item = {
            "item": RUN,
            "created_at": clock.now_text(),
            "active": str(shard),
            "check_at": check_time(60),
            "delete_at": clock.now_ms() // 1000 + self._settings.retention_days * 86400,
            **run,
        }
        return aws.put_new(self.dynamodb, self._table, item, "run_id")

    def run(self, run_id: str) -> dict[str, Any]:
        """The `RUN` item. Raises `RunNotFound`."""
        found = self.dynamodb.get_item(
            TableName=self._table, Key=aws.to_item({"run_id": run_id, "item": RUN}), ConsistentRead=True
        ).get("Item")
        if found is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        return aws.from_item(found)

    def change(
        self,
        run_id: str,
        values: Mapping[str, Any],
        *,
        only_from: Sequence[str],
        remove: Sequence[str] = (),
    ) -> bool:
        """Change the `RUN` item if its status is one of `only_from`; `False` if it is not."""
        return (
            aws.update(
                self.dynamodb,
                self._table,
                {"run_id": run_id, "item": RUN},
                values,
                remove=remove,
                condition=f"#status IN ({', '.join(f':from{i}' for i in range(len(only_from)))})",
                names={"#status": "status"},
                parameters={f":from{i}": status for i, status in enumerate(only_from)},
            )
            is None
        )

    def close(self, run_id: str, status: str, values: Mapping[str, Any], delete_at: int | None = None) -> bool:
        """End an unfinished run; `False` if it had ended before."""
        return self.change(
            run_id,
            {"status": status, "finished_at": clock.now_text(), **values},
            only_from=("queued", "running", "waiting_input"),
            remove=("active", "check_at", "stopping"),
        )

    def items(self, run_id: str, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Several items of a run by their sort keys; missing ones are left out."""
        return aws.batch_get(
            self.dynamodb, self._table, [{"run_id": run_id, "item": key} for key in keys], by="item"
        )

    def steps(self, run_id: str, attributes: Sequence[str] = ()) -> list[dict[str, Any]]:
        """All step items of a run, or only some of their attributes."""
        return aws.query(
            self.dynamodb,
            self._table,
            "run_id = :run AND begins_with(#item, :prefix)",
            {":run": run_id, ":prefix": "STEP#"},
            names={"#item": "item"},
            attributes=attributes,
            consistent=True,
        )

    def due(self, shard: int, before: str, limit: int) -> list[dict[str, Any]]:
        """Unfinished runs of a shard whose check is due, by the index."""
        return aws.query(
            self.dynamodb,
            self._table,
            "active = :shard AND check_at < :before",
            {":shard": str(shard), ":before": before},
            index="by_active",
            limit=limit,
        )

    def claim(self, work: Work, claimant: str) -> bool:
        """Claim a join for a completed step; `True` as well when it was this step's already."""
        key = "CLAIM#" + work.key.removeprefix("STEP#")
        old = aws.update(
            self.dynamodb,
            self._table,
            {"run_id": work.run_id, "item": key},
            {"claimant": claimant},
            condition="attribute_not_exists(claimant) OR claimant = :claimant",
            parameters={":claimant": claimant},
        )
        return old is None

    def add_usage(self, run: Mapping[str, Any], work: Work, record: Mapping[str, Any], finished_at: str) -> None:
        """Write the step's immutable rows of usage, one a model; the same rows again are harmless."""
        from .ledger import attempts_of, totals

        by_model: dict[str, list[dict[str, Any]]] = {}
        for attempt in attempts_of(record):
            by_model.setdefault(attempt["model"], []).append(attempt)
        for place, (model, attempts) in enumerate(by_model.items()):
            sums = totals(attempts)
            aws.put_new(
                self.dynamodb,
                self._settings.usage_table,
                {
                    "day_workflow": f"{finished_at[:10]}#{work.workflow_id}",
                    "run_step_model": f"{work.run_id}#{work.step}#{work.iteration}#{work.item}#{model}",
                    "run_id": work.run_id,
                    "step": work.step,
                    "model": model,
                    # A step is billed once, whichever models it used.
                    "steps": 1 if place == 0 else 0,
                    "tokens_in": sums["tokens_in"],
                    "tokens_out": sums["tokens_out"],
                    "tokens_cached": sums["tokens_cached"],
                    "cost_usd": sums["cost_usd"],
                    "cost_basis": sums["cost_basis"],
                    "tags": run.get("tags"),
                    "key": run.get("api_key"),
                },
                "day_workflow",
            )


class StepWriter:
    """Writes one step's item for one invocation.

    The lease is part of every write: the first one takes it, later ones keep it, until the invocation's deadline. Who
    lost it may still settle what was paid, and nothing else.
    """

    def __init__(self, store: RunStore, work: Work, owner: str, lease_until_ms: int) -> None:
        self._store = store
        self._work = work
        self._owner = owner
        self._until = lease_until_ms
        self.first: dict[str, Any] = {}
        """Attributes that go with the next write: what was decided since the last one."""

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._work.run_id

    @property
    def name(self) -> str:
        """The step's name, iteration and item, as a path."""
        return f"{self._work.step}/{self._work.iteration}/{self._work.item}"

    def write(self, values: Mapping[str, Any], *, release: bool = False, remove: Sequence[str] = ()) -> None:
        """Write attributes while holding the lease. Raises `LeaseLost` when another invocation holds it or the step
        has ended."""
        values = {"status": "running", **self.first, **values, "lease_owner": self._owner}
        values["lease_until"] = 0 if release else self._until
        old = aws.update(
            self._store.dynamodb,
            self._store._table,
            {"run_id": self._work.run_id, "item": self._work.key},
            values,
            remove=remove,
            condition=(
                "(attribute_not_exists(lease_owner) OR lease_owner = :owner OR lease_until < :now)"
                " AND (attribute_not_exists(#status) OR #status = :running)"
            ),
            names={"#status": "status"},
            parameters={":owner": self._owner, ":now": clock.now_ms(), ":running": "running"},
        )
        if old is not None:
            if old.get("lease_owner") == self._owner and old.get("status") == values["status"]:
                return  # This very write: its first answer was lost and the SDK sent it again.
            raise LeaseLost(
                f"step {self._work.step!r} of run {self._work.run_id} is held by another invocation",
                until=int(old.get("lease_until", 0)),
            )
        self.first = {}

    def settle(self, key: str, entry: Mapping[str, Any]) -> None:
        """Write what a call gave, lease or no lease: it has been paid."""
        aws.update(
            self._store.dynamodb,
            self._store._table,
            {"run_id": self._work.run_id, "item": self._work.key},
            {key: dict(entry)},
            condition="attribute_exists(#key)",
            names={"#key": key},
        )


def check_time(seconds: int) -> str:
    """When the reconciler shall look at a run, `seconds` from now."""
    return clock.now_text(clock.now_ms() / 1000 + seconds)
