"""Rows of usage in ended days, what sums them, and what an answer must say of them: from the rows alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.llm.usage import SUMMED_NAMES, shown
from loopllama.queries.usage import summarise
from loopllama.queries.usage_days import sum_due
from loopllama.runs import usage_periods
from loopllama.runs.totals import totals
from support.deployment import Deployment

TABLE = "UsageTable"
NOW = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
DAYS = [(NOW - timedelta(days=back)).date().isoformat() for back in (3, 2)]
WORKFLOWS = ("desk", "shop")
PLENTY = 600_000


def plenty() -> int:
    return PLENTY


def usage_row(number: int, day: str, workflow: str, hour: int = 0, **fields: Any) -> dict[str, Any]:
    """A row as `add_usage` writes it."""
    row = {
        "day_workflow": f"{day}#{workflow}",
        "run_step_model": f"{hour:02}#run_{number:04}#a#0#-1#m#attempt_0001",
        "run_id": f"run_{number:04}",
        "step": "a",
        "model": "m",
        "steps": 1,
        "input_tokens": 100,
        "output_tokens": 10,
        "cached_tokens": 1,
        "cost_usd": Decimal("0.00045"),
        "cost_basis": "measured",
        "unpriced": False,
        "simulated": False,
        "tags": None,
        "key": None,
    }
    return {**row, **fields}


def put(rows: Sequence[dict[str, Any]]) -> None:
    dynamo.batch_put(clients.client("dynamodb"), TABLE, rows)


def items() -> list[dict[str, Any]]:
    pages = clients.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE)
    return [dynamo.from_item(item) for page in pages for item in page["Items"]]


def rows_there() -> list[dict[str, Any]]:
    return [item for item in items() if "run_id" in item]


def empty() -> None:
    keys = [{name: item[name] for name in ("day_workflow", "run_step_model")} for item in items()]
    dynamo.batch_delete(clients.client("dynamodb"), TABLE, keys)


def workflows() -> None:
    """Workflows that are older than their usage."""
    for workflow in WORKFLOWS:
        item = {"workflow_id": workflow, "version": 0, "listed": "all", "updated_at": "2026-01-01", "name": workflow}
        item |= {"created_at": "2026-01-01T00:00:00Z", "current_version": 1}
        clients.client("dynamodb").put_item(TableName="WorkflowsTable", Item=dynamo.to_item(item))


HOURS = (0, 1, 5, 6, 22, 23)
"""The hours in which tests have usage."""


def mark_ended(live: Deployment) -> None:
    """Mark what has ended, as `sum_due` marks it, but only the hours that have rows: most tests need no others."""
    periods = [*DAYS, *(f"{day}T{hour:02}" for day in DAYS for hour in HOURS)]
    usage_periods.put(live.runs.dynamodb, TABLE, list(itertools.product(periods, WORKFLOWS)))
    usage_periods.set_listed(live.runs.dynamodb, TABLE, usage_periods.last_closed())


def ended(live: Deployment) -> None:
    """Sum what has ended."""
    mark_ended(live)
    assert sum_due(live.settings, plenty)["unsummed"] == 0
    assert not usage_periods.read(live.runs.dynamodb, TABLE).tokens


def ended_whole(live: Deployment) -> None:
    """Sum all that has ended since the day before `DAYS`."""
    before = (datetime.fromisoformat(DAYS[0]) - timedelta(days=1)).date().isoformat()
    usage_periods.set_listed(live.runs.dynamodb, TABLE, f"{before}T23")
    for _ in range(3):
        assert sum_due(live.settings, plenty)["unsummed"] == 0


def by_rows(rows: Sequence[dict[str, Any]], by: Sequence[str], workflow: str | None) -> dict[str, Any]:
    """What an answer says, from the rows alone."""
    fields = list(
        dict.fromkeys(field for name in by for field in (("workflow", "step") if name == "step" else (name,)))
    )

    def values(row: dict[str, Any], field: str) -> list[Any]:
        if field == "tag":
            return [f"{name}={value}" for name, value in (row.get("tags") or {}).items()] or [None]
        named = dict(zip(("day", "workflow"), row["day_workflow"].split("#"), strict=True))
        return [{**row, **named}.get(field)]

    def sums(mine: Sequence[dict[str, Any]]) -> dict[str, Any]:
        told = {**totals(mine), "steps": sum(int(row["steps"]) for row in mine)}  # type: ignore[arg-type]
        return shown(
            {name: told[name] for name in ("steps", *SUMMED_NAMES, "cost_usd", "cost_basis", "unpriced", "simulated")}
        )

    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    mine = [row for row in rows if workflow in (None, row["day_workflow"].split("#")[1])]
    for row in mine:
        for group in itertools.product(*(values(row, field) for field in fields)):
            grouped.setdefault(group, []).append(row)
    groups = {group: sums(members) for group, members in grouped.items()}
    return {"groups": groups, "total": sums(mine), "fields": fields}


def check(live: Deployment, bys: Sequence[Sequence[str]] = (("workflow",), ("step", "tag")), **how: Any) -> None:
    """The answers are what the rows say, or what `rows` said."""
    rows = how.pop("rows", None) or rows_there()
    last = NOW.date().isoformat()
    for by, workflow in itertools.product(bys, (None, "desk")):
        told = summarise(live.settings, by, DAYS[0], last, workflow)
        truth = by_rows(rows, by, workflow)
        assert told["total"] == truth["total"], by
        groups = {tuple(one.pop(field) for field in truth["fields"]): one for one in told["groups"]}
        assert groups == truth["groups"], by
