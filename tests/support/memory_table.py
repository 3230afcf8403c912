"""A DynamoDB table in memory, as far as `EventLog` asks for one, whose writes a test can interrupt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Refused(Exception):
    """The condition did not hold."""

    response: dict[str, Any] = {}  # noqa: RUF012 - botocore's attribute


class Crash(Exception):
    """The process died."""


class MemoryTable:
    """Items with keys `run_id` and `item`. `before` and `after` run around each write that is tried."""

    class exceptions:  # noqa: N801 - botocore's name
        ConditionalCheckFailedException = Refused

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def put_item(self, *, TableName: str, Item: Any, ConditionExpression: str, **_: Any) -> None:  # noqa: N803
        assert ConditionExpression.startswith("attribute_not_exists(")
        self.before()
        key = (Item["run_id"]["S"], Item["item"]["S"])
        if key in self.items:
            raise Refused
        self.items[key] = dict(Item)
        self.after()

    def get_item(self, *, Key: Any, ConsistentRead: bool, **_: Any) -> dict[str, Any]:  # noqa: N803
        assert ConsistentRead
        item = self.items.get((Key["run_id"]["S"], Key["item"]["S"]))
        return {} if item is None else {"Item": item}

    def query(self, *, ExpressionAttributeValues: Any, ConsistentRead: bool, **options: Any) -> dict[str, Any]:  # noqa: N803
        assert ConsistentRead
        run, first, last = (ExpressionAttributeValues[name]["S"] for name in (":run", ":first", ":last"))
        found = [item for key, item in sorted(self.items.items()) if key[0] == run and first <= key[1] <= last]
        if options.get("ScanIndexForward") is False:
            found.reverse()
        return {"Items": found[: options.get("Limit", len(found))]}
