"""JSON schemas in the subset that providers can enforce while they generate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$comment", "title", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
_ENFORCEABLE = frozenset(
    {
        "type", "description", "enum", "const", "anyOf", "$ref", "$defs", "definitions",
        "properties", "required", "additionalProperties",
        "items", "minItems", "maxItems",
        "pattern", "format",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    }
)  # fmt: skip
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_DEEPEST = 10


def strict(schema: Mapping[str, Any], drop: frozenset[str] = frozenset()) -> dict[str, Any] | None:
    """The schema as OpenAI's strict mode takes it, or `None` where it cannot be said there.

    Annotations are left out and `additionalProperties: false` is written where an object does not speak of further
    properties, so whatever follows the result follows the schema too. Not possible: an optional property, a root that
    is no object, free-form objects, keywords outside the subset. Keywords in `drop` are left out instead; what they
    demand must be checked afterwards.

    https://platform.openai.com/docs/guides/structured-outputs (supported schemas)
    """
    if schema.get("type") != "object" or "anyOf" in schema:
        return None
    try:
        return _subset(schema, drop, 0)
    except _Unsayable:
        return None


class _Unsayable(Exception):
    pass


def _subset(schema: Any, drop: frozenset[str], depth: int) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        raise _Unsayable
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _ANNOTATIONS or key in drop:
            continue
        if key not in _ENFORCEABLE or (key == "format" and value not in _FORMATS):
            raise _Unsayable
        if key in ("properties", "$defs", "definitions"):
            result[key] = {name: _subset(part, drop, depth + (key == "properties")) for name, part in value.items()}
        elif key == "items":
            result[key] = _subset(value, drop, depth)
        elif key == "anyOf":
            result[key] = [_subset(part, drop, depth) for part in value]
        else:
            result[key] = value
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties", False) is not False:
            raise _Unsayable
        if not schema.get("properties") or set(schema["properties"]) != set(schema.get("required", ())):
            raise _Unsayable
        result["additionalProperties"] = False
    elif not {"type", "enum", "const", "anyOf", "$ref"} & set(schema):
        raise _Unsayable
    return result
