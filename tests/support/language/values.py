"""Values as the language sees them: what counts as true, and how a prompt shows them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any


class Uncomputable(Exception):
    """What the language cannot compute of these values: a step that needs it fails."""


def is_true(value: Any) -> bool:
    """False, null, and an empty text, list or object count as false. 0 is true."""
    return value is not None and value is not False and value not in ("", [], {})


def field(value: Any, name: str) -> Any:
    """An expression's `value.name`: null where there is none."""
    return value.get(name) if isinstance(value, dict) else None


def is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A value in a prompt: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else as_json(value)


def as_json(value: Any) -> str:
    """JSON with each digit that a number has."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_json(name)}: {as_json(held)}" for name, held in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_json, value)) + "]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def at_path(value: Any, path: tuple[str, ...]) -> Any:
    """What a template's path leads to: fields of objects, items of lists. Raises `Uncomputable`."""
    for name in path:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            raise Uncomputable(f"nothing at {'.'.join(path)}")
    return value
