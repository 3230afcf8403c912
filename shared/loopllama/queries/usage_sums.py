"""Sums of the Usage table's rows by some of their fields, made from rows and from packed sums.

Sums are packed as compressed JSON, column by column: a month of millions of rows is some hundred thousand sums, and
adding up a column of whole numbers costs a tenth of adding up entry by entry.
"""

from __future__ import annotations

import json
import operator
import zlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final, cast

from loopllama.llm.usage import SUMMED_NAMES
from loopllama.runs.totals import CERTAINTY

if TYPE_CHECKING:
    from loopllama.runs.records import UsageRow

Kind = tuple[str, ...]
PLAIN: Final[Kind] = ("step", "model", "key")
TAGGED: Final[Kind] = (*PLAIN, "tag")
TAG: Final[Kind] = ("tag",)
KINDS: Final = (TAG, TAGGED, PLAIN)
"""The fields by which periods are summed. What an answer does not need is not read: few group by tags, and fewer by
more than tags."""
MAX_TAGS = 10_000
"""Different tags of a period whose sums are kept. An answer has no more groups either, so that none is missed."""
_FIGURES = ("steps", *SUMMED_NAMES)
_COST, _BASIS, _UNPRICED = -3, -2, -1
_EXACT: Final = Context(prec=500)
"""Adds without rounding, so that sums of sums are to the digit what the sum of the rows is."""
Entry = list[Any]
"""Sums, or a row's figures: `_FIGURES`, the cost (USD; `None` where nothing is priced), the place in `CERTAINTY`,
whether a price is missing."""


class Sums:
    """Sums by some fields of rows: `day`, `workflow`, `step`, `model`, `key` and `tag` (`name=value`; `None` for runs
    without tags). A row counts for each of its tags."""

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)
        self.entries: dict[tuple[Any, ...], Entry] = {}
        """By the fields' values. Empty where there are too many tags."""
        self.too_many_tags = False
        """There are more than `MAX_TAGS` different ones."""
        self._tag_at = self.fields.index("tag") if "tag" in self.fields else None
        self._tags: set[str | None] = set()

    def add_row(self, whose: Mapping[str, str], row: UsageRow, figures: Entry) -> None:
        """Add a row. `whose`: its `day` and `workflow`; `figures`: as `figures_of` says them."""
        tags: list[str | None] = [None]
        if self._tag_at is not None:
            tags = [f"{name}={value}" for name, value in (row.get("tags") or {}).items()] or tags
        values = cast("Mapping[str, Any]", row)
        for tag in tags:
            said = {**whose, "tag": tag}
            self._add(tuple([said[name] if name in said else _text(values.get(name)) for name in self.fields]), figures)

    def add_packed(self, whose: Mapping[str, str], packed: bytes) -> None:
        """Add packed sums by these fields and others. `whose`: their `day` and `workflow`."""
        kept = json.loads(zlib.decompress(packed))
        if kept is None:
            self._give_up()
            return
        columns = []
        for field in self.fields:
            values, places = ([whose[field]], [0] * kept["count"]) if field in whose else kept["by"][field]
            columns.append([values[place] for place in places])
        numbers: dict[tuple[Any, ...], int] = {}
        combinations = zip(*columns, strict=True) if columns else [()] * kept["count"]
        groups = [numbers.setdefault(combination, len(numbers)) for combination in combinations]
        for combination, figures in zip(numbers, _grouped(kept, groups, len(numbers)), strict=True):
            self._add(combination, figures)

    def add_sums(self, other: Sums) -> None:
        """Add sums by the same fields."""
        if other.too_many_tags:
            self._give_up()
        for combination, figures in other.entries.items():
            self._add(combination, figures)

    def pack(self) -> bytes:
        """Return the sums as they are kept."""
        text = json.dumps(self._columns(), ensure_ascii=False, separators=(",", ":"))
        return zlib.compress(text.encode(errors="surrogatepass"))

    def _columns(self) -> dict[str, Any] | None:
        """Return the sums by columns: of each field its values and, for each entry, which of them it has; of each
        figure the entries' numbers; costs as whole numbers of 10 ** `exponent` USD."""
        if self.too_many_tags:
            return None
        by = {}
        for at, field in enumerate(self.fields):
            places: dict[Any, int] = {}
            column = [places.setdefault(combination[at], len(places)) for combination in self.entries]
            by[field] = (list(places), column)
        columns = [[entry[at] for entry in self.entries.values()] for at in range(len(_FIGURES) + 3)]
        costs = columns[_COST]
        exponent = min((cost.as_tuple().exponent for cost in costs if cost is not None), default=0)
        return {
            "count": len(self.entries),
            "by": by,
            "figures": dict(zip(_FIGURES, columns, strict=False)),
            "exponent": exponent,
            "costs": [None if cost is None else int(cost.scaleb(-exponent, _EXACT)) for cost in costs],
            "basis": columns[_BASIS],
            "unpriced": columns[_UNPRICED],
        }

    def _add(self, combination: tuple[Any, ...], figures: Entry) -> None:
        entry = self.entries.get(combination)
        if entry is None:
            if self._tag_at is not None and not self.too_many_tags:
                self._tags.add(combination[self._tag_at])
                if len(self._tags) > MAX_TAGS:
                    self._give_up()
            if self.too_many_tags:
                return
            entry = self.entries[combination] = _nothing()
        add(entry, figures)

    def _give_up(self) -> None:
        self.too_many_tags = True
        self.entries.clear()


def figures_of(row: UsageRow) -> Entry:
    """Return a row's figures."""
    values = cast("Mapping[str, Any]", row)
    paid = row.get("cost_usd")
    return [
        *(int(values.get(name) or 0) for name in _FIGURES),
        Decimal(paid) if paid is not None else None,
        CERTAINTY.index(row.get("cost_basis", "unknown")),
        bool(row.get("unpriced")),
    ]


def attributes(sums: Iterable[Sums]) -> tuple[str, ...]:
    """Return the attributes of a row that some sums need."""
    fields = {field for one in sums for field in one.fields}
    said = [name for name in PLAIN if name in fields] + ["tags"] * ("tag" in fields)
    return (*said, *_FIGURES, "cost_usd", "cost_basis", "unpriced")


def add(sums: Entry, more: Entry) -> None:
    """Add sums, or a row's figures, to sums."""
    # Hundreds of thousands of times in an answer: written for speed.
    sums[:_COST] = map(operator.add, sums[:_COST], more)
    cost, basis, unpriced = more[_COST:]
    if cost is not None:
        known = sums[_COST]
        sums[_COST] = cost if known is None else _EXACT.add(known, cost)
    if basis > sums[_BASIS]:
        sums[_BASIS] = basis
    if unpriced:
        sums[_UNPRICED] = True


def told(sums: Iterable[Entry]) -> dict[str, Any]:
    """Return the sum of sums by their names inside."""
    total = _nothing()
    for one in sums:
        add(total, one)
    cost, basis, unpriced = total[_COST:]
    if cost is None and not unpriced and basis == 0:
        cost = Decimal(0)
    figures = dict(zip(_FIGURES, total, strict=False))
    return {**figures, "cost_usd": cost, "cost_basis": CERTAINTY[basis], "unpriced": unpriced}


def _grouped(kept: Mapping[str, Any], groups: Sequence[int], count: int) -> Iterable[Entry]:
    """Return the sums of kept columns by group: `groups` says of each entry which of the `count` it belongs to. A
    figure that is younger than they are is 0."""
    columns: list[list[Any]] = []
    for name in _FIGURES:
        numbers = [0] * count
        for group, number in zip(groups, kept["figures"].get(name, ()), strict=False):
            numbers[group] += number
        columns.append(numbers)
    costs: list[int | None] = [None] * count
    for group, cost in zip(groups, kept["costs"], strict=True):
        if cost is not None:
            costs[group] = (costs[group] or 0) + cost
    columns.append([None if cost is None else Decimal(cost).scaleb(kept["exponent"], _EXACT) for cost in costs])
    for name in ("basis", "unpriced"):
        worst = [0] * count
        if any(kept[name]):
            for group, value in zip(groups, kept[name], strict=True):
                worst[group] = max(worst[group], value)
        columns.append(worst)
    return map(list, zip(*columns, strict=True))


def _nothing() -> Entry:
    """Return the sums of nothing."""
    return [0] * len(_FIGURES) + [None, 0, False]


def _text(value: Any) -> str | None:
    """Return a value of a row that somebody may have written by hand, as text."""
    return value if value is None or isinstance(value, str) else str(value)
