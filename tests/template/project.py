"""The template and the state machine as data, for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

from loopllama_cli.local import template as local_template
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
    policies = [one.get("PolicyDocument", one) for one in _holder(function)["Properties"].get("Policies", ())]
    policies += [
        one["Properties"]["PolicyDocument"]
        for one in resources.values()
        if one["Type"] == "AWS::IAM::Policy" and {"Ref": f"{function}Role"} in one["Properties"]["Roles"]
    ]
    for policy in policies:
        for statement in policy["Statement"]:
            yield statement["Fn::If"][1] if "Fn::If" in statement else statement


def _holder(function: str) -> dict[str, Any]:
    """Return the resource that holds a function's policies: its role, or the state machine itself."""
    found: dict[str, Any] = template()["Resources"].get(f"{function}Role") or template()["Resources"][function]
    return found


def deployed(**parameters: str) -> dict[str, Any]:
    """Return the resources as SAM and CloudFormation make them with these parameters, the others being their
    defaults: conditions are decided, and what is another resource's stays a reference."""
    with mock.patch.dict(local_template.DROPPED, clear=True):
        body = local_template.load(ROOT, parameters, {}, lambda kind: True).body
    values: dict[str, Any] = {"AWS::NoValue": None}
    for name, one in body["Parameters"].items():
        value = parameters.get(name, str(one["Default"]))
        values[name] = value.split(",") if one["Type"] == "CommaDelimitedList" else value
    made = {name: one for name, one in body["Resources"].items() if _holds(one.get("Condition"), body, values)}
    found: dict[str, Any] = _decided(made, body, values)
    return found


def _holds(condition: str | None, body: dict[str, Any], values: dict[str, Any]) -> bool:
    return condition is None or bool(_decided(body["Conditions"][condition], body, values))


def _decided(node: Any, body: dict[str, Any], values: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [one for one in (_decided(inner, body, values) for inner in node) if one is not None]
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        ((name, operand),) = node.items()
        if name == "Ref" and operand in values:
            return values[operand]
        if name == "Fn::If":
            return _decided(operand[1] if _holds(operand[0], body, values) else operand[2], body, values)
        if name in ("Fn::Equals", "Fn::Not", "Fn::Or", "Fn::And"):
            known = _decided(operand, body, values)
            of = {"Fn::Equals": lambda: known[0] == known[1], "Fn::Not": lambda: not known[0]}
            return (of | {"Fn::Or": lambda: any(known), "Fn::And": lambda: all(known)})[name]()
        if name == "Fn::Join":
            parts = _decided(operand[1], body, values)
            return operand[0].join(parts) if all(isinstance(one, str) for one in parts) else node
        if name == "Fn::Split":
            return _decided(operand[1], body, values).split(operand[0])
    decided = {name: _decided(inner, body, values) for name, inner in node.items()}
    return {name: inner for name, inner in decided.items() if inner is not None}


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
