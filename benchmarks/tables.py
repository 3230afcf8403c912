"""DynamoDB in memory, as far as the engine of a step uses it, so that a figure is the step's own work."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


class ConditionalCheckFailedException(Exception):
    """Never raised here: nothing races."""


class _Exceptions:
    ConditionalCheckFailedException = ConditionalCheckFailedException


class Tables:
    """Items by table and key. Conditions are taken as met; `calls` counts requests by name."""

    exceptions = _Exceptions

    def __init__(self) -> None:
        self.items: dict[tuple[str, ...], dict[str, Any]] = {}
        self.calls: dict[str, int] = {}

    def put(self, table: str, key: tuple[str, ...], item: dict[str, Any]) -> None:
        """Store an item of attribute values."""
        self.items[(table, *key)] = item

    def get_item(self, *, TableName: str, Key: dict[str, Any], **_: Any) -> dict[str, Any]:
        self._count("GetItem")
        item = self.items.get(self._key(TableName, Key))
        return {"Item": item} if item else {}

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:
        self._count("BatchGetItem")
        items = {
            table: [self.items[at] for key in asked["Keys"] if (at := self._key(table, key)) in self.items]
            for table, asked in RequestItems.items()
        }
        return {"Responses": items}

    def query(self, **_: Any) -> dict[str, Any]:
        self._count("Query")
        return {"Items": []}

    def put_item(self, *, TableName: str, Item: dict[str, Any], **_: Any) -> dict[str, Any]:
        self._count("PutItem")
        return {}

    def batch_write_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:
        self._count("BatchWriteItem")
        return {}

    def update_item(
        self,
        *,
        TableName: str,
        Key: dict[str, Any],
        UpdateExpression: str,
        ExpressionAttributeNames: dict[str, str],
        ExpressionAttributeValues: dict[str, Any],
        **_: Any,
    ) -> dict[str, Any]:
        self._count("UpdateItem")
        item = self.items.setdefault(self._key(TableName, Key), dict(Key))
        sets, removes = _parsed(UpdateExpression)
        item.update([(ExpressionAttributeNames[path], ExpressionAttributeValues[value]) for path, value in sets])
        for parents, last in removes:
            at = item
            for parent in parents:
                at = at[ExpressionAttributeNames[parent]]["M"]
            at.pop(ExpressionAttributeNames[last], None)
        return {"Attributes": item}

    def _key(self, table: str, key: dict[str, Any]) -> tuple[str, ...]:
        return (table, *[text for value in key.values() for text in value.values()])

    def _count(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1


@lru_cache(maxsize=64)  # so that what DynamoDB does is not counted as the step's work
def _parsed(expression: str) -> tuple[list[list[str]], list[tuple[list[str], str]]]:
    sets, _, removes = expression.removeprefix("SET ").partition(" REMOVE ")
    paths = [path.split(".") for path in removes.split(", ")] if removes else []
    return [assignment.split(" = ") for assignment in sets.split(", ")], [(path[:-1], path[-1]) for path in paths]
