"""Numbers at the doors of runs: uploads, events, executions by hand and the API."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import boto3
from hypothesis import example, given, settings
from support.api_client import InProcess
from support.deployment import Deployment
from support.numerals import NUMERALS, check_door, number, soon, taken, tried

from loopllama.aws import clients
from loopllama.core import exact_json
from loopllama.engine.accept import execution_arn
from loopllama.engine.start import start_run
from loopllama.engine.triggers import accept_event
from loopllama.errors import InvalidRequest


def run_of(live: Deployment, accept: Callable[[], Any]) -> Any:
    run_id = accept()
    run = live.read(run_id)
    live.play(run_id)
    assert live.read(run_id)["status"] == "completed"
    return run["input"]


@settings(max_examples=25)
@given(NUMERALS)
def test_an_upload(live: Deployment, numeral: str) -> None:
    def door(text: str) -> Any:
        name = uuid.uuid4()
        key = f"w/{name}.json"
        tag = boto3.client("s3").put_object(Bucket="uploads", Key=key, Body=text.encode())["ETag"].strip('"')
        made = {"bucket": {"name": "uploads"}, "object": {"key": key, "size": len(text), "etag": tag}}
        event = {"id": key, "detail-type": "Object Created", "detail": made}
        return run_of(live, lambda: accept_event(live.settings, event))

    check_door(door, numeral, InvalidRequest)


@settings(max_examples=25)
@given(NUMERALS)
@example("1e400")
@example("9" * 400)
def test_an_event_and_an_execution_by_hand(live: Deployment, numeral: str) -> None:
    with contextlib.suppress(ValueError):
        value = json.loads(numeral)  # as Lambda's runtime reads it: the nearest double
        name, detail = uuid.uuid4(), {"workflow": "w", "input": {"n": value}}
        event = {"id": str(name), "detail-type": "RunRequested", "detail": detail}
        by_hand = {"request": detail, "execution_arn": execution_arn(live.settings, f"hand-{name}")}
        by_hand["execution_name"] = f"hand-{name}"

        def started() -> str:
            return str(start_run(live.settings, by_hand)["run_id"])

        for accept in (started, lambda: accept_event(live.settings, event)):
            with soon():
                run_id, error = tried(accept, InvalidRequest)
            if error is not None:
                assert error.details[0]["field"] == "input.n"
                assert taken(numeral) is None
                continue
            assert number(live.read(run_id)["input"]["n"]) == Fraction(str(value))
            live.play(run_id)
            assert live.read(run_id)["status"] == "completed"


@settings(max_examples=25)
@given(NUMERALS)
@example("1e300000000")
@example("1e5000")
def test_the_api_starts_and_replays_runs(live: Deployment, numeral: str) -> None:
    ask = InProcess(live.settings).ask
    with soon():
        status, answer = ask("POST", "/v1/workflows/w/runs", f'{{"input": {{"n": {numeral}}}}}')
    if taken(numeral) is None:
        assert (status, [one["field"] for one in answer["details"]]) == (400, ["input.n"])
        return
    assert status == 202
    assert number(answer["data"]["input"]["n"]) == taken(numeral)
    live.play(answer["data"]["id"])
    assert live.read(answer["data"]["id"])["status"] == "completed"
    with soon():
        path = f"/v1/runs/{answer['data']['id']}/replay"
        status, answer = ask("POST", path, f'{{"fromStep": "b", "input": {{"n": {numeral}}}}}')
    assert (status, number(answer["data"]["input"]["n"])) == (202, taken(numeral))


def test_a_run_that_was_accepted_before_the_rule_can_be_read(live: Deployment) -> None:
    run_id = live.accept("w", {"n": 1})
    clients.client("dynamodb").update_item(
        TableName=live.settings.runs_table,
        Key={"run_id": {"S": run_id}, "item": {"S": "RUN"}},
        UpdateExpression="SET #input = :old",
        ExpressionAttributeNames={"#input": "input"},
        ExpressionAttributeValues={":old": {"M": {"$json": {"S": '{"n": 1e5000}'}}}},
    )
    assert exact_json.dumps(live.read(run_id)["input"]) == '{"n":1E+5000}'
