"""The template and the state machine as data, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from loopllama_cli.local.template import parse

ROOT = Path(__file__).parents[2]


@lru_cache(maxsize=1)
def template() -> dict[str, Any]:
    """template.yaml, CloudFormation's short tags written out (`{"Ref": …}`, `{"Fn::GetAtt": […]}`)."""
    parsed: dict[str, Any] = parse((ROOT / "template.yaml").read_text())
    return parsed


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """The resources of a type by logical id."""
    return {name: one for name, one in template()["Resources"].items() if one["Type"] == kind}


FUNCTIONS = resources("AWS::Serverless::Function")
TABLES = resources("AWS::DynamoDB::Table")


@lru_cache(maxsize=1)
def machine() -> dict[str, Any]:
    """The state machine's definition."""
    parsed: dict[str, Any] = json.loads((ROOT / "state_machines/run_workflow.asl.json").read_text())
    return parsed


def levels(definition: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The definition and every definition inside it: each has `StartAt` and `States`."""
    yield definition
    for state in definition["States"].values():
        inner = [state[name] for name in ("ItemProcessor", "Iterator") if name in state]
        for one in (*inner, *state.get("Branches", ())):
            yield from levels(one)


def states() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every state with its name."""
    for level in levels(machine()):
        yield from level["States"].items()


def statements(function: str) -> Iterator[dict[str, Any]]:
    """The policy statements of a function or state machine, also of policies that stand apart because of a circle;
    conditional ones as if their condition held."""
    resources = template()["Resources"]
    policies = list(resources[function]["Properties"].get("Policies", ()))
    policies += [
        one["Properties"]["PolicyDocument"]
        for one in resources.values()
        if one["Type"] == "AWS::IAM::Policy" and {"Ref": f"{function}Role"} in one["Properties"]["Roles"]
    ]
    for policy in policies:
        for statement in policy["Statement"]:
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def listed(value: Any) -> list[Any]:
    """A policy's text or list of texts as a list."""
    return value if isinstance(value, list) else [value]


def references(value: Any) -> Iterator[str]:
    """Every name that `Ref`, `Fn::GetAtt`, `Fn::Sub` or a condition says anywhere inside `value`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("Ref", "Condition") and isinstance(inner, str):
                yield inner
            elif key == "Fn::GetAtt":
                yield inner.split(".")[0] if isinstance(inner, str) else inner[0]
            elif key == "Fn::Sub" and isinstance(inner, str):
                yield from (part.split("}")[0].split(".")[0] for part in inner.split("${")[1:])
            elif key == "Fn::If":
                yield inner[0]
                yield from references(inner[1:])
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)
