"""A stack that was deleted, and one of its name that takes over what it has left."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from foreign.emulator import Emulator
from foreign.stacks import Stack, Version, delete
from support.remains import remains
from support.waiting import eventually

from loopllama.aws import clients
from loopllama_cli import removal

NAME = "adopted"
LONG = "word " * 10_000
"""Longer than what the table holds of a value: it goes to the bucket."""


def test_a_new_stack_takes_over_what_a_deleted_one_has_left(
    foreign: Emulator, version: Version, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(NAME, version, SimulatedProviders="*", SimulatedSpeed="50", RetentionDays="31")
    stack.push("asking", "small", {"name": "draft"}, {"name": "send", "needs": ["draft"], "approval": True})
    stack.push("one", "small", {"name": "only"})
    ended = stack.wait(stack.start("one", LONG))
    asking = stack.start("asking")
    stack.wait(asking, "waiting_input")
    stack.loopllama("routes", "set", "one", "only", "balanced", "--reason", "kept")
    key = stack.version.loopllama("keys", "create", "laptop", stack=NAME).split()[-1]
    before = {name: one for name, one in stack.resources().items() if name.endswith(("Table", "Bucket"))}
    delete(NAME)

    refused = version.loopllama("deploy", "--adopt", "--no-confirm", stack="adopt", cwd=folder, code=1)
    assert "no stack adopt that was deleted" in refused
    version.loopllama("deploy", "--adopt", "--no-confirm", stack=NAME, cwd=folder)
    vars(stack).pop("outputs")
    after = stack.resources()
    assert before.items() <= after.items()
    pages = clients.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=NAME)
    events = [one for page in pages for one in page["StackEvents"]]
    assert {one["LogicalResourceId"] for one in events if one["ResourceStatus"] == "IMPORT_COMPLETE"} >= before.keys()
    assert not [
        one for one in events if one["ResourceStatus"] == "CREATE_COMPLETE" and one["LogicalResourceId"] in before
    ]
    parameters = clients.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]["Parameters"]
    assert {"ParameterKey": "RetentionDays", "ParameterValue": "31"} in parameters

    # What was there is there, and works.
    assert stack.loopllama("runs", "show", ended["id"]) == ended
    again = stack.wait(stack.start("one", LONG))
    assert (again["steps"][0]["source"], again["status"]) == ("step-override", "completed")
    usage = stack.loopllama("usage", "--by", "workflow")["groups"]
    assert {group["workflow"]: group["steps"] for group in usage} == {"one": 2, "asking": 1}
    for name, value in foreign.by_name.items():
        monkeypatch.setenv(name, value)
    answer = httpx.get(
        stack.outputs["ApiUrl"] + "/v1/workflows", headers={"Authorization": f"Bearer {key}"}, timeout=60
    )
    assert {one["id"] for one in answer.json()["data"]} == {"asking", "one"}, answer.text

    # The execution of a run that waited went with the stack: the reconciler closes the run, and a replay goes on.
    # CloudFormation gives each state machine a name of its own; ministack makes it of the stack's name.
    stack.update_run(asking, "execution_arn", f"arn:aws:states:us-east-1:123456789012:execution:before:{asking}")
    eventually(lambda: reconcile(stack) and stack.status(asking) == "failed", 90, first=2)
    shown = stack.loopllama("runs", "show", asking)
    assert "ExecutionEnded" in json.dumps(shown["error"])
    replayed = stack.loopllama("runs", "replay", asking, "--from-step", "send", "--no-wait")["id"]
    stack.wait(replayed, "waiting_input")

    refused = version.loopllama("deploy", "--adopt", "--no-confirm", stack=NAME, cwd=folder, code=4)
    assert "there is a stack adopted already" in refused
    assert [*removal.remove(removal.find(NAME))] == []
    assert [line for line in remains(clients.client) if NAME in line] == []


def reconcile(stack: Stack) -> bool:
    """Let the reconciler look at all runs now, as it does each minute at those that are due."""
    table = stack.outputs["RunsTableName"]
    scanned = clients.client("dynamodb").scan(TableName=table, FilterExpression="attribute_exists(check_at)")
    for item in scanned["Items"]:
        stack.update_run(item["run_id"]["S"], "check_at", "2026-01-01T00:00:00.000Z")
    answer = clients.client("lambda").invoke(FunctionName=stack.resources()["ReconcileRuns"], Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()
    return True
