"""Whether two values at a leaf of structured outputs agree, by what the schema says of the leaf. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

Schemas = Sequence[Mapping[str, Any]]
"""All schemas that a value has to follow: what `$ref`, `allOf` and branches lead to."""


def agree(schemas: Schemas, expected: Any, actual: Any, tolerance: Decimal) -> bool:
    """Return whether a leaf agrees with the recorded one.

    `null`, booleans, and values of an `enum` or `const` are equal or not. Integers are equal, other numbers differ by
    at most `tolerance` times the larger one. Dates (`format`) are the same moment, other strings equal after NFKC, case
    and whitespace are taken out. An integer is what the schema says is one, and without a type what both write as one.
    """
    if expected is None or isinstance(expected, bool):
        return expected is actual
    if is_number(expected) and is_number(actual):
        one, other = _exact(expected), _exact(actual)
        if one == other:
            return True
        if _says(schemas, "enum", "const") or _is_whole(schemas, expected, actual):
            return False
        try:
            return abs(one - other) <= tolerance * max(abs(one), abs(other))
        except ArithmeticError:  # beyond what decimals hold
            return False
    if not (isinstance(expected, str) and isinstance(actual, str)):
        return False
    if expected == actual or _says(schemas, "enum", "const"):
        return expected == actual
    if any(schema.get("format") in ("date", "date-time") for schema in schemas):
        moments = _moment(expected), _moment(actual)
        if moments != (None, None):
            return moments[0] == moments[1]
    return normalised(expected) == normalised(actual)


def normalised(text: str) -> str:
    """Return a text without what does not count: forms of characters (NFKC), case, and how words are spaced."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def is_number(value: object) -> bool:
    """Return whether it is a JSON number."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _exact(value: Any) -> Decimal:
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _says(schemas: Schemas, *keywords: str) -> bool:
    return any(keyword in schema for schema in schemas for keyword in keywords)


def _is_whole(schemas: Schemas, expected: Any, actual: Any) -> bool:
    types: list[Any] = []
    for schema in schemas:
        said = schema.get("type")
        types += said if isinstance(said, list) else [said]
    if "number" in types:
        return False
    return "integer" in types or (isinstance(expected, int) and isinstance(actual, int))


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.strip().upper())
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
