"""Optimistic locking of rows that people edit by hand: their version, and writes where one is unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from loopllama.aws import dynamo
from loopllama.errors import VersionConflict

STAMP = ("version", "updated_by", "reason", "updated_at")


MOST_VERSIONS = 10**9


def version_of(row: Mapping[str, Any] | None) -> int:
    """Return a row's version; 0 for no row, and where somebody wrote by hand what one cannot count on from."""
    version = (row or {}).get("version")
    if isinstance(version, bool) or not isinstance(version, (int, Decimal)) or not 1 <= version < MOST_VERSIONS:
        return 0
    return 0 if version % 1 else int(version)


class Rows:
    """A table's rows, each of which is written only where its `known` attributes are still as they were read. `key` is
    the partition key's name."""

    def __init__(self, dynamodb: Any, table: str, key: str, known: Sequence[str]) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._key = key
        self._known = known

    def put(self, row: Mapping[str, Any], before: Mapping[str, Any] | None, subject: str) -> None:
        """Put a row over what was read `before`, `None` for no row. Raises `VersionConflict`, whose sentence names the
        row as `subject`."""
        if not dynamo.put(self._dynamodb, self._table, row, **self._unchanged(before))[0]:
            raise _conflict(subject)

    def delete(self, key: Mapping[str, Any], before: Mapping[str, Any], subject: str) -> None:
        """Delete a row that is still as it was read `before`. Raises `VersionConflict` as `put` does."""
        if not dynamo.delete(self._dynamodb, self._table, key, **self._unchanged(before)):
            raise _conflict(subject)

    def _unchanged(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        if before is None:
            return {"condition": "attribute_not_exists(#key)", "names": {"#key": self._key}}
        conditions, names, parameters = dynamo.as_read(before, self._known)
        return {
            "condition": " AND ".join(("attribute_exists(#key)", *conditions)),
            "names": {**names, "#key": self._key},
            "parameters": parameters,
        }


def _conflict(subject: str) -> VersionConflict:
    return VersionConflict(f"somebody changed {subject} in between: read it again and repeat")
