"""What the local stack changes in how moto copies, measures and writes down items: a fifth of a request's time, and the
same result."""

from __future__ import annotations

import base64
from typing import Any

from moto.dynamodb.exceptions import ItemSizeTooLarge
from moto.dynamodb.models import dynamo_type
from moto.dynamodb.models.dynamo_type import DynamoType, Item, LimitedSizeDict

from loopllama_cli.local.moto_patches.patching import replace

_bytesize: Any = vars(dynamo_type)["bytesize"]
MAX_ITEM_BYTES = 405_000
"""Between the documented limit and the one that was measured, as in `LimitedSizeDict`."""


def quicken() -> None:
    """Go through each value once: moto copies a value before it goes through it, and measures the whole item again with
    each attribute that is added to a new one."""
    replace(DynamoType, "__deepcopy__", copied)
    replace(DynamoType, "size", size)
    replace(DynamoType, "to_regular_json", regular_json)
    replace(Item, "__init__", make)


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


def size(value: DynamoType) -> int:
    """Return a value's size in bytes as moto counts it."""
    inner = value.value
    if value.is_number():
        return len(str(inner))
    if value.is_list():
        return sum(part.size() for part in inner)
    if value.is_map():
        return sum(_bytesize(name) + part.size() for name, part in inner.items())
    if value.is_set():
        return sum(len(str(part)) if value.type == "NS" else _bytesize(part) for part in inner)
    return 1 if isinstance(inner, bool) else _bytesize(inner)


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
    if sum(_bytesize(name) + value.size() for name, value in values.items()) > MAX_ITEM_BYTES:
        raise ItemSizeTooLarge
    item.attrs = LimitedSizeDict()
    dict.update(item.attrs, values)
