"""Values and schemas as jsonschema reads them here: numbers exact, and every value short where a message shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from loopllama.core import exact_json

LONGEST_SHOWN = 300
"""Characters of a value, or of a message, that are shown."""


class _Number(Decimal):
    """A number that messages show as JSON."""

    def __repr__(self) -> str:
        return exact_json.number(self)


class _LongText(str):
    """A text of which messages show the beginning: jsonschema writes a message for each branch that fails, and each
    would hold the whole value."""

    def __repr__(self) -> str:
        return repr(self[:LONGEST_SHOWN]) + "…"


class _LongList(list[Any]):
    def __repr__(self) -> str:
        return _beginning("[", map(repr, self))


class _LongObject(dict[str, Any]):
    def __repr__(self) -> str:
        return _beginning("{", (f"{key!r}: {value!r}" for key, value in self.items()))


def _beginning(opening: str, parts: Iterator[str]) -> str:
    shown = opening
    for part in parts:
        shown += part + ", "
        if len(shown) > LONGEST_SHOWN:
            break
    return shown[: LONGEST_SHOWN + 1] + "…"


def exact(value: Any) -> Any:
    """Return a copy whose numbers are compared as they are written."""
    return _exact(value)[0]


def _exact(value: Any) -> tuple[Any, int]:
    """Return the copy, and about how long it is when it is shown."""
    if isinstance(value, str):
        return (value, len(value)) if len(value) <= LONGEST_SHOWN else (_LongText(value), len(value))
    if isinstance(value, float | Decimal):
        return _Number(repr(value) if isinstance(value, float) else value), 8
    if isinstance(value, Mapping):
        pairs = [(_exact(key), _exact(inner)) for key, inner in value.items()]
        size = sum(key[1] + inner[1] + 4 for key, inner in pairs)
        plain = {key[0]: inner[0] for key, inner in pairs}
        return (plain, size) if size <= LONGEST_SHOWN else (_LongObject(plain), size)
    if isinstance(value, list | tuple):
        items = [_exact(inner) for inner in value]
        size = sum(item[1] + 2 for item in items)
        copies = [item[0] for item in items]
        return (copies, size) if size <= LONGEST_SHOWN else (_LongList(copies), size)
    return value, 8


def parts(value: Any) -> int:
    """Return how many values a value consists of."""
    if isinstance(value, Mapping):
        return 1 + sum(map(parts, value.values()))
    return 1 + sum(map(parts, value)) if isinstance(value, list | tuple) else 1


def identity(value: Any) -> Any:
    """Return what is equal for two values of `exact`, and can be looked up, just when they are the same JSON."""
    if isinstance(value, bool) or value is None:
        return (str(value),)
    if isinstance(value, Mapping):
        return ("object", frozenset((key, identity(inner)) for key, inner in value.items()))
    if isinstance(value, list | tuple):
        return ("array", *map(identity, value))
    return value
