"""Stacks in an account of moto, as AWS would have them after they were used, for the tests of what deletes them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

from loopllama.aws import clients
from loopllama_cli import removal

from .deployment import template_tables


class Account:
    """An account, in one of its regions; `client` gives the client of a service."""

    def __init__(self, region: str, client: Callable[[str], Any] | None = None) -> None:
        self.region = region
        self.client = client or (lambda service: clients.client(service, region=region))

    def deploy(self, stack: str) -> str:
        """A stack with what the template retains, in use: two versions of its layer, data, secrets, uploads, late
        logs. Returns its id."""
        kept = {"DeletionPolicy": "Retain"}
        resources: dict[str, Any] = {
            name: {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {**table, "BillingMode": "PAY_PER_REQUEST", "DeletionProtectionEnabled": True},
                **kept,
            }
            for name, table in template_tables().items()
        }
        resources |= {name: {"Type": "AWS::S3::Bucket", **kept} for name in removal.BUCKETS}
        body = json.dumps({"Resources": resources})
        stack_id = self.client("cloudformation").create_stack(StackName=stack, TemplateBody=body)["StackId"]
        for bucket in self.buckets(stack):
            self.client("s3").put_object(Bucket=bucket, Key="a 'b' \"c\"/ü", Body=b"x")
        for _ in range(2):
            self.client("lambda").publish_layer_version(
                LayerName=f"{stack}-SharedLayer", Content={"ZipFile": _zip()}, CompatibleRuntimes=["python3.13"]
            )
        for kind in ("providers/openai", "tools/shop"):
            self.client("secretsmanager").create_secret(Name=f"{stack}/{kind}", SecretString="x")
        # Not the stack's here: moto would make a deleted stack's anew when it is asked what the stack had.
        for name in (
            f"/aws/lambda/{stack}/run_step",
            f"/aws/vendedlogs/apigateway/{stack}",
            f"/aws/vendedlogs/states/{stack}",
        ):
            self.client("logs").create_log_group(logGroupName=name)
        self.client("s3").put_object(Bucket=self.uploads(), Key=f"{stack}/layer", Body=b"x")
        return str(stack_id)

    def uploads(self) -> str:
        """The bucket that the SAM CLI makes for the account and region."""
        cloudformation = self.client("cloudformation")
        template = {
            "Resources": {
                "Bucket": {
                    "Type": "AWS::S3::Bucket",
                    "Properties": {"VersioningConfiguration": {"Status": "Enabled"}},
                }
            },
            "Outputs": {"SourceBucket": {"Value": {"Ref": "Bucket"}}},
        }
        name = "aws-sam-cli-managed-default"
        try:
            found = cloudformation.describe_stacks(StackName=name)
        except cloudformation.exceptions.ClientError:
            cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
            found = cloudformation.describe_stacks(StackName=name)
        return str(found["Stacks"][0]["Outputs"][0]["OutputValue"])

    def buckets(self, stack: str) -> list[str]:
        found = self.client("cloudformation").list_stack_resources(StackName=stack)["StackResourceSummaries"]
        return [one["PhysicalResourceId"] for one in found if one["ResourceType"] == "AWS::S3::Bucket"]

    def things(self) -> set[tuple[str, str]]:
        """Everything in this region, by kind and name."""
        s3, functions = self.client("s3"), self.client("lambda")
        found = {("table", name) for name in self.client("dynamodb").list_tables()["TableNames"]}
        found |= {("secret", one["Name"]) for one in self.client("secretsmanager").list_secrets()["SecretList"]}
        found |= {("group", one["logGroupName"]) for one in self.client("logs").describe_log_groups()["logGroups"]}
        stacks = self.client("cloudformation").describe_stacks()["Stacks"]
        found |= {("stack", one["StackId"]) for one in stacks}
        for layer in functions.list_layers()["Layers"]:
            versions = functions.list_layer_versions(LayerName=layer["LayerName"])["LayerVersions"]
            found |= {("layer", one["LayerVersionArn"]) for one in versions}
        for bucket in s3.list_buckets()["Buckets"]:
            location = s3.get_bucket_location(Bucket=bucket["Name"])["LocationConstraint"] or "us-east-1"
            if location == self.region:
                found.add(("bucket", bucket["Name"]))
                for kind in ("Versions", "DeleteMarkers"):
                    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket["Name"])
                    found |= {
                        ("object", f"{bucket['Name']}/{one['Key']}") for page in pages for one in page.get(kind, ())
                    }
        return found


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("python/x.py", "")
    return file.getvalue()
