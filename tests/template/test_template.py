"""template.yaml gives each function what it needs and no more, and keeps data safe."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import pytest
from template.project import FUNCTIONS, ROOT, TABLES, listed, references, resources, statements, template

from loopllama import settings
from loopllama.telemetry import metrics

KEYS = {
    "WorkflowsTable": ("workflow_id", "version"),
    "RoutesTable": ("workflow", "step"),
    "RouteHistoryTable": ("route", "sequence"),
    "ModelsTable": ("model",),
    "ToolsTable": ("tool",),
    "RunsTable": ("run_id", "item"),
    "UsageTable": ("day_workflow", "run_step_model"),
    "ApiKeysTable": ("key_hash",),
    "KeyUseTable": ("key_id", "item"),
}
UNNARROWABLE = {"logs:", "xray:", "dynamodb:ListStreams"}
"""Services whose actions here take no narrower resource than `*`."""


def properties(name: str) -> dict[str, Any]:
    found: dict[str, Any] = template()["Resources"][name]["Properties"]
    return found


def environment(name: str) -> dict[str, Any]:
    variables: dict[str, Any] = properties(name).get("Environment", {}).get("Variables", {})
    return variables


def test_sections_are_in_order() -> None:
    text = (ROOT / "template.yaml").read_text()
    assert re.findall(r"^(\w+):", text, re.MULTILINE) == [
        *("AWSTemplateFormatVersion", "Transform", "Description"),
        *("Parameters", "Conditions", "Globals", "Resources", "Outputs"),
    ]


def test_every_parameter_and_condition_is_used() -> None:
    rest = {name: section for name, section in template().items() if name != "Parameters"}
    assert set(template()["Parameters"]) | set(template()["Conditions"]) <= set(references(rest))


def test_a_quick_create_asks_nothing() -> None:
    assert all("Default" in one and one["Description"] for one in template()["Parameters"].values())


def test_outputs_are_those_of_the_contract() -> None:
    assert set(template()["Outputs"]) == {
        *("ApiUrl", "RunWorkflowArn", "EventBusName", "WorkflowsTableName", "RoutesTableName", "RouteHistoryTableName"),
        *(
            "ModelsTableName",
            "ToolsTableName",
            "RunsTableName",
            "UsageTableName",
            "ApiKeysTableName",
            "KeyUseTableName",
            "ValuesBucketName",
        ),
        *("ProviderSecretsPrefix", "UploadsBucketName", "AlarmTopicArn"),
    }
    conditional = [name for name, one in template()["Outputs"].items() if "Condition" in one]
    assert conditional == ["UploadsBucketName", "AlarmTopicArn"]
    for name, output in template()["Outputs"].items():
        if name.endswith("TableName"):
            assert output["Value"] == {"Ref": name.removesuffix("Name")}


# Functions


def test_every_function_folder_is_a_function() -> None:
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
    assert folders == {one["Properties"]["CodeUri"].split("/")[1] for one in FUNCTIONS.values()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_its_handler(name: str) -> None:
    module, handler = properties(name).get("Handler", template()["Globals"]["Function"]["Handler"]).split(".")
    tree = ast.parse((ROOT / properties(name)["CodeUri"] / f"{module}.py").read_text())
    assert handler in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_has_its_own_log_group(name: str) -> None:
    group = properties(name)["LoggingConfig"]["LogGroup"]["Ref"]
    others = [properties(other)["LoggingConfig"]["LogGroup"]["Ref"] for other in FUNCTIONS if other != name]
    assert group not in others
    assert group in resources("AWS::Logs::LogGroup")


@pytest.mark.parametrize("name", resources("AWS::Logs::LogGroup"))
def test_logs_are_deleted(name: str) -> None:
    assert properties(name)["RetentionInDays"] == {"Ref": "LogRetentionDays"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_gets_only_settings_that_exist(name: str) -> None:
    assert {variable.lower() for variable in environment(name)} <= set(settings._CONVERT)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_names_and_permissions_go_together(name: str) -> None:
    named = {
        value["Ref"]
        for variable, value in environment(name).items()
        if variable.endswith(("_TABLE", "_BUCKET", "_ARN", "_BUS_NAME")) and isinstance(value, dict)
    }
    # Delivering an answer takes a task token; AdvanceRun's execution tells it which state machine the next one is of.
    told = ["states:SendTaskSuccess", *(["states:StartExecution"] if name == "AdvanceRun" else [])]
    named_by = [one for one in statements(name) if one["Action"] not in told]
    allowed = set(references([one["Resource"] for one in named_by]))
    # An upload's event names its bucket; Lambda itself writes logs, and reports what it gave up on.
    unnamed = {"UploadsBucket", *resources("AWS::SQS::Queue"), *resources("AWS::Logs::LogGroup")}
    allowed = {one for one in allowed if one in template()["Resources"]} - unnamed
    # Lambda hands over what a stream says, with the table's name where the function needs it.
    streamed = set(references([one["Resource"] for one in named_by if "dynamodb:GetRecords" in listed(one["Action"])]))
    assert allowed - streamed <= named <= allowed


@pytest.mark.parametrize("name", [*FUNCTIONS, "RunWorkflow"])
def test_statements_are_narrow(name: str) -> None:
    for statement in statements(name):
        assert statement["Sid"]
        for action in listed(statement["Action"]):
            assert "*" not in action
            if listed(statement["Resource"]) == ["*"]:
                assert any(action.startswith(service) for service in UNNARROWABLE), f"{action} on *"


def test_state_machine_invokes_its_functions_only() -> None:
    given = properties("RunWorkflow")["DefinitionSubstitutions"]
    functions = {value["Fn::GetAtt"][0] for value in given.values() if "Fn::GetAtt" in value}
    (invoke,) = (one for one in statements("RunWorkflow") if "lambda:InvokeFunction" in listed(one["Action"]))
    assert set(references(invoke["Resource"])) == functions


def test_no_data_of_runs_in_the_execution_log() -> None:
    assert properties("RunWorkflow")["Logging"]["IncludeExecutionData"] is False


@pytest.mark.parametrize("name", resources("AWS::Events::Rule"))
def test_rules_lose_nothing_and_may_invoke_their_target(name: str) -> None:
    (target,) = properties(name)["Targets"]
    queue = target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0]
    assert queue in resources("AWS::SQS::Queue")
    allowed = [
        one for one in resources("AWS::SQS::QueuePolicy").values() if {"Ref": queue} in one["Properties"]["Queues"]
    ]
    assert name in set(references(allowed))
    function = target["Arn"]["Fn::GetAtt"][0]
    permission = properties(f"{name}Permission")
    assert permission["FunctionName"]["Ref"] == function
    assert permission["SourceArn"]["Fn::GetAtt"][0] == name
    assert template()["Resources"][name].get("Condition") == template()["Resources"][f"{name}Permission"].get(
        "Condition"
    )
    # What the function gives up on, it reports to the same queue.
    failed = properties(function)["EventInvokeConfig"]["DestinationConfig"]["OnFailure"]
    assert failed["Destination"]["Fn::GetAtt"][0] == queue


def test_no_function_has_a_rule_of_sams() -> None:
    """Those take no tags."""
    kinds = {event["Type"] for one in FUNCTIONS.values() for event in one["Properties"].get("Events", {}).values()}
    assert kinds == {"HttpApi"}


def test_rules_that_are_examples_are_off() -> None:
    off = {name for name, one in resources("AWS::Events::Rule").items() if "Condition" in one}
    assert off == {"Uploaded", "ScheduledRun"}


def test_changes_of_runs_are_read_in_order_and_none_is_lost() -> None:
    reading = properties("RunChanges")
    assert reading["ParallelizationFactor"] == 1
    assert reading["StartingPosition"] == "TRIM_HORIZON"
    assert reading["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert reading["DestinationConfig"]["OnFailure"]["Destination"]["Fn::GetAtt"][0] in resources("AWS::SQS::Queue")


def test_readers_that_wait_have_a_function_of_their_own() -> None:
    paths = [route["Properties"]["Path"] for route in properties("ReadEvents")["Events"].values()]
    assert paths == ["/v1/runs/{run_id}/events", "/api/v1/runs/{run_id}/events"]
    assert properties("ReadEvents")["Timeout"] < 30
    assert properties("ReadEvents")["ReservedConcurrentExecutions"]["Fn::If"][0] == "HasEventReaders"
    assert template()["Parameters"]["EventReaders"]["Default"] == 0


def test_api_answers_before_the_gateway_gives_up() -> None:
    assert properties("Api")["Timeout"] < 30  # https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html


def test_x_ray_costs_nothing_while_it_is_off() -> None:
    assert template()["Parameters"]["Tracing"]["Default"] == "Disabled"
    # With this the X-Ray SDK is never loaded (tests/component/telemetry/test_xray.py).
    variables = template()["Globals"]["Function"]["Environment"]["Variables"]
    assert variables["POWERTOOLS_TRACE_DISABLED"]["Fn::If"][2] == "true"


# Data


def test_tables_are_those_of_the_design() -> None:
    assert {
        name: tuple(key["AttributeName"] for key in one["Properties"]["KeySchema"]) for name, one in TABLES.items()
    } == KEYS


@pytest.mark.parametrize("name", TABLES)
def test_table_is_kept_safe(name: str) -> None:
    table = TABLES[name]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert table["Properties"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["Properties"]["DeletionProtectionEnabled"] == {"Fn::If": ["IsProtected", True, False]}
    assert table["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_a_first_deployment_that_fails_can_be_taken_back() -> None:
    """What is kept is kept from the second deployment on, and nothing is protected before."""
    kept = {one["DeletionPolicy"] for one in template()["Resources"].values() if "DeletionPolicy" in one}
    assert kept == {"RetainExceptOnCreate"}
    assert template()["Parameters"]["DeletionProtection"]["Default"] == "Disabled"


@pytest.mark.parametrize("name", resources("AWS::SQS::Queue"))
def test_queue_is_encrypted_and_empties_itself(name: str) -> None:
    assert properties(name)["SqsManagedSseEnabled"] == {"Fn::If": ["HasKmsKey", {"Ref": "AWS::NoValue"}, True]}
    assert properties(name)["MessageRetentionPeriod"] == 14 * 24 * 3600


@pytest.mark.parametrize("name", TABLES)
def test_table_defines_the_attributes_of_its_keys_only(name: str) -> None:
    table = TABLES[name]["Properties"]
    schemas = [table["KeySchema"], *(index["KeySchema"] for index in table.get("GlobalSecondaryIndexes", ()))]
    used = {key["AttributeName"] for schema in schemas for key in schema}
    assert used == {one["AttributeName"] for one in table["AttributeDefinitions"]}


def test_what_expires_and_what_streams() -> None:
    expiring = {
        name: one["Properties"]["TimeToLiveSpecification"]["AttributeName"]
        for name, one in TABLES.items()
        if "TimeToLiveSpecification" in one["Properties"]
    }
    by_age = dict.fromkeys(("KeyUseTable", "ModelsTable", "RunsTable", "UsageTable"), "delete_at")
    assert expiring == {"RoutesTable": "expires_at", **by_age}
    streaming = {name for name, one in TABLES.items() if "StreamSpecification" in one["Properties"]}
    assert streaming == {"ModelsTable", "RoutesTable", "RunsTable", "ToolsTable"}


def test_lists_of_runs_do_not_copy_their_values() -> None:
    (by_workflow,) = (
        index for index in properties("RunsTable")["GlobalSecondaryIndexes"] if index["IndexName"] == "by_workflow"
    )
    assert by_workflow["Projection"]["ProjectionType"] == "INCLUDE"
    assert not {"input", "output"} & set(by_workflow["Projection"]["NonKeyAttributes"])


@pytest.mark.parametrize("name", resources("AWS::S3::Bucket"))
def test_bucket_is_private_encrypted_and_empties_itself(name: str) -> None:
    bucket = template()["Resources"][name]
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert all(bucket["Properties"]["PublicAccessBlockConfiguration"].values())
    assert bucket["Properties"]["BucketEncryption"]
    (rule,) = bucket["Properties"]["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == {"Ref": "RetentionDays"}
    policy = properties(f"{name}Policy")
    assert policy["Bucket"] == {"Ref": name}
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Deny", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": False}}


# What one sees


def test_everybody_means_the_same_metrics_of_this_stack_alone() -> None:
    """Functions write them, alarms watch them and the dashboard shows them under a namespace of the stack's own."""
    own = {"Fn::Sub": "LoopLlama/${AWS::StackName}"}
    assert template()["Globals"]["Function"]["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"] == own
    resources = template()["Resources"].values()
    alarms = [one["Properties"] for one in resources if one["Type"] == "AWS::CloudWatch::Alarm"]
    watched = [one["Namespace"] for one in alarms if "Namespace" in one and "AWS/" not in str(one["Namespace"])]
    assert len(watched) >= 4
    assert all(one == own for one in watched)
    body = properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    named = re.findall(r"(?:SEARCH\('\{|SCHEMA\()(.+?),", body)
    assert len(named) >= 10
    assert set(named) == {r"\"LoopLlama/${AWS::StackName}\""}


def test_dashboard_shows_metrics_that_are_written() -> None:
    body = json.loads(re.sub(r"\$\{[\w:.]+\}", "x", properties("Dashboard")["DashboardBody"]["Fn::Sub"]))
    expressions = [
        part["expression"]
        for widget in body["widgets"]
        for metric in widget["properties"]["metrics"]
        for part in metric
        if isinstance(part, dict) and "expression" in part
    ]
    shown = {name for one in expressions for name in re.findall(r'MetricName="(\w+)"|SELECT \w+\((\w+)\)', one)}
    names = {name or other for name, other in shown}
    assert names <= set(metrics.METRICS)
    assert {"Cost", "InputTokens", "OutputTokens", "StepLatency", "ModelErrors", "RunCost", "RunsFailed"} <= names
    # Quotes, because a stack's name may have a hyphen.
    assert all('"LoopLlama/x"' in one for one in expressions)
    corners = [(one["x"], one["y"], one["x"] + one["width"]) for one in body["widgets"]]
    assert len(set(corners)) == len(corners)
    assert all(right <= 24 for _, _, right in corners)
