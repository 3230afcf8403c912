"""Streams, rules, schedules and asynchronous invocations on the local stack."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.waiting import eventually

from .conftest import Running


def put(toy: Running, identifier: str, part: str, **attributes: str) -> None:
    values = {name: {"S": value} for name, value in {"id": identifier, "part": part, **attributes}.items()}
    toy.client("dynamodb").put_item(TableName=toy.outputs["ItemsTableName"], Item=values)


def seen(toy: Running, identifier: str, part: str, kind: str) -> Any:
    found = toy.item("SeenTableName", id=f"stream-{identifier}-{part}-{kind}")
    return found and {"record": json.loads(found["record"]["S"]), "batch": json.loads(found["batch"]["S"])}


def send(toy: Running, kind: str, detail: dict[str, Any], bus: str | None = "BusName") -> None:
    entry = {"Source": "toy", "DetailType": kind, "Detail": json.dumps(detail)}
    if bus:
        entry["EventBusName"] = toy.outputs[bus]
    answer = toy.client("events").put_events(Entries=[entry])
    assert answer["FailedEntryCount"] == 0


def test_writes_reach_the_stream_function_in_order_with_both_images(toy: Running) -> None:
    key = f"item-{time.time_ns()}"
    put(toy, key, "a", color="red")
    put(toy, key, "a", color="blue")
    toy.client("dynamodb").delete_item(
        TableName=toy.outputs["ItemsTableName"], Key={"id": {"S": key}, "part": {"S": "a"}}
    )
    found = {kind: eventually(lambda kind=kind: seen(toy, key, "a", kind)) for kind in ("REMOVE", "MODIFY", "INSERT")}
    inserted, modified, removed = (found[kind]["record"] for kind in ("INSERT", "MODIFY", "REMOVE"))
    assert modified["dynamodb"]["OldImage"]["color"] == {"S": "red"}
    assert modified["dynamodb"]["NewImage"]["color"] == {"S": "blue"}
    numbers = [int(each["dynamodb"]["SequenceNumber"]) for each in (inserted, modified, removed)]
    assert numbers == sorted(set(numbers))
    assert "NewImage" not in removed["dynamodb"]
    assert isinstance(inserted["dynamodb"]["ApproximateCreationDateTime"], int)
    assert inserted["eventSourceARN"].startswith("arn:aws:dynamodb:us-east-1:123456789012:table/")


def test_a_batch_is_no_larger_than_the_template_says(toy: Running) -> None:
    key = f"batch-{time.time_ns()}"
    table = toy.outputs["ItemsTableName"]
    parts = [f"{number:02}" for number in range(12)]
    requests = [{"PutRequest": {"Item": {"id": {"S": key}, "part": {"S": part}}}} for part in parts]
    toy.client("dynamodb").batch_write_item(RequestItems={table: requests})
    batches = [eventually(lambda part=part: seen(toy, key, part, "INSERT"))["batch"] for part in parts]
    assert max(batches) <= 5


def test_filtered_records_are_not_delivered(toy: Running) -> None:
    marker = f"after-{time.time_ns()}"
    put(toy, "quiet", marker)
    put(toy, marker, "loud")
    eventually(lambda: seen(toy, marker, "loud", "INSERT"))
    assert seen(toy, "quiet", marker, "INSERT") is None


def test_a_batch_that_fails_is_retried_and_then_given_up(toy: Running) -> None:
    marker = f"behind-{time.time_ns()}"
    before = len([line for line in toy.log if "gave up" in line])
    put(toy, "poison", marker)
    eventually(lambda: len([line for line in toy.log if "gave up" in line]) > before)
    assert len([line for line in toy.log if "poison" in line and "RuntimeError" in line]) % 4 == 0
    put(toy, marker, "a")
    eventually(lambda: seen(toy, marker, "a", "INSERT"))


def test_a_write_that_changes_nothing_makes_no_record(toy: Running) -> None:
    key = f"same-{time.time_ns()}"
    put(toy, key, "a", color="red")
    put(toy, key, "a", color="red")
    put(toy, key, "b")
    eventually(lambda: seen(toy, key, "b", "INSERT"))
    assert seen(toy, key, "a", "INSERT")
    assert seen(toy, key, "a", "MODIFY") is None


def test_a_cancelled_transaction_leaves_nothing_behind(toy: Running) -> None:
    dynamodb, table = toy.client("dynamodb"), toy.outputs["ItemsTableName"]
    key = f"tx-{time.time_ns()}"
    put(toy, key, "old", color="red")

    def item(part: str, color: str) -> dict[str, Any]:
        return {"id": {"S": key}, "part": {"S": part}, "color": {"S": color}}

    update = {
        "TableName": table,
        "Key": {"id": {"S": key}, "part": {"S": "old"}},
        "UpdateExpression": "SET color = :blue",
        "ExpressionAttributeValues": {":blue": {"S": "blue"}},
    }
    refused = {"TableName": table, "Item": item("old2", "x"), "ConditionExpression": "attribute_exists(id)"}
    with pytest.raises(ClientError) as cancelled:
        dynamodb.transact_write_items(
            TransactItems=[
                {"Put": {"TableName": table, "Item": item("new", "x")}},
                {"Update": update},
                {"Put": refused},
            ]
        )
    assert cancelled.value.response["Error"]["Code"] == "TransactionCanceledException"
    assert [reason["Code"] for reason in cancelled.value.response["CancellationReasons"]] == [
        "None",
        "None",
        "ConditionalCheckFailed",
    ]
    assert toy.item("ItemsTableName", id=key, part="new") is None
    assert toy.item("ItemsTableName", id=key, part="old")["color"] == {"S": "red"}  # type: ignore[index]
    dynamodb.transact_write_items(TransactItems=[{"Put": {"TableName": table, "Item": item("last", "x")}}])
    eventually(lambda: seen(toy, key, "last", "INSERT"))
    assert seen(toy, key, "new", "INSERT") is None
    assert seen(toy, key, "old", "MODIFY") is None


def test_queries_of_table_and_index_find_their_partition(toy: Running) -> None:
    dynamodb, table = toy.client("dynamodb"), toy.outputs["ItemsTableName"]
    key = f"query-{time.time_ns()}"
    for number in range(5):
        put(toy, key, f"{number}", color=f"{key}-{number % 2}")
    found = dynamodb.query(
        TableName=table,
        KeyConditionExpression="id = :id AND part > :one",
        ExpressionAttributeValues={":id": {"S": key}, ":one": {"S": "1"}},
        ScanIndexForward=False,
        Limit=2,
    )
    assert [item["part"]["S"] for item in found["Items"]] == ["4", "3"]
    found = dynamodb.query(
        TableName=table,
        KeyConditionExpression="id = :id AND part > :one",
        ExpressionAttributeValues={":id": {"S": key}, ":one": {"S": "1"}},
        ScanIndexForward=False,
        ExclusiveStartKey=found["LastEvaluatedKey"],
    )
    assert [item["part"]["S"] for item in found["Items"]] == ["2"]
    found = dynamodb.query(
        TableName=table,
        IndexName="by_color",
        KeyConditionExpression="color = :color",
        ExpressionAttributeValues={":color": {"S": f"{key}-0"}},
    )
    assert [item["part"]["S"] for item in found["Items"]] == ["0", "2", "4"]


def test_an_event_reaches_the_function_of_its_rule(toy: Running) -> None:
    name = f"wanted-{time.time_ns()}"
    send(toy, "Wanted", {"name": name, "n": 1})
    noted = eventually(lambda: toy.item("SeenTableName", id=f"event-{name}-"))
    event = json.loads(noted["event"]["S"])
    assert event["source"] == "toy"
    assert event["detail-type"] == "Wanted"
    assert event["detail"] == {"name": name, "n": 1}
    assert event["account"] == "123456789012"
    assert event["time"].endswith("Z")
    assert "ingestion-time" not in event


def test_an_event_that_no_rule_takes_goes_nowhere(toy: Running) -> None:
    name = f"unwanted-{time.time_ns()}"
    send(toy, "Unwanted", {"name": name})
    send(toy, "Wanted", {"name": name}, bus=None)  # another bus
    send(toy, "Wanted", {"name": f"{name}-last"})
    eventually(lambda: toy.item("SeenTableName", id=f"event-{name}-last-"))
    assert toy.item("SeenTableName", id=f"event-{name}-") is None


def test_an_event_starts_an_execution_with_its_detail(toy: Running) -> None:
    word = f"start-{time.time_ns()}"
    send(toy, "Start", {"do": "echo", "word": word})
    states = toy.client("stepfunctions")

    def started() -> Any:
        for each in states.list_executions(stateMachineArn=toy.outputs["MachineArn"])["executions"]:
            found = states.describe_execution(executionArn=each["executionArn"])
            if word in found["input"]:
                return found
        return None

    assert json.loads(toy.ended(eventually(started)["executionArn"])["output"]) == {"do": "echo", "word": word}


def test_an_input_transformer_shapes_the_event(toy: Running) -> None:
    name = f'quo"ted-{time.time_ns()}'
    send(toy, "Shape", {"name": "small", "size": 3})
    send(toy, "Shape", {"name": name, "size": 4})
    noted = eventually(lambda: toy.item("SeenTableName", id=f"event-{name}-shaped {name}"))
    assert json.loads(noted["event"]["S"])["all"] == {"name": name, "size": 4}
    assert toy.item("SeenTableName", id="event-small-shaped small") is None


def test_an_event_that_cannot_be_delivered_lands_in_the_rules_queue(toy: Running) -> None:
    name = f"lost-{time.time_ns()}"
    send(toy, "Lost", {"name": name})

    def arrived() -> Any:
        return [message for message in toy.messages("UndeliveredUrl") if name in message["Body"]]

    [message] = eventually(arrived)
    assert message["MessageAttributes"]["TARGET_ARN"]["StringValue"].endswith(":function:gone")
    assert json.loads(message["Body"])["detail"] == {"name": name}


def test_a_schedule_invokes_with_its_input(toy: Running) -> None:
    noted = eventually(lambda: toy.item("SeenTableName", id="tick"))
    assert json.loads(noted["event"]["S"]) == {"tick": True}


def test_an_asynchronous_invocation_is_retried_and_then_buried(toy: Running) -> None:
    key = f"async-{time.time_ns()}"
    answer = toy.client("lambda").invoke(
        FunctionName=toy.outputs["RetriedName"], InvocationType="Event", Payload=json.dumps({"id": key})
    )
    assert answer["StatusCode"] == 202

    def buried(url: str) -> Any:
        return [message for message in toy.messages(url) if key in message["Body"]]

    [letter] = eventually(lambda: buried("DeadLettersUrl"))
    assert json.loads(letter["Body"]) == {"id": key}
    assert letter["MessageAttributes"]["ErrorMessage"]["StringValue"] == "never works"
    [record] = eventually(lambda: buried("UndeliveredUrl"))
    body = json.loads(record["Body"])
    assert body["requestContext"]["condition"] == "RetriesExhausted"
    assert body["requestContext"]["approximateInvokeCount"] == 2
    assert body["responsePayload"]["errorType"] == "RuntimeError"
    assert toy.item("SeenTableName", id=key)["attempts"] == {"N": "2"}  # type: ignore[index]
