"""DynamoDB in memory, as far as the engine of a step uses it, so that a figure is the step's own work."""

from __future__ import annotations

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
        found = self.items.get(self._key(TableName, Key))
        return {"Item": found} if found else {}

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:
        self._count("BatchGetItem")
        found = {
            table: [self.items[at] for key in asked["Keys"] if (at := self._key(table, key)) in self.items]
            for table, asked in RequestItems.items()
        }
        return {"Responses": found}

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
        sets, _, removes = UpdateExpression.removeprefix("SET ").partition(" REMOVE ")
        for one in sets.split(", "):
            path, _, value = one.partition(" = ")
            item[ExpressionAttributeNames[path]] = ExpressionAttributeValues[value]
        for path in removes.split(", ") if removes else ():
            *parents, last = [ExpressionAttributeNames[part] for part in path.split(".")]
            at = item
            for parent in parents:
                at = at[parent]["M"]
            at.pop(last, None)
        return {"Attributes": item}

    def _key(self, table: str, key: dict[str, Any]) -> tuple[str, ...]:
        return (table, *(next(iter(value.values())) for value in key.values()))

    def _count(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
