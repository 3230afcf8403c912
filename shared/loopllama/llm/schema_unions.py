"""One object for the parameters of a tool, whatever they are put together of: no provider takes a union, a `$ref` or an
`allOf` at their root.

What may be given by any of the alternatives may be given, and only what all of them require is required. Which of it
goes together is left to the words that `schema_restating` makes of the union; what a model gives is checked against the
tool's own parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loopllama.llm import schema_references

_MOST_REFERENCES = 10
_UNIONS = ("anyOf", "oneOf")


def one_object(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return parameters whose root names its own properties. A union that has more to say stays at the root, without
    what the properties now say."""
    root = _joined(schema, schema)
    if root.get("type", "object") != "object" and "object" not in root["type"]:
        return {"type": "object", "properties": {}}  # whatever is given is told to be wrong
    properties, required = dict(_object(root.get("properties"))), list(_list(root.get("required")))
    made = {**root, "type": "object"}
    for key in _UNIONS:
        parts = [_joined(part, schema) for part in _list(root.get(key)) if isinstance(part, Mapping)]
        objects = [part for part in parts if part.get("type") != "null"]
        if not objects or not any("properties" in part for part in objects):
            continue
        for name, choices in _by_name(objects):
            own = [properties[name]] if name in properties else []
            different = [*own, *(choice for choice in choices if choice not in own)]
            properties[name] = different[0] if len(different) == 1 else {"anyOf": different}
        required += [name for name in _required(objects) if name not in required]
        made[key] = [_rest(part, properties) for part in objects]
        if len(objects) == 1:
            del made[key]
    if properties or "properties" not in made:
        made["properties"] = properties
    if required:
        made["required"] = required
    return made


def _joined(part: Any, whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part with what its `$ref` names and its `allOf` holds in their place."""
    made = dict(part)
    for _ in range(_MOST_REFERENCES):
        if not isinstance(found := schema_references.found(whole, made.get("$ref")), Mapping) or found is whole:
            break
        made = {**found, **{key: value for key, value in made.items() if key != "$ref"}}
    parts = [_joined(one, whole) for one in _list(made.get("allOf")) if isinstance(one, Mapping)]
    if not any("properties" in one for one in parts):
        return made
    rest = {key: value for key, value in made.items() if key not in ("allOf", "additionalProperties")}
    for one in parts:
        properties = {**_object(one.get("properties")), **_object(rest.get("properties"))}
        required = list(dict.fromkeys([*_list(rest.get("required")), *_list(one.get("required"))]))
        rest = {**one, **rest, "properties": properties, **({"required": required} if required else {})}
        rest.pop("additionalProperties", None)  # what one of them closes, another one fills
    return rest


def _by_name(objects: list[dict[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Yield each property of the alternatives with its different schemas."""
    for name in dict.fromkeys(name for part in objects for name in _object(part.get("properties"))):
        choices: list[Any] = []
        for part in objects:
            if name in _object(part.get("properties")) and part["properties"][name] not in choices:
                choices.append(part["properties"][name])
        yield name, choices


def _required(objects: list[dict[str, Any]]) -> list[str]:
    first, *others = (list(_list(part.get("required"))) for part in objects)
    return [name for name in first if all(name in other for other in others)]


def _rest(part: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is left to say of an alternative: the names of its properties, and what they are where the others
    say otherwise."""
    own = _object(part.get("properties"))
    names = {name: {} if properties.get(name) == value else value for name, value in own.items()}
    left = {key: value for key, value in part.items() if key not in ("type", "properties", "additionalProperties")}
    return {**({"properties": names} if names else {}), **left}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
