"""What DynamoDB would bill for the calls that reach moto: a meter inside moto's handler, by AWS's rules.

moto keeps the items but its `ConsumedCapacity` is a constant, so the units are computed here from the items as they
stand before and after each call. Sources:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html (sizes of items)
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html (rounding)
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/GSI.html (what a write costs in an index)
Reading a stream from Lambda is not billed.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.responses import DynamoHandler

ACCOUNT, REGION = "123456789012", "us-east-1"
READ_BYTES, WRITE_BYTES = 4096, 1024
_APP = re.compile(r"\bapp/(\S+)")

Item = Mapping[str, Any]
"""Attribute values by name, as DynamoDB's wire format has them."""


@dataclass(frozen=True, slots=True)
class Access:
    """What one call did to one partition of a table or an index (`Table/index`)."""

    place: str
    partition: str
    reads: float = 0.0
    """Read units."""
    writes: int = 0
    """Write units."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the operation, the function that made it, and what it touched."""

    function: str
    operation: str
    table: str
    accesses: tuple[Access, ...] = ()

    @property
    def reads(self) -> float:
        return sum(access.reads for access in self.accesses)

    @property
    def writes(self) -> int:
        return sum(access.writes for access in self.accesses)


@dataclass
class Meter:
    """The calls of DynamoDB that moto has answered while it was on. A call is its function's by the application id in
    the SDK's user agent (`AWS_SDK_UA_APP_ID`), else by `function`."""

    function: str = ""
    calls: list[Call] = field(default_factory=list)

    @contextlib.contextmanager
    def on(self) -> Iterator[Meter]:
        """Count while the context lives."""
        answer = DynamoHandler.call_action
        meter = self

        def counted(handler: Any) -> Any:
            operation, body = handler._get_action(), copy.deepcopy(getattr(handler, "params", {}))
            before = _Images(operation, body)
            result: Any = None
            try:
                result = answer(handler)
            finally:  # a refused condition is billed too
                match = _APP.search(str(handler.headers.get("User-Agent", "")))
                meter.calls += _calls(match[1] if match else meter.function, operation, body, before, result)
            return result

        handler_class: Any = DynamoHandler
        handler_class.call_action = counted
        try:
            yield self
        finally:
            handler_class.call_action = answer

    @contextlib.contextmanager
    def during(self, function: str) -> Iterator[None]:
        """Calls of this process in the context are this function's."""
        before, self.function = self.function, function
        try:
            yield
        finally:
            self.function = before

    def take(self) -> list[Call]:
        """What was counted since the last time."""
        taken, self.calls = self.calls, []
        return taken


# Sizes


def item_size(item: Item) -> int:
    """An item's size in bytes as capacity is computed from it."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Item) -> int:
    ((kind, inner),) = value.items()
    match kind:
        case "S":
            return len(inner.encode())
        case "N":
            return _number_size(inner)
        case "B":
            return len(inner) * 3 // 4  # base64 on the wire
        case "BOOL" | "NULL":
            return 1
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_size(member) for name, member in inner.items())
        case "L":
            return 3 + sum(1 + _value_size(member) for member in inner)
        case "NS":
            return sum(_number_size(member) for member in inner)
        case _:
            return sum(len(member.encode()) for member in inner)


def _number_size(text: str) -> int:
    """About a byte for two significant digits, one more for the number and one for a sign."""
    digits = re.sub(r"[eE].*", "", text).lstrip("+-").replace(".", "").strip("0")
    return math.ceil(len(digits) / 2) + 1 + text.startswith("-")


def read_units(size: int, consistent: bool) -> float:
    """Of one read of `size` bytes; one that finds nothing counts as well."""
    return max(1, math.ceil(size / READ_BYTES)) * (1.0 if consistent else 0.5)


def write_units(*sizes: int) -> int:
    """Of one write, by the larger of the sizes before and after it."""
    return max(1, math.ceil(max(sizes, default=0) / WRITE_BYTES))


# Tables as moto keeps them


def _table(name: str) -> Any:
    return dynamodb_backends[ACCOUNT][REGION].get_table(name.rpartition("/")[2])


def _key_names(table: Any) -> tuple[str, ...]:
    return tuple(name for name in (table.hash_key_attr, table.range_key_attr) if name)


def _find(table: Any, key: Item) -> dict[str, Any]:
    """The item of a key as it stands; `{}` where there is none."""
    item = table.get_item(*(DynamoType(key[name]) for name in _key_names(table)))
    return dict(item.to_json()["Attributes"]) if item is not None else {}


def _text(value: Item) -> str:
    return str(next(iter(value.values())))


# What a call costs

_WRITES = {"PutItem", "UpdateItem", "DeleteItem"}


def _written(operation: str, body: Mapping[str, Any]) -> list[tuple[str, Item]]:
    """Tables and keys that a call writes."""
    if operation in _WRITES:
        return [(body["TableName"], body.get("Key") or body["Item"])]
    if operation == "BatchWriteItem":
        return [
            (table, request.get("PutRequest", {}).get("Item") or request["DeleteRequest"]["Key"])
            for table, requests in body["RequestItems"].items()
            for request in requests
        ]
    if operation == "TransactWriteItems":
        parts = [part for item in body["TransactItems"] for part in item.values()]
        return [(part["TableName"], part.get("Key") or part["Item"]) for part in parts]
    return []


class _Images:
    """The items that a call writes, as they stand before it."""

    def __init__(self, operation: str, body: Mapping[str, Any]) -> None:
        self.items = [(name, key, _find(_table(name), key)) for name, key in _written(operation, body)]


def _calls(function: str, operation: str, body: Mapping[str, Any], before: _Images, result: Any) -> list[Call]:
    factor = 2 if operation == "TransactWriteItems" else 1
    accesses = [
        access
        for name, key, old in before.items
        for access in _write_accesses(name, old, _find(_table(name), key), key, factor)
    ]
    if operation == "GetItem":
        accesses = [_read(body["TableName"], body["Key"], bool(body.get("ConsistentRead")))]
    elif operation == "BatchGetItem":
        accesses = [
            _read(name, key, bool(asked.get("ConsistentRead")))
            for name, asked in body["RequestItems"].items()
            for key in asked["Keys"]
        ]
    elif operation in ("Query", "Scan"):
        accesses = [_page(operation, body, result)]
    names = {access.place.partition("/")[0] for access in accesses}
    return [Call(function, operation, names.pop() if len(names) == 1 else "", tuple(accesses))] if accesses else []


def _read(name: str, key: Item, consistent: bool) -> Access:
    table = _table(name)
    units = read_units(item_size(_find(table, key)), consistent)
    return Access(table.name, _text(key[table.hash_key_attr]), reads=units)


def _page(operation: str, body: Mapping[str, Any], result: Any) -> Access:
    """A page of a Query or Scan: the sizes of what was read, before projections and filters, rounded up together."""
    table, index = _table(body["TableName"]), body.get("IndexName")
    answer = json.loads(result[2]) if isinstance(result, tuple) and result[2] else {}
    partition = ""
    if operation == "Query":
        partition = _condition_value(body)
    size = 0
    for item in answer.get("Items", []):
        stored = item
        if not index:
            hash_key = item.get(table.hash_key_attr, {"S": partition})
            names = _key_names(table)
            key = {**item, table.hash_key_attr: hash_key}
            stored = _find(table, key) if all(name in key for name in names) else item
        size += item_size(stored)
    place = f"{table.name}/{index}" if index else table.name
    return Access(place, partition, reads=read_units(size, bool(body.get("ConsistentRead"))))


def _condition_value(body: Mapping[str, Any]) -> str:
    match = re.search(r"[#\w]+\s*=\s*(:\w+)", body["KeyConditionExpression"])
    return _text(body["ExpressionAttributeValues"][match[1]]) if match else ""


def _write_accesses(name: str, old: Item, new: Item, key: Item, factor: int) -> Iterator[Access]:
    table = _table(name)
    yield Access(
        table.name, _text(key[table.hash_key_attr]), writes=factor * write_units(item_size(old), item_size(new))
    )
    if old == new:
        return  # refused, or nothing changed: indexes are left alone
    for index in table.global_indexes:
        yield from _index_accesses(table, index, old, new)


def _index_accesses(table: Any, index: Any, old: Item, new: Item) -> Iterator[Access]:
    """One write where an entry comes, goes or changes; two where it moves to another key; none where nothing that
    the index holds has changed."""
    keys = [attribute["AttributeName"] for attribute in index.schema]
    was, now = (_entry(table, index, keys, item) for item in (old, new))
    if was == now:
        return
    place = f"{table.name}/{index.name}"
    if was and now and all(was[name] == now[name] for name in keys):
        yield Access(place, _text(now[keys[0]]), writes=write_units(item_size(was), item_size(now)))
        return
    for entry in (was, now):
        if entry:
            yield Access(place, _text(entry[keys[0]]), writes=write_units(item_size(entry)))


def _entry(table: Any, index: Any, keys: list[str], item: Item) -> dict[str, Any]:
    """An item as an index holds it; `{}` where it does not."""
    if not all(name in item for name in keys):
        return {}
    projection = index.projection or {}
    if projection.get("ProjectionType", "ALL") == "ALL":
        return dict(item)
    held = {*_key_names(table), *keys, *projection.get("NonKeyAttributes", [])}
    return {name: value for name, value in item.items() if name in held}
