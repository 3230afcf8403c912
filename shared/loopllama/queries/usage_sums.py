"""Sums of the Usage table's rows, and how they are kept: one document for a period of a workflow.

A period's rows are summed by step, model and key, and once more with each of their tags, which only readers ask for who
group by tags. Kept sums are compressed JSON: a day of 3,000 combinations is one item of some 60 KB, which is read in
milliseconds. What does not fit into an item is in parts beside it. They are written before the item that names them,
so a document is there as a whole or not at all.
"""

from __future__ import annotations

import json
import operator
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from loopllama.aws import dynamo
from loopllama.llm.usage import SUMMED_NAMES
from loopllama.runs.totals import CERTAINTY

if TYPE_CHECKING:
    from loopllama.runs.records import Number, UsageRow

MAX_TAGS = 10_000
"""Different tags of a period whose sums are kept. An answer has no more groups either, so that none is missed."""
PART_BYTES = 350_000
"""DynamoDB's items take 400 KB."""
READ = ("step", "model", "key", "tags", "steps", *SUMMED_NAMES, "cost_usd", "cost_basis", "unpriced", "delete_at")
"""What is read of a row."""
TAG, PLAIN, TAGGED = 1, 3, 4
"""The kinds of kept sums, by how many values a combination has: a tag alone; step, model and key; these and a tag. What
an answer does not need is not read: few group by more than tags."""
KINDS = (TAG, TAGGED, PLAIN)
_PARTITIONS = {TAG: "_tag", PLAIN: "", TAGGED: "_tags"}
_FIGURES = ("steps", *SUMMED_NAMES)
_COST, _BASIS, _UNPRICED = len(_FIGURES), len(_FIGURES) + 1, len(_FIGURES) + 2
_EXACT: Final = Context(prec=500)
"""Adds without rounding, so that sums of sums are to the digit what the sum of the rows is."""
Entry = list[Any]
"""Sums: `_FIGURES`, the cost (`None` where nothing is priced), the place in `CERTAINTY`, whether a price is missing."""


def add(sums: Entry, more: Sequence[Any]) -> None:
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


def empty() -> Entry:
    """Return the sums of nothing."""
    return [0] * _COST + [None, 0, False]


def told(sums: Entry) -> dict[str, Any]:
    """Return sums by their names inside."""
    cost, basis, unpriced = sums[_COST:]
    if cost is None and not unpriced and basis == 0:
        cost = Decimal(0)
    figures = dict(zip(_FIGURES, sums, strict=False))
    return {**figures, "cost_usd": cost, "cost_basis": CERTAINTY[basis], "unpriced": unpriced}


@dataclass(slots=True)
class Sums:
    """Sums of a period of a workflow."""

    plain: dict[tuple[Any, ...], Entry]
    """By step, model and key."""
    tagged: dict[tuple[Any, ...], Entry] | None
    """By step, model, key and tag (`name=value`; `None` for runs without tags); `None` where there are more than
    `MAX_TAGS` different ones, or nobody asked."""
    rows_until: int | None = None
    """Epoch seconds from which on the first of the rows may be gone."""
    _tags: set[str | None] | None = None

    @classmethod
    def of_nothing(cls, *, tags: bool = True) -> Sums:
        """Return sums to add to; without those by tag where nobody asks for them."""
        return cls({}, {} if tags else None, None, set())

    def add_row(self, row: UsageRow) -> None:
        """Add a row."""
        values = cast("Mapping[str, Any]", row)
        paid = row.get("cost_usd")
        figures = [
            *(int(values.get(name) or 0) for name in _FIGURES),
            Decimal(paid) if paid is not None else None,
            CERTAINTY.index(row.get("cost_basis", "unknown")),
            bool(row.get("unpriced")),
        ]
        combination = tuple(_text(values.get(name)) for name in ("step", "model", "key"))
        self._add(self.plain, combination, figures)
        if self.tagged is not None:
            tags: list[str | None] = [f"{name}={value}" for name, value in (row.get("tags") or {}).items()]
            for tag in tags or [None]:
                self._add_tagged((*combination, tag), figures)
        if (until := row.get("delete_at")) is not None:
            self._until(int(until))

    def add_kept(self, plain: bytes, tagged: bytes | None, kind: int, rows_until: int | None) -> None:
        """Add the kept sums of a part of the period; those by tag, which are of a kind (`TAG`, `TAGGED`), where these
        have them."""
        for combination, sums in unpack(plain, PLAIN):
            self._add(self.plain, combination, sums)
        if self.tagged is not None and tagged is not None:
            try:
                for combination, sums in unpack(tagged, kind):
                    self._add_tagged(combination, sums)
            except TooManyTags:
                self.tagged = None
        if rows_until is not None:
            self._until(rows_until)

    def _add(self, to: dict[tuple[Any, ...], Entry], combination: tuple[Any, ...], figures: Entry) -> None:
        add(to.setdefault(combination, empty()), figures)

    def _add_tagged(self, combination: tuple[Any, ...], figures: Entry) -> None:
        if self.tagged is None:
            return
        self._add(self.tagged, combination, figures)
        if self._tags is not None:
            self._tags.add(combination[-1])
            if len(self._tags) > MAX_TAGS:
                self.tagged = None

    def _until(self, moment: int) -> None:
        self.rows_until = moment if self.rows_until is None else min(moment, self.rows_until)


@dataclass(frozen=True, slots=True)
class Stored:
    """What is there of a document before it is made again."""

    make: str | None
    rows_until: int | None
    rest: list[str]
    """The sort keys of parts: its own, and those that whoever died had written."""


class UsageDocument(TypedDict, total=False):
    """An item of the Usage table that holds a period's sums."""

    day_workflow: str
    run_step_model: str
    make: str
    parts: Number
    sums: bytes
    rows_until: Number


class Documents:
    """The kept sums of days, or of hours, in the Usage table, of one kind."""

    def __init__(self, dynamodb: Any, table: str, level: str, kind: int) -> None:
        self._dynamodb, self._table = dynamodb, table
        self._prefix = level + _PARTITIONS[kind]

    def read(self, workflow: str, first: str, last: str) -> Iterator[tuple[str, bytes, int | None]]:
        """Yield the whole documents of a workflow from one period to another: period, packed sums, `rows_until`."""
        heads: dict[str, UsageDocument] = {}
        parts: dict[tuple[str, str], dict[int, bytes]] = {}
        for item in self._items(workflow, first, f"{last}~"):
            period, _, part = str(item["run_step_model"]).partition("#")
            if part:
                make, _, number = part.partition("#")
                parts.setdefault((period, make), {})[int(number)] = item["sums"]
            else:
                heads[period] = cast("UsageDocument", item)
        for period, head in heads.items():
            mine = parts.get((period, head["make"]), {})
            if len(mine) == int(head["parts"]):
                until = head.get("rows_until")
                packed = head["sums"] + b"".join(mine[number] for number in sorted(mine))
                yield period, packed, None if until is None else int(until)

    def stored(self, workflow: str, period: str) -> Stored:
        """Return what there is of a document, whole or not."""
        make, until, rest = None, None, []
        for item in self._items(workflow, period, f"{period}$", attributes=("run_step_model", "make", "rows_until")):
            if item["run_step_model"] == period:
                make, until = item["make"], item.get("rows_until")
            else:
                rest.append(item["run_step_model"])
        return Stored(make, None if until is None else int(until), rest)

    def write(
        self,
        workflow: str,
        period: str,
        packed: bytes,
        before: Stored,
        *,
        rows_until: int | None,
        delete_at: int | None = None,
    ) -> bool:
        """Put a document in the place of what there was `before`; whether it did: nothing happens where another has
        been put meanwhile."""
        make = secrets.token_hex(16)
        key = f"{self._prefix}#{workflow}"
        pieces = [packed[start : start + PART_BYTES] for start in range(0, len(packed), PART_BYTES)]
        more = {"delete_at": delete_at}
        names = [f"{period}#{make}#{number}" for number in range(1, len(pieces))]
        parts = [
            {"day_workflow": key, "run_step_model": name, "sums": piece, **more}
            for name, piece in zip(names, pieces[1:], strict=True)
        ]
        dynamo.batch_put(self._dynamodb, self._table, parts)
        head: UsageDocument = {
            "day_workflow": key,
            "run_step_model": period,
            "make": make,
            "parts": len(parts),
            "sums": pieces[0],
        }
        if rows_until is not None:
            head["rows_until"] = rows_until
        done, _ = dynamo.put(
            self._dynamodb,
            self._table,
            {**head, **more},
            condition="#make = :make" if before.make else "attribute_not_exists(#make)",
            names={"#make": "make"},
            parameters={":make": before.make} if before.make else None,
        )
        gone = before.rest if done else names
        dynamo.batch_delete(
            self._dynamodb, self._table, [{"day_workflow": key, "run_step_model": name} for name in gone]
        )
        return done

    def _items(self, workflow: str, first: str, last: str, **how: Any) -> Iterator[dict[str, Any]]:
        condition = "day_workflow = :key AND run_step_model BETWEEN :first AND :last"
        parameters = {":key": f"{self._prefix}#{workflow}", ":first": first, ":last": last}
        return dynamo.each(self._dynamodb, self._table, condition, parameters, consistent=True, **how)


def pack(entries: Mapping[tuple[Any, ...], Entry] | None) -> bytes:
    """Return sums as they are kept."""
    rows = None
    if entries is not None:
        rows = [
            [*combination, *sums[:_COST], None if sums[_COST] is None else str(sums[_COST]), *sums[_BASIS:]]
            for combination, sums in entries.items()
        ]
    text = json.dumps({"figures": _FIGURES, "rows": rows}, ensure_ascii=False, separators=(",", ":"))
    return zlib.compress(text.encode(errors="surrogatepass"))


def pack_kind(sums: Sums, kind: int) -> bytes:
    """Return a period's sums of a kind as they are kept."""
    if kind == TAG and sums.tagged is not None:
        by_tag: dict[tuple[Any, ...], Entry] = {}
        for combination, figures in sums.tagged.items():
            add(by_tag.setdefault(combination[-1:], empty()), figures)
        return pack(by_tag)
    return pack(sums.plain if kind == PLAIN else sums.tagged)


def unpack(packed: bytes, width: int) -> Iterator[tuple[tuple[Any, ...], Entry]]:
    """Yield kept sums of a kind (`width`): the combination, with `None` for what a tag alone does not say, and the
    sums. A figure that is younger than they are is 0. Raises `TooManyTags` where they are not kept."""
    kept = json.loads(zlib.decompress(packed))
    if kept["rows"] is None:
        raise TooManyTags
    names = kept["figures"]
    end = width + len(names)
    places = [width + names.index(name) if name in names else None for name in _FIGURES]
    same = tuple(names) == _FIGURES
    unsaid = (None,) * PLAIN if width == TAG else ()
    for row in kept["rows"]:
        combination, figures = (*unsaid, *row[:width]), row[width:]
        if not same:
            figures = [0 if place is None else row[place] for place in places] + row[end:]
        if figures[_COST] is not None:
            figures[_COST] = Decimal(figures[_COST])
        yield combination, figures


def _text(value: Any) -> str | None:
    """Return a value of a row that somebody may have written by hand, as text."""
    return value if value is None or isinstance(value, str) else str(value)


class TooManyTags(Exception):
    """The period has more than `MAX_TAGS` different tags."""
