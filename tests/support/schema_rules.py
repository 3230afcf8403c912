"""What providers say of schemas that they do not take, written from their documentation and their errors: by the
stand-ins, and by the tests of what the product makes of schemas. Nothing of the product is used here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Place = tuple[str, ...]
NODES = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
ONE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
"""Keywords that hold one schema, which may be true or false; as `items`, draft 7 takes a list too."""
FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
COMBINED = {"anyOf", "oneOf", "allOf", "enum", "not"}
OPENAI_KEYS = {
    *("type", "description", "enum", "const", "anyOf", "$ref", "$defs", "definitions", "properties", "required"),
    *("additionalProperties", "items", "format", "pattern", "minimum", "maximum", "exclusiveMinimum"),
    *("exclusiveMaximum", "multipleOf", "minItems", "maxItems"),
}
ANTHROPIC_KEYS = {
    *("type", "description", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "definitions", "default"),
    *("properties", "required", "additionalProperties", "items", "format"),
}
GEMINI_KEYS = {
    *("type", "title", "description", "enum", "anyOf", "properties", "required", "additionalProperties", "items"),
    *("prefixItems", "minItems", "maxItems", "minimum", "maximum", "format", "propertyOrdering"),
}
GEMINI_TOOL_KEYS = {
    *("type", "title", "description", "enum", "anyOf", "properties", "required", "items", "format", "nullable"),
    *("minItems", "maxItems", "minimum", "maximum", "minLength", "maxLength", "pattern", "minProperties"),
    *("maxProperties", "example", "default", "propertyOrdering"),
}


def nodes(schema: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every schema within a schema, itself first, with its place."""
    yield place, schema
    if not isinstance(schema, Mapping):
        return
    for key, value in schema.items():
        if key in NODES and isinstance(value, Mapping):
            for name, part in value.items():
                yield from nodes(part, (*place, key, name))
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
            for number, part in enumerate(value):
                yield from nodes(part, (*place, key, str(number)))
        elif key in ONE and not (key == "additionalProperties" and isinstance(value, bool)):
            yield from nodes(value, (*place, key))


def levels(schema: Any) -> int:
    """How many objects and lists stand in one another."""
    return max(sum(step in ("properties", "items") for step in place[::1]) for place, _ in nodes(schema))


def at_openai(schema: Any, strict: bool) -> str | None:
    """What OpenAI says of a schema of an answer; of one that is not strict it says nothing."""
    if not strict:
        return None
    if schema.get("type") != "object" or COMBINED & schema.keys():
        return "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
    values = count = 0
    for place, node in nodes(schema):
        if (said := _at_openai(node)) is not None:
            return f"In context={place}, {said}"
        count += len(node.get("properties", ()))
        values += len(node.get("enum", ()))
        texts = [value for value in node.get("enum", ()) if isinstance(value, str)]
        if len(texts) > 250 and sum(map(len, texts)) > 15_000:
            return f"In context={place}, the total string length of enum values exceeds 15,000"
    if count > 5000 or values > 1000 or levels(schema) > 10:
        return f"{levels(schema)} levels of nesting, {count} properties or {values} enum values exceed the limit."
    return None


def _at_openai(node: Any) -> str | None:
    if not isinstance(node, Mapping):
        return "schema must be an object"
    if "$ref" in node and len(node) > 1:
        return f"$ref cannot have keywords {sorted(node.keys() - {'$ref'})}."
    if extra := sorted(node.keys() - OPENAI_KEYS):
        return f"'{extra[0]}' is not permitted."
    if not {"type", "anyOf", "$ref"} & node.keys():
        return "schema must have a 'type' key."
    if re.search(r"\(\?<?[=!]", str(node.get("pattern", ""))):
        return "regex lookaround is not supported."
    if "format" in node and node["format"] not in FORMATS:
        return f"'{node['format']}' is not a valid format."
    kinds = node.get("type")
    if "array" in (kinds if isinstance(kinds, list) else [kinds]) and "items" not in node:
        return "array schema missing items."
    if "object" in (kinds if isinstance(kinds, list) else [kinds]):
        if "properties" not in node:
            return "object schema missing properties."
        if node.get("additionalProperties") is not False:
            return "'additionalProperties' is required to be supplied and to be false."
        if set(node["properties"]) != set(node.get("required", ())):
            return "'required' is required to be supplied and to be an array including every key in properties."
    return None


def at_anthropic(schema: Any) -> str | None:
    """What Anthropic says of a schema of an answer."""
    optional = unions = 0
    for place, node in nodes(schema):
        where = ".".join(place)
        if not isinstance(node, Mapping):
            return f"output_config.format.schema: {where} must be an object"
        if extra := sorted(node.keys() - ANTHROPIC_KEYS):
            return f"output_config.format.schema: For '{node.get('type')}' type, property '{extra[0]}' is not supported"
        kinds = node.get("type")
        if (
            "object" in (kinds if isinstance(kinds, list) else [kinds])
            and node.get("additionalProperties") is not False
        ):
            return (
                "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
            )
        if "format" in node and node["format"] not in FORMATS:
            return f"output_config.format.schema: format '{node['format']}' is not supported"
        optional += len(node.get("properties", {}).keys() - set(node.get("required", ())))
        unions += "anyOf" in node or isinstance(kinds, list)
    if circular(schema):
        return "output_config.format.schema: Circular reference detected in schema definitions"
    if optional > 24 or unions > 16:
        return f"Schemas contains too many optional parameters ({optional} of 24) or union types ({unions} of 16)"
    return None


def at_gemini(
    schema: Any, keys: set[str] = GEMINI_KEYS, within: str = "generation_config.response_schema"
) -> str | None:
    """What Gemini says of a schema of an answer or, with their `keys`, of the parameters of a tool."""
    for place, node in nodes(schema):
        where = ".".join((within, *place))
        if not isinstance(node, Mapping):
            return f"Invalid value at '{where}'"
        if extra := sorted(node.keys() - keys):
            return f"Invalid JSON payload received. Unknown name \"{extra[0]}\" at '{where}': Cannot find field."
        if keys is GEMINI_TOOL_KEYS:
            if not {"type", "anyOf"} & node.keys():
                return f"{where}.type: must be specified when not using one_of, any_of or all_of fields"
            if isinstance(node.get("type"), list):
                return f"Unknown name \"type\" at '{where}': Proto field is not repeating, cannot start list."
            if not all(isinstance(value, str) for value in node.get("enum", ())):
                return f"Invalid value at '{where}.enum' (TYPE_STRING)"
            if undescribed := set(node.get("required", ())) - set(node.get("properties", ())):
                return f"{where}.required[0]: property is not defined: {sorted(undescribed)[0]}"
    return None


def of_tool(schema: Any) -> str | None:
    """What OpenAI says of the parameters of a tool that is not strict."""
    if schema.get("type") != "object" or COMBINED & schema.keys():
        return "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
    if "properties" not in schema:
        return "In context=(), object schema missing properties."
    for place, node in nodes(schema):
        if not isinstance(node, Mapping):
            return f"In context={place}, schema must be an object"
        kinds = node.get("type")
        if "array" in (kinds if isinstance(kinds, list) else [kinds]) and "items" not in node:
            return f"In context={place}, array schema missing items."
    return None


def of_tool_at_anthropic(schema: Any) -> str | None:
    """What Anthropic says of the parameters of a tool."""
    if {"oneOf", "allOf", "anyOf"} & schema.keys():
        return "input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"
    if schema.get("type") != "object":
        return "input_schema.type: Field required"
    for _, node in nodes(schema):
        if isinstance(node, Mapping) and (
            isinstance(node.get("items"), list) or isinstance(node.get("exclusiveMinimum"), bool)
        ):
            return "input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12"
    return None


def of_tool_at_nova(schema: Any) -> str | None:
    """What Nova says of the parameters of a tool."""
    extra = sorted(schema.keys() - {"type", "properties", "required"})
    if extra or schema.get("type") != "object":
        return f"The toolConfig.tools.0.toolSpec.inputSchema.json has fields that are not supported: {extra}"
    if any(not isinstance(node, Mapping) or "$ref" in node for _, node in nodes(schema)):
        return "The toolConfig.tools.0.toolSpec.inputSchema.json refers to what it does not hold"
    return None


def circular(schema: Any) -> bool:
    """Whether a schema refers to itself, by walking from reference to reference."""
    todo: list[tuple[str, Place]] = []
    for _, node in nodes(schema):
        if isinstance(node, Mapping) and "$ref" in node:
            todo.append((node["$ref"], (node["$ref"],)))
    for target, way in todo:
        part = schema
        for step in target.removeprefix("#").strip("/").split("/") if target != "#" else ():
            part = part.get(step, {}) if isinstance(part, Mapping) else {}
        for _, node in nodes(part):
            if isinstance(node, Mapping) and "$ref" in node:
                if node["$ref"] in way:
                    return True
                if len(way) < 20:
                    todo.append((node["$ref"], (*way, node["$ref"])))
    return False


Check = Callable[[Any], str | None]
ANSWERS: Mapping[str, Check] = {
    "openai strict": lambda schema: at_openai(schema, strict=True),
    "anthropic": at_anthropic,
    "gemini": at_gemini,
}
"""What is said of a schema of an answer, by the product's names of the subsets."""
TOOLS: Mapping[str, Check] = {
    "openai tools": of_tool,
    "anthropic tools": of_tool_at_anthropic,
    "nova tools": of_tool_at_nova,
    "gemini tools": lambda schema: at_gemini(schema, GEMINI_TOOL_KEYS, "tools[0]"),
}
"""What is said of the parameters of a tool."""
