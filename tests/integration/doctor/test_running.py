"""What the doctor says of a stack that runs: queues, alarms, throttles, rows of nothing, models that rest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.api_client import FINAL
from support.doctor import checks, denied, run
from typer.testing import CliRunner

from loopllama.aws import clients, dynamo
from loopllama_cli.doctor import running
from loopllama_cli.main import app

ALARMS = {"AWS::CloudWatch::Alarm": [("RunsFail", "x-RunsFail-1"), ("CostHigh", "x-CostHigh-1")]}


@pytest.fixture
def made_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[running.Resources], None]:
    """Let CloudFormation have made what the local stack makes of no template: alarms, and functions of others."""
    return lambda resources: monkeypatch.setattr(running, "resources", lambda _: resources)


def test_messages_in_a_dead_letter_queue(stack: Callable[..., str], product: Any) -> None:
    name = stack("*", {"LostRequests": {"Type": "AWS::SQS::Queue"}})
    assert checks("--stack", name, code=0)["queues"]["found"] == "2, all empty"
    found = product.client("cloudformation").describe_stack_resource(StackName=name, LogicalResourceId="LostRequests")
    url = found["StackResourceDetail"]["PhysicalResourceId"]
    product.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    check = checks("--stack", name, code=0)["queue LostRequests"]
    assert (check["status"], check["found"]) == ("warn", "1 message waits")
    look, then = check["todo"].splitlines()
    assert look.startswith(f"look: aws sqs receive-message --queue-url {url} ")
    assert "docs/operations.md" in then
    # Looking does not take it out, nor hide it.
    assert checks("--stack", name, code=0)["queue LostRequests"] == check


def test_alarms_that_are_on(stack: Callable[..., str], product: Any, made_of: Any) -> None:
    name = stack("*")
    assert "alarms" not in checks("--stack", name, code=0)
    made_of(ALARMS)
    client = product.client("cloudwatch")
    for _, alarm in (*ALARMS["AWS::CloudWatch::Alarm"], ("", "y-RunsFail-1")):
        client.put_metric_alarm(
            AlarmName=alarm,
            Namespace="x",
            MetricName="x",
            Statistic="Sum",
            Period=300,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
        )
    client.set_alarm_state(AlarmName="y-RunsFail-1", StateValue="ALARM", StateReason="another stack's")
    assert checks("--stack", name, code=0)["alarms"]["found"] == "2, none in ALARM"
    client.set_alarm_state(AlarmName="x-RunsFail-1", StateValue="ALARM", StateReason="a test")
    check = checks("--stack", name, code=0)["alarms"]
    assert (check["status"], check["found"]) == ("warn", "in ALARM: RunsFail")
    assert "docs/operations.md" in check["todo"]


def test_throttles_of_the_last_hour(stack: Callable[..., str], product: Any) -> None:
    name, client = stack("*"), product.client("cloudwatch")

    def note(at: float, value: int) -> None:
        metric = {
            "MetricName": "ModelThrottles",
            "Dimensions": [{"Name": "service", "Value": name}],
            "Timestamp": datetime.fromtimestamp(at, UTC),
            "Value": value,
        }
        client.put_metric_data(Namespace=f"LoopLlama/{name}", MetricData=[metric])

    note(time.time() - 2 * 3600, 100)
    assert checks("--stack", name, code=0)["throttles"]["found"] == "none within the last hour"
    note(time.time() - 600, 7)
    note(time.time() - 1800, 5)
    check = checks("--stack", name, code=0)["throttles"]
    assert (check["status"], check["found"]) == ("warn", "within the last hour: 12 of calls of models")
    assert "fallback" in check["todo"]


def test_throttled_functions_are_named(stack: Callable[..., str], answering: Any, made_of: Any) -> None:
    name = stack("*")
    made_of({"AWS::Lambda::Function": [("Busy", "x-Busy-1"), ("Idle", "x-Idle-1")]})

    def answers(asked: str) -> tuple[int, Any]:
        operation, _, body = asked.partition(" ")
        if operation != "GetMetricData":
            return 400, {"__type": "InvalidAction", "message": operation}
        queries = json.loads(body)["MetricDataQueries"]
        of = {query["Id"]: query["MetricStat"]["Metric"] for query in queries}
        values = {key: [3.0] if metric["Dimensions"][0]["Value"] == "x-Busy-1" else [] for key, metric in of.items()}
        return 200, {"MetricDataResults": [{"Id": key, "Values": given} for key, given in values.items()]}

    answering("CLOUDWATCH", answers)
    check = checks("--stack", name, code=0)["throttles"]
    assert check["found"] == "within the last hour: 3 of Busy"
    assert "functions at once" in check["todo"]


@pytest.mark.parametrize(
    ("service", "action", "check"),
    [
        ("SQS", "sqs:GetQueueAttributes", "queues"),
        ("CLOUDWATCH", "cloudwatch:GetMetricData", "throttles"),
        ("CLOUDWATCH", "cloudwatch:DescribeAlarms", "alarms"),
    ],
)
def test_who_may_not_look_is_warned(
    stack: Callable[..., str], answering: Any, made_of: Any, service: str, action: str, check: str
) -> None:
    name = stack("*")
    made_of({**ALARMS, "AWS::SQS::Queue": [("LostEvents", "http://127.0.0.1:9/1/LostEvents")]})
    answering(service, denied(action))
    found = checks("--stack", name, code=0)[check]
    assert (found["status"], found["todo"]) == ("warn", f"allow {action} for who you are")


@pytest.fixture
def rows(product: Any) -> Iterator[Callable[[str, str], None]]:
    """Put rows into the Routes table."""
    client, table = product.client("dynamodb"), product.outputs["RoutesTableName"]
    keys: list[dict[str, Any]] = []

    def put(workflow: str, step: str) -> None:
        keys.append({"workflow": {"S": workflow}, "step": {"S": step}})
        client.put_item(TableName=table, Item={**keys[-1], "model": {"S": "small"}})

    yield put
    for key in keys:
        client.delete_item(TableName=table, Key=key)


def test_tools_that_are_invalid_or_gone(product: Any, api: Any) -> None:
    client, table = product.client("dynamodb"), product.outputs["ToolsTableName"]
    pages = '{"type": "http_get", "hosts": ["example.com"]}'
    keys = {name: {"tool": {"S": name}} for name in ("doctor_used", "doctor_unused", "doctor_gone")}
    local = ("--local", product.stack.aws_endpoint_url)
    try:
        for key in keys.values():
            client.put_item(TableName=table, Item={**key, "definition": {"S": pages}})
        agent = {"name": "a", "role": "r", "systemPrompt": "s", "model": "small"}
        crew = [{**agent, "tools": ["doctor_used", "doctor_gone", "now"]}]
        api.post("/v1/workflows", {"name": "doctored tools", "crew": crew}, 201)
        assert checks(*local, code=0)["tools"]["found"] == "3 defined, all that steps name among them"
        for name in ("doctor_used", "doctor_unused"):
            client.put_item(TableName=table, Item={**keys[name], "definition": {"S": "{"}})
        client.delete_item(TableName=table, Key=keys["doctor_gone"])
        found = checks(*local, code=1)
        used, unused, gone = (found[f"tool {name}"] for name in keys)
        assert (used["status"], unused["status"], gone["status"]) == ("fail", "warn", "fail")
        assert used["found"].startswith("is no valid JSON")
        assert used["found"].endswith("these fail: doctored_tools/a")
        assert unused["found"].endswith("no step uses it")
        assert gone["found"] == "is not defined; these fail: doctored_tools/a"
        assert used["todo"].splitlines()[0].endswith("tools show doctor_used")
        assert gone["todo"].endswith("tools push FILE.json")
        assert "tools" not in found
    finally:
        for key in keys.values():
            client.delete_item(TableName=table, Key=key)
        api.delete("/v1/workflows/doctored_tools")


def test_rows_of_workflows_and_steps_that_do_not_exist(
    stack: Callable[..., str], rows: Callable[[str, str], None], product: Any, api: Any
) -> None:
    crew = [{"name": "a", "role": "r", "systemPrompt": "s", "model": "small"}]
    api.post("/v1/workflows", {"name": "doctored", "crew": crew}, 201)
    local = ("--local", product.stack.aws_endpoint_url)
    try:
        for workflow, step in (("doctored", "a"), ("doctored", "*"), ("doctored", "b"), ("gone", "*")):
            rows(workflow, step)
        found = checks(*local, code=0)
        wrong = {what: check for what, check in found.items() if what.startswith("route ")}
        assert set(wrong) == {"route doctored/b", "route gone/*"}
        assert wrong["route doctored/b"]["found"] == "there is no such step: the row does nothing"
        assert wrong["route gone/*"]["found"] == "there is no such workflow: the row does nothing"
        for check in wrong.values():
            words = check["todo"].replace("'*'", "*").split()[1:]
            assert words[-4:-2] == ["routes", "unset"]
            done = CliRunner().invoke(app, words)
            assert done.exit_code == 0, done.output
        assert checks(*local, code=0)["routes"]["found"] == "2 rows, each of a step that exists"
        assert CliRunner().invoke(app, [*local, "routes", "unset", "gone", "*"]).exit_code == 3
    finally:
        api.delete("/v1/workflows/doctored")


def test_a_model_that_rests_is_named(stack: Callable[..., str], product: Any) -> None:
    client, table = product.client("dynamodb"), product.outputs["ModelsTableName"]
    now = int(time.time() * 1000)
    states = {
        "m:claude-sonnet-5": {"failures": 3, "last": now, "open_until": now + 60_000, "open_ms": 60_000},
        "m:gemini-2.5-pro": {"failures": 3, "last": now, "open_until": now - 1, "open_ms": 30_000},
    }
    name = stack("*")
    assert checks("--stack", name, code=0)["circuits"]["found"] == "closed for every model"
    client.put_item(TableName=table, Item=dynamo.to_item({"model": "health#", **states}))
    try:
        found = checks("--stack", name, code=0)
    finally:
        client.delete_item(TableName=table, Key={"model": {"S": "health#"}})
    assert {what for what in found if what.startswith("circuit")} == {"circuit claude-sonnet-5"}
    assert found["circuit claude-sonnet-5"]["found"].startswith("open until ")
    clients.client.cache_clear()
    assert "by itself" in found["circuit claude-sonnet-5"]["todo"]


def test_the_local_stack_names_its_queues_too(product: Any) -> None:
    local = ("--local", product.stack.aws_endpoint_url)
    assert checks(*local, code=0)["queues"]["found"] == "4, all empty"
    url = product.client("sqs").list_queues(QueueNamePrefix="loopllama-LostEvents")["QueueUrls"][0]
    product.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    try:
        lines = run(*local).stdout.splitlines()
    finally:
        product.client("sqs").purge_queue(QueueUrl=url)
    (at,) = (number for number, line in enumerate(lines) if line.startswith("warn queue LostEvents"))
    assert lines[at + 1].startswith('     → look: eval "$(loopllama local --export)"; aws sqs receive-message')


def test_what_the_runbook_sends_on_starts_its_run_once(product: Any, api: Any) -> None:
    """Lambda's form of a message and EventBridge's; the third is the first again, and starts nothing."""
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text("utf-8")
    script = next(one for one in re.findall(r"<<'PY'\n(.*?)^PY$", page, re.MULTILINE | re.DOTALL) if "invoke" in one)
    crew = [{"name": "a", "role": "r", "systemPrompt": "s", "model": "small"}]
    api.post("/v1/workflows", {"name": "sent_on", "crew": crew}, 201)
    url = product.client("sqs").list_queues(QueueNamePrefix="loopllama-LostRequests")["QueueUrls"][0]
    detail = {"workflow": "sent_on", "input": "x"}
    events = [
        {"id": f"e-{number}", "source": "loopllama", "detail-type": "RunRequested", "detail": detail}
        for number in range(2)
    ]
    try:
        for body in (events[0], {"requestPayload": events[1]}, events[0]):
            product.client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps(body))
        functions = product.client("lambda").list_functions()["Functions"]
        (function,) = (one["FunctionName"] for one in functions if "AcceptRun" in one["FunctionName"])
        arguments = [sys.executable, "-c", script, url, function]
        done = subprocess.run(arguments, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        api.until("/v1/workflows/sent_on/runs", lambda runs: [run["status"] in FINAL for run in runs] == [True, True])
        said = product.client("sqs").get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        )
        assert set(said["Attributes"].values()) == {"0"}
        assert len(api.get("/v1/workflows/sent_on/runs")) == 2
    finally:
        api.delete("/v1/workflows/sent_on")
