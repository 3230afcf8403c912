"""JSON text in which numbers stay exact: `Decimal` out and in, never through a binary float."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from decimal import Decimal
from typing import Any

_LONGEST_PLAIN = 400
"""Numbers with more digits than this are written with an exponent, so that 1E+1000000 stays short. DynamoDB's end at
1E+125."""


HALF = "half a surrogate pair (\\ud800 to \\udfff), which is no character"
"""What JSON can write, Python can hold, and neither DynamoDB nor a provider takes."""


def dumps(value: Any, indent: int | None = None, *, ascii_only: bool = True, spaced: bool = False) -> str:
    """The JSON text of plain values: compact, or indented by `indent` spaces a level, or `spaced`, with a space after
    each comma and colon, as people write it. ASCII with escapes for records and wires; for a model `ascii_only=False`,
    as escapes cost it several tokens a character.

    `Decimal` becomes an integer where it is one and otherwise a number literal equal to it, a set becomes a sorted
    list, a tuple a list. Raises `ValueError` for NaN and infinities, which JSON lacks, and `TypeError` for anything
    else that is no JSON.
    """
    separators = (", " if spaced else ",", ": " if indent or spaced else ":")
    try:
        if indent is None and ascii_only and not spaced:
            return _compact(value)
        # The C encoder does it all where no Decimal and no set is inside.
        return json.dumps(value, indent=indent, separators=separators, allow_nan=False, ensure_ascii=ascii_only)
    except TypeError:
        return "".join(_chunks(value, indent, "\n" if indent else "", ascii_only, separators))


_compact = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode  # made once: making it takes as long again


def loads(text: str | bytes) -> Any:
    """The value of a JSON text; numbers become `int` or `Decimal`. Raises `ValueError` for what is no JSON."""
    return json.loads(text, parse_float=Decimal, parse_constant=_refuse)


def kept(value: Any) -> str:
    """The JSON text of a value that is to be kept. Raises `ValueError`, for `HALF` of a character too."""
    text = dumps(value)
    if "\\ud" in text:
        try:
            dumps(value, ascii_only=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"it has {HALF}") from None
    return text


def storable(value: Decimal) -> bool:
    """Whether DynamoDB keeps the number as it is: at most 38 digits, and of a usual size.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""
    return value.is_finite() and len(value.as_tuple().digits) <= 38 and -100 <= value.adjusted() <= 100


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _chunks(
    value: Any, indent: int | None, newline: str, ascii_only: bool, separators: tuple[str, str]
) -> Iterator[str]:
    if isinstance(value, Decimal):
        yield number(value)
        return
    if isinstance(value, Mapping):
        opening, closing = "{", "}"
        keys = (f"{json.dumps(_key(key), ensure_ascii=ascii_only)}{separators[1]}" for key in value)
        parts = list(zip(keys, value.values(), strict=True))
    elif isinstance(value, Set):
        opening, closing = "[", "]"
        parts = [("", item) for item in sorted(value)]
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        opening, closing = "[", "]"
        parts = [("", item) for item in value]
    else:
        yield json.dumps(value, allow_nan=False, ensure_ascii=ascii_only)
        return
    inner = newline + " " * (indent or 0)
    yield opening
    for position, (prefix, item) in enumerate(parts):
        yield (separators[0] if position else "") + inner + prefix
        yield from _chunks(item, indent, inner, ascii_only, separators)
    yield (newline if parts else "") + closing


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool | int):
        return json.dumps(key)
    raise TypeError(f"keys of JSON objects are strings, not {type(key).__name__}")


def number(value: Decimal) -> str:
    """The JSON number literal equal to a Decimal, without trailing zeros."""
    if not value.is_finite():
        raise ValueError(f"{value} is no JSON number")
    _, digits, exponent = value.as_tuple()
    if abs(int(exponent)) + len(digits) > _LONGEST_PLAIN:
        return str(value)
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
