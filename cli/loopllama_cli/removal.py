"""Everything that a stack has made, and how it is deleted: the stack, and what outlives it by design.

What belongs to a stack is known exactly, never by how a name begins:

- CloudFormation tells the resources of each stack of exactly this name, and of a deleted one by its id for 90 days
  (https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ListStackResources.html). So a removal that
  broke off goes on when it is run again.
- What is older is found by the whole of its name, as CloudFormation makes it: the stack's name, the resource's name in
  the template, and letters and digits without a hyphen. A bucket's name does not say the region, and the stack's name
  only in lower case: it counts in this region, and where CloudFormation's own tag, which stays, names no other stack.
- What another stack has now, because somebody imported it there, is that stack's.
- Names of log groups, secrets and uploads have the stack's name before a slash or at the end, and no stack's name has
  a slash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from loopllama.aws import clients, errors

TABLES = (
    "WorkflowsTable",
    "RoutesTable",
    "RouteHistoryTable",
    "ModelsTable",
    "ToolsTable",
    "RunsTable",
    "UsageTable",
    "ApiKeysTable",
    "KeyUseTable",
)
BUCKETS = ("ValuesBucket", "UploadsBucket")
"""What the template retains, by its names there."""
LAYER = "SharedLayer"
_SAM_STACK = "aws-sam-cli-managed-default"
"""The stack that the SAM CLI makes in each account and region, with a bucket for what it uploads."""
KINDS_OF = {
    "AWS::DynamoDB::Table": "table",
    "AWS::S3::Bucket": "bucket",
    "AWS::Lambda::LayerVersion": "layer version",
    "AWS::Logs::LogGroup": "log group",
}
"""What CloudFormation's types are called here."""
KINDS = ("stack", "table", "bucket", "layer version", "log group", "secret", "uploads")
"""In the order in which they are deleted: nothing is to write any more when the data goes."""


@dataclass
class Found:
    """What there is of a stack, by kind: names, or what its service deletes it by. `uploads` are the folder's address,
    `s3://BUCKET/STACK/`, where it holds anything."""

    stack: str
    things: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        """Note a thing once."""
        names = self.things.setdefault(kind, [])
        if name not in names:
            names.append(name)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Kind and name of each thing, in the order in which they are deleted."""
        return ((kind, name) for kind in KINDS for name in self.things.get(kind, ()))


def find(stack: str) -> Found:
    """Find what there is of a stack, whether it still exists or not. Changes nothing. Raises botocore's errors."""
    found, known, anothers = Found(stack), Found(stack), Found(stack)
    for summary in pages("cloudformation", "list_stacks", "StackSummaries"):
        name = summary["StackName"]
        if name == stack and summary["StackStatus"] != "DELETE_COMPLETE":
            found.add("stack", summary["StackId"])
        if name.lower() == stack.lower():
            _add_resources(known if name == stack else anothers, summary["StackId"])
    _find_tables(found, set(known.things.get("table", ())))
    _find_buckets(found, set(known.things.get("bucket", ())), set(anothers.things.get("bucket", ())))
    _find_layers(found, known.things.get("layer version", []))
    _find_groups(found, set(known.things.get("log group", ())))
    for secret in pages(
        "secretsmanager", "list_secrets", "SecretList", Filters=[{"Key": "name", "Values": [f"{stack}/"]}]
    ):
        if secret["Name"].startswith(f"{stack}/"):
            found.add("secret", secret["Name"])
    _find_uploads(found)
    return found


def remove(found: Found, tell: Callable[[str, str], None] | None = None) -> Iterator[str]:
    """Delete it, and what appears while that is done; `tell` is called with kind and name before each. Yields what
    could not be deleted, with the reason: find and remove again when that is fixed. Where the stack itself cannot be
    deleted, nothing else is."""
    for kind, name in found:
        if tell is not None:
            tell(kind, name)
        failed = list(_try(kind, name))
        yield from failed
        if kind == "stack" and failed:
            return
    late = Found(found.stack)
    _find_groups(late, set())  # a function's last lines make its log group anew
    for kind, name in late:
        yield from _try(kind, name)


# Finding


def pages(service: str, operation: str, key: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Yield what the pages of an AWS operation list under `key`."""
    for page in clients.client(service).get_paginator(operation).paginate(**arguments):
        yield from page.get(key, ())


def _add_resources(found: Found, stack_id: str) -> None:
    """Add what CloudFormation tells of a stack, also of a deleted one."""
    for resource in pages("cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack_id):
        if resource["ResourceType"] in KINDS_OF and resource.get("PhysicalResourceId"):
            found.add(KINDS_OF[resource["ResourceType"]], resource["PhysicalResourceId"])


def _named(stack: str, resources: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(stack)}-(?:{'|'.join(resources)})-[A-Za-z0-9]+")


def _find_tables(found: Found, known: set[str]) -> None:
    named = _named(found.stack, TABLES)
    for table in pages("dynamodb", "list_tables", "TableNames"):
        name = str(table)
        if (name in known or named.fullmatch(name)) and not is_anothers(name, found.stack):
            found.add("table", name)


def _find_buckets(found: Found, known: set[str], anothers: set[str]) -> None:
    """`anothers` are those of stacks whose names differ in upper and lower case only."""
    named = _named(found.stack.lower(), tuple(name.lower() for name in BUCKETS))
    for bucket in clients.client("s3").list_buckets()["Buckets"]:
        name = bucket["Name"]
        ours = name in known or (named.fullmatch(name) and _is_here(name) and _tagged(name, found.stack) == found.stack)
        if ours and name not in anothers and not is_anothers(name, found.stack):
            found.add("bucket", name)


def is_anothers(resource: str, stack: str) -> bool:
    """Return whether a stack of another name has the resource now."""
    client = clients.client("cloudformation")
    try:
        owners = client.describe_stack_resources(PhysicalResourceId=resource)["StackResources"]
    except client.exceptions.ClientError as error:
        if _code(error) != "ValidationError":  # no stack has it
            raise
        return False
    return any(owner["StackName"] != stack for owner in owners)


def _is_here(bucket: str) -> bool:
    """Return whether a bucket is in the region at hand; the account's buckets are listed whatever their region."""
    region = clients.client("s3").get_bucket_location(Bucket=bucket).get("LocationConstraint")
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html: these two have names of their own.
    here = {None: "us-east-1", "EU": "eu-west-1"}.get(region, region)
    return bool(here == clients.client("cloudformation").meta.region_name)


def _tagged(bucket: str, otherwise: str) -> str:
    """Return the stack that a bucket's tag names. CloudFormation tags all that it makes:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-properties-resource-tags.html"""
    client = clients.client("s3")
    try:
        tags = client.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except client.exceptions.ClientError as error:
        if _code(error) != "NoSuchTagSet":
            raise
        return otherwise
    return next((str(tag["Value"]) for tag in tags if tag["Key"] == "aws:cloudformation:stack-name"), otherwise)


def _find_layers(found: Found, known: list[str]) -> None:
    """Find every version of the layer that the template names after the stack, and what CloudFormation tells of
    others."""
    named = f"{found.stack}-{LAYER}"
    client = clients.client("lambda")
    others = [arn.split(":")[6] for arn in known if arn.count(":") == 7]
    for layer in dict.fromkeys([named, *others]):
        try:
            versions = list(pages("lambda", "list_layer_versions", "LayerVersions", LayerName=layer))
        except client.exceptions.ResourceNotFoundException:
            continue
        for version in versions:
            if layer == named or version["LayerVersionArn"] in known:
                found.add("layer version", version["LayerVersionArn"])


def _find_groups(found: Found, known: set[str]) -> None:
    stack = found.stack
    delivered = (f"/aws/{service}/{stack}" for service in ("vendedlogs/apigateway", "vendedlogs/states", "apigateway"))
    for prefix in (f"/aws/lambda/{stack}/", *delivered):
        for group in pages("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=prefix):
            name = group["logGroupName"]
            if name in known or name == prefix or (prefix.endswith("/") and name.startswith(prefix)):
                found.add("log group", name)


def _find_uploads(found: Found) -> None:
    """Find what the SAM CLI has uploaded for the deployments of the stack, also of one that never came to a stack."""
    client = clients.client("cloudformation")
    try:
        stacks = client.describe_stacks(StackName=_SAM_STACK)["Stacks"]
    except client.exceptions.ClientError as error:
        if "does not exist" not in str(error):
            raise
        return
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", ())}
    bucket = outputs.get("SourceBucket")
    if bucket and _versions(bucket, f"{found.stack}/"):
        found.add("uploads", f"s3://{bucket}/{found.stack}/")


# Deleting


def _try(kind: str, name: str) -> Iterator[str]:
    try:
        _DELETE[kind](name)
    except Exception as error:
        if not isinstance(error, NotDeleted) and errors.trouble(error) is None:
            raise
        yield f"{kind} {name}: {error}"


class NotDeleted(Exception):
    """Something is still there; says why."""


def _delete_stack(stack_id: str) -> None:
    from botocore.exceptions import WaiterError

    client = clients.client("cloudformation")
    client.delete_stack(StackName=stack_id)
    try:
        client.get_waiter("stack_delete_complete").wait(StackName=stack_id)
    except WaiterError as error:
        stack = client.describe_stacks(StackName=stack_id)["Stacks"][0]
        raise NotDeleted(stack.get("StackStatusReason") or str(error)) from error


def _delete_table(table: str) -> None:
    client = clients.client("dynamodb")
    try:
        described = client.describe_table(TableName=table)["Table"]
        if described["TableStatus"] == "DELETING":
            return
        if described.get("DeletionProtectionEnabled"):
            client.update_table(TableName=table, DeletionProtectionEnabled=False)
            client.get_waiter("table_exists").wait(TableName=table)  # until it is no longer being updated
        client.delete_table(TableName=table)
    except client.exceptions.ResourceNotFoundException:
        return


def _delete_bucket(bucket: str) -> None:
    client = clients.client("s3")
    try:
        _empty(bucket, "")
        client.delete_bucket(Bucket=bucket)
    except client.exceptions.ClientError as error:
        if _code(error) != "NoSuchBucket":
            raise


def _delete_uploads(address: str) -> None:
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    _empty(bucket, prefix)


def _empty(bucket: str, prefix: str) -> None:
    """Delete every version and every delete marker of the objects whose keys begin with `prefix`."""
    client = clients.client("s3")
    while batch := _versions(bucket, prefix):
        failed = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True}).get("Errors")
        if failed:
            example = f"{failed[0].get('Key')}: {failed[0].get('Code')}: {failed[0].get('Message')}"
            raise NotDeleted(f"{len(failed)} objects cannot be deleted, such as {example}")


def _versions(bucket: str, prefix: str) -> list[dict[str, str]]:
    """Return the first versions and delete markers, as many as one call deletes: 1,000.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html"""
    page = clients.client("s3").list_object_versions(Bucket=bucket, Prefix=prefix)
    versions = (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
    return [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in versions]


def _delete_layer(arn: str) -> None:
    name, _, version = arn.rpartition(":")
    clients.client("lambda").delete_layer_version(LayerName=name, VersionNumber=int(version))


def _delete_group(name: str) -> None:
    client = clients.client("logs")
    try:
        client.delete_log_group(logGroupName=name)
    except client.exceptions.ResourceNotFoundException:
        return  # it went with the stack


def _delete_secret(name: str) -> None:
    clients.client("secretsmanager").delete_secret(SecretId=name)


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


_DELETE: dict[str, Callable[[str], None]] = {
    "stack": _delete_stack,
    "table": _delete_table,
    "bucket": _delete_bucket,
    "layer version": _delete_layer,
    "log group": _delete_group,
    "secret": _delete_secret,
    "uploads": _delete_uploads,
}
