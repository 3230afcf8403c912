"""Stacks on ministack, deployed by the SAM CLI from the sources of one version or another, and used by the command line
of just that version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from support.system import ROOT
from support.waiting import eventually

from loopllama.aws import clients, dynamo

WAIT_SECONDS = 120.0


@dataclass(frozen=True)
class Version:
    """Sources, and a folder with what was built of them."""

    tree: Path
    folder: Path

    @classmethod
    def build(cls, tree: Path, folder: Path) -> Version:
        """Build the sources in `tree`, and upload what was built: it is deployed several times."""
        sam("build", f"--template={tree / 'template.yaml'}", "--build-dir=built", cwd=folder)
        packaged = ["--template-file=built/template.yaml", "--output-template-file=packaged.yaml", "--resolve-s3"]
        sam("package", *packaged, f"--s3-prefix={folder.name}", cwd=folder)
        return cls(tree, folder)

    @classmethod
    def of_commit(cls, commit: str, folder: Path) -> Version:
        """Build what git has of an earlier commit."""
        tree = folder / "tree"
        tree.mkdir()
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x"], cwd=tree, input=archive.stdout, check=True)
        return cls.build(tree, folder)

    @property
    def template(self) -> Path:
        """The template that is deployed."""
        return self.folder / "packaged.yaml"

    def loopllama(self, *words: str, stack: str, cwd: Path | None = None, code: int = 0) -> str:
        """Run a command of this version's `loopllama` for a stack; returns what it printed. It must end with `code`."""
        command = [sys.executable, "-m", "loopllama_cli", "--stack", stack, *words]
        path = os.pathsep.join(str(self.tree / part) for part in ("shared", "cli"))
        done = _run(command, cwd or self.folder, {"PYTHONPATH": path})
        assert done.returncode == code, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout or done.stderr


class Stack:
    """A deployed stack, as the version sees it that it was deployed with last."""

    def __init__(self, name: str, version: Version, **parameters: str) -> None:
        self.name, self.parameters = name, parameters
        self.deploy(version)

    def deploy(self, version: Version) -> None:
        """Make the stack, or bring it to this version."""
        self.version = version
        sam_deploy(self.name, version.template, self.parameters)
        vars(self).pop("outputs", None)

    def loopllama(self, *words: str) -> Any:
        """Run a command with --json; returns what it printed, parsed."""
        return json.loads(self.version.loopllama(*words, "--json", stack=self.name))

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs by name."""
        stack = clients.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"][0]
        return {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}

    def put(self, table: str, item: Mapping[str, Any]) -> None:
        """Put an item into the table that an output names."""
        clients.client("dynamodb").put_item(TableName=self.outputs[table], Item=dynamo.to_item(item))

    def put_provider(self, name: str, base_url: str) -> None:
        """Store a provider's secret, and a model `NAME:one` at 3 and 15 USD a million tokens."""
        secret = json.dumps({"api_key": "test-key", "base_url": base_url})
        clients.client("secretsmanager").create_secret(
            Name=self.outputs["ProviderSecretsPrefix"] + name, SecretString=secret
        )
        prices = [{"effective_from": "2020-01-01", "input": 3, "output": 15}]
        entry = {"model": f"{name}:one", "provider": name, "provider_model": "one", "prices": prices}
        self.put("ModelsTableName", entry)

    def push(self, name: str, model: str, *crew: dict[str, Any]) -> str:
        """Store a workflow; returns its id."""
        agents = [{"role": one["name"], "systemPrompt": f"Do {one['name']}.", **one} for one in crew]
        file = self.version.folder / f"{name}.json"
        file.write_text(json.dumps({"name": name, "model": model, "crew": agents}), encoding="utf-8")
        self.version.loopllama("workflows", "push", str(file), stack=self.name)
        return name

    def start(self, workflow: str, run_input: Any = "hello") -> str:
        """Start a run; returns its id."""
        file = self.version.folder / "input.json"
        file.write_text(json.dumps(run_input), encoding="utf-8")
        given = run_input if isinstance(run_input, str) else f"@{file}"
        return str(self.loopllama("run", workflow, "--input", given, "--no-wait")["id"])

    def status(self, run_id: str) -> str:
        """The run's status, by its record."""
        key = dynamo.to_item({"run_id": run_id, "item": "RUN"})
        found = clients.client("dynamodb").get_item(
            TableName=self.outputs["RunsTableName"], Key=key, ConsistentRead=True
        )
        run = dynamo.from_item(found["Item"])
        return "waiting_input" if run["status"] == "running" and run.get("pending") else str(run["status"])

    def wait(self, run_id: str, *statuses: str) -> dict[str, Any]:
        """Wait until a run has ended, or has one of these statuses; returns it as the version shows it."""
        ended = ("completed", "failed", "cancelled")
        eventually(lambda: self.status(run_id) in (*ended, *statuses), WAIT_SECONDS)
        shown: dict[str, Any] = self.loopllama("runs", "show", run_id)
        assert shown["status"] in (statuses or ended), shown.get("error")
        return shown

    def update_run(self, run_id: str, attribute: str, value: str) -> None:
        """Change an attribute of a run's record."""
        key = {"run_id": run_id, "item": "RUN"}
        runs, there = self.outputs["RunsTableName"], "attribute_exists(run_id)"
        dynamo.update(clients.client("dynamodb"), runs, key, {attribute: value}, condition=there)

    def waits(self, run_id: str) -> bool:
        """Whether an execution has come to a Wait state."""
        arn = self.outputs["RunWorkflowArn"].replace(":stateMachine:", ":execution:") + f":{run_id}"
        pages = clients.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=arn)
        return any(event["type"] == "WaitStateEntered" for page in pages for event in page["events"])

    def resources(self) -> dict[str, str]:
        """The stack's resources: by their names in the template, those in the account."""
        client = clients.client("cloudformation")
        pages = client.get_paginator("list_stack_resources").paginate(StackName=self.name)
        summaries = (one for page in pages for one in page["StackResourceSummaries"])
        return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in summaries}


def sam_deploy(stack: str, template: Path, parameters: Mapping[str, str] | None = None, code: int = 0) -> str:
    """Deploy a built template, as docs/deploy.md does without `--guided`."""
    options = [f"--template-file={template}", f"--stack-name={stack}", f"--s3-prefix={stack}", "--resolve-s3"]
    options += ["--capabilities=CAPABILITY_IAM", "--no-confirm-changeset", "--no-fail-on-empty-changeset"]
    if parameters:
        options += ["--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items())]
    return sam("deploy", *options, cwd=template.parent, code=code)


def delete(stack: str) -> None:
    """Delete a stack, as `sam delete` does, which would take along what was uploaded for the others, too."""
    client = clients.client("cloudformation")
    client.delete_stack(StackName=stack)
    client.get_waiter("stack_delete_complete").wait(StackName=stack, WaiterConfig={"Delay": 1})


def sam(*words: str, cwd: Path, code: int = 0) -> str:
    """Run the SAM CLI; returns what it said. It must end with `code`."""
    done = _run([str(Path(sys.executable).with_name("sam")), *words], cwd, {})
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == code, f"sam {words} ended with {done.returncode}:\n{said}"
    return said


def _run(command: list[str], cwd: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "SAM_CLI_TELEMETRY": "0", **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
