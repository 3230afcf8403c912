"""What a deleted stack has left, taken over by a new stack of its name before the first deployment of that.

CloudFormation imports a resource into a stack by its physical name. Such a change set holds nothing but what is
imported, and no outputs: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/import-resources.html
Its template is the deleted stack's own, as CloudFormation keeps it for 90 days, with all else taken out:
https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_GetTemplate.html
So the tables are known as they are, and the deployment that follows changes what is new, as an upgrade does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopllama.aws import clients
from loopllama.errors import Conflict, LoopLlamaError
from loopllama_cli import removal

_NAMED_BY = {"AWS::DynamoDB::Table": "TableName", "AWS::S3::Bucket": "BucketName"}
"""The property by which CloudFormation finds a resource of each type."""
_KEPT_SECTIONS = ("AWSTemplateFormatVersion", "Parameters", "Mappings", "Conditions")
_CHANGE_SET = "adopt"


class NothingToAdopt(LoopLlamaError):
    """No deleted stack of the name has left anything that CloudFormation could import."""


class AdoptionFailed(LoopLlamaError):
    """CloudFormation would not import what the deleted stack has left."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a deleted stack has left: `resources` by their names in the template, each with its type and its name in
    the account."""

    stack_id: str
    created_at: datetime
    resources: Mapping[str, tuple[str, str]]


def find(stack: str) -> Left | None:
    """Find what the last deleted stack of this name has left that still exists and is no other stack's. Returns None
    where an adoption was done and the deployment after it was not: there is nothing left to do. Raises `Conflict`
    where there is such a stack, `NothingToAdopt` where there is none to take over."""
    deleted = []
    for summary in removal.pages("cloudformation", "list_stacks", "StackSummaries"):
        if summary["StackName"] != stack:
            continue
        if summary["StackStatus"] == "DELETE_COMPLETE":
            deleted.append(summary)
        elif summary["StackStatus"] == "IMPORT_COMPLETE":
            return None
        else:
            raise Conflict(
                f"there is a stack {stack} already ({summary['StackStatus']}), with its own tables: deploy it without "
                f"--adopt, or delete it first, which keeps them: sam delete --stack-name {stack}"
            )
    # Stacks of one name follow one another: the one made last was deleted last.
    for summary in sorted(deleted, key=lambda one: one["CreationTime"], reverse=True):
        resources = dict(_left(stack, summary["StackId"]))
        if resources:
            return Left(summary["StackId"], summary["CreationTime"], resources)
    raise NothingToAdopt(
        f"no stack {stack} that was deleted within 90 days, as long as CloudFormation knows it, has left tables or "
        "buckets here. Deploy without --adopt; docs/operations.md says how to copy items from an older table"
    )


def adopt(stack: str, left: Left) -> None:
    """Make the stack, of nothing but what was left. Raises `AdoptionFailed`; then there is no stack again."""
    client = clients.client("cloudformation")
    body = template(left)
    parameters = client.describe_stacks(StackName=left.stack_id)["Stacks"][0].get("Parameters", ())
    made = client.create_change_set(
        StackName=stack,
        ChangeSetName=_CHANGE_SET,
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps(body),
        Parameters=[{name: one[name] for name in ("ParameterKey", "ParameterValue")} for one in parameters],
        ResourcesToImport=[
            {"ResourceType": kind, "LogicalResourceId": logical, "ResourceIdentifier": {_NAMED_BY[kind]: name}}
            for logical, (kind, name) in left.resources.items()
        ],
    )
    _wait("change_set_create_complete", made, ChangeSetName=made["Id"])
    client.execute_change_set(ChangeSetName=made["Id"], StackName=stack)
    _wait("stack_import_complete", made, StackName=made["StackId"])


def template(left: Left) -> dict[str, Any]:
    """Return the deleted stack's template with what is left of its resources. They name no others."""
    client = clients.client("cloudformation")
    body: Any = client.get_template(StackName=left.stack_id, TemplateStage="Processed")["TemplateBody"]
    whole = json.loads(body) if isinstance(body, str) else body
    kept = {section: whole[section] for section in _KEPT_SECTIONS if section in whole}
    return {**kept, "Resources": {logical: whole["Resources"][logical] for logical in left.resources}}


def _left(stack: str, stack_id: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for resource in removal.pages(
        "cloudformation", "list_stack_resources", "StackResourceSummaries", StackName=stack_id
    ):
        kind, name = resource["ResourceType"], resource.get("PhysicalResourceId")
        if kind in _NAMED_BY and name and _exists(kind, name) and not removal.is_anothers(name, stack):
            yield resource["LogicalResourceId"], (kind, name)


def _exists(kind: str, name: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        if kind == "AWS::S3::Bucket":
            clients.client("s3").head_bucket(Bucket=name)
            return True
        status = clients.client("dynamodb").describe_table(TableName=name)["Table"]["TableStatus"]
    except ClientError as error:
        if error.response["Error"]["Code"] in ("ResourceNotFoundException", "404", "NoSuchBucket"):
            return False
        raise
    return bool(status != "DELETING")


def _wait(waiter: str, made: Mapping[str, Any], **named: str) -> None:
    """Wait until CloudFormation is done; where it fails, delete the stack, which has nothing yet."""
    from botocore.exceptions import WaiterError

    client = clients.client("cloudformation")
    try:
        client.get_waiter(waiter).wait(**named, WaiterConfig={"Delay": 2, "MaxAttempts": 300})
    except WaiterError as error:
        described = client.describe_change_set(ChangeSetName=made["Id"])
        stack = client.describe_stacks(StackName=made["StackId"])["Stacks"][0]
        reasons = (described.get("StatusReason"), stack.get("StackStatusReason"), str(error))
        client.delete_stack(StackName=made["StackId"])
        raise AdoptionFailed(next(reason for reason in reasons if reason)) from error
