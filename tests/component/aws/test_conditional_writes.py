"""Conditional writes by a real table's rules: what is written, and what is told of the item that stood in the way."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from loopllama.aws import dynamo
from loopllama.aws.versioned import Rows
from loopllama.errors import VersionConflict

KEY = {"id": "a"}


@pytest.fixture
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb")
        client.create_table(
            TableName="t",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


def stored(dynamodb: Any) -> dict[str, Any] | None:
    item = dynamodb.get_item(TableName="t", Key=dynamo.to_item(KEY)).get("Item")
    return None if item is None else dynamo.from_item(item)


def put(dynamodb: Any, **values: Any) -> None:
    dynamodb.put_item(TableName="t", Item=dynamo.to_item(KEY) | {name: to(value) for name, value in values.items()})


def to(value: Any) -> Any:
    return {"NULL": True} if value is None else dynamo.to_item({"v": value})["v"]


def test_an_update_sets_counts_and_removes_at_once(dynamodb: Any) -> None:
    put(dynamodb, name="old", status="kept", count=2, gone="x", map={"in": 1, "out": 2})
    done, item = dynamo.update(
        dynamodb,
        "t",
        KEY,
        {"name": "new", ("map", "in"): 5, "left_out": None},
        initial={"status": "first", "since": "today"},
        add={"count": 3, "more": Decimal("0.5")},
        remove=["gone", ("map", "out")],
        condition="#name = :old",
        names={"#name": "name"},
        parameters={":old": "old"},
    )
    assert done
    assert item == stored(dynamodb)
    assert item == KEY | {
        "name": "new",
        "status": "kept",
        "since": "today",
        "count": 5,
        "more": Decimal("0.5"),
        "map": {"in": 5},
    }


def test_an_update_that_is_refused_changes_nothing_and_tells_what_stood_in_the_way(dynamodb: Any) -> None:
    absent = dynamo.update(dynamodb, "t", KEY, {"x": 1}, condition="attribute_exists(id)")
    assert absent == (False, {})
    put(dynamodb, x=1)
    present = dynamo.update(dynamodb, "t", KEY, {"x": 2}, condition="attribute_not_exists(id)")
    assert present == (False, KEY | {"x": 1})
    assert stored(dynamodb) == KEY | {"x": 1}


def test_an_update_returns_what_is_asked_of_it(dynamodb: Any) -> None:
    put(dynamodb, x=1, y=2)
    some = dynamo.update(dynamodb, "t", KEY, {"x": 3}, condition="attribute_exists(id)", returning=("y", "z"))
    assert some == (True, {"y": 2})
    assert dynamo.update(dynamodb, "t", KEY, {"x": 4}, condition="attribute_exists(id)", returning=()) == (True, {})


def test_a_put_tells_what_stood_in_the_way(dynamodb: Any) -> None:
    assert dynamo.put(dynamodb, "t", KEY | {"x": 1}, condition="attribute_not_exists(id)") == (True, {})
    again = dynamo.put(dynamodb, "t", KEY | {"x": 2}, condition="x > :most", parameters={":most": 1})
    assert again == (False, KEY | {"x": 1})
    assert dynamo.put_new(dynamodb, "t", KEY | {"x": 3}, "id") is False
    assert dynamo.put_new(dynamodb, "t", {"id": "b"}, "id") is True
    assert stored(dynamodb) == KEY | {"x": 1}


def test_a_delete_under_a_condition(dynamodb: Any) -> None:
    put(dynamodb, x=1)
    assert dynamo.delete(dynamodb, "t", KEY, condition="x = :x", parameters={":x": 2}) is False
    assert stored(dynamodb) is not None
    assert dynamo.delete(dynamodb, "t", KEY, condition="x = :x", parameters={":x": 1}) is True
    assert stored(dynamodb) is None


def test_other_errors_are_raised(dynamodb: Any) -> None:
    condition = "attribute_exists(id)"
    for write in (
        lambda: dynamo.update(dynamodb, "nowhere", KEY, {"x": 1}, condition=condition),
        lambda: dynamo.put(dynamodb, "nowhere", KEY, condition=condition),
        lambda: dynamo.delete(dynamodb, "nowhere", KEY, condition=condition),
    ):
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            write()


@pytest.mark.parametrize(
    ("before", "changed"),
    [({"x": 1}, {"x": 2}), ({"x": 1}, {}), ({}, {"x": 1}), ({"x": None}, {"x": 1}), ({"x": 1}, {"x": None})],
)
def test_a_row_is_written_only_as_it_was_read(dynamodb: Any, before: dict[str, Any], changed: dict[str, Any]) -> None:
    rows = Rows(dynamodb, "t", "id", ("x", "y"))
    put(dynamodb, **before, unknown="to us")
    read = stored(dynamodb)
    put(dynamodb, **changed)
    with pytest.raises(VersionConflict, match="somebody changed the row in between"):
        rows.put(KEY | {"y": 1}, read, "the row")
    assert read is not None
    with pytest.raises(VersionConflict):
        rows.delete(KEY, read, "the row")
    put(dynamodb, **before, unknown="another")
    rows.put(KEY | {"y": 1}, read, "the row")
    assert stored(dynamodb) == KEY | {"y": 1}
    rows.delete(KEY, KEY | {"y": 1}, "the row")
    with pytest.raises(VersionConflict):
        rows.put(KEY, read, "the row")
    rows.put(KEY, None, "the row")
    with pytest.raises(VersionConflict):
        rows.put(KEY, None, "the row")
