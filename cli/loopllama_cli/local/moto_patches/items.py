"""What the local stack changes in how moto copies, compares, measures and writes down items: a third of a request's
time, and the same result."""

from __future__ import annotations

import base64
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from moto.dynamodb import responses
from moto.dynamodb.exceptions import ItemSizeTooLarge
from moto.dynamodb.models import dynamo_type
from moto.dynamodb.models.dynamo_type import DynamoType, Item, LimitedSizeDict
from moto.dynamodb.models.table import Table

from loopllama_cli.local.moto_patches.patching import replace

MAX_ITEM_BYTES = 405_000
"""Between the documented limit and the one that was measured, as in `LimitedSizeDict`."""


def quicken() -> None:
    """Go through each value once: moto copies a value before it goes through it, measures the whole item again with
    each attribute that is added to a new one, and reads keys anew for each comparison of a sort."""
    replace(DynamoType, "__deepcopy__", copied)
    replace(DynamoType, "cast_value", property(cast))
    replace(DynamoType, "size", size)
    replace(DynamoType, "to_regular_json", regular_json)
    replace(Item, "__init__", make)
    replace(Table, "all_items", all_items)
    replace(Table, "sorted_items", sorted_items)
    replace(dynamo_type, "bytesize", bytesize)

    def plain(value: Any) -> Any:
        return plain_of(value, plain, general)

    general = replace(responses, "dynamo_to_dict", plain)


def copied(value: DynamoType, _memo: dict[int, Any] | None = None) -> DynamoType:
    """Copy a value as moto's `__deepcopy__` does, which asks `copy` for each part."""
    result: Any = DynamoType.__new__(DynamoType)
    result.type, inner = value.type, value.value
    if type(inner) is list:
        inner = [copied(part) if type(part) is DynamoType else part for part in inner]
    elif type(inner) is dict:
        inner = {name: copied(part) for name, part in inner.items()}
    result.value = inner
    return result  # type: ignore[no-any-return]


def cast(value: DynamoType) -> Any:
    """Return a value as Python has it."""
    kind, inner = value.type, value.value
    if kind == "N":
        return Decimal(inner)
    if kind == "L":
        return [cast(_wrapped(part)) for part in inner]
    if kind == "M":
        return {name: cast(_wrapped(part)) for name, part in inner.items()}
    if kind in ("SS", "NS", "BS"):
        return {Decimal(part) if kind == "NS" else part for part in inner}
    return None if kind == "NULL" else inner


def _wrapped(part: Any) -> DynamoType:
    return part if type(part) is DynamoType else DynamoType(part)


def all_items(table: Table) -> list[Any]:
    """Return a table's items in the order of their keys."""
    rows: Any = table.items.values()
    if not table.range_key_attr:
        return sorted(rows, key=lambda item: cast(item.hash_key))
    items = [item for row in rows for item in row.values()]
    return sorted(items, key=lambda item: (cast(item.hash_key), cast(item.range_key)))


def sorted_items(table: Table, hash_keys: list[str], range_keys: list[str | None], items: list[Any]) -> list[Any]:
    """Sort an index's items by its keys, then by the table's."""
    names = table._generate_attr_to_sort_by(hash_keys, range_keys)
    items.sort(key=lambda item: [cast(item.attrs[name]) for name in names])
    return items


def bytesize(text: str | bytes) -> int:
    """Return how many bytes a text has in UTF-8."""
    return len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode())


def size(value: DynamoType) -> int:
    """Return a value's size in bytes as moto counts it."""
    kind, inner = value.type, value.value
    if kind == "N":
        return len(str(inner))
    if kind == "L":
        return sum(size(part) for part in inner)
    if kind == "M":
        return sum(bytesize(name) + size(part) for name, part in inner.items())
    if kind in ("SS", "NS", "BS"):
        return sum(len(str(part)) if kind == "NS" else bytesize(part) for part in inner)
    return 1 if isinstance(inner, bool) else bytesize(inner)


def plain_of(value: Any, plain: Callable[[Any], Any], general: Callable[[Any], Any]) -> Any:
    """Return what an answer is made of as JSON has it, inner parts by `plain`, and by moto's `general` what is
    neither an attribute's value nor JSON."""
    kind = type(value)
    if kind is DynamoType:
        if value.type in ("B", "BS"):
            return general(value)
        inner = value.value
        return {value.type: plain(inner) if type(inner) in (dict, list) else inner}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if kind is list:
        return [plain(part) for part in value]
    return value if kind in (str, int, float, bool, type(None)) else general(value)


def regular_json(value: DynamoType) -> dict[str, Any]:
    """Return a value as it is on the wire, binary values as bytes."""
    inner = value.value
    if type(inner) is dict:
        inner = {name: regular_json(part) for name, part in inner.items()}
    elif type(inner) is list:
        inner = [regular_json(part) if type(part) is DynamoType else part for part in inner]
    elif value.is_binary() and isinstance(inner, str):
        inner = base64.b64decode(inner)
    return {value.type: inner}


def make(item: Item, hash_key: DynamoType, range_key: DynamoType | None, attrs: dict[str, Any]) -> None:
    """Make an item. Raises `ItemSizeTooLarge`."""
    item.hash_key, item.range_key = hash_key, range_key
    values = {name: DynamoType(value) for name, value in attrs.items()}
    if sum(bytesize(name) + size(value) for name, value in values.items()) > MAX_ITEM_BYTES:
        raise ItemSizeTooLarge
    item.attrs = LimitedSizeDict()
    dict.update(item.attrs, values)
