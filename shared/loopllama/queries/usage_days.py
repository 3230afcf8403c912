"""Days of usage: read from their hours' sums and from rows, and summed once they have ended.

An hour is summed from its rows, some minutes after its end. A day is summed from its hours, with the rows of those that
have no sums. So a row that comes late has one hour read again, not a day, and today is read from its hours too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, cast

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.queries.usage_documents import DAYS, HOURS, Documents, Level
from loopllama.queries.usage_sums import KINDS, PLAIN, Kind, Sums, attributes
from loopllama.runs import usage_periods
from loopllama.runs.usage_periods import DAY, HOUR, Marks
from loopllama.settings import Settings
from loopllama.telemetry import logs
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.runs.records import UsageRow

_HOURS_AT_ONCE = 48
"""Hours that one call marks at their end, where it has not been called for long."""
_ROWS_AT_ONCE = 500
_END = "~"
"""Behind every row of a day."""
_MARGIN_SECONDS = 3600
Outcome = Literal["summed", "unsummed"]


class OutOfTime(Exception):
    """The invocation ends before the sums are made."""


def was_there(life: tuple[str, str], day: date) -> bool:
    """Return whether a workflow of such a life (created, deleted or `""`) may have rows of a day: a step that ran while
    it was deleted may have made calls the day after."""
    created, deleted = life
    return not (
        (created and day < date.fromisoformat(created[:10]))
        or (deleted and day > date.fromisoformat(deleted[:10]) + timedelta(days=1))
    )


Wanted = Mapping[Kind, Sums]
"""Sums to add to. Each is of rows, or of documents of its kind; a period's are taken where all kinds are there."""


def read_day(
    dynamodb: Any,
    table: str,
    day: str,
    workflow: str,
    marked: Collection[str],
    into: Wanted,
    tick: Callable[[], None] = lambda: None,
    dated: bool = False,
) -> int | None:
    """Add a day of a workflow: its hours that are summed and not `marked`, and the rows of all else. `tick` is called
    now and then. Returns when the first of the rows may go (epoch seconds; `None` where none says it), as `read_rows`
    does."""
    counts = lambda hour, _: hour not in marked  # noqa: E731
    kept = read_documents(dynamodb, table, HOURS, workflow, f"{day}T", f"{day}T", into, counts)
    until = list(kept.values())
    for begin, end in _gaps({hour[-2:] for hour in kept}):
        until.append(read_rows(dynamodb, table, f"{day}#{workflow}", begin, end, into, tick, dated)[1])
    return _first(until)


def read_documents(
    dynamodb: Any,
    table: str,
    level: Level,
    workflow: str,
    first: str,
    last: str,
    into: Wanted,
    counts: Callable[[str, int | None], bool],
) -> dict[str, int | None]:
    """Add the sums of a workflow's periods from `first` to `last` that are there and count; returns these periods, each
    with when the first of its rows may go (epoch seconds). `counts` is asked with the two."""
    found = {
        kind: {
            period: (packed, until)
            for period, packed, until in Documents(dynamodb, table, level, kind).read(workflow, first, last)
        }
        for kind in into
    }
    added = {}
    for period, (_, until) in found[PLAIN].items():
        if counts(period, until) and all(period in kept for kept in found.values()):
            for kind, sums in into.items():
                sums.add_packed({"day": period[:DAY], "workflow": workflow}, found[kind][period][0])
            added[period] = until
    return added


def read_rows(
    dynamodb: Any,
    table: str,
    day_workflow: str,
    begin: str,
    end: str,
    into: Wanted,
    tick: Callable[[], None],
    dated: bool,
) -> tuple[int, int | None]:
    """Add the rows of a part of a day; returns how many there are, and, if they are to be `dated`, when the first of
    them may go (epoch seconds): each attribute that is read is a tenth of the time. A page of them is in memory at a
    time."""
    condition = "day_workflow = :key AND run_step_model BETWEEN :begin AND :end"
    parameters = {":key": day_workflow, ":begin": begin, ":end": end}
    read = (*attributes(into.values()), *(("delete_at",) if dated else ()))
    day, _, workflow = day_workflow.partition("#")
    whose = {"day": day, "workflow": workflow}
    number, until = 0, None
    rows = dynamo.each(dynamodb, table, condition, parameters, attributes=read, consistent=True)
    while some := cast("list[UsageRow]", list(islice(rows, _ROWS_AT_ONCE))):
        tick()
        for sums in into.values():
            sums.add_rows(whose, some)
        number += len(some)
        until = _first((until, *(int(row["delete_at"]) for row in some if "delete_at" in row)))
    return number, until


def _first(moments: Iterable[int | None]) -> int | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _gaps(done: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the parts of a day, as pairs of sort keys, whose rows are to be read: all but the hours that are `done`.
    What stands behind the last hour is always read: rows of earlier versions begin with the run's id."""
    begin = "00"
    for hour in sorted(done):
        if begin < hour:
            yield begin, hour
        begin = f"{int(hour) + 1:02}"
    yield begin, _END


def sum_due(settings: Settings, left_ms: Callable[[], int], need_ms: int = 10_000) -> Mapping[Outcome, int]:
    """Sum the periods that have ended or got a late row; returns how many were summed, and how many
    could not be. Ends when fewer than `need_ms` are left of the invocation; the next one goes on."""
    dynamodb, table = clients.client("dynamodb"), settings.usage_table

    def tick() -> None:
        if left_ms() < need_ms:
            raise OutOfTime

    marks = usage_periods.read(dynamodb, table)
    if _mark_ended(settings, dynamodb, marks):
        marks = usage_periods.read(dynamodb, table)
    counts: dict[Outcome, int] = {"summed": 0, "unsummed": 0}
    open_hours = marks.by_day()
    # In any order, so that one that takes too long does not keep the others waiting for ever; hours before days.
    due = sorted(_due(marks), key=lambda one: (-len(one[0]), random.random()))  # noqa: S311 - no secret
    for period, workflow in due:
        day = period[:DAY], workflow
        if len(period) == DAY and open_hours[day] != {period}:
            continue
        try:
            tick()
            done = _sum_period(settings, dynamodb, period, workflow, tick)
        except OutOfTime:
            logs.logger().warning("usage: out of time", extra={"period": period, "workflow": workflow})
            break
        except Exception as error:
            log_fields = {"period": period, "workflow": workflow, "error": logs.safe_text(error)}
            logs.logger().error("usage of a period could not be summed", extra=log_fields)
            done = False
        counts["summed" if done else "unsummed"] += 1
        if done:
            usage_periods.remove(dynamodb, table, period, workflow, marks.tokens[period, workflow])
            open_hours[day].discard(period)
    return counts


def _due(marks: Marks) -> Iterator[tuple[str, str]]:
    """Yield the marked periods that have ended long enough ago."""
    last = usage_periods.last_closed()
    for period, workflow in marks.tokens:
        if (period if len(period) == HOUR else f"{period}T23") <= last:
            yield period, workflow


def _mark_ended(settings: Settings, dynamodb: Any, marks: Marks) -> bool:
    """Mark the periods of all workflows that have ended since this was last done; whether there were any."""
    last = usage_periods.last_closed()
    hours: list[str] = []
    hour = usage_periods.after(marks.listed) if marks.listed else last
    while hour <= last and len(hours) < _HOURS_AT_ONCE:
        hours.append(hour)
        hour = usage_periods.after(hour)
    if not hours:
        return False
    ended = hours + [hour[:DAY] for hour in hours if hour.endswith("T23")]
    lives = DefinitionStore(settings, dynamodb).lives()
    usage_periods.put(
        dynamodb,
        settings.usage_table,
        [
            (period, workflow)
            for period in ended
            for workflow, life in lives.items()
            if was_there(life, date.fromisoformat(period[:DAY]))
        ],
    )
    usage_periods.set_listed(dynamodb, settings.usage_table, hours[-1])
    return True


def _sum_period(settings: Settings, dynamodb: Any, period: str, workflow: str, tick: Callable[[], None]) -> bool:
    """Sum an hour or a day of a workflow; whether its mark may go."""
    table, day = settings.usage_table, period[:DAY]
    level: Level = HOURS if len(period) == HOUR else DAYS
    final = Documents(dynamodb, table, DAYS, PLAIN).stored(workflow, day)
    if final.rows_until is not None and final.rows_until - _MARGIN_SECONDS <= clock.now_ms() // 1000:
        # What is there of the rows is not all of them any more.
        log_fields = {"period": period, "workflow": workflow}
        logs.logger().warning("usage came after its day's rows had gone, and is not counted", extra=log_fields)
        return True
    documents = [Documents(dynamodb, table, level, kind) for kind in KINDS]
    before = [kept.stored(workflow, period) for kept in documents]
    sums = {kind: Sums(kind) for kind in KINDS}
    if level == DAYS:
        until = read_day(dynamodb, table, day, workflow, (), sums, tick, dated=True)
    else:
        hour = period[-2:]
        number, until = read_rows(dynamodb, table, f"{day}#{workflow}", hour, f"{hour}{_END}", sums, tick, True)
        if not number and before[-1].make is None:
            return True  # nothing to read is read as fast without sums
    delete_at = until if level == HOURS else None  # a day's sums stay
    return all(
        kept.write(workflow, period, one.pack(), stored, rows_until=until, delete_at=delete_at)
        for kept, one, stored in zip(documents, sums.values(), before, strict=True)
    )
