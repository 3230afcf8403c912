"""What was used and paid: sums over the Usage table's rows, one for each model call of a step that has ended.

Rows are written with the step's end, so these sums are to the digit what the runs' records say. Reading costs
one Query for each day and workflow of the range.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.errors import InvalidRequest
from loopllama.llm.usage import SUMMED_NAMES, shown
from loopllama.runs.totals import totals
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.runs.records import UsageRow

BY = ("workflow", "step", "model", "key", "tag", "day")
DEFAULT_DAYS = 30
MAX_DAYS = 366
MAX_QUERIES = 5000
MAX_GROUPS = 10_000
"""Groups of an answer: tags may name every order that there was."""
_AT_ONCE = 16
_SUMS = ("steps", *SUMMED_NAMES, "cost_usd", "cost_basis", "unpriced")


def summarise(
    settings: Settings,
    by: Sequence[str] = ("workflow",),
    first: str | None = None,
    last: str | None = None,
    workflow: str | None = None,
) -> dict[str, Any]:
    """`{"from", "to", "by", "groups", "total"}` for the days `first` to `last` (UTC dates, both included; by default
    the 30 days until today), of one workflow or all.

    A group has a value for each of `by` (`step` comes with its `workflow`; `tag` is `name=value`, and a run with
    several tags counts in each of their groups), `steps` (billable: completed turns), `tokens_in`, `tokens_out`,
    `tokens_cached`, `cost_usd` (exact; `None` where nothing has a price), `cost_basis` (that of the least certain row)
    and `unpriced` (something has no price and is not in the sum). Groups are ordered by cost, highest first. Raises
    `InvalidRequest`.
    """
    unknown = [name for name in by if name not in BY]
    if unknown or not by:
        message = f"must be one or several of {', '.join(BY)}"
        raise _invalid("by", message)
    start, end = _range(first, last)
    fields = list(
        dict.fromkeys(field for name in by for field in (("workflow", "step") if name == "step" else (name,)))
    )
    rows = list(_rows(settings, start, end, workflow))
    grouped: dict[tuple[Any, ...], list[UsageRow]] = {}
    for row in rows:
        for values in itertools.product(*(_values(row, field) for field in fields)):
            grouped.setdefault(values, []).append(row)
    if len(grouped) > MAX_GROUPS:
        message = f"makes {len(grouped):,} groups, more than {MAX_GROUPS:,}; shorten the range or name a workflow"
        raise _invalid("by", message)
    groups = [{**dict(zip(fields, values, strict=True)), **_sum(mine)} for values, mine in grouped.items()]
    groups.sort(key=lambda group: [str(group[field]) for field in fields])
    groups.sort(key=lambda group: group["cost_usd"] or 0, reverse=True)
    return {"from": start.isoformat(), "to": end.isoformat(), "by": list(by), "groups": groups, "total": _sum(rows)}


def _values(row: UsageRow, field: str) -> list[str | None]:
    if field in ("day", "workflow"):
        day, _, workflow = str(row["day_workflow"]).partition("#")
        return [day if field == "day" else workflow]
    if field == "tag":
        return [f"{name}={value}" for name, value in sorted((row.get("tags") or {}).items())] or [None]
    return [cast("Mapping[str, str]", row).get(field)]


def _sum(rows: Sequence[UsageRow]) -> dict[str, Any]:
    sums: dict[str, Any] = {**totals(rows), "steps": sum(int(row["steps"]) for row in rows)}
    return shown({name: sums[name] for name in _SUMS})


def _rows(settings: Settings, start: date, end: date, workflow: str | None) -> Iterator[UsageRow]:
    keys = _keys(settings, start, end, workflow)
    if len(keys) > MAX_QUERIES:
        message = f"is too much to sum at once ({len(keys):,} days of workflows); shorten it or name a workflow"
        raise _invalid("from", message)
    dynamodb = clients.client("dynamodb")

    def read(key: str) -> list[UsageRow]:
        rows = dynamo.query(dynamodb, settings.usage_table, "day_workflow = :key", {":key": key}, consistent=True)
        return cast("list[UsageRow]", rows)

    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(keys)))) as pool:
        for rows in pool.map(read, keys):
            yield from rows


def _keys(settings: Settings, start: date, end: date, workflow: str | None) -> list[str]:
    """Return the partitions of the range: days from the workflow's first to its last, if it has been deleted."""
    definitions = DefinitionStore(settings)
    spans = definitions.lives()
    if workflow is not None:
        if workflow not in spans:
            definitions.get(workflow)  # made a moment ago, or unknown
        spans = {workflow: spans.get(workflow, ("", ""))}
    keys = []
    for workflow_id, (created, deleted) in sorted(spans.items()):
        day, until = max(start, _day(created) or start), end
        if deleted:
            # A step that ran while its workflow was deleted may have ended later.
            until = min(end, (_day(deleted) or end) + timedelta(days=1))
        while day <= until:
            keys.append(f"{day.isoformat()}#{workflow_id}")
            day += timedelta(days=1)
    return keys


def _day(text: str) -> date | None:
    return date.fromisoformat(text[:10]) if text else None


def _range(first: str | None, last: str | None) -> tuple[date, date]:
    end = _date("to", last) if last else clock.now().date()
    try:
        start = _date("from", first) if first else end - timedelta(days=DEFAULT_DAYS - 1)
    except OverflowError:
        start = end
    if start > end:
        raise _invalid("from", f"must not be after to ({end})")
    if (end - start).days >= MAX_DAYS:
        raise _invalid("from", f"must be at most {MAX_DAYS} days before to ({end})")
    return start, end


def _date(field: str, text: str) -> date:
    try:
        if len(text) != 10:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise _invalid(field, "must be a date such as 2026-11-23") from None


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest.of(field, message, subject=field)
