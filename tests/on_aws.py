"""`make test-aws STACK=…`: deploys to the account that the environment names, runs the end-to-end tests on what was
deployed, and removes everything that came of it, also where something failed on the way.

The stack's name must be new: what this removes is what it made.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS)]

from support.system import DEPLOYED_PARAMETERS, ROOT  # noqa: E402 - found through the line before

from loopllama import aws  # noqa: E402
from loopllama_cli.doctor import account  # noqa: E402
from loopllama_cli.target import Choice  # noqa: E402

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,39}")


def main(stack: str) -> int:
    """Deploy, test, remove. Returns the exit code: that of the tests, 1 where the deployment failed or something could
    not be removed, 2 before anything was done."""
    refused = _refused(stack)
    if refused:
        _say(f"make test-aws: {refused}; nothing was done")
        return 2
    code = 1
    try:
        if _deploy(stack) == 0:
            code = run_tests(stack)
    finally:
        _say(f"Removing {stack}")
        left = [*remove(stack)]
    if left:
        _say("Not removed, do it by hand:", *left)
    return code or bool(left)


def _refused(stack: str) -> str:
    """Why nothing may be begun; empty where all is well."""
    if not _NAME.fullmatch(stack):
        return "say STACK=NAME, the name of a stack that does not exist yet (letters, digits, -; at most 40)"
    checks = [*account(Choice())]
    problem = next((check for check in checks if check.status == "fail"), None)
    if problem:
        return f"{problem.what}: {problem.found}: {problem.todo}"
    client = aws.client("cloudformation")
    try:
        client.describe_stacks(StackName=stack)
    except client.exceptions.ClientError as error:
        if "does not exist" in str(error):
            _say(f"Deploying {stack} as {checks[0].found} in {checks[-1].found}")
            return ""
        return str(error)
    return f"there is a stack {stack} already, and what is tested is removed afterwards: choose another name"


def _deploy(stack: str) -> int:
    given = [part for name, value in DEPLOYED_PARAMETERS.items() for part in ("--parameter", f"{name}={value}")]
    command = [sys.executable, "-m", "loopllama_cli", "deploy", "--stack", stack, "--no-confirm", *given]
    # In a folder of its own, where no samconfig.toml says otherwise.
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT / "cli")])}
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def run_tests(stack: str, *options: str) -> int:
    """The tests that are marked `aws`, on a deployed stack."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *(options or [str(TESTS / "integration")])]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "LOOPLLAMA_TEST_STACK": stack}, check=False).returncode


# Removing


def remove(stack: str) -> Iterator[str]:
    """Delete the stack, and what outlives it by design: tables, buckets with what is in them, versions of the layer,
    uploads. Yields what could not be deleted, with the reason."""
    cloudformation = aws.client("cloudformation")
    yield from _try("uploads", _delete_artifacts, f"{stack}/")  # also of a deployment that never came to a stack
    try:
        found = cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    except cloudformation.exceptions.ClientError as error:
        if "does not exist" not in str(error):
            yield f"stack {stack}: {error}"
        return
    kept: dict[str, list[str]] = {}
    for one in found:
        if one.get("PhysicalResourceId"):
            kept.setdefault(one["ResourceType"], []).append(one["PhysicalResourceId"])
    yield from _try(f"stack {stack}", _delete_stack, stack)
    for table in kept.get("AWS::DynamoDB::Table", ()):
        yield from _try(f"table {table}", _delete_table, table)
    for bucket in kept.get("AWS::S3::Bucket", ()):
        yield from _try(f"bucket {bucket}", _delete_bucket, bucket)
    for layer in kept.get("AWS::Lambda::LayerVersion", ()):
        yield from _try(f"layer {layer}", _delete_layer, layer)


def _try(what: str, delete: Any, name: str) -> Iterator[str]:
    try:
        delete(name)
    except Exception as error:
        if aws.trouble(error) is None:
            raise
        yield f"{what}: {error}"


def _delete_stack(stack: str) -> None:
    client = aws.client("cloudformation")
    client.delete_stack(StackName=stack)
    client.get_waiter("stack_delete_complete").wait(StackName=stack)


def _delete_table(table: str) -> None:
    client = aws.client("dynamodb")
    try:
        client.update_table(TableName=table, DeletionProtectionEnabled=False)
        client.delete_table(TableName=table)
        client.get_waiter("table_not_exists").wait(TableName=table)
    except client.exceptions.ResourceNotFoundException:
        return


def _delete_bucket(bucket: str) -> None:
    client = aws.client("s3")
    try:
        _empty(bucket, "")
        client.delete_bucket(Bucket=bucket)
    except client.exceptions.NoSuchBucket:
        return


def _empty(bucket: str, prefix: str) -> None:
    client = aws.client("s3")
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if found:
            keys = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})


def _delete_layer(arn: str) -> None:
    name, _, version = arn.rpartition(":")
    aws.client("lambda").delete_layer_version(LayerName=name, VersionNumber=int(version))


def _delete_artifacts(prefix: str) -> None:
    """What SAM has uploaded for the deployment, into the bucket that it manages for the account and region."""
    for stack in aws.client("cloudformation").describe_stacks()["Stacks"]:
        if stack["StackName"] == "aws-sam-cli-managed-default":
            outputs = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
            _empty(outputs["SourceBucket"], prefix)


def _say(*lines: str) -> None:
    sys.stderr.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
