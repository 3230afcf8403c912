"""Who changed an override, when, from what to what: the RouteHistory table, written from the streams of Routes, Models
and Tools.

An entry is written for every change, by whatever hand, keyed by `route` and `sequence`, the stream's number of the
change with leading zeros, so that entries sort by time. `route` is `<workflow>#<step>`, `model:<id>` for an entry of
the Models table, or `tool:<name>` for a row of the Tools table. Attributes: `change` (`set`, `removed`, `expired`),
`before` and `after` (the rows without their keys; absent for none), `version`, `updated_by`, `reason`, `at`, and
`problems` where the row is invalid.

`version`, `updated_by` and `reason` are believed only where the row's `version` has moved: somebody who edits a row in
the DynamoDB console leaves them as they were. Who did is `unknown` then, and `expired` where DynamoDB's TTL did. What
is unset loses its values first, under its last version, and is deleted then (`RouteStore.unset`); that is one entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import clients, dynamo
from loopllama.aws.versioned import STAMP, version_of
from loopllama.catalog.entries import is_machine_key
from loopllama.core import clock, exact_json
from loopllama.errors import NotFound
from loopllama.settings import Settings

if TYPE_CHECKING:
    from loopllama.routing.types import Change, Difference, RouteRow, ShownChange

MAX_ROW = 100_000
"""Longest row, as JSON, that is kept as it is: an item and an event end at 400 and 256 KB."""
UNKNOWN = "unknown"
_ROUTE_KEYS = ("workflow", "step")
_OTHERS = ("model", "tool")
"""Keys of tables whose rows are no routes."""


class History:
    """Reads and writes the RouteHistory table."""

    def __init__(self, settings: Settings, dynamodb: Any = None) -> None:
        self._table = settings.route_history_table
        self._given = dynamodb

    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def put(self, entry: Change) -> None:
        """Write an entry; the same change twice is one entry."""
        self._dynamodb().put_item(TableName=self._table, Item=dynamo.to_item(entry))

    def entries(self, route: str, limit: int = 50, before: str | None = None) -> list[Change]:
        """Newest first, at most `limit`; those before the entry of the sequence `before`, where that is given."""
        entries: list[Change] = []
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "route = :route AND #sequence < :before",
            "ExpressionAttributeNames": {"#sequence": "sequence"},
            # Sequences are digits, so all of them are before a colon.
            "ExpressionAttributeValues": dynamo.to_item({":route": route, ":before": before or ":"}),
            "ScanIndexForward": False,
            "ConsistentRead": True,
        }
        while len(entries) < limit:
            page = self._dynamodb().query(**request, Limit=limit - len(entries))
            entries.extend(cast("Change", dynamo.from_item(item)) for item in page["Items"])
            if "LastEvaluatedKey" not in page:
                break
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]
        return entries

    def at_version(self, route: str, version: int) -> Change:
        """Return the newest entry that made this version. Raises `NotFound`, naming the versions that there are."""
        entries = self.entries(route, 1000)
        for entry in entries:
            if entry.get("version") == version:
                return entry
        known = ", ".join(str(entry["version"]) for entry in entries if entry.get("version") is not None)
        raise NotFound(f"the history of {route!r} has no version {version}; it has {known or 'none yet'}")

    def last_version(self, route: str) -> int:
        """Return the highest version that the route has had as far as the history knows; 0 for none."""
        return max((version_of(entry) for entry in self.entries(route, 20)), default=0)


def route_of(workflow_id: str, step: str) -> str:
    """Return a route's key in the history."""
    return f"{workflow_id}#{step}"


def model_route(model_id: str) -> str:
    """Return a catalog entry's key in the history; workflow ids have no colon."""
    return f"model:{model_id}"


def tool_route(name: str) -> str:
    """Return a tool's key in the history."""
    return f"tool:{name}"


def entry_of(record: Mapping[str, Any]) -> Change | None:
    """Return the entry of a stream record of the Routes, Models or Tools table, without `problems`; `None` for one that
    changes nothing worth an entry: a write of the same row, or the deletion of a route that has been emptied."""
    change = record["dynamodb"]
    keys = dynamo.from_item(change["Keys"])
    if is_machine_key(keys.get("model")):
        return None
    before, after = (_values(change.get(image), keys) for image in ("OldImage", "NewImage"))
    removed = after is None or not _says(after)
    if before == after or (after is None and not _says(before or {})):
        return None
    written: RouteRow = after or {}
    version = version_of(written) if version_of(written) != version_of(before) else 0
    by, reason = (written.get(name) if version else None for name in ("updated_by", "reason"))
    identity = record.get("userIdentity") or {}
    expired = after is None and identity.get("principalId") == "dynamodb.amazonaws.com"
    at = change.get("ApproximateCreationDateTime")
    return {
        "route": _about(keys),
        "sequence": str(change["SequenceNumber"]).zfill(40),
        "change": "expired" if expired else "removed" if removed else "set",
        "before": _bounded(before),
        "after": None if removed else _bounded(after),
        "version": version or None,
        "updated_by": "expired" if expired else by if isinstance(by, str) and by else UNKNOWN,
        "reason": reason if isinstance(reason, str) else None,
        "at": clock.now_text(None if at is None else float(at)),
    }


def shown(entry: Change) -> ShownChange:
    """Return an entry as its readers see it, all fields there: `workflow` and `step`, `model` or `tool`, then
    `sequence`, `change`, `version`, `before`, `after`, `differences` of the two, `updated_by`, `reason`, `at`,
    `problems`."""
    route = str(entry["route"])
    kind, colon, name = route.partition(":")  # a step's name may have a colon, a workflow's id has none
    about = {kind: name} if colon and kind in _OTHERS else dict(zip(_ROUTE_KEYS, route.split("#", 1), strict=True))
    before, after = (plain(entry.get(name)) for name in ("before", "after"))
    shown_ = {
        **about,
        "sequence": entry["sequence"],
        "change": entry["change"],
        "version": entry.get("version"),
        "before": before,
        "after": after,
        "differences": differences(before, after),
        "updated_by": entry.get("updated_by"),
        "reason": entry.get("reason"),
        "at": entry["at"],
        "problems": list(entry.get("problems") or ()),
    }
    return cast("ShownChange", shown_)


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Difference]:
    """Return what differs between two rows beside who, when and why, and what was checked: `{"field", "from", "to"}`,
    absent values as `None`."""
    old, new = before or {}, after or {}
    fields = [name for name in dict.fromkeys([*old, *new]) if name not in (*STAMP, *_ROUTE_KEYS, "checked")]
    return [
        {"field": name, "from": old.get(name), "to": new.get(name)} for name in fields if old.get(name) != new.get(name)
    ]


def plain(value: Any) -> Any:
    """Whatever DynamoDB can hold as JSON can: sets as lists, bytes as their hexadecimal digits."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((plain(inner) for inner in value), key=str)
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return value


def _about(keys: Mapping[str, Any]) -> str:
    if "model" in keys:
        return model_route(keys["model"])
    return tool_route(keys["tool"]) if "tool" in keys else route_of(keys["workflow"], keys["step"])


def _values(image: Mapping[str, Any] | None, keys: Mapping[str, Any]) -> RouteRow | None:
    """Return an image as Lambda delivers it, without the keys. Lambda writes binaries in Base64."""
    if image is None:
        return None
    return cast("RouteRow", {name: _read(value) for name, value in image.items() if name not in keys})


def _read(attribute: Mapping[str, Any]) -> Any:
    ((kind, value),) = attribute.items()
    if kind == "M":
        return {name: _read(inner) for name, inner in value.items()}
    if kind == "L":
        return [_read(inner) for inner in value]
    if kind in ("SS", "NS", "BS"):
        return sorted(value)
    if kind == "N":
        return Decimal(value)
    return None if kind == "NULL" else value


def _says(row: Mapping[str, Any]) -> bool:
    return bool(row.keys() - set(STAMP))


def _bounded(row: RouteRow | None) -> RouteRow | None:
    if row is None:
        return None
    size = len(exact_json.dumps(plain(row)).encode())
    short = {"too_long_to_keep": size, **{name: value for name, value in row.items() if name in _short(row)}}
    return row if size <= MAX_ROW else cast("RouteRow", short)


def _short(row: Mapping[str, Any]) -> Iterable[str]:
    return [name for name, value in row.items() if len(exact_json.dumps(plain(value))) <= 1000][:50]
