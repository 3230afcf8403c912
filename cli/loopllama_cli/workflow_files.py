"""Workflow files: YAML or JSON read into a `Workflow`, with errors that name the line.

YAML is read the JSON way: only true and false are booleans, dates and sexagesimals are texts (an enum's `no` stays
"no"), and a key that is there twice is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic.alias_generators import to_camel

from loopllama.core import exact_json, numbers, plain_text
from loopllama.errors import WorkflowInvalid
from loopllama.workflows.schema import Workflow
from loopllama.workflows.store import DefinitionStore
from loopllama_cli import json_nodes, yaml_nodes
from loopllama_cli.yaml_nodes import IN_QUOTES

if TYPE_CHECKING:
    from loopllama.settings import Settings
    from loopllama.workflows.types import WorkflowItem

MAX_BYTES = 1_000_000
_MAX_NODES = 100_000
_MAX_DEPTH = 60


_ID = re.compile(r"[a-z0-9_]{1,128}")
_SHOWN = (
    "version",
    "createdAt",
    "created_at",
    "updatedAt",
    "updated_at",
    "model_is_default",
    "modelIsDefault",
    "warnings",
)
"""What a workflow says that was read from a stack (`workflows show --json`, the API), and no file needs."""


class WorkflowFile(NamedTuple):
    """What a workflow file says: the workflow, and of one that comes from a stack its id and whether it is paused."""

    workflow: Workflow
    workflow_id: str | None
    paused: bool


def load(path: Path | str) -> Workflow:
    """Return the workflow in a `.yaml`, `.yml` or `.json` file. Raises `WorkflowInvalid`, whose details have `line`
    (from 1) beside `field` and `message`."""
    return load_file(Path(path)).workflow


def load_file(path: Path) -> WorkflowFile:
    """Return all that a workflow file says. Raises as `load`."""
    return parse_file(_text(path), path)


def read(path: Path, most: int = MAX_BYTES) -> Any:
    """Return the value in a `.yaml`, `.yml` or `.json` file that is no workflow; numbers are `int` or `Decimal`. Raises
    `WorkflowInvalid` as `load` does."""
    return _read(_text(path, most), path, most // MAX_BYTES)[0]


def push(settings: Settings, file: WorkflowFile, workflow_id: str | None = None) -> WorkflowItem:
    """Store a file's workflow as the current version of the one that it, or `workflow_id`, names; returns the current
    item. One that the file says is paused is paused; the others stay what they are. Raises `WorkflowInvalid`."""
    store = DefinitionStore(settings)
    item = store.push(file.workflow, workflow_id or file.workflow_id)
    if file.paused and item.get("status") != "paused":
        item = store.set_status(item["workflow_id"], "paused")
    return item


def dump(item: WorkflowItem) -> str:
    """Return an item of the Workflows table as a workflow file in YAML, which `load` reads as the same definition."""
    from loopllama.workflows.presenter import definition_view
    from loopllama_cli import yaml_text

    definition = definition_view(item["definition"])
    shown = {
        "id": item["workflow_id"],
        "name": item["name"],
        "description": item.get("description") or None,
        "status": "paused" if item.get("status") == "paused" else None,
        "model": definition.get("model"),
        "pin": definition.get("pin"),
        "budget": definition.get("budget"),
        "crew": definition["crew"],
    }
    return yaml_text.dump({name: value for name, value in shown.items() if value is not None})


def _text(path: Path, most: int = MAX_BYTES) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise _invalid(path, [_problem(1, "file", f"cannot be read: {error.strerror}")]) from None
    if len(data) > most:
        raise _invalid(path, [_problem(1, "file", f"is longer than {most:,} bytes")])
    try:
        return plain_text.decoded(data)
    except plain_text.NotText as error:
        raise _invalid(path, [_problem(error.line, "file", str(error))]) from None


def located(path: Path, details: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Details of a file that was loaded, each with the `line` of its field; by line."""
    if not details:
        return []  # without reading the file again
    try:
        _, root = _read(_text(path), path)
    except WorkflowInvalid:
        root = None  # it is another file by now
    located_details = [{**detail, "line": _line_of(root, str(detail["field"]))} for detail in details]
    return sorted(located_details, key=lambda detail: int(str(detail["line"])))


def parse(text: str, path: Path) -> Workflow:
    """Return the workflow in a file's text; `path` tells JSON from YAML and stands in messages. Raises as `load`."""
    return parse_file(text, path).workflow


def parse_file(text: str, path: Path) -> WorkflowFile:
    """Return what a file's text says. Raises as `load`."""
    value, root = _read(text, path)
    workflow_id, status, problems = None, None, []
    if isinstance(value, dict) and "id" in value:
        workflow_id, status = value.pop("id"), value.pop("status", None)
        if not (isinstance(workflow_id, str) and _ID.fullmatch(workflow_id)):
            problems.append(_problem(_line_of(root, "id"), "id", "must be 1 to 128 of a-z, 0-9 and _"))
        if status not in (None, "active", "paused"):
            problems.append(_problem(_line_of(root, "status"), "status", "must be active or paused"))
        if value.get("model_is_default") is True:
            value.pop("model", None)
        for name in _SHOWN:
            value.pop(name, None)
    if problems:
        raise _invalid(path, problems)
    try:
        return WorkflowFile(Workflow.model_validate(numbers.floats(value)), workflow_id, status == "paused")
    except WorkflowInvalid as error:
        details = [{**detail, "line": _line_of(root, str(detail["field"]))} for detail in error.details]
        raise _invalid(path, sorted(details, key=lambda detail: int(detail["line"]))) from None


def _read(text: str, path: Path, size: int = 1) -> tuple[Any, yaml.Node | None]:
    reader = _Reader(size * _MAX_NODES)
    try:
        root = json_nodes.compose(text) if path.suffix.lower() == ".json" else yaml_nodes.compose(text)
        value = reader.value(root, "", 0) if root is not None else None
    except json.JSONDecodeError as error:
        raise _invalid(
            path, [_problem(error.lineno, "file", f"is no JSON: {error.msg}, column {error.colno}")]
        ) from None
    except yaml_nodes.NotYaml as error:
        raise _invalid(path, [_problem(error.line, "file", f"is no YAML: {error}")]) from None
    except (_TooMuch, RecursionError, exact_json.NotTaken):
        raise _invalid(path, [_problem(1, "file", "is nested too deep or has too many values")]) from None
    if reader.problems:
        raise _invalid(path, reader.problems)
    return value, root


class _TooMuch(Exception):
    """More values, or deeper ones, than a workflow can have."""


class _Reader:
    """Turns YAML nodes into JSON values and notes what has none."""

    def __init__(self, most: int) -> None:
        self.problems: list[dict[str, object]] = []
        self._left = most

    def value(self, node: yaml.Node, field: str, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > _MAX_DEPTH:
            # Anchors let a few lines stand for billions of values, or for themselves.
            raise _TooMuch
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, field, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, _join(field, index), depth + 1) for index, item in enumerate(node.value)]
        return self._scalar(node, field)

    def _mapping(self, node: yaml.MappingNode, field: str, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, item in node.value:
            name = _joined(key) if isinstance(key, yaml.ScalarNode) else ""
            if key.tag == "tag:yaml.org,2002:merge":
                message = "is YAML's merge key, which is not taken; write the fields out"
                self.problems.append(_problem(_line(key), _join(field, "<<"), message))
            elif not isinstance(key, yaml.ScalarNode):
                message = f"has a key that is no plain text{IN_QUOTES}"
                self.problems.append(_problem(_line(key), field or "workflow", message))
            elif name in values:
                message = f"is there twice, first in line {lines[name]}; keep one"
                self.problems.append(_problem(_line(key), _join(field, name), message))
            else:
                lines[name] = _line(key)
                values[name] = self.value(item, _join(field, name), depth + 1)
        return values

    def _scalar(self, node: yaml.Node, field: str) -> Any:
        kind, text = node.tag.removeprefix("tag:yaml.org,2002:"), str(node.value)
        if kind in ("str", "merge"):
            return _joined(node)
        if kind == "null":
            return None
        try:
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
            if kind in ("int", "float"):
                return exact_json.number_of(text)
        except exact_json.NotTaken as error:
            self.problems.append(_problem(_line(node), field, error.message))
            return None
        except (ValueError, KeyError):
            message = exact_json.why_not(text) if text in exact_json.CONSTANTS else f"is no {kind} that can be read"
            self.problems.append(_problem(_line(node), field, message))
            return None
        message = f"has the YAML tag {node.tag[:60]}, which is not taken{IN_QUOTES}"
        self.problems.append(_problem(_line(node), field, message))
        return None


def _joined(node: yaml.Node) -> str:
    """Return a scalar's text. JSON writes characters beyond U+FFFF as two escapes, which PyYAML leaves apart; half of
    one stays, and is refused."""
    return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _line_of(root: yaml.Node | None, field: str) -> int:
    """Return the line of a field's key; of the nearest thing around it where the field itself is missing."""
    if root is None:
        return 1
    line, node = _line(root), root
    rest = [] if field == "workflow" else field.split(".")
    while rest:
        step = next(_steps(node, rest), None)
        if step is None:
            break
        line, node, rest = step
    return line


def _steps(node: yaml.Node, rest: list[str]) -> Iterator[tuple[int, yaml.Node, list[str]]]:
    if isinstance(node, yaml.SequenceNode) and rest[0].isdigit() and int(rest[0]) < len(node.value):
        item = node.value[int(rest[0])]
        yield _line(item), item, rest[1:]
    elif isinstance(node, yaml.MappingNode):
        # A key in the spelling of the message first; then snake_case, which means the same.
        for same in (lambda key: key == rest[0], lambda key: to_camel(key) == rest[0]):
            for key, item in node.value:
                if same(str(key.value)):
                    yield _line(key), item, rest[1:]


def _join(field: str, part: object) -> str:
    return f"{field}.{str(part)[:60]}" if field else str(part)[:60]


def _problem(line: int, field: str, message: str) -> dict[str, object]:
    return {"line": line, "field": field or "workflow", "message": message}


def refused(path: Path, problems: Sequence[Mapping[str, Any]]) -> WorkflowInvalid:
    """Return the error of a file with problems that have lines."""
    return _invalid(path, [dict(problem) for problem in problems])


def _invalid(path: Path, problems: list[dict[str, Any]]) -> WorkflowInvalid:
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    sentence = f"{path}, line {first['line']}: {first['field']}: {first['message']}{more}"
    return WorkflowInvalid.of_all(problems, sentence)
