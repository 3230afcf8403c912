"""What functions ask of AWS while runs are played in moto, and whether their policies allow it."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from template.project import listed, statements

from loopllama.aws import clients

Calls = dict[str, set[tuple[str, str]]]
"""Function to the pairs of action and resource that it used."""


class Recorder:
    def __init__(self) -> None:
        self.calls: Calls = defaultdict(set)
        self._function = ""

    @contextlib.contextmanager
    def of(self, function: str) -> Iterator[None]:
        self._function, before = function, self._function
        try:
            yield
        finally:
            self._function = before

    def note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        """botocore's `provide-client-params`: every call, before it is checked."""
        if not self._function:
            return
        prefix = model.service_model.endpoint_prefix
        service = {"monitoring": "cloudwatch"}.get(prefix, prefix)  # as IAM calls it
        # As IAM calls it: to copy an object is to read it and to write it.
        actions = {"CopyObject": ["GetObject", "PutObject"], "Invoke": ["InvokeFunction"]}.get(model.name, [model.name])
        for action in actions:
            for resource in self._resources(service, params):
                self.calls[self._function].add((f"{service}:{action}", resource))

    @staticmethod
    def _resources(service: str, params: dict[str, Any]) -> list[str]:
        if service == "dynamodb":
            tables = [*params.get("RequestItems", ()), *filter(None, [params.get("TableName")])]
            index = f"/index/{params['IndexName']}" if "IndexName" in params else ""
            return [table + index for table in tables]
        if service == "s3":
            return [f"{'UploadsBucket' if params['Bucket'] == 'uploads' else 'ValuesBucket'}/{params['Key']}"]
        if service == "cloudwatch":
            return ["*"]
        if service == "events":
            return [entry["EventBusName"] for entry in params["Entries"]]
        if service == "lambda":
            return [f"function:{params['FunctionName']}"]
        if service == "secretsmanager":
            return [f"secret:{params['SecretId']}"]
        if service == "states":
            return ["execution:RunWorkflow:x" if "executionArn" in params else "RunWorkflow"]
        return [str(params)]


@contextlib.contextmanager
def watching(monkeypatch: pytest.MonkeyPatch, notes: Recorder) -> Iterator[None]:
    """Let the recorder see every call of every client, as long as the context is open."""
    make, seen = clients.client, []

    def client(service: str, *arguments: Any, **options: Any) -> Any:
        one = make(service, *arguments, **options)
        one.meta.events.register("provide-client-params", notes.note, unique_id="recorder")
        seen.append(one)
        return one

    monkeypatch.setattr(clients, "client", client)
    try:
        yield
    finally:
        for one in seen:
            one.meta.events.unregister("provide-client-params", notes.note, unique_id="recorder")


def as_function(notes: Recorder, function: str, method: Any) -> Any:
    def called(*arguments: Any, **options: Any) -> Any:
        with notes.of(function):
            return method(*arguments, **options)

    return called


def resource_pattern(resource: Any) -> str:
    """A statement's resource as the recorder names resources, `*` standing for anything."""
    if resource == "*":
        return "*"
    if "Ref" in resource:
        return str(resource["Ref"])
    if "Fn::GetAtt" in resource:
        return str(resource["Fn::GetAtt"][0])
    if "Fn::Split" in resource:
        return str(resource["Fn::Split"][1]["Ref"])
    text = str(resource["Fn::Sub"]).replace("${RunWorkflow.Name}", "RunWorkflow").replace("${AWS::StackName}", "stack")
    text = text.replace("${ToolFunctionPrefix}", "tool-")
    text = text.split("states:")[-1].split("}:")[-1]
    return text.replace(".Arn}", "").replace("${", "")


def allowed(function: str) -> set[tuple[str, str]]:
    return {
        (action, resource_pattern(resource))
        for statement in statements(function)
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }
