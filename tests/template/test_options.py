"""What the template becomes with its optional parameters off, as they are by default, and on."""

from __future__ import annotations

import re
from typing import Any

import pytest
from template.project import FUNCTIONS, ROOT, deployed, listed, statements, template

NETWORK = {"SubnetIds": "subnet-1a,subnet-2b", "SecurityGroupIds": "sg-3c"}
BOUNDARY = "arn:aws:iam::123456789012:policy/boundary"
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234"
EVERYTHING = {
    **NETWORK,
    "PermissionsBoundary": BOUNDARY,
    "KmsKeyArn": KEY,
    "Architecture": "x86_64",
    "Uploads": "Enabled",
    "Alarms": "Enabled",
    "Tracing": "Active",
    "ScheduleExpression": "rate(1 day)",
    "ScheduleWorkflow": "daily",
}


@pytest.fixture(scope="module")
def off() -> dict[str, Any]:
    return deployed()


@pytest.fixture(scope="module")
def on() -> dict[str, Any]:
    return deployed(**EVERYTHING)


def of(resources: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    found = {name: one["Properties"] for name, one in resources.items() if one["Type"] == kind}
    assert found
    return found


def test_everything_that_takes_tags_has_them(on: dict[str, Any]) -> None:
    """Which types take tags is what CloudFormation's own schemas say."""
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER  # type: ignore[import-untyped]

    tagged = set()
    for name, one in on.items():
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", one["Type"]).schema
        if "Tags" not in schema["properties"]:
            continue
        tags = one["Properties"].get("Tags", {})
        if one["Type"] == "AWS::ApiGatewayV2::Api":  # SAM writes them into the definition
            tags = {tag["name"]: tag["x-amazon-apigateway-tag-value"] for tag in one["Properties"]["Body"]["tags"]}
        pairs = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
        assert (pairs.get("application"), pairs.get("stage")) == ("loopllama", "dev"), name
        tagged.add(one["Type"].split("::", 1)[1])
    assert len(tagged) >= 15, tagged


def test_no_role_makes_log_groups_and_each_writes_to_its_own(off: dict[str, Any]) -> None:
    roles = of(off, "AWS::IAM::Role")
    groups = of(off, "AWS::Logs::LogGroup")
    for name, function in of(off, "AWS::Lambda::Function").items():
        (own,) = [one for one in function["Role"]["Fn::GetAtt"] if one in roles]
        role = roles[own]
        assert own == f"{name}Role"
        assert not role.get("ManagedPolicyArns"), "those of AWS's may make log groups"
        statements = [one for policy in role["Policies"] for one in policy["PolicyDocument"]["Statement"]]
        (writes,) = [one for one in statements if "logs:PutLogEvents" in one["Action"]]
        group = function["LoggingConfig"]["LogGroup"]["Ref"]
        assert group in groups
        assert (writes["Action"], writes["Resource"]) == (
            ["logs:CreateLogStream", "logs:PutLogEvents"],
            {"Fn::GetAtt": [group, "Arn"]},
        )


def test_logs_that_aws_delivers_have_the_prefix_that_spares_the_accounts_policy(off: dict[str, Any]) -> None:
    delivered = [group["LogGroupName"]["Fn::Sub"] for name, group in of(off, "AWS::Logs::LogGroup").items()]
    others = sorted(name for name in delivered if not name.startswith("/aws/lambda/"))
    assert others == ["/aws/vendedlogs/apigateway/${AWS::StackName}", "/aws/vendedlogs/states/${AWS::StackName}"]


def test_network_off_and_on(off: dict[str, Any], on: dict[str, Any]) -> None:
    assert not any("VpcConfig" in one for one in of(off, "AWS::Lambda::Function").values())
    assert "JoinVpc" not in off
    inside = {"SubnetIds": ["subnet-1a", "subnet-2b"], "SecurityGroupIds": ["sg-3c"]}
    assert all(one["VpcConfig"] == inside for one in of(on, "AWS::Lambda::Function").values())
    for name in of(on, "AWS::Lambda::Function"):
        assert {"Ref": "JoinVpc"} in on[f"{name}Role"]["Properties"]["ManagedPolicyArns"], name


@pytest.mark.parametrize("name", NETWORK)
def test_half_of_a_network_does_not_leave_the_functions_outside_unseen(name: str) -> None:
    """Lambda refuses one without the other."""
    made = deployed(**{name: NETWORK[name]})
    assert all("VpcConfig" in one for one in of(made, "AWS::Lambda::Function").values())


def test_boundary_off_and_on(off: dict[str, Any], on: dict[str, Any]) -> None:
    assert not any("PermissionsBoundary" in one for one in of(off, "AWS::IAM::Role").values())
    assert len(of(on, "AWS::IAM::Role")) == len(of(on, "AWS::Lambda::Function")) + 1
    assert all(one["PermissionsBoundary"] == BOUNDARY for one in of(on, "AWS::IAM::Role").values())


def test_keys_are_awss_own_or_the_one_that_is_named(off: dict[str, Any], on: dict[str, Any]) -> None:
    """DynamoDB encrypts every table by a key of AWS's own, which costs nothing, where nothing names another."""
    assert not any("SSESpecification" in one for one in of(off, "AWS::DynamoDB::Table").values())
    specified = {"SSEEnabled": "true", "SSEType": "KMS", "KMSMasterKeyId": KEY}
    for one in of(on, "AWS::DynamoDB::Table").values():
        assert {**one["SSESpecification"], "SSEEnabled": "true"} == specified
        assert one["SSESpecification"]["SSEEnabled"] in (True, "true")
    for resources, rule in (
        (off, {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}),
        (
            on,
            {
                "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY},
                "BucketKeyEnabled": True,
            },
        ),
    ):
        for one in of(resources, "AWS::S3::Bucket").values():
            assert one["BucketEncryption"]["ServerSideEncryptionConfiguration"] == [rule]
    encryption = {"SqsManagedSseEnabled", "KmsMasterKeyId"}
    for resources, wanted in ((off, {"SqsManagedSseEnabled": True}), (on, {"KmsMasterKeyId": KEY})):
        for one in of(resources, "AWS::SQS::Queue").values():
            assert {name: one[name] for name in encryption & one.keys()} == wanted


def test_architecture(off: dict[str, Any], on: dict[str, Any]) -> None:
    for resources, architecture in ((off, "arm64"), (on, "x86_64")):
        assert all(one["Architectures"] == [architecture] for one in of(resources, "AWS::Lambda::Function").values())


@pytest.mark.parametrize("name", ["SubnetIds", "SecurityGroupIds", "PermissionsBoundary", "KmsKeyArn", "BedrockArns"])
def test_options_are_off_by_default(name: str) -> None:
    assert template()["Parameters"][name]["Default"] == ""


def test_the_list_of_endpoints_names_every_service_that_functions_call() -> None:
    """What they may call is in their roles; logs, traces, queues and interfaces are Lambda's own business."""
    services = {
        action.split(":")[0]
        for name in FUNCTIONS
        for statement in statements(name)
        for action in listed(statement["Action"])
    } - {"logs", "sqs", "xray", "ec2"}
    text = (ROOT / "docs/deploy.md").read_text()
    listed_there = set(re.findall(r"^\| `([a-z0-9-]+)` \| (?:gateway|interface)", text, re.MULTILINE))
    assert listed_there == services | {"bedrock-runtime"}
