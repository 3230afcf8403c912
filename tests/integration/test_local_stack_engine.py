"""Step Functions on the local stack."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.waiting import eventually

from .conftest import Running


def test_an_execution_calls_the_handlers_and_ends(toy: Running) -> None:
    ended = toy.execute({"do": "echo", "word": "llama"})
    assert ended["status"] == "SUCCEEDED"
    assert json.loads(ended["output"]) == {"do": "echo", "word": "llama"}


def test_an_execution_without_a_name_gets_one(toy: Running) -> None:
    names = {toy.execute({})["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(len(name) == 36 for name in names)


def test_the_same_name_starts_once(toy: Running) -> None:
    states, machine = toy.client("stepfunctions"), toy.outputs["MachineArn"]
    name = f"once-{time.time_ns()}"
    arn = states.start_execution(stateMachineArn=machine, name=name, input="{}")["executionArn"]
    toy.ended(arn)
    with pytest.raises(ClientError) as refused:
        states.start_execution(stateMachineArn=machine, name=name, input='{"other": 1}')
    assert refused.value.response["Error"]["Code"] == "ExecutionAlreadyExists"


def test_an_input_over_256_kib_is_refused(toy: Running) -> None:
    with pytest.raises(ClientError) as refused:
        toy.execute({"text": "x" * 256 * 1024})
    assert refused.value.response["Error"]["Code"] == "InvalidExecutionInput"


def test_a_map_runs_its_functions_at_once(toy: Running, tmp_path: Path) -> None:
    ended = toy.execute({"items": [{"do": "meet", "folder": str(tmp_path), "number": 4}] * 4})
    ran = json.loads(ended["output"])["results"]
    assert len({each["pid"] for each in ran}) == 4


def test_conditional_writes_at_once_have_one_winner(toy: Running) -> None:
    claim = f"claim-{time.time_ns()}"
    ended = toy.execute({"items": [{"do": "write", "id": claim}] * 12})
    results = json.loads(ended["output"])["results"]
    assert sorted(each["won"] for each in results) == [False] * 11 + [True]


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({"do": "raise"}, "ValueError"),
        ({"do": "exit"}, "Runtime.ExitError"),
        ({"do": "set"}, "Runtime.MarshalError"),
        ({"do": "big", "bytes": 300_000}, "States.DataLimitExceeded"),
    ],
)
def test_errors_have_the_names_that_aws_gives_them(toy: Running, item: dict[str, Any], error: str) -> None:
    ended = toy.execute({"items": [item]})
    assert json.loads(ended["output"])["results"] == [{"error": error}]


def test_an_error_that_nobody_catches_fails_the_execution(toy: Running) -> None:
    ended = toy.execute({"do": "raise"})
    assert ended["status"] == "FAILED"
    assert ended["error"] == "ValueError"
    assert json.loads(ended["cause"])["errorMessage"] == "broken on purpose"


def test_a_crash_is_retried_in_a_new_process(toy: Running) -> None:
    ended = toy.execute({"do": "crash_once", "id": f"crash-{time.time_ns()}"})
    assert json.loads(ended["output"]) == {"attempt": 2}


def test_a_stopped_execution_is_aborted_at_once(toy: Running) -> None:
    states = toy.client("stepfunctions")
    started = {"items": [{"do": "sleep", "seconds": 3}]}
    arn = states.start_execution(stateMachineArn=toy.outputs["MachineArn"], input=json.dumps(started))["executionArn"]
    eventually(lambda: any("MapIteration" in event["type"] for event in history(toy, arn)))
    states.stop_execution(executionArn=arn, error="Enough", cause="a test")
    found = states.describe_execution(executionArn=arn)
    assert found["status"] == "ABORTED"
    assert found["error"] == "Enough"
    name = found["name"]
    noted = eventually(lambda: toy.item("SeenTableName", id=f"event-{name}-ABORTED"))
    detail = json.loads(noted["event"]["S"])["detail"]
    assert detail["executionArn"] == arn
    # The function runs on, as on AWS; its end changes nothing.
    time.sleep(3)
    assert states.describe_execution(executionArn=arn)["status"] == "ABORTED"


def history(toy: Running, arn: str) -> list[dict[str, Any]]:
    return toy.client("stepfunctions").get_execution_history(executionArn=arn)["events"]


@pytest.mark.parametrize(("state", "status"), [({}, "SUCCEEDED"), ({"do": "raise"}, "FAILED")])
def test_the_end_of_an_execution_is_an_event(toy: Running, state: dict[str, Any], status: str) -> None:
    ended = toy.execute(state)
    noted = eventually(lambda: toy.item("SeenTableName", id=f"event-{ended['name']}-{status}"))
    event = json.loads(noted["event"]["S"])
    assert event["source"] == "aws.states"
    assert event["detail-type"] == "Step Functions Execution Status Change"
    assert event["resources"] == [ended["executionArn"]]
    assert event["detail"]["stateMachineArn"] == toy.outputs["MachineArn"]
    assert json.loads(event["detail"]["input"]) == state
    assert event["detail"]["stopDate"] >= event["detail"]["startDate"]
    assert (event["detail"]["output"] is None) == (status == "FAILED")


def test_an_execution_that_takes_too_long_times_out(toy: Running) -> None:
    states = toy.client("stepfunctions")
    definition = {
        "StartAt": "Wait",
        "TimeoutSeconds": 1,
        "States": {"Wait": {"Type": "Wait", "Seconds": 30, "End": True}},
    }
    machine = states.create_state_machine(
        name="slow", definition=json.dumps(definition), roleArn="arn:aws:iam::123456789012:role/states"
    )["stateMachineArn"]
    arn = states.start_execution(stateMachineArn=machine)["executionArn"]
    assert toy.ended(arn)["status"] == "TIMED_OUT"


def test_a_task_waits_for_its_token(toy: Running) -> None:
    states = toy.client("stepfunctions")
    definition = {
        "StartAt": "Ask",
        "States": {
            "Ask": {
                "Type": "Task",
                "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
                "Parameters": {
                    "FunctionName": toy.outputs["ToyName"],
                    "Payload": {"do": "token", "id.$": "$$.Execution.Name", "token.$": "$$.Task.Token"},
                },
                "End": True,
            }
        },
    }
    machine = states.create_state_machine(
        name="asking", definition=json.dumps(definition), roleArn="arn:aws:iam::123456789012:role/states"
    )["stateMachineArn"]
    arn = states.start_execution(stateMachineArn=machine)["executionArn"]
    noted = eventually(lambda: toy.item("SeenTableName", id=f"token-{arn.rpartition(':')[2]}"))
    assert states.describe_execution(executionArn=arn)["status"] == "RUNNING"
    states.send_task_success(taskToken=json.loads(noted["token"]["S"]), output='{"answer": 42}')
    assert json.loads(toy.ended(arn)["output"]) == {"answer": 42}
