"""The Tools table: a row for each tool, whose `definition` is JSON text (docs/tools.md).

Functions only read it: RunStep the rows that a step names, the API all of them. It is written with the AWS credentials
of a person (`loopllama tools push`), because a tool carries a secret to a host and invokes functions: no API key may
decide that, and no function has the permission. What every write changed is in the history
(`routing.change_log.tool_route`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import clients, dynamo
from loopllama.core import clock, exact_json
from loopllama.errors import InvalidRequest
from loopllama.settings import Settings
from loopllama.tools.definitions import is_name
from loopllama.tools.reading import KNOWN_TO_ALL, check, digest

if TYPE_CHECKING:
    from loopllama.aws.versioned import Rows
    from loopllama.tools.types import ToolRow, Written

MAX_REASON = 500
MAX_KEPT = 128
"""Rows that a process keeps, of those used last."""


class ToolStore:
    """The Tools table; one that has no name holds nothing."""

    def __init__(self, settings: Settings, dynamodb: Any = None) -> None:
        self._table = settings.tools_table
        self._given = dynamodb

    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def named(self, names: Iterable[str]) -> dict[str, ToolRow]:
        """Return the rows of these tools by name, read consistently; names that every deployment knows, and those that
        this one does not define, are left out. One BatchGetItem, and none where no name is left."""
        keys = [{"tool": name} for name in dict.fromkeys(names) if name not in KNOWN_TO_ALL and is_name(name)]
        if not self._table or not keys:
            return {}
        return cast("dict[str, ToolRow]", dynamo.batch_get(self._dynamodb(), self._table, keys, by="tool"))

    def rows(self) -> list[ToolRow]:
        """Return every row, by name."""
        if not self._table:
            return []
        pages = self._dynamodb().get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True)
        rows = [cast("ToolRow", dynamo.from_item(item)) for page in pages for item in page["Items"]]
        return sorted(rows, key=lambda row: row["tool"])

    def write(self, definitions: Mapping[str, Any], *, updated_by: str, reason: str) -> list[Written]:
        """Define tools, anew or for the first time; other tools stay. Return what became of each.

        Nothing is written unless every definition makes sense. Raises `ToolInvalid` for the first that does not,
        `InvalidRequest` for a reason that is too long, and `VersionConflict` where somebody changed a row in between.
        """
        texts = checked(definitions)
        if len(reason) > MAX_REASON:
            raise InvalidRequest.of("reason", f"must have at most {MAX_REASON} characters")
        present = self.named(texts)
        return [self._define(name, text, present.get(name), updated_by, reason) for name, text in texts.items()]

    def _define(self, name: str, text: str, before: ToolRow | None, updated_by: str, reason: str) -> Written:
        from loopllama.aws.versioned import version_of

        version = version_of(before)
        if before is not None and (before.get("definition"), before.get("checked")) == (text, digest(text)):
            return {"tool": name, "change": "unchanged", "version": version}
        row = {"tool": name, "definition": text, "checked": digest(text), **_stamp(before, updated_by, reason)}
        self._rows().put(row, before, f"the tool {name!r}")
        return {"tool": name, "change": "created" if before is None else "changed", "version": version + 1}

    def remove(self, name: str, *, updated_by: str, reason: str) -> bool:
        """Delete a tool, and return whether there was one. Who and why is written to its row first, so that the stream
        has seen it. Raises `VersionConflict`."""
        before = self.named([name]).get(name)
        if before is None:
            return False
        last = {"tool": name, **_stamp(before, updated_by, reason)}
        self._rows().put(last, before, f"the tool {name!r}")
        self._rows().delete({"tool": name}, last, f"the tool {name!r}")
        return True

    def _rows(self) -> Rows:
        from loopllama.aws.versioned import STAMP, Rows

        return Rows(self._dynamodb(), self._table, "tool", ("definition", "checked", *STAMP))


def checked(definitions: Mapping[str, Any]) -> dict[str, str]:
    """Return definitions as JSON text by name, once all of them make sense. Raises `ToolInvalid` for the first that
    does not."""
    texts = {name: exact_json.dumps(definition, ascii_only=False) for name, definition in definitions.items()}
    for name, text in texts.items():
        check(name, text)
    return texts


def _stamp(before: ToolRow | None, updated_by: str, reason: str) -> dict[str, Any]:
    from loopllama.aws.versioned import version_of

    return {
        "version": version_of(before) + 1,
        "updated_by": updated_by,
        "reason": reason,
        "updated_at": clock.now_text(),
    }


class KeptTools:
    """The rows of tools in a process that uses them again and again, each kept for the deployment's
    `route_cache_seconds`. What is not defined is asked for each time, so that a tool which has just been defined is
    found."""

    def __init__(self, settings: Settings) -> None:
        self._store = ToolStore(settings)
        self._seconds = settings.route_cache_seconds
        self._rows: OrderedDict[str, tuple[float, ToolRow]] = OrderedDict()

    def named(self, names: Iterable[str], now: float) -> dict[str, ToolRow]:
        """Return the rows of these tools at `now`, in epoch seconds: `ToolStore.named`, and no call where all of them
        are kept."""
        wanted = list(dict.fromkeys(names))
        stale = [name for name in wanted if name not in self._rows or self._rows[name][0] <= now]
        read = self._store.named(stale)
        for name in stale:
            self._rows.pop(name, None)
            if name in read:
                self._rows[name] = (now + self._seconds, read[name])
        found = {name: self._rows[name][1] for name in wanted if name in self._rows}
        while len(self._rows) > MAX_KEPT:
            self._rows.popitem(last=False)
        return found
