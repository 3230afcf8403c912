"""The ways to start runs that parameters turn on, on a local stack of their own: uploads and a schedule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.system import PARAMETERS, ROOT, System

from loopllama.aws import clients
from loopllama.queries.runs import RunReader
from loopllama_cli.local.handle import LocalStack

EXAMPLES = {
    "Uploads": "Enabled",
    "ScheduleExpression": "rate(1 minute)",
    "ScheduleWorkflow": "by_schedule",
    "ScheduleInput": '{"report": "daily"}',
}


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    lines: list[str] = []
    with (
        LocalStack(ROOT, {**PARAMETERS, **EXAMPLES}, log=lines.append, minute=1.0) as stack,
        pytest.MonkeyPatch.context() as patch,
    ):
        running = System(stack)
        patch.setattr(clients, "client", running.client)
        yield running


def runs_of(system: System, workflow: str) -> list[dict[str, Any]]:
    return [{**run} for run in RunReader(system.settings).list(workflow, 100)[0]]


def test_an_upload_starts_a_run(system: System) -> None:
    workflow = system.push("By upload", [{"name": "only"}])
    s3, bucket = system.client("s3"), system.outputs["UploadsBucketName"]
    s3.put_object(Bucket=bucket, Key=f"{workflow}/ticket.json", Body=json.dumps({"order": 7}).encode())
    system.until(lambda: runs_of(system, workflow))
    (run,) = runs_of(system, workflow)
    ended = system.wait(run["id"])
    assert (ended["status"], ended["input"]) == ("completed", {"order": 7})


def test_an_upload_that_cannot_be_taken_is_kept_with_its_error(system: System) -> None:
    system.client("s3").put_object(Bucket=system.outputs["UploadsBucketName"], Key="nobody/a.txt", Body=b"hello")
    found: list[dict[str, Any]] = []

    def lost() -> bool:
        answer = system.client("sqs").receive_message(QueueUrl=system.resources["LostRequests"], MaxNumberOfMessages=10)
        records = [json.loads(message["Body"]) for message in answer.get("Messages", [])]
        # The schedule's first runs are there too: its workflow does not exist yet.
        found.extend(one for one in records if one["requestPayload"]["detail-type"] == "Object Created")
        return bool(found)

    system.until(lost)
    assert found[0]["requestPayload"]["detail"]["object"]["key"] == "nobody/a.txt"
    assert found[0]["responsePayload"]["errorType"] == "WorkflowNotFound"


def test_a_schedule_starts_runs(system: System) -> None:
    workflow = system.push("By schedule", [{"name": "only"}])
    assert workflow == EXAMPLES["ScheduleWorkflow"]
    system.until(lambda: len(runs_of(system, workflow)) >= 2)
    for run in runs_of(system, workflow)[-2:]:
        ended = system.wait(run["id"])
        assert (ended["status"], ended["input"]) == ("completed", {"report": "daily"})
