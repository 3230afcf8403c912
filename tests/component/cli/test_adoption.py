"""What `loopllama deploy --adopt` finds and hands to CloudFormation. tests/lifecycle/test_adoption.py does it whole."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support import moto_account
from support.account import Account

from loopllama.aws import clients
from loopllama.errors import Conflict
from loopllama_cli import adoption, removal

HERE = "eu-central-1"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.setenv(name, HERE)
    with moto_account.account(monkeypatch):
        yield Account(HERE)


def delete(account: Account, stack: str, stack_id: str, minutes: int = 0) -> None:
    """Delete a stack that was made so many minutes later than it was."""
    from moto.cloudformation.models import cloudformation_backends

    account.client("cloudformation").delete_stack(StackName=stack)
    cloudformation_backends["123456789012"][HERE].deleted_stacks[stack_id].creation_time += datetime.timedelta(
        minutes=minutes
    )


def test_it_finds_what_the_last_stack_of_the_name_has_left(account: Account) -> None:
    for alike in ("crews-prod", "Crews", "crew"):
        delete(account, alike, account.deploy(alike), minutes=99)
    newer = account.deploy("crews")
    delete(account, "crews", newer, minutes=60)
    for secret in ("providers/openai", "tools/shop"):
        account.client("secretsmanager").delete_secret(SecretId=f"crews/{secret}", ForceDeleteWithoutRecovery=True)
    for name in ("/aws/lambda/crews/run_step", "/aws/vendedlogs/apigateway/crews", "/aws/vendedlogs/states/crews"):
        account.client("logs").delete_log_group(logGroupName=name)
    older = account.deploy("crews")
    delete(account, "crews", older)
    left = adoption.find("crews")
    assert left is not None
    assert left.stack_id == newer
    assert set(left.resources) == {*removal.TABLES, *removal.BUCKETS}
    assert {kind for kind, _ in left.resources.values()} == {"AWS::DynamoDB::Table", "AWS::S3::Bucket"}
    assert set(adoption.template(left)["Resources"]) == set(left.resources)

    # What is gone is not asked for; where all is gone, the stack before it counts.
    for kind, name in list(left.resources.values())[1:]:
        failed = removal.remove(removal.Found("crews", {removal.KINDS_OF[kind]: [name]}))
        assert list(failed) == []
    again = adoption.find("crews")
    assert again is not None
    assert (again.stack_id, len(again.resources)) == (newer, 1)
    ((_, last),) = again.resources.values()
    assert list(removal.remove(removal.Found("crews", {"table": [last]}))) == []
    before = adoption.find("crews")
    assert before is not None
    assert before.stack_id == older


def test_a_stack_that_is_there_keeps_its_own(account: Account) -> None:
    with pytest.raises(adoption.NothingToAdopt, match="no stack crews that was deleted within 90 days"):
        adoption.find("crews")
    account.deploy("crews")
    with pytest.raises(Conflict, match="there is a stack crews already"):
        adoption.find("crews")


def test_what_cloudformation_refuses_is_said_and_leaves_no_stack(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto would create instead of import: it answers here as CloudFormation does of a table that a stack has."""
    delete(account, "crews", account.deploy("crews"))
    left = adoption.find("crews")
    assert left is not None
    asked: dict[str, Any] = {}
    client = clients.client("cloudformation")
    stack_id = account.deploy("half-made")

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def create_change_set(self, **arguments: Any) -> dict[str, str]:
            asked.update(arguments)
            return {"Id": "set", "StackId": stack_id}

        def get_waiter(self, name: str) -> Any:
            from botocore.exceptions import WaiterError

            class Failing:
                def wait(self, **_: Any) -> None:
                    raise WaiterError(name, "failed", {})

            return Failing()

        def describe_change_set(self, **_: Any) -> dict[str, str]:
            return {"StatusReason": "crews-RunsTable-1 already exists in stack other"}

    monkeypatch.setattr(
        clients, "client", lambda service, **_: Refusing() if service == "cloudformation" else account.client(service)
    )
    with pytest.raises(adoption.AdoptionFailed, match="already exists in stack other"):
        adoption.adopt("crews", left)
    assert asked["ChangeSetType"] == "IMPORT"
    assert set(json.loads(asked["TemplateBody"])) <= {*adoption._KEPT_SECTIONS, "Resources"}
    assert {one["LogicalResourceId"]: one["ResourceIdentifier"] for one in asked["ResourcesToImport"]} == {
        logical: {"TableName" if kind.endswith("Table") else "BucketName": name}
        for logical, (kind, name) in left.resources.items()
    }
    assert "half-made" not in {one["StackName"] for one in client.describe_stacks()["Stacks"]}
