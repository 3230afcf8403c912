"""How the local stack starts and ends, and what it says about a template that it cannot run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from support.waiting import eventually

from loopllama_cli.local import LocalStack, LocalStackError, template
from loopllama_cli.local.credentials import find
from loopllama_cli.local.events import rate_minutes
from loopllama_cli.local.logs import metrics

from .conftest import ROOT, TOY_PROJECT, Running, alive


def test_outputs_conditions_and_parameters(toy: Running) -> None:
    assert toy.outputs["ApiUrl"] == toy.stack.api_url
    assert toy.outputs["BusName"] == "loopllama-events"
    assert "SpareTableName" not in toy.outputs
    assert not any("Spare" in name for name in toy.client("dynamodb").list_tables()["TableNames"])
    found = toy.client("cloudformation").describe_stacks(StackName="loopllama")["Stacks"][0]
    assert {each["OutputKey"]: each["OutputValue"] for each in found["Outputs"]} == toy.outputs


def test_resources_are_found_by_their_logical_ids(toy: Running) -> None:
    """Behind one whose condition does not hold, too; that one is not there."""
    cloudformation = toy.client("cloudformation")
    listed = cloudformation.list_stack_resources(StackName="loopllama")["StackResourceSummaries"]
    names = [one["LogicalResourceId"] for one in listed]
    assert "Spare" not in names
    for name in ("Seen", "Values", "Machine"):
        found = cloudformation.describe_stack_resource(StackName="loopllama", LogicalResourceId=name)
        assert (found["StackResourceDetail"]["LogicalResourceId"], name in names) == (name, True)
    with pytest.raises(ClientError, match="Resource Spare does not exist"):
        cloudformation.describe_stack_resource(StackName="loopllama", LogicalResourceId="Spare")


def test_what_is_left_out_is_said(toy: Running) -> None:
    said = [line for line in toy.log if line.startswith("not created locally")]
    assert any("nothing evaluates alarms" in line and "Alarm" in line for line in said)
    assert any("routes are served" in line and "Api" in line for line in said)


def test_signed_links_work(toy: Running) -> None:
    import httpx

    s3, bucket = toy.client("s3"), toy.outputs["ValuesBucketName"]
    s3.put_object(Bucket=bucket, Key="a/b.json", Body=b"{}")
    link = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a/b.json"})
    assert httpx.get(link).content == b"{}"


def test_the_aws_cli_finds_it_by_its_variables(toy: Running) -> None:
    program = (
        "import boto3, json; print(json.dumps(sorted(boto3.client('events').list_event_buses()['EventBuses'][i]['Name']"
        " for i in range(2))))"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**inherited, **toy.stack.environment()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == ["default", "loopllama-events"]


CALLER = f"""
import json, sys
from loopllama_cli.local import LocalStack
stack = LocalStack({str(TOY_PROJECT)!r}, {{"WithSpare": "yes"}}).start()
import boto3
client = boto3.client("lambda", endpoint_url=stack.aws_endpoint_url, region_name="us-east-1",
                      **stack.credentials.as_json())
client.invoke(FunctionName=stack.outputs["ToyName"], Payload="{{}}")
print(json.dumps([stack.pid, *stack.processes("Toy"), "SpareTableName" in stack.outputs]), flush=True)
sys.stdin.read()
"""


def test_everything_dies_with_a_caller_that_is_killed() -> None:
    path = os.pathsep.join([str(ROOT / "cli"), str(ROOT / "shared")])
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert caller.stdout is not None
    *pids, spare = json.loads(caller.stdout.readline())
    assert spare, "the condition is met by the parameter"
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    eventually(lambda: not any(alive(pid) for pid in pids), 60)


def test_functions_end_when_the_stack_is_killed() -> None:
    stack = LocalStack(TOY_PROJECT, log=lambda line: None).start()
    try:
        running = Running(stack, [])
        running.invoke("ToyName")
        pids = stack.processes("Toy")
        assert stack.pid is not None
        os.kill(stack.pid, signal.SIGKILL)
        eventually(lambda: not any(alive(pid) for pid in pids), 60)
        eventually(lambda: not stack.running)
        with pytest.raises((LocalStackError, BrokenPipeError)):
            stack.processes("Toy")
        assert find(stack.aws_endpoint_url, {}) == stack.credentials
    finally:
        stack.stop()
    assert find(stack.aws_endpoint_url, {}) is None
    with pytest.raises(LocalStackError, match="not running"):
        stack.processes("Toy")


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """The toy project with a change in its template."""
    project = tmp_path / "project"
    shutil.copytree(TOY_PROJECT, project)
    template = project / "template.yaml"
    text = template.read_text()
    assert old in text
    template.write_text(text.replace(old, new, 1))
    return project


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Type: AWS::CloudWatch::Dashboard", "Type: AWS::Neptune::DBCluster", "Dashboard is a AWS::Neptune::DBCluster"),
        ("CodeUri: functions/toy/", "CodeUri: functions/gone/", "'functions/gone/' is not a folder of the project"),
        ("DefinitionUri: machine.asl.json", "DefinitionUri: gone.asl.json", "cannot read the state machine"),
        ("Handler: app.handler", "Hander: app.handler", "not a valid SAM template"),
        ("Resources:\n", "Resources: [\n", "expected"),
    ],
)
def test_a_template_that_cannot_run_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(template.TemplateError) as refused:
        template.load(changed(tmp_path, old, new), {}, {}, lambda kind: "Neptune" not in kind)
    assert message in str(refused.value)


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalStackError, match=r"template\.yaml: No such file"):
        LocalStack(tmp_path, log=lambda line: None).start()
    with pytest.raises(template.TemplateError, match=r"has no parameter Gretting\. It has: Greeting, "):
        template.load(TOY_PROJECT, {"Gretting": "x"}, {}, lambda kind: True)


def test_a_taken_port_is_said(toy: Running) -> None:
    port = int(toy.stack.aws_endpoint_url.rpartition(":")[2])
    with pytest.raises(LocalStackError, match=f"port {port}"):
        LocalStack(TOY_PROJECT, aws_port=port, log=lambda line: None).start()


@pytest.mark.parametrize(
    ("expression", "minutes"),
    [
        ("rate(1 minute)", 1),
        ("rate(5 minutes)", 5),
        ("rate(2 hours)", 120),
        ("rate(1 day)", 1440),
        ("cron(0 * * * ? *)", None),
    ],
)
def test_rates(expression: str, minutes: int | None) -> None:
    assert rate_minutes(expression) == minutes


@pytest.mark.parametrize(
    "value", [1, "text", {"CloudWatchMetrics": []}, {"Timestamp": 1}, {"Timestamp": 1, "CloudWatchMetrics": 1}]
)
def test_lines_that_are_no_metrics(value: object) -> None:
    assert list(metrics(json.dumps({"_aws": value}))) == []
    assert list(metrics('plain "_aws"')) == []
    assert list(metrics('{"_aws"')) == []


@pytest.mark.parametrize(("dimensions", "value"), [(["gone"], 1), ([], "text"), ([], None)])
def test_metrics_that_cannot_be_read_are_left_out(dimensions: list[str], value: object) -> None:
    directive = {"Namespace": "N", "Dimensions": [dimensions], "Metrics": [{"Name": "M"}]}
    line = json.dumps({"_aws": {"Timestamp": 1, "CloudWatchMetrics": [directive]}, "M": value})
    assert list(metrics(line)) == []
