"""Which definitions the interpreter takes: those whose every state, field, target and path it knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

Json = Any
INVOKE = "arn:aws:states:::lambda:invoke"
WAIT_FOR_TOKEN = f"{INVOKE}.waitForTaskToken"
_NEXT = frozenset({"Next", "End"})
_FIELDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    # By type: the fields that must be there, and those that may be.
    "Task": (
        frozenset({"Resource", "Parameters"}),
        frozenset({"ResultPath", "OutputPath", "Retry", "Catch", "TimeoutSecondsPath"}) | _NEXT,
    ),
    "Map": (
        frozenset({"ItemProcessor"}),
        frozenset({"ItemsPath", "ItemSelector", "MaxConcurrency", "MaxConcurrencyPath", "ResultPath", "Catch"}) | _NEXT,
    ),
    "Choice": (frozenset({"Choices"}), frozenset({"Default"})),
    "Wait": (frozenset({"SecondsPath"}), _NEXT),
    "Pass": (frozenset(), frozenset({"Parameters"}) | _NEXT),
    "Succeed": (frozenset(), frozenset()),
}
OPERATORS = ("StringEquals", "BooleanEquals")
_RETRY = {"ErrorEquals", "IntervalSeconds", "BackoffRate", "MaxAttempts", "MaxDelaySeconds", "JitterStrategy"}
_PATH = re.compile(r"\$?\$(\.[A-Za-z_]\w*)*")


class Unsupported(Exception):
    """The definition says what this interpreter does not know, or what Step Functions would refuse."""


def substituted(text: str, values: Mapping[str, str]) -> dict[str, Json]:
    """Return the definition of an .asl.json file with its substitutions made. Raises `KeyError`, `Unsupported`."""
    definition: dict[str, Json] = json.loads(re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], text))
    validate(definition)
    return definition


def validate(definition: Mapping[str, Json], inside: bool = False) -> None:
    """Raise `Unsupported` unless every state, field, target and path is one that the interpreter knows."""
    _only(definition, {"StartAt", "States", *(("ProcessorConfig",) if inside else ("Comment", "TimeoutSeconds"))})
    if inside and definition.get("ProcessorConfig") != {"Mode": "INLINE"}:
        raise Unsupported("a Map that is not INLINE")
    if not {"StartAt", "States"} <= set(definition):
        raise Unsupported("no StartAt or no States")
    states = definition["States"]
    targets = [definition["StartAt"]]
    for name, state in states.items():
        if state.get("Type") not in _FIELDS:
            raise Unsupported(f"{name}: type {state.get('Type')}")
        needed, others = _FIELDS[state["Type"]]
        _only(state, needed | others | {"Type", "Comment"}, name)
        if missing := needed - set(state):
            raise Unsupported(f"{name} has no {', '.join(sorted(missing))}")
        if others >= _NEXT and (state.get("End") is True) == ("Next" in state):
            raise Unsupported(f"{name} goes on or ends, one of the two")
        targets += _targets(name, state)
        for field in (field for field in state if field.endswith("Path")):
            if not (state[field] is None and field == "ResultPath"):
                parts_of(state[field])
        for field in ("Parameters", "ItemSelector"):
            _validate_parameters(state.get(field, {}))
        if state["Type"] == "Task" and state["Resource"] not in (INVOKE, WAIT_FOR_TOKEN):
            raise Unsupported(f"{name}: resource {state['Resource']}")
        if "ItemProcessor" in state:
            validate(state["ItemProcessor"], inside=True)
    if unknown := set(targets) - set(states):
        raise Unsupported(f"no state {', '.join(sorted(unknown))}")


def _targets(name: str, state: Mapping[str, Json]) -> Iterator[str]:
    """Give the states that a state may lead to; raise `Unsupported` where a rule of it is unknown."""
    for rule in state.get("Choices", ()):
        operators = [field for field in rule if field in OPERATORS]
        _only(rule, {"Variable", "Next", *OPERATORS}, name)
        if len(operators) != 1 or "Variable" not in rule or "Next" not in rule:
            raise Unsupported(f"{name}: {rule}")
        parts_of(rule["Variable"])
    for kind, fields in (("Retry", _RETRY), ("Catch", {"ErrorEquals", "ResultPath", "Next"})):
        rules = state.get(kind, ())
        for number, rule in enumerate(rules):
            _only(rule, fields, name)
            errors = rule.get("ErrorEquals")
            if not errors or (kind == "Catch" and "Next" not in rule):
                raise Unsupported(f"{name}: {rule}")
            if "States.ALL" in errors and (len(errors) > 1 or number + 1 < len(rules)):
                raise Unsupported(f"{name}: {kind} of {errors}")
            if rule.get("JitterStrategy", "NONE") not in ("NONE", "FULL"):
                raise Unsupported(f"{name}: {rule}")
    rules = [*state.get("Choices", ()), *state.get("Catch", ())]
    yield from (rule["Next"] for rule in rules)
    yield from (state[field] for field in ("Next", "Default") if field in state)


def _only(found: Mapping[str, Json], known: set[str] | frozenset[str], where: str = "the definition") -> None:
    if unknown := set(found) - known:
        raise Unsupported(f"{where}: {', '.join(sorted(unknown))}")


def _validate_parameters(template: Json) -> None:
    if isinstance(template, list):
        raise Unsupported("a list among parameters")
    for name, value in template.items() if isinstance(template, dict) else ():
        if name.endswith(".$"):
            parts_of(value)
        else:
            _validate_parameters(value)


def parts_of(path: Json) -> list[str]:
    """Return the names along a reference path, `$` or `$$` first."""
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise Unsupported(f"path {path!r}")
    return path.split(".")
