"""References within a schema: what they name, whether they come back to themselves, which definitions nothing names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def found(schema: Mapping[str, Any], reference: Any) -> Any:
    """Return what a reference within the schema names; `None` where that is nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    value: Any = schema
    for step in reference[1:].split("/")[1:]:
        value = value.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(value, Mapping) else None
    return value


def without_unused(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema without the definitions that nothing in it refers to: they may be what cannot be said."""
    groups = {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema.get(key), Mapping)}
    todo = list(_references({key: part for key, part in schema.items() if key not in groups}))
    used: set[tuple[str, str]] = set()
    while todo:
        group, _, name = todo.pop().removeprefix("#/").partition("/")
        name = name.partition("/")[0].replace("~1", "/").replace("~0", "~")
        if group in groups and name in groups[group] and (group, name) not in used:
            used.add((group, name))
            todo += _references(groups[group][name])
    made = dict(schema)
    for group, parts in groups.items():
        kept = {name: part for name, part in parts.items() if (group, name) in used}
        made[group] = kept
        if not kept:
            del made[group]
    return made


def refers_to_itself(schema: Mapping[str, Any]) -> bool:
    """Return whether a reference within a schema leads back to itself."""
    places: dict[str, Any] = {"#": {key: schema[key] for key in schema if key not in ("$defs", "definitions")}}
    for reference in _references(schema):
        places.setdefault(reference, found(schema, reference))

    done: set[str] = set()

    def meets(place: str, path: frozenset[str]) -> bool:
        if place in path:
            return True
        if place in done:
            return False
        found = any(meets(other, path | {place}) for other in _references(places.get(place)))
        done.add(place)
        return found

    return any(meets(place, frozenset()) for place in places)


def _references(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        inner = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return inner.union(*(_references(part) for part in value.values()))
    if isinstance(value, list):
        return set().union(*(_references(part) for part in value))
    return set()
