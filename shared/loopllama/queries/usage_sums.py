"""Sums of the Usage table's rows by some of their fields, made from rows and from packed sums.

Sums are packed as compressed JSON, column by column: a month of millions of rows is some hundred thousand sums, and
adding up a column of whole numbers costs a tenth of adding up entry by entry.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict, cast

from loopllama.core.tags import text_of
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

_EXACT: Final = Context(prec=500)
"""Rounds nothing: sums of sums are to the digit what the sum of the rows is."""


class Columns(TypedDict):
    """Sums by columns, as they are kept: each list has an item for each entry, or none where all would be 0."""

    by: dict[str, tuple[list[str | None], list[int]]]
    """By field: its different values, and which of them each entry has."""
    figures: dict[str, list[int]]
    exponent: int
    costs: list[int | None]
    """In 10 ** `exponent` USD, so that sums are exact; `None` where nothing is priced."""
    basis: list[int]
    """Places in `CERTAINTY`."""
    unpriced: list[bool]
    simulated: NotRequired[list[bool]]
    """Missing in sums that were made before it was summed: nobody knows then, and nothing is said."""


class Sums:
    """Sums by some fields of rows: `day`, `workflow`, `step`, `model`, `key` and `tag` (its text, `name=value`; `None`
    for runs without tags). A row counts for each of its tags."""

    def __init__(self, fields: Sequence[str]) -> None:
        self.fields = tuple(fields)
        self.too_many_tags = False
        """There are more than `MAX_TAGS` different ones. Nothing else is kept then."""
        self._tag_at = self.fields.index("tag") if "tag" in self.fields else None
        self._tags: set[str | None] = set()
        self._forget()

    def __len__(self) -> int:
        return len(self._places)

    def _forget(self) -> None:
        self._places: dict[tuple[Any, ...], int] = {}
        """Where in the columns a combination of the fields' values is."""
        self._figures: dict[str, list[int]] = {name: [] for name in _FIGURES}
        self._exponent = 0
        self._costs: list[int | None] = []
        self._basis: list[int] = []
        self._unpriced: list[bool] = []
        self._simulated: list[bool] = []

    def add_rows(self, whose: Mapping[str, str], rows: Iterable[UsageRow]) -> None:
        """Add rows. `whose`: their `day` and `workflow`."""
        combinations: list[tuple[Any, ...]] = []
        counted: list[Mapping[str, Any]] = []
        costs: list[Decimal | None] = []
        for row in rows:
            tags: list[str | None] = [None]
            if self._tag_at is not None:
                tags = [text_of(name, value) for name, value in (row.get("tags") or {}).items()] or tags
            values = cast("Mapping[str, Any]", row)
            paid = row.get("cost_usd")
            for tag in tags:
                said = {**whose, "tag": tag}
                combinations.append(
                    tuple([said[name] if name in said else _text(values.get(name)) for name in self.fields])
                )
                counted.append(values)
                costs.append(None if paid is None else Decimal(paid))
        exponent = min((int(cost.as_tuple().exponent) for cost in costs if cost is not None), default=0)
        self._add(
            combinations,
            {name: [int(row.get(name) or 0) for row in counted] for name in _FIGURES},
            exponent,
            [None if cost is None else int(cost.scaleb(-exponent, _EXACT)) for cost in costs],
            [CERTAINTY.index(row.get("cost_basis", "unknown")) for row in counted],
            [bool(row.get("unpriced")) for row in counted],
            [bool(row.get("simulated")) for row in counted],
        )

    def add_packed(self, whose: Mapping[str, str], packed: bytes) -> None:
        """Add packed sums by these fields and others. `whose`: their `day` and `workflow`. A figure that is younger
        than they are is 0."""
        kept: Columns | None = json.loads(zlib.decompress(packed))
        if kept is None:
            self._give_up()
            return
        count = len(kept["costs"])
        columns: list[list[str | None]] = []
        for field in self.fields:
            values, which = ([whose[field]], [0] * count) if field in whose else kept["by"][field]
            columns.append([values[at] for at in which])
        combinations = list(zip(*columns, strict=True)) if columns else [()] * count
        self._add(
            combinations,
            kept["figures"],
            kept["exponent"],
            kept["costs"],
            kept["basis"],
            kept["unpriced"],
            kept.get("simulated", ()),
        )

    def add_sums(self, other: Sums) -> None:
        """Add sums by the same fields."""
        if other.too_many_tags:
            self._give_up()
        self._add_all(list(other._places), other)

    def pack(self) -> bytes:
        """Return the sums as they are kept."""
        text = json.dumps(None if self.too_many_tags else self._columns(), ensure_ascii=False, separators=(",", ":"))
        return zlib.compress(text.encode(errors="surrogatepass"))

    def told(self) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Yield each combination of the fields' values and its sums, by their names inside."""
        for combination, at in self._places.items():
            units, basis, unpriced = self._costs[at], CERTAINTY[self._basis[at]], self._unpriced[at]
            cost = None if units is None else Decimal(units).scaleb(self._exponent, _EXACT)
            if cost is None and not unpriced and basis == CERTAINTY[0]:
                cost = Decimal(0)
            figures = {name: column[at] for name, column in self._figures.items()}
            certainty = {"cost_basis": basis, "unpriced": unpriced, "simulated": self._simulated[at]}
            yield combination, {**figures, "cost_usd": cost, **certainty}

    def total(self) -> dict[str, Any]:
        """Return the sum of the sums, by its names inside."""
        total = Sums(())
        total._place(())
        total._add_all([()] * len(self), self)
        return next(total.told())[1]

    def _columns(self) -> Columns:
        by = {}
        for at, field in enumerate(self.fields):
            places: dict[Any, int] = {}
            which = [places.setdefault(combination[at], len(places)) for combination in self._places]
            by[field] = (list(places), which)
        return {
            "by": by,
            "figures": self._figures,
            "exponent": self._exponent,
            "costs": self._costs,
            "basis": self._basis if any(self._basis) else [],
            "unpriced": self._unpriced if any(self._unpriced) else [],
            "simulated": self._simulated if any(self._simulated) else [],
        }

    def _add_all(self, combinations: Sequence[tuple[Any, ...]], other: Sums) -> None:
        self._add(
            combinations, other._figures, other._exponent, other._costs, other._basis, other._unpriced, other._simulated
        )

    def _add(
        self,
        combinations: Sequence[tuple[Any, ...]],
        figures: Mapping[str, Sequence[int]],
        exponent: int,
        costs: Sequence[int | None],
        basis: Sequence[int],
        unpriced: Sequence[bool],
        simulated: Sequence[bool],
    ) -> None:
        """Add columns; `combinations` says where each of their entries counts."""
        # Hundreds of thousands of entries in an answer: written for speed.
        for combination in dict.fromkeys(combinations):
            if combination not in self._places:
                self._place(combination)
        if self.too_many_tags:
            return
        places = [self._places[combination] for combination in combinations]
        for name, mine in self._figures.items():
            for at, number in zip(places, figures.get(name, ()), strict=False):
                mine[at] += number
        factor = self._scale(exponent)
        for at, cost in zip(places, costs, strict=True):
            if cost is not None:
                self._costs[at] = (self._costs[at] or 0) + cost * factor
        for at, place in zip(places, basis, strict=False):
            self._basis[at] = max(self._basis[at], place)
        for at, missing in zip(places, unpriced, strict=False):
            self._unpriced[at] |= missing
        for at, played in zip(places, simulated, strict=False):
            self._simulated[at] |= played

    def _place(self, combination: tuple[Any, ...]) -> None:
        """Make a place for a combination."""
        if self._tag_at is not None and not self.too_many_tags:
            self._tags.add(combination[self._tag_at])
            if len(self._tags) > MAX_TAGS:
                self._give_up()
        if self.too_many_tags:
            return
        self._places[combination] = len(self._places)
        for column in self._figures.values():
            column.append(0)
        self._costs.append(None)
        self._basis.append(0)
        self._unpriced.append(False)
        self._simulated.append(False)

    def _scale(self, exponent: int) -> int:
        """Return what costs of an exponent are to be multiplied with; smaller ones become that of the sums."""
        if exponent < self._exponent:
            finer: int = 10 ** (self._exponent - exponent)
            self._costs = [None if cost is None else cost * finer for cost in self._costs]
            self._exponent = exponent
        factor: int = 10 ** (exponent - self._exponent)
        return factor

    def _give_up(self) -> None:
        self.too_many_tags = True
        self._forget()


def attributes(sums: Iterable[Sums]) -> tuple[str, ...]:
    """Return the attributes of a row that some sums need."""
    fields = {field for one in sums for field in one.fields}
    said = [name for name in PLAIN if name in fields] + ["tags"] * ("tag" in fields)
    return (*said, *_FIGURES, "cost_usd", "cost_basis", "unpriced", "simulated")


def _text(value: Any) -> str | None:
    """Return a value of a row that somebody may have written by hand, as text."""
    return value if value is None or isinstance(value, str) else str(value)
