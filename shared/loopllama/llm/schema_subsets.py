"""JSON schemas in the subsets that providers can enforce while they generate.

OpenAI's: https://platform.openai.com/docs/guides/structured-outputs (supported schemas; that nothing may stand beside a
`$ref`: github.com/openai/openai-python, issue 2024). Anthropic's, which Bedrock's `outputConfig` shares:
https://platform.claude.com/docs/en/build-with-claude/structured-outputs (JSON schema limitations, schema complexity
limits), https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html.

Whatever follows a subset made here follows the schema it was made of, but for the constraints that had to be put into
words; an answer is checked against the whole schema afterwards anyway.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loopllama.core import exact_json

_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$comment", "title", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
_STRUCTURE = frozenset(
    {
        *("type", "description", "enum", "const", "anyOf", "$ref", "$defs", "definitions"),
        *("properties", "required", "additionalProperties", "items", "format"),
    }
)
_BOUNDS = frozenset(
    {"minItems", "maxItems", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_LOOKS_AROUND = re.compile(r"\(\?(?:[=!]|<[=!])")
_DEEPEST = 10


@dataclass(frozen=True, slots=True)
class _Subset:
    enforced: frozenset[str]
    """Keywords that may stand in a schema."""
    worded: frozenset[str]
    """Keywords that may be put into the description instead."""
    optional: bool
    """Whether properties may be optional."""
    recursive: bool
    bare_references: bool
    """Whether nothing may stand beside a `$ref`."""
    most: Mapping[str, int]
    """How many there may be in the whole schema of what `_counted` counts."""


_OPENAI = _Subset(
    _STRUCTURE | _BOUNDS,
    frozenset(),
    optional=False,
    recursive=True,
    bare_references=True,
    most={"properties": 5000, "enum values": 1000},
)
_ANTHROPIC = _Subset(
    _STRUCTURE,
    _BOUNDS | {"minLength", "maxLength", "uniqueItems"},
    optional=True,
    recursive=False,
    bare_references=False,
    most={"optional properties": 24, "unions": 16},
)


class _Unsayable(Exception):
    """The subset has no way to say it."""


def for_openai(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema as OpenAI's strict mode takes it, or `None` where it cannot be said there: an optional
    property, a free-form object, a root that is no plain object, keywords outside the subset, more properties or enum
    values than are taken. A `$ref` loses the texts beside it, and a pattern that looks around goes into the
    description: both are refused there."""
    return _restate(schema, _OPENAI)


def for_anthropic(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema as Anthropic's and Bedrock's output formats take it, or `None` where it cannot be said there: a
    schema that refers to itself, a free-form object, keywords outside the subset, more than 24 optional properties or
    16 unions. Bounds and lengths, which these
    modes do not enforce, are put into the descriptions."""
    return _restate(schema, _ANTHROPIC)


def _restate(schema: Mapping[str, Any], subset: _Subset) -> dict[str, Any] | None:
    if schema.get("type") != "object" or "anyOf" in schema or (not subset.recursive and _refers_to_itself(schema)):
        return None
    try:
        restated = _part(schema, subset, 0)
    except _Unsayable:
        return None
    counts = dict.fromkeys(subset.most, 0)
    for what, count in _counted(restated):
        if what in counts:
            counts[what] += count
    return None if any(count > subset.most[what] for what, count in counts.items()) else restated


def _counted(schema: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield what providers count in a schema, and how many of it stand at each place."""
    properties = schema.get("properties", {})
    yield "properties", len(properties)
    yield "optional properties", len(properties.keys() - set(schema.get("required", ())))
    yield "unions", int("anyOf" in schema or isinstance(schema.get("type"), list))
    yield "enum values", len(schema.get("enum", ()))
    groups = (schema.get(name, {}) for name in ("properties", "$defs", "definitions"))
    for part in (*(part for group in groups for part in group.values()), *schema.get("anyOf", ())):
        yield from _counted(part)
    if "items" in schema:
        yield from _counted(schema["items"])


def _part(schema: Any, subset: _Subset, depth: int) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        raise _Unsayable
    result: dict[str, Any] = {}
    worded: dict[str, Any] = {}
    if subset.bare_references and "$ref" in schema:
        if schema.keys() - _ANNOTATIONS - {"$ref", "description"}:
            raise _Unsayable
        return {"$ref": schema["$ref"]}
    for key, value in schema.items():
        if key in subset.worded or (key == "pattern" and _LOOKS_AROUND.search(str(value))):
            worded[key] = value
        elif key in _ANNOTATIONS:
            continue
        elif key not in subset.enforced or (key == "format" and value not in _FORMATS):
            raise _Unsayable
        elif key in ("properties", "$defs", "definitions"):
            deeper = depth + (key == "properties")
            result[key] = {name: _part(part, subset, deeper) for name, part in value.items()}
        elif key == "items":
            result[key] = _part(value, subset, depth)
        elif key == "anyOf":
            result[key] = [_part(part, subset, depth) for part in value]
        else:
            result[key] = value
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties") or ())
        if not names or schema.get("additionalProperties", False) is not False:
            raise _Unsayable
        if not subset.optional and names != set(schema.get("required", ())):
            raise _Unsayable
        result["additionalProperties"] = False
    elif not {"type", "enum", "const", "anyOf", "$ref"} & set(schema):
        raise _Unsayable
    if worded:
        says = ", ".join(f"{key}: {exact_json.dumps(value)}" for key, value in worded.items())
        result["description"] = f"{result.get('description', '')} ({says})".strip()
    return result


def _refers_to_itself(schema: Mapping[str, Any]) -> bool:
    places: dict[str, Any] = {"#": {key: schema[key] for key in schema if key not in ("$defs", "definitions")}}
    for group in ("$defs", "definitions"):
        places.update({f"#/{group}/{name}": part for name, part in (schema.get(group) or {}).items()})

    def meets(place: str, path: frozenset[str]) -> bool:
        return place in path or any(meets(other, path | {place}) for other in _references(places.get(place)))

    return any(meets(place, frozenset()) for place in places)


def _references(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        inner = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return inner.union(*(_references(part) for part in value.values()))
    if isinstance(value, list):
        return set().union(*(_references(part) for part in value))
    return set()
