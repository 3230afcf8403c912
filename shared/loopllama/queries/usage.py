"""What was used and paid: sums over the Usage table's rows, one for each model call of a step that has ended.

Rows are written with the step's end, so these sums are to the digit what the runs' records say. Ended days are read
from their sums, one Query for a workflow; other days from their hours' sums and from rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

from loopllama.aws import clients
from loopllama.core import clock
from loopllama.core.names import meant
from loopllama.errors import InvalidRequest
from loopllama.llm.usage import shown
from loopllama.queries.usage_days import Wanted, read_day, read_documents, was_there
from loopllama.queries.usage_documents import DAYS
from loopllama.queries.usage_sums import MAX_TAGS, PLAIN, TAG, TAGGED, Kind, Sums
from loopllama.runs import usage_periods
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

BY = ("workflow", "step", "model", "key", "tag", "day")
DEFAULT_DAYS = 30
MAX_DAYS = 366
MAX_QUERIES = 5000
"""Days of workflows that are read without sums."""
MAX_GROUPS = MAX_TAGS
"""Groups of an answer: tags may name every order that there was."""
_AT_ONCE = 16


def summarise(
    settings: Settings,
    by: Sequence[str] = ("workflow",),
    first: str | None = None,
    last: str | None = None,
    workflow: str | None = None,
) -> dict[str, Any]:
    """`{"from", "to", "by", "groups", "total"}` for the days `first` to `last` (UTC dates, both included; by default
    the 30 days until today), of one workflow or all.

    A group has a value for each of `by` (`step` comes with its `workflow`; `tag` is a tag's text, `name=value`, see
    `core.tags`, and a run with several tags counts in each of their groups), `steps` (billable: completed turns),
    `tokens_in`, `tokens_out`, `tokens_cached`, `cost_usd` (exact; `None` where nothing has a price), `cost_basis` (that
    of the least certain row), `unpriced` (something has no price and is not in the sum) and `simulated` (something was
    answered by the simulated provider). Groups are ordered by cost,
    highest first. Raises `InvalidRequest`.
    """
    unknown = [name for name in by if name not in BY]
    if unknown or not by:
        message = f"must be one or several of {', '.join(BY)}{meant(unknown[0], BY) if unknown else ''}"
        raise _invalid("by", message)
    start, end = _range(first, last)
    fields = list(
        dict.fromkeys(field for name in by for field in (("workflow", "step") if name == "step" else (name,)))
    )
    wanted = _read(settings, fields, start, end, workflow)
    groups = next(iter(wanted.values()))
    listed = [{**dict(zip(fields, values, strict=True)), **shown(sums)} for values, sums in groups.told()]
    listed.sort(key=lambda group: [str(group[field]) for field in fields])
    listed.sort(key=lambda group: group["cost_usd"] or 0, reverse=True)
    total = shown(wanted[PLAIN].total())
    return {"from": start.isoformat(), "to": end.isoformat(), "by": list(by), "groups": listed, "total": total}


def _read(settings: Settings, fields: Sequence[str], start: date, end: date, workflow: str | None) -> Wanted:
    """Return sums by the fields; where a row counts for each of its tags, those of all rows beside them (`PLAIN`).
    Raises `InvalidRequest`."""
    dynamodb, table = clients.client("dynamodb"), settings.usage_table
    wanted = _wanted(fields)
    # First: sums that were made before a mark was put must not be read after it has gone.
    marked = usage_periods.read(dynamodb, table).by_day()
    now = clock.now_ms() // 1000

    def read_summed(whose: tuple[str, list[str]]) -> tuple[Wanted, list[tuple[str, str]]]:
        """Sum a workflow's days that have sums; returns those that have none, too."""
        name, days = whose
        mine = _wanted(fields)

        def counts(day: str, until: int | None) -> bool:
            return (day, name) not in marked or (until is not None and until <= now)

        done = read_documents(dynamodb, table, DAYS, name, days[0], days[-1], mine, counts)
        return mine, [(day, name) for day in days if day not in done]

    def read_rest(one: tuple[str, str]) -> Wanted:
        mine = _wanted(fields)
        read_day(dynamodb, table, *one, marked.get(one, ()), mine)
        return mine

    def take(mine: Wanted) -> None:
        for kind, sums in wanted.items():
            sums.add_sums(mine[kind])
            if sums.too_many_tags or len(sums) > MAX_GROUPS:
                message = f"makes more than {MAX_GROUPS:,} groups; shorten the range or name a workflow"
                raise _invalid("by", message)

    days = _days(settings, start, end, workflow)
    rest: list[tuple[str, str]] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for summed, left in pool.map(read_summed, days.items()):
            take(summed)
            rest += left
        if len(rest) > MAX_QUERIES:
            message = f"is too much to sum at once ({len(rest):,} days of workflows); shorten it or name a workflow"
            raise _invalid("from", message)
        for read in pool.map(read_rest, rest):
            take(read)
    return wanted


def _wanted(fields: Sequence[str]) -> dict[Kind, Sums]:
    """Return sums of nothing by the fields; the first are those that an answer lists."""
    if "tag" not in fields:
        return {PLAIN: Sums(fields)}
    return {TAGGED if set(PLAIN) & set(fields) else TAG: Sums(fields), PLAIN: Sums(())}


def _days(settings: Settings, start: date, end: date, workflow: str | None) -> dict[str, list[str]]:
    """Return the days of the range by workflow: from its first to its last, if it has been deleted."""
    definitions = DefinitionStore(settings)
    spans = definitions.lives()
    if workflow is not None:
        if workflow not in spans:
            definitions.get(workflow)  # made a moment ago, or unknown
        spans = {workflow: spans.get(workflow, ("", ""))}
    whole = [start + timedelta(days=day) for day in range((end - start).days + 1)]
    days = {name: [day.isoformat() for day in whole if was_there(life, day)] for name, life in sorted(spans.items())}
    return {name: mine for name, mine in days.items() if mine}


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
