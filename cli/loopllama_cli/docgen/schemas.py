"""Routes, workflow files and events, from their OpenAPI document and JSON Schemas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from loopllama.api.app import Api
from loopllama.api.event_models import Event, Totals
from loopllama.settings import Settings
from loopllama.workflows import schema as workflow
from loopllama_cli.docgen import markdown

_METHODS = ("get", "post", "put", "patch", "delete")
_KINDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}


def routes() -> str:
    """Return every route with what it does, the scope that it needs, what it takes and answers."""
    document = Api(Settings()).openapi()
    rows = []
    for path, operations in sorted(document["paths"].items(), key=_place):
        for method, operation in sorted(operations.items(), key=lambda item: _METHODS.index(item[0])):
            text = ". ".join(
                part for part in (operation["summary"], operation.get("description", "").split("\n\n")[0]) if part
            )
            good = ", ".join(sorted(status for status in operation["responses"] if status < "3"))
            scope = ", ".join(markdown.names(need["key"]) for need in operation["security"])
            rows.append([f"`{method.upper()} {path}`", text, scope, _asked(operation, document), good])
    return markdown.table(["route", "what it does", "scope", "takes", "answers"], rows)


def _place(item: tuple[str, Any]) -> tuple[int, str]:
    """Return the order in which a reader wants them: what comes first in a client's life."""
    firsts = ("/healthz", "/v1/workflows", "/v1/runs", "/v1/models", "/v1/usage")
    path = item[0]
    return next((place for place, first in enumerate(firsts) if path.startswith(first)), len(firsts)), path


def _asked(operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    query = [f"?{parameter['name']}=" for parameter in operation.get("parameters", ()) if parameter["in"] == "query"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    properties = _resolved(body, document).get("properties", {}) if body else {}
    return markdown.names([*query, *properties])


def workflow_fields() -> str:
    """Return a table for each object of a workflow file: its fields, what they hold and what they mean."""
    schema = workflow.json_schema()
    titles = {"Workflow": "The workflow", "Agent": "An agent"}
    parts = []
    for name in ("Workflow", "Agent", "Candidate", "Repeat", "Approval", "Budget", "Limits"):
        described = schema if name == "Workflow" else schema["$defs"][name]
        described = next((part for part in described.get("anyOf", ()) if "properties" in part), described)
        required = described.get("required", ())
        rows = (
            [f"`{field}`", _kind(value, schema, null=False), "Required. " * (field in required) + value["description"]]
            for field, value in described["properties"].items()
        )
        title = titles.get(name, f"`{name[0].lower()}{name[1:]}`")
        parts.append(f"### {title}\n{markdown.table(['field', 'holds', 'means'], rows)}")
    return "\n\n".join(parts)


def events() -> str:
    """Return the events by type, with the fields that each has beside those of all."""
    schema = TypeAdapter(Event).json_schema()["$defs"]
    kinds = {
        name: described
        for name, described in schema.items()
        if "type" in described.get("properties", {}) and name != "Failure"
    }
    common = set.intersection(*(set(described["properties"]) for described in kinds.values()))
    every = {field: value for described in kinds.values() for field, value in described["properties"].items()}
    by_fields: dict[tuple[str, ...], list[str]] = {}
    for name, described in kinds.items():
        by_fields.setdefault(tuple(field for field in described["properties"] if field not in common), []).append(name)
    types = markdown.table(
        ["type", "fields, beside those of every event"],
        ([markdown.names(names), _fields(fields)] for fields, names in by_fields.items()),
    )
    ordered = sorted(every, key=lambda field: field not in common)
    fields = markdown.table(
        ["field", "holds", "means"],
        (
            [f"`{field}`", _kind(every[field], {"$defs": schema}), every[field].get("description", "")]
            for field in ordered
            if field != "type"
        ),
    )
    return f"{types}\n\n{fields}"


def _fields(fields: Iterable[str]) -> str:
    """Fields of an event, those that say what a step or run used as one."""
    others = markdown.names(field for field in fields if field not in Totals.model_fields)
    return others + (", totals" if set(Totals.model_fields) <= set(fields) else "")


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        target: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def _kind(schema: Mapping[str, Any], document: Mapping[str, Any], null: bool = True) -> str:
    """Return what a schema takes, in few words; `null` says whether null is worth one."""
    return " or ".join(kind for kind in dict.fromkeys(_kinds(schema, document)) if null or kind != "null")


def _kinds(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        target = _resolved(schema, document)
        if "anyOf" in target:
            for branch in target["anyOf"]:
                yield from (
                    _kinds(branch, document) if "properties" not in branch else [f"`{name[0].lower()}{name[1:]}`"]
                )
        else:
            yield f"`{name[0].lower()}{name[1:]}`"
    elif "anyOf" in schema:
        for branch in schema["anyOf"]:
            yield from _kinds(branch, document)
    elif "enum" in schema or "const" in schema:
        yield " or ".join(
            f"`{str(value).lower() if isinstance(value, bool) else value}`"
            for value in schema.get("enum", [schema.get("const")])
        )
    elif schema.get("type") == "array":
        most = f" (at most {schema['maxItems']:,})" if "maxItems" in schema else ""
        yield f"list{most} of {_kind(schema.get('items', {}), document) or 'anything'}"
    elif schema.get("type") == "object":
        yield "object"
    elif schema.get("type") == "null":
        yield "null"
    elif schema.get("type") in _KINDS:
        yield _KINDS[schema["type"]] + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    if schema["type"] == "string":
        longest = schema.get("maxLength")
        return f" (at most {longest:,} characters)" if longest else ""
    least, most = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    lower = f"above {above:,}" if above is not None else f"{least:,}" if least is not None else None
    if lower is None:
        return ""
    joint = ", at most" if above is not None else " to"
    return f" {lower}{joint} {most:,}" if most is not None else f" {lower}{' or more' if above is None else ''}"
