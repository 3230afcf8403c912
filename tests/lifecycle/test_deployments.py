"""Deployments that fail, and stacks beside one another."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from foreign.stacks import Stack, Version, delete, sam_deploy
from samcli.yamlhelper import yaml_dump, yaml_parse
from support.remains import remains
from support.waiting import eventually

from loopllama.aws import clients
from loopllama_cli import removal


def test_a_first_deployment_that_fails_leaves_nothing(version: Version, folder: Path) -> None:
    """The template with one resource more, which waits in vain when all the others are there."""
    broken = yaml_parse(version.template.read_text("utf-8"))
    others = [name for name, one in broken["Resources"].items() if "Condition" not in one]
    broken["Resources"] |= {
        "Nobody": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
        "Last": {
            "Type": "AWS::CloudFormation::WaitCondition",
            "DependsOn": others,
            "Properties": {"Handle": {"Ref": "Nobody"}, "Timeout": "1", "Count": 1},
        },
    }
    file = folder / "template.yaml"
    file.write_text(yaml_dump(broken), encoding="utf-8")
    before = set(remains(clients.client))
    said = sam_deploy("first", file, code=1)
    assert "ROLLBACK" in said, said
    pages = clients.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName="first")
    events = (one for page in pages for one in page["StackEvents"])
    made = {one["LogicalResourceId"] for one in events if one["ResourceStatus"] == "CREATE_COMPLETE"}
    kept = {name for name in others if "DeletionPolicy" in broken["Resources"][name]}
    tables = {name for name in others if broken["Resources"][name]["Type"] == "AWS::DynamoDB::Table"}
    assert kept == tables | {"ValuesBucket"}
    assert kept <= made, "it failed before the tables were there"
    # The stack stays, empty, so that one can read what failed; it must go before the next deployment.
    assert set(remains(clients.client)) - before == {"cloudformation: first"}
    delete("first")
    sam_deploy("first", version.template)
    assert [*removal.remove(removal.find("first"))] == []
    assert set(remains(clients.client)) == before


def test_two_stacks_whose_names_begin_alike(version: Version, folder: Path) -> None:
    """Nothing adds up, nothing leads the other, and the removal of one leaves the other as it was."""
    one, two = (Stack(name, version, SimulatedProviders="*", SimulatedSpeed="50") for name in ("twin", "twin-prod"))
    # But for the stage of each API.
    assert set(one.resources().values()) & set(two.resources().values()) == {"$default"}
    for stack in (one, two):
        stack.push("same", "small", {"name": "only"})
        clients.client("secretsmanager").create_secret(Name=f"{stack.name}/providers/openai", SecretString="{}")
    one.loopllama("routes", "set", "same", "only", "balanced", "--reason", "this one only")

    # An event on the bus of one starts a run there only.
    before = runs(two)
    detail = '{"workflow": "same", "input": "hello"}'
    entry = {
        "Source": "loopllama",
        "DetailType": "RunRequested",
        "Detail": detail,
        "EventBusName": one.outputs["EventBusName"],
    }
    clients.client("events").put_events(Entries=[entry])
    (asked,) = eventually(lambda: runs(one), 60)
    shown = [one.wait(asked), one.wait(one.start("same")), two.wait(two.start("same"))]
    assert [run["steps"][0]["source"] for run in shown] == ["step-override", "step-override", "workflow-default"]
    assert (len(runs(one)), before, len(runs(two))) == (2, [], 1)
    assert [steps(stack) for stack in (one, two)] == [2, 1]
    assert [metric(stack) for stack in (one, two)] == [2, 1]

    of_two = set(removal.find("twin-prod"))
    said = version.loopllama("destroy", "--yes", stack="twin")
    assert "twin-prod" not in said
    assert [line for line in remains(clients.client) if "twin" in line and "twin-prod" not in line] == []
    assert set(removal.find("twin-prod")) == of_two
    assert two.wait(two.start("same"))["status"] == "completed"
    assert [*removal.remove(removal.find("twin-prod"))] == []
    assert [line for line in remains(clients.client) if "twin" in line] == []


def runs(stack: Stack) -> list[str]:
    found: list[dict[str, Any]] = stack.loopllama("runs", "list")
    return [run["id"] for run in found]


def steps(stack: Stack) -> int:
    """Steps in the stack's usage."""
    return int(stack.loopllama("usage")["total"]["steps"])


def metric(stack: Stack) -> int:
    """Completed runs by the stack's own metrics."""
    now = datetime.datetime.now(datetime.UTC)
    points = clients.client("cloudwatch").get_metric_statistics(
        Namespace=f"LoopLlama/{stack.name}",
        MetricName="RunsCompleted",
        Dimensions=[{"Name": "workflow", "Value": "same"}],
        StartTime=now - datetime.timedelta(hours=1),
        EndTime=now + datetime.timedelta(hours=1),
        Period=7200,
        Statistics=["Sum"],
    )["Datapoints"]
    return int(sum(point["Sum"] for point in points))
