"""Numbers on their way between DynamoDB, which has `Decimal` only, and what has `int` and `float`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def whole(value: Any) -> Any:
    """Return a `Decimal` without a fraction as `int`: a count. Anything else stays, money too."""
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


def written(value: object) -> str:
    """Return how a message quotes a value that somebody wrote."""
    return (str(value) if isinstance(value, Decimal) else repr(value))[:80]


def plain(value: Any) -> Any:
    """Return every `Decimal` in it as `int` where it is one, else as the nearest `float`: for schemas, limits and
    wires, which are JSON and not money."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def floats(value: Any) -> Any:
    """Return every `Decimal` in it as the `float` that is written so, whole ones too: for what is checked to be a
    number or a count. One that no `float` keeps stays, so that the check refuses it, and nothing is rounded."""
    if isinstance(value, Decimal):
        nearest = float(value)
        return nearest if Decimal(repr(nearest)) == value else value
    if isinstance(value, Mapping):
        return {key: floats(inner) for key, inner in value.items()}
    return [floats(inner) for inner in value] if isinstance(value, list | tuple) else value


def exact(value: Any) -> Any:
    """Return every `float` in it as the `Decimal` that it is written as, so that DynamoDB takes it."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, Mapping):
        return {key: exact(inner) for key, inner in value.items()}
    return [exact(inner) for inner in value] if isinstance(value, list | tuple) else value


def natural(value: Any) -> int | None:
    """Return a number that an item holds (a count, epoch ms) as a whole one from 0 to 10**15, `None` for what is none:
    a person may have written anything there."""
    if isinstance(value, (str, bool)):
        return None
    try:
        return max(0, min(int(value), 10**15))
    except (TypeError, ValueError, ArithmeticError):
        return None
