"""`loopllama destroy`: exactly one stack and all that it left, in an account with others whose names begin alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import moto_account
from support.account import Account
from typer.testing import CliRunner, Result

from loopllama.aws import clients
from loopllama_cli import removal
from loopllama_cli.main import app

ROOT = Path(__file__).parents[3]
ALIKE = ("crews-prod", "crews2", "Crews", "my-crews", "crews-RunsTable", "crew")
HERE, ELSEWHERE = "eu-central-1", "us-east-1"


class _Tags(yaml.CSafeLoader):
    """Reads CloudFormation's short tags as nothing."""


_Tags.add_multi_constructor("!", lambda loader, suffix, node: None)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.setenv(name, HERE)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with moto_account.account(monkeypatch):
        yield Account(HERE)


def destroy(*options: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["destroy", *options], input=typed)


def others(account: Account) -> set[tuple[str, str]]:
    """Stacks whose names begin alike, and one of the same name in another region, with what they have."""
    for stack in ALIKE:
        account.deploy(stack)
    Account(ELSEWHERE).deploy("crews")
    return account.things() | Account(ELSEWHERE).things()


def test_it_deletes_the_stack_and_all_that_it_left_and_nothing_of_any_other(account: Account) -> None:
    before = others(account)
    account.deploy("crews")
    done = destroy("--stack", "crews", "--yes")
    assert done.exit_code == 0, done.output
    assert account.things() | Account(ELSEWHERE).things() == before
    again = destroy("--stack", "crews", "--yes")
    assert (again.exit_code, "There is nothing of a stack crews" in again.output) == (0, True)


@pytest.mark.parametrize("remembered", [True, False], ids=["by its id", "by names alone"])
def test_it_finds_what_a_stack_that_is_gone_has_left(account: Account, remembered: bool) -> None:
    before = others(account)
    account.deploy("crews")
    account.client("cloudformation").delete_stack(StackName="crews")
    if not remembered:
        from moto.cloudformation.models import cloudformation_backends

        cloudformation_backends["123456789012"][HERE].deleted_stacks.clear()  # after 90 days
    done = destroy("--stack", "crews", "--yes")
    assert done.exit_code == 0, done.output
    assert account.things() | Account(ELSEWHERE).things() == before


def test_a_removal_that_broke_off_goes_on_when_it_is_run_again(account: Account) -> None:
    before = others(account)
    account.deploy("crews")
    found = list(removal.find("crews"))
    # Broken off before each of the things in turn, the next run does the one that follows and is broken off again.
    runs = 0
    while runs <= len(found):
        runs, deleted = runs + 1, 0

        def one_more(kind: str, name: str) -> None:
            nonlocal deleted
            if deleted == 1:
                raise KeyboardInterrupt
            deleted += 1

        left = removal.find("crews")
        if not list(left):
            break
        try:
            assert list(removal.remove(left, one_more)) == []
        except KeyboardInterrupt:
            continue
    assert runs >= 10
    assert account.things() | Account(ELSEWHERE).things() == before


def test_versions_and_delete_markers_of_thousands_of_objects_go(account: Account) -> None:
    before = account.things() | {("bucket", account.uploads())}
    account.deploy("crews")
    s3 = account.client("s3")
    bucket = account.buckets("crews")[0]
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in range(1100):
        s3.put_object(Bucket=bucket, Key=f"runs/{number}", Body=b"x")
        s3.delete_object(Bucket=bucket, Key=f"runs/{number}")
    done = destroy("--stack", "crews", "--yes")
    assert done.exit_code == 0, done.output
    assert {one for one in account.things() if "crews" in one[1]} == {one for one in before if "crews" in one[1]}


def test_a_log_group_that_the_last_lines_make_anew_goes_too(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.deploy("crews")
    delete = clients.client("logs").delete_log_group
    logs = account.client("logs")

    def and_lines_come(**request: Any) -> None:
        delete(**request)
        if not late:
            late.append(request["logGroupName"])
            logs.create_log_group(**request)

    late: list[str] = []
    monkeypatch.setattr(clients.client("logs"), "delete_log_group", and_lines_come)
    assert list(removal.remove(removal.find("crews"))) == []
    assert late
    assert list(removal.find("crews")) == []


def test_what_cannot_be_deleted_is_told_and_the_rest_goes(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.deploy("crews")
    bucket = account.buckets("crews")[0]
    delete = clients.client("s3").delete_objects

    def refuse(**request: Any) -> Any:
        if request["Bucket"] != bucket:
            return delete(**request)
        error = {"Key": request["Delete"]["Objects"][0]["Key"], "Code": "AccessDenied", "Message": "it is locked"}
        return {"Errors": [error]}

    monkeypatch.setattr(clients.client("s3"), "delete_objects", refuse)
    monkeypatch.setattr("loopllama_cli.commands.destroy.use_account", lambda choice: None)
    done = destroy("--stack", "crews", "--yes")
    assert done.exit_code == 1
    told = " ".join(done.output.split())
    assert f"not deleted: bucket {bucket}: 1 objects cannot be deleted" in told
    assert "AccessDenied: it is locked" in told
    assert list(removal.find("crews")) == [("bucket", bucket)]


def test_where_the_stack_stays_its_data_stays(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    stack_id = account.deploy("crews")
    before = account.things()

    def refuse(**_: Any) -> None:
        raise clients.client("cloudformation").exceptions.ClientError(
            {"Error": {"Code": "ValidationError", "Message": "TerminationProtection is enabled"}}, "DeleteStack"
        )

    monkeypatch.setattr(clients.client("cloudformation"), "delete_stack", refuse)
    [left] = removal.remove(removal.find("crews"))
    assert left.startswith(f"stack {stack_id}: ")
    assert "TerminationProtection is enabled" in left
    assert account.things() == before


def test_what_another_stack_has_taken_over_is_not_its(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.deploy("crews")
    account.client("cloudformation").delete_stack(StackName="crews")
    taken = next(name for kind, name in removal.find("crews") if kind == "table")
    describe = clients.client("cloudformation").describe_stack_resources

    def owned(**request: Any) -> Any:  # moto does not look resources up by their ids
        if request["PhysicalResourceId"] == taken:
            return {"StackResources": [{"StackName": "crews-prod"}]}
        return describe(**request)

    monkeypatch.setattr(clients.client("cloudformation"), "describe_stack_resources", owned)
    assert ("table", taken) not in list(removal.find("crews"))
    assert len(removal.find("crews").things["table"]) == len(removal.TABLES) - 1


def test_a_bucket_that_was_another_stacks_by_its_tag_is_not_its(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks = {"crews-valuesbucket-1a": "Crews", "crews-valuesbucket-2b": "crews"}
    for name in stacks:
        account.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": HERE})

    def tagged(**request: Any) -> Any:  # CloudFormation's own: nobody else may write them
        return {"TagSet": [{"Key": "aws:cloudformation:stack-name", "Value": stacks[request["Bucket"]]}]}

    monkeypatch.setattr(clients.client("s3"), "get_bucket_tagging", tagged)
    assert list(removal.find("crews")) == [("bucket", "crews-valuesbucket-2b")]


def test_it_shows_first_and_asks_for_the_name(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    account.deploy("crews")
    before = account.things()
    shown = destroy("--stack", "crews", "--dry-run")
    assert shown.exit_code == 0
    for kind, name in removal.find("crews"):
        assert re.search(rf"^{kind} +{re.escape(name)}$", shown.output, re.MULTILINE), name
    nobody = destroy("--stack", "crews")
    assert (nobody.exit_code, "add --yes" in nobody.output) == (2, True)
    monkeypatch.setattr("loopllama_cli.commands.destroy.is_a_terminal", lambda: True)
    for typed in ("y\n", "crews-prod\n", "\n"):
        wrong = destroy("--stack", "crews", typed=typed)
        assert (wrong.exit_code, "nothing was deleted" in wrong.output) == (2, True)
    assert account.things() == before
    assert destroy("--stack", "crews", typed="crews\n").exit_code == 0
    assert not [one for one in account.things() if "crews" in one[1]]


@pytest.mark.parametrize("options", [(), ("--local",), ("--yes",)])
def test_a_stack_must_be_named(options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPLLAMA_STACK", "crews")  # what is meant for every other command is not enough
    done = destroy(*options)
    assert done.exit_code == 2
    assert "loopllama --stack NAME destroy" in " ".join(done.output.split())


def test_names_are_those_of_the_template() -> None:
    resources = yaml.load((ROOT / "template.yaml").read_text(), _Tags)["Resources"]  # noqa: S506 - safe loader
    kept = {name: one["Type"] for name, one in resources.items() if one.get("DeletionPolicy") == "RetainExceptOnCreate"}
    assert {name for name, kind in kept.items() if kind == "AWS::DynamoDB::Table"} == set(removal.TABLES)
    assert {name for name, kind in kept.items() if kind == "AWS::S3::Bucket"} == set(removal.BUCKETS)
    assert len(kept) == len(removal.TABLES) + len(removal.BUCKETS)
    layers = {name for name, one in resources.items() if one["Type"] == "AWS::Serverless::LayerVersion"}
    assert layers == {removal.LAYER}
    text = (ROOT / "template.yaml").read_text()
    assert f"LayerName: !Sub '${{AWS::StackName}}-{removal.LAYER}'" in text
    for group in re.findall(r"LogGroupName: !Sub '(.*)'", text):
        assert re.fullmatch(
            r"/aws/(lambda/\$\{AWS::StackName\}/\w+|vendedlogs/(apigateway|states)/\$\{AWS::StackName\})", group
        )
