"""What was used and paid: sums over the Usage table's rows, one for each model call of a step that has ended.

Rows are written with the step's end, so these sums are to the digit what the runs' records say. Ended days are read
from their sums, one Query for a workflow; other days from their hours' sums and from rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

from loopllama.aws import clients
from loopllama.core import clock
from loopllama.errors import InvalidRequest
from loopllama.llm.usage import shown
from loopllama.queries.usage_days import DAYS, read_day, was_there
from loopllama.queries.usage_sums import (
    MAX_TAGS,
    PLAIN,
    TAG,
    TAGGED,
    Documents,
    Entry,
    Sums,
    TooManyTags,
    add,
    empty,
    told,
    unpack,
)
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
_PLACES = ("day", "workflow", "step", "model", "key", "tag")
_Sums = tuple[tuple[Any, ...], Entry]


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
    groups = _read(settings, fields, start, end, workflow)
    listed = [{**dict(zip(fields, values, strict=True)), **shown(told(sums))} for values, sums in groups.groups.items()]
    listed.sort(key=lambda group: [str(group[field]) for field in fields])
    listed.sort(key=lambda group: group["cost_usd"] or 0, reverse=True)
    total = shown(told(groups.total))
    return {"from": start.isoformat(), "to": end.isoformat(), "by": list(by), "groups": listed, "total": total}


class _Groups:
    """Sums by the fields that an answer is grouped by, and over all."""

    def __init__(self, fields: Sequence[str]) -> None:
        self.groups: dict[tuple[Any, ...], Entry] = {}
        self.total = empty()
        self.by_tag = "tag" in fields
        self.kind = TAGGED if {"step", "model", "key"} & set(fields) else TAG
        self._places = [_PLACES.index(field) for field in fields]

    def add(self, day: str, workflow: str, plain: Iterable[_Sums], tagged: Iterable[_Sums] | None) -> None:
        """Add the sums of a day of a workflow. Raises `InvalidRequest` where `tagged`, which groups by tag are made of,
        are too many to be kept."""
        for combination, sums in plain:
            add(self.total, sums)
            if not self.by_tag:
                self._add_to((day, workflow, *combination), sums)
        if self.by_tag:
            if tagged is None:
                raise _too_many()
            try:
                for combination, sums in tagged:
                    self._add_to((day, workflow, *combination), sums)
            except TooManyTags:
                raise _too_many() from None

    def add_groups(self, other: _Groups) -> None:
        """Add what another has summed. Raises `InvalidRequest`."""
        add(self.total, other.total)
        for values, sums in other.groups.items():
            self._add(values, sums)

    def _add_to(self, values: tuple[Any, ...], sums: Entry) -> None:
        self._add(tuple([values[place] for place in self._places]), sums)

    def _add(self, group: tuple[Any, ...], sums: Entry) -> None:
        known = self.groups.get(group)
        if known is None:
            if len(self.groups) == MAX_GROUPS:
                raise _too_many()
            known = self.groups[group] = empty()
        add(known, sums)


def _too_many() -> InvalidRequest:
    message = f"makes more than {MAX_GROUPS:,} groups; shorten the range or name a workflow"
    return _invalid("by", message)


def _read(settings: Settings, fields: Sequence[str], start: date, end: date, workflow: str | None) -> _Groups:
    dynamodb, table = clients.client("dynamodb"), settings.usage_table
    groups = _Groups(fields)
    # First: sums that were made before a mark was put must not be read after it has gone.
    marked = usage_periods.read(dynamodb, table).by_day()
    now = clock.now_ms() // 1000

    def read_summed(whose: tuple[str, list[str]]) -> tuple[_Groups, list[tuple[str, str]]]:
        """Sum a workflow's days that have sums; returns those that have none, too."""
        name, days = whose
        mine, left = _Groups(fields), set(days)
        kept = Documents(dynamodb, table, DAYS, mine.kind).read(name, days[0], days[-1]) if mine.by_tag else ()
        tagged = {day: packed for day, packed, _ in kept}
        for day, packed, until in Documents(dynamodb, table, DAYS, PLAIN).read(name, days[0], days[-1]):
            counts = (day, name) not in marked or (until is not None and until <= now)
            if counts and (day in tagged or not mine.by_tag):
                mine.add(day, name, unpack(packed, PLAIN), unpack(tagged[day], mine.kind) if mine.by_tag else None)
                left.remove(day)
        return mine, [(day, name) for day in days if day in left]

    def read_rows(one: tuple[str, str]) -> _Groups:
        sums, mine = Sums.of_nothing(tags=groups.by_tag), _Groups(fields)
        read_day(dynamodb, table, *one, marked.get(one, ()), sums, kind=mine.kind)
        mine.add(*one, sums.plain.items(), None if sums.tagged is None else sums.tagged.items())
        return mine

    days = _days(settings, start, end, workflow)
    rest: list[tuple[str, str]] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for summed, left in pool.map(read_summed, days.items()):
            groups.add_groups(summed)
            rest += left
        if len(rest) > MAX_QUERIES:
            message = f"is too much to sum at once ({len(rest):,} days of workflows); shorten it or name a workflow"
            raise _invalid("from", message)
        for read in pool.map(read_rows, rest):
            groups.add_groups(read)
    return groups


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
