"""The Usage table's periods: an hour or a day (UTC) of a workflow, whose rows are summed once it has ended.

Rows begin with the hour of their call, so that an hour's rows can be read alone. Which sums are to be made, or made
again, is a list of marks in the same table. ReconcileRuns puts a mark for each period that ends; whoever writes a row
later than that puts another. Sums count as long as no mark speaks of them. A mark has a token of its own, and is
removed only by who read that token before the rows, so a row that comes meanwhile is never lost.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, cast

from loopllama.aws import dynamo
from loopllama.core import clock

if TYPE_CHECKING:
    from loopllama.runs.records import StepRecord, UsageRow

MARKS = "unsummed"
"""The partition of the marks: `<period>#<workflow>`."""
LISTED = "#listed"
"""The mark that is none: it says (`period`) up to which hour periods have been marked at their end."""
HOUR, DAY = len("2026-11-23T14"), len("2026-11-23")
_LATE_SECONDS = 900
_CLOSED_SECONDS = 1200
"""Rows are late a quarter of an hour after their hour, and it is summed five minutes later: clocks differ."""


class UsageMark(TypedDict, total=False):
    """An item of the Usage table that says which sums are to be made."""

    day_workflow: str
    run_step_model: str
    token: str
    """Of this mark alone."""
    period: str
    """Of `LISTED` alone."""


@dataclass(frozen=True, slots=True)
class Marks:
    """The periods whose sums do not count."""

    tokens: dict[tuple[str, str], str]
    """By period and workflow."""
    listed: str
    """Periods up to this hour have been marked at their end; `""` before the first."""

    def by_day(self) -> dict[tuple[str, str], set[str]]:
        """Return the marked periods by their day and workflow: the day itself, hours of it, or both."""
        periods: dict[tuple[str, str], set[str]] = {}
        for period, workflow in self.tokens:
            periods.setdefault((period[:DAY], workflow), set()).add(period)
        return periods


def prefix(started_at: str, step: StepRecord) -> str:
    """Return what the sort key of a call's row begins with, `14#`, so that an hour's rows can be read alone. A step has
    the same keys for good: with others, rows that are written once more would count twice."""
    return f"{started_at[DAY + 1 : HOUR]}#" if step.get("usage_by_hour") else ""


def after(period: str, hours: int = 1) -> str:
    """Return the hour that is so many hours behind an hour."""
    return (datetime.fromisoformat(f"{period}:00") + timedelta(hours=hours)).isoformat()[:HOUR]


def last_closed() -> str:
    """Return the last hour that is to be summed now."""
    return _hour_before(_CLOSED_SECONDS)


def mark_late(dynamodb: Any, table: str, rows: Iterable[UsageRow]) -> None:
    """Mark the periods of rows that have just been written and came late: those may have been summed already."""
    in_time = after(_hour_before(_LATE_SECONDS))
    late = set()
    for row in rows:
        day, _, workflow = row["day_workflow"].partition("#")
        # Behind the day's last hour stand rows of steps that began under a version that did not know of hours.
        hour = f"{day}T{min(row['run_step_model'][:2], '23')}"
        if hour < in_time:
            late |= {(hour, workflow), (day, workflow)}
    put(dynamodb, table, late)


def put(dynamodb: Any, table: str, periods: Iterable[tuple[str, str]]) -> None:
    """Mark periods of workflows."""
    marks: list[UsageMark] = [
        {"day_workflow": MARKS, "run_step_model": f"{period}#{workflow}", "token": secrets.token_hex(16)}
        for period, workflow in sorted(periods)
    ]
    dynamo.batch_put(dynamodb, table, marks)


def read(dynamodb: Any, table: str) -> Marks:
    """Return the marks that there are."""
    tokens, listed = {}, ""
    for item in dynamo.each(dynamodb, table, "day_workflow = :marks", {":marks": MARKS}, consistent=True):
        mark = cast("UsageMark", item)
        if mark["run_step_model"] == LISTED:
            listed = mark["period"]
        else:
            period, _, workflow = mark["run_step_model"].partition("#")
            tokens[period, workflow] = mark["token"]
    return Marks(tokens, listed)


def remove(dynamodb: Any, table: str, period: str, workflow: str, token: str) -> None:
    """Remove a mark, unless it has been put again since its token was read."""
    dynamo.delete(
        dynamodb,
        table,
        {"day_workflow": MARKS, "run_step_model": f"{period}#{workflow}"},
        condition="#token = :token",
        names={"#token": "token"},
        parameters={":token": token},
    )


def set_listed(dynamodb: Any, table: str, hour: str) -> None:
    """Say that the periods up to an hour have been marked."""
    mark: UsageMark = {"day_workflow": MARKS, "run_step_model": LISTED, "period": hour}
    dynamo.put(
        dynamodb,
        table,
        mark,
        condition="attribute_not_exists(#period) OR #period < :hour",
        names={"#period": "period"},
        parameters={":hour": hour},
    )


def _hour_before(seconds: int) -> str:
    """Return the last hour that had ended so many seconds ago."""
    moment = datetime.fromtimestamp(clock.now_ms() / 1000 - seconds, UTC) - timedelta(hours=1)
    return moment.isoformat()[:HOUR]
