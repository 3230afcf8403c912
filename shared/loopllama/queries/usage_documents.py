"""Where sums of usage are kept: documents in the Usage table, one for a period of a workflow and a kind of sums.

A day of 3,000 combinations is one item of some 40 KB, which is read in milliseconds. What does not fit into an item is
in parts beside it. They are written before the item that names them, so a document is there as a whole or not at all.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, cast

from loopllama.aws import dynamo
from loopllama.queries.usage_sums import PLAIN, TAG, TAGGED, Kind

if TYPE_CHECKING:
    from loopllama.runs.records import Number

Level = Literal["days", "hours"]
DAYS: Final[Level] = "days"
HOURS: Final[Level] = "hours"
PART_BYTES = 350_000
"""DynamoDB's items take 400 KB."""
_PARTITIONS = {TAG: "_tag", PLAIN: "", TAGGED: "_tags"}


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

    def __init__(self, dynamodb: Any, table: str, level: Level, kind: Kind) -> None:
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
