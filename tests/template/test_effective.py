"""Every permission of every role, statement by statement, as SAM makes it of the template with all options on:
`permissions.txt` lists them, and a change of it is a change of what somebody may do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from template.project import ROOT, listed
from without_permissions import UNMISSED

from loopllama_cli.local.template import load

EVERYTHING = {
    "ToolFunctionPrefix": "tool-",
    "Uploads": "Enabled",
    "Tracing": "Active",
    "ScheduleExpression": "rate(1 day)",
    "ScheduleWorkflow": "daily",
    "Alarms": "Enabled",
    "SubnetIds": "subnet-1a,subnet-2b",
    "SecurityGroupIds": "sg-1",
    "PermissionsBoundary": "arn:aws:iam::123456789012:policy/boundary",
    "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/1",
    "BedrockArns": "arn:aws:bedrock:us-east-1:123456789012:imported-model/abc123def456",
}
NEVER = (
    r"(iam|sts|kms):",
    r"logs:CreateLogGroup",
    r"lambda:(?!InvokeFunction)",
    r"dynamodb:(Create|Delete|Update)Table",
    r"s3:(Delete|List|PutBucket)",
    r"secretsmanager:(?!GetSecretValue|DescribeSecret)",
)
LISTED = Path(__file__).with_name("permissions.txt")


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    found: dict[str, Any] = load(ROOT, EVERYTHING, {}, lambda kind: True).body["Resources"]
    return found


def short(resource: Any) -> str:
    """A resource as a person names it."""
    if isinstance(resource, str):
        return resource
    if "Ref" in resource:
        return str(resource["Ref"])
    if "Fn::GetAtt" in resource:
        name, attribute = resource["Fn::GetAtt"]
        return str(name) if attribute == "Arn" else f"{name}.{attribute}"
    if "Fn::Split" in resource:
        return short(resource["Fn::Split"][1])
    text = str(resource["Fn::Sub"]).replace("${AWS::Partition}", "aws").replace(".Arn}", "}")
    return re.sub(r"\$\{(?:AWS::)?([\w.]+)\}", r"\1", text)


def statements(role: str, resources: dict[str, Any]) -> Iterator[dict[str, Any]]:
    policies = [one["PolicyDocument"] for one in resources[role]["Properties"].get("Policies", [])]
    for one in resources.values():
        if one["Type"] == "AWS::IAM::Policy" and {"Ref": role} in one["Properties"]["Roles"]:
            policies.append(one["Properties"]["PolicyDocument"])
    for policy in policies:
        yield from _without_conditions(policy)


def _without_conditions(policy: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for statement in listed(policy["Statement"]):
        yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def lines(resources: dict[str, Any]) -> Iterator[str]:
    for name, one in resources.items():
        if one["Type"] != "AWS::IAM::Role":
            continue
        trusted = [
            listed(each["Principal"]["Service"]) for each in one["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        ]
        yield f"{name}, for {', '.join(each for some in trusted for each in some)}"
        for managed in one["Properties"].get("ManagedPolicyArns", []):
            policy = managed["Fn::If"][1] if "Fn::If" in managed else managed
            named = policy["Ref"] if "Ref" in policy else policy.get("Fn::Sub", policy).partition(":policy/")[2]
            yield f"  all of {named}"
        for statement in statements(name, resources):
            assert statement["Effect"] == "Allow"
            assert set(statement) <= {"Sid", "Effect", "Action", "Resource"}
            what, where = listed(statement["Action"]), listed(statement["Resource"])
            sid = statement.get("Sid", "by SAM")
            yield f"  {sid}: {', '.join(what)} on {', '.join(map(short, where))}"
    for name, one in resources.items():
        if one["Type"] == "AWS::IAM::ManagedPolicy":
            yield f"{name}, a policy"
            for statement in _without_conditions(one["Properties"]["PolicyDocument"]):
                does = "" if statement["Effect"] == "Allow" else "never "
                tested = [key for tests in statement.get("Condition", {}).values() for key in tests]
                on, when = ", ".join(map(short, listed(statement["Resource"]))), f", by {tested[0]}" if tested else ""
                yield f"  {statement['Sid']}: {does}{', '.join(listed(statement['Action']))} on {on}{when}"


def test_permissions_are_those_that_are_listed(resources: dict[str, Any]) -> None:
    assert list(lines(resources)) == LISTED.read_text().splitlines()


def test_no_role_can_do_what_would_undo_the_rest(resources: dict[str, Any]) -> None:
    """Nobody may write keys, permissions or code, pass a role on, or delete a table or a bucket's object."""
    text = LISTED.read_text()
    for never in NEVER:
        assert [line for line in text.splitlines() if re.search(rf"[ ,]{never}", line.partition(" on ")[0])] == [], (
            never
        )
    tables = {name for name, one in resources.items() if one["Type"] == "AWS::DynamoDB::Table"}
    assert tables <= set(re.findall(r"\w+Table", text)), "each is used"
    keys = [line for line in text.splitlines() if "ApiKeysTable" in line]
    assert {line.partition(":")[2] for line in keys} == {" dynamodb:GetItem on ApiKeysTable"}, (
        "none makes or revives one"
    )


def test_no_function_writes_tools() -> None:
    """A tool carries a secret to a host, or invokes a function: only who has AWS credentials decides that."""
    lines = [line for line in LISTED.read_text().splitlines() if "ToolsTable" in line and "StreamArn" not in line]
    actions = {action for line in lines for action in re.findall(r"dynamodb:\w+", line.partition(" on ")[0])}
    assert actions == {"dynamodb:BatchGetItem", "dynamodb:Scan"}


def test_keys_of_providers_and_secrets_of_tools_are_read_apart(resources: dict[str, Any]) -> None:
    """By RunStep alone, each by a statement of its own; the API may only ask whether a provider has a key."""
    found = [line.strip() for line in LISTED.read_text().splitlines() if "secretsmanager:" in line]
    at = "aws:secretsmanager:Region:AccountId:secret:StackName"
    assert found == [
        f"ReadKeys: secretsmanager:GetSecretValue on arn:{at}/providers/*",
        f"ReadToolSecrets: secretsmanager:GetSecretValue on arn:{at}/tools/*",
        f"LookForKeys: secretsmanager:DescribeSecret on arn:{at}/providers/*",
    ]


def test_only_aws_services_may_call_in_and_only_for_this_stack(resources: dict[str, Any]) -> None:
    """What lets others in: permissions to invoke functions, policies of queues and buckets."""
    for name, one in resources.items():
        properties = one.get("Properties", {})
        if one["Type"] == "AWS::Lambda::Permission":
            assert properties["Principal"] in ("events.amazonaws.com", "apigateway.amazonaws.com"), name
            assert properties["SourceArn"], name
        if one["Type"] in ("AWS::SQS::QueuePolicy", "AWS::S3::BucketPolicy"):
            for statement in properties["PolicyDocument"]["Statement"]:
                opened = statement["Effect"] == "Allow"
                assert not opened or (statement["Principal"] != "*" and statement["Condition"]), name
    assert not [one["Type"] for one in resources.values() if one["Type"] == "AWS::Lambda::Url"]


def test_statements_that_no_test_on_ministack_misses_exist() -> None:
    """`make test-permissions` takes an hour; a reason for a statement that has another name by now explains nothing."""
    there, role = set(), ""
    for line in LISTED.read_text().splitlines():
        if not line.startswith(" "):
            role = line.partition("Role,")[0]
        there.add(f"{role}: {line.strip().partition(':')[0]}")
    assert set(UNMISSED) <= there
