"""What is wrong from outside: requests, rows of the routes table, inputs. Each a clear error or a stated fallback."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from support.system import System

from loopllama.errors import InvalidRequest, WorkflowNotFound


@pytest.fixture(scope="module")
def workflow(system: System) -> str:
    return system.push("Routed", [{"name": "first"}, {"name": "second"}])


def queued(system: System, queue: str) -> list[dict[str, Any]]:
    """The messages of a queue, by its logical id."""
    sqs = system.client("sqs")
    url = sqs.get_queue_url(QueueName=system.resources[queue].rpartition("/")[2])["QueueUrl"]
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0).get("Messages", [])
    return [json.loads(message["Body"]) for message in found]


@pytest.mark.aws
def test_an_unknown_workflow_is_refused_before_a_run_is_made(system: System) -> None:
    with pytest.raises(WorkflowNotFound, match="no_such_crew"):
        system.start("no_such_crew")


def test_an_event_for_an_unknown_workflow_is_kept_with_its_error(system: System) -> None:
    detail = {"workflow": "never_pushed", "input": "hello"}
    entry = {"Source": "loopllama", "DetailType": "RunRequested", "Detail": json.dumps(detail)}
    system.client("events").put_events(Entries=[{"EventBusName": system.outputs["EventBusName"], **entry}])
    lost: list[dict[str, Any]] = []

    def arrived() -> bool:
        lost[:] = [
            message for message in queued(system, "LostRequests") if message["requestPayload"]["detail"] == detail
        ]
        return bool(lost)

    system.until(arrived)
    assert lost[0]["responsePayload"]["errorType"] == "WorkflowNotFound"
    assert "never_pushed" in lost[0]["responsePayload"]["errorMessage"]


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        ({"workflow": "no_such_crew", "input": "x"}, "WorkflowNotFound", "no_such_crew"),
        ({"workflow": "routed"}, "InvalidRequest", "input is empty"),
        ({"workflow": "routed", "input": "x", "models": {"third": "sim:base"}}, "InvalidRequest", "no step 'third'"),
        ({"wrokflow": "routed", "input": "x"}, "InvalidRequest", '{"workflow": its id'),
        ({"run_id": "run_that_is_not"}, "RunNotFound", "run_that_is_not"),
    ],
)
def test_an_execution_started_by_hand_with_nonsense_fails_and_says_why(
    system: System, workflow: str, request_: dict[str, Any], error: str, says: str
) -> None:
    name = f"wrong-{uuid.uuid4().hex[:8]}"
    execution = system.start_by_hand(name, request_)
    assert execution["status"] == "FAILED"
    assert execution["error"] == error
    assert says in json.loads(execution["cause"])["errorMessage"]
    assert system.item(name, "RUN") == {}


@pytest.mark.aws
def test_an_event_whose_detail_is_wrong_names_the_field(system: System, workflow: str) -> None:
    event = {"id": "1", "detail": {"workflow": workflow, "input": "x", "tags": ["a"]}}
    answer = system.invoke("AcceptRun", event)
    assert answer["errorType"] == "InvalidRequest"
    assert "tags must be an object" in answer["errorMessage"]
    assert system.invoke("AcceptRun", {"id": "1", "detail": {}})["errorType"] == "InvalidRequest"


@pytest.mark.aws
def test_without_any_row_the_crew_decides(system: System) -> None:
    found = system.client("dynamodb").scan(TableName=system.outputs["RoutesTableName"])["Items"]
    crew = [{"name": "agents", "model": "sim:tenth"}, {"name": "workflows"}]
    run = system.run(system.push("No row", crew, model="sim:base"))
    assert not [row for row in found if row["workflow"]["S"] == run["workflow_id"]]
    assert [(s["model"], s["source"]) for s in run["steps"]] == [
        ("sim:tenth", "agent"),
        ("sim:base", "workflow-default"),
    ]
    assert all(step["ignored"] == [] for step in run["steps"])
    unsaid = system.run(system.push("No model", [{"name": "one"}]))
    assert (unsaid["steps"][0]["model"], unsaid["steps"][0]["source"]) == ("sim:base", "deployment-default")


RUBBISH: dict[str, tuple[Any, str]] = {
    "unknown model": ({"model": "gpt-99-imaginary"}, "gpt-99-imaginary"),
    "a number": ({"model": Decimal(12)}, "12"),
    "empty": ({"model": ""}, "model"),
    "a map": ({"model": {"name": "sim:base"}}, "model"),
    "unknown policy": ({"model": "sim:tenth", "policy": "luckiest"}, "luckiest"),
    "fallbacks that are text": ({"model": "sim:tenth", "fallbacks": "sim:base"}, "fallbacks"),
    "an expiry that is no time": ({"model": "sim:tenth", "expires_at": "tomorrow"}, "expires_at"),
    "expired": ({"model": "sim:tenth", "expires_at": Decimal(1_000_000)}, "expired"),
}


def test_rows_of_rubbish_are_passed_over_and_said(system: System) -> None:
    crew = [{"name": f"step{place}", "needs": []} for place in range(len(RUBBISH))]
    workflow = system.push("Rubbish rows", crew, model="sim:base")
    for place, (row, _) in enumerate(RUBBISH.values()):
        system.put("RoutesTableName", {"workflow": workflow, "step": f"step{place}", **row})
    run = system.run(workflow)
    assert run["status"] == "completed"
    for step, (name, (_, says)) in zip(run["steps"], RUBBISH.items(), strict=True):
        assert (step["model"], step["source"]) == ("sim:base", "workflow-default"), name
        assert len(step["ignored"]) == 1, name
        assert step["ignored"][0]["layer"] == "step-override"
        assert says in json.dumps(step["ignored"], default=str), name
    assert system.metric("InvalidOverride", workflow=workflow)[0] == len(RUBBISH) - 1  # an expired row is none


@pytest.mark.aws
def test_rubbish_beside_a_good_model_leaves_the_model(system: System) -> None:
    workflow = system.push("Half rubbish", [{"name": "one"}], model="sim:base")
    row = {"model": "sim:tenth", "temperature": "hot", "max_tokens": Decimal(-1)}
    system.put("RoutesTableName", {"workflow": workflow, "step": "one", **row, "comment": {"x": ["y"]}})
    run = system.run(workflow)
    step = run["steps"][0]
    assert (run["status"], step["model"], step["source"]) == ("completed", "sim:tenth", "step-override")
    reasons = json.dumps(step["ignored"])
    assert "temperature" in reasons
    assert "max_tokens" in reasons


def test_an_input_of_a_megabyte_goes_through_the_bucket_and_comes_back_whole(system: System, provider: Any) -> None:
    from support.provider_server import Text

    text = "".join(f"{number:07d} ünïcode \n" for number in range(60_000))
    assert len(text.encode()) > 1_000_000
    script, model = provider(lambda request: Text(request["messages"][-1]["content"][-500_000:]))
    run = system.run(system.push("A megabyte", [{"name": "one"}, {"name": "two"}], model=model), text)
    assert run["status"] == "completed"
    assert run["input"] == text
    assert "$s3" in system.item(run["id"], "RUN")["input"]
    assert text in script.requests[0]["messages"][-1]["content"]
    first = run["steps"][0]["output"]
    assert first == script.requests[0]["messages"][-1]["content"][-500_000:]
    assert first in script.requests[1]["messages"][-1]["content"]
    assert run["output"] == run["steps"][1]["output"]
    for item in ("RUN", "STEP#one#0#0", "STEP#two#0#0"):
        assert len(json.dumps(system.item(run["id"], item), default=str)) < 10_000
    history = system.client("stepfunctions").get_execution_history(executionArn=system.execution_arn(run["id"]))
    assert max(len(json.dumps(event, default=str)) for event in history["events"]) < 10_000


@pytest.mark.aws
def test_a_large_input_by_hand_goes_through_the_bucket_too(system: System, workflow: str) -> None:
    name, value = f"large-{uuid.uuid4().hex[:8]}", {"lines": [f"line {number}." for number in range(10_000)]}
    assert system.start_by_hand(name, {"workflow": workflow, "input": value})["status"] == "SUCCEEDED"
    assert system.read(name)["input"] == value
    assert "$s3" in system.item(name, "RUN")["input"]


@pytest.mark.aws
def test_an_input_beyond_all_limits_is_refused(system: System, workflow: str) -> None:
    with pytest.raises(InvalidRequest, match="at most 16,777,216"):
        system.start(workflow, "x" * (16 * 1024 * 1024 + 1))
