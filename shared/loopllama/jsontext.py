"""JSON text with money in it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON text of a value that may hold `Decimal`s, sets and tuples.

    A `Decimal` of up to 15 significant digits, as every cost has, is printed with exactly its digits; a longer one as
    the nearest double. Raises `ValueError` for NaN and infinity, which JSON has no words for.
    """
    separators = (",", ":") if indent is None else None
    return json.dumps(
        value, default=_plain, indent=indent, ensure_ascii=False, allow_nan=False, separators=separators
    )


def loads(text: str | bytes) -> Any:
    """The value of a JSON text. Raises `ValueError`, also for NaN and infinity."""
    return json.loads(text, parse_constant=_refuse)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
