"""JSON text in which numbers stay exact: `Decimal` out and in, never through a binary float.

What others hand in is read by `loads`, or checked by `check` where somebody has read it before. Both take the same:

- numbers of at most `MOST_DIGITS` digits that are 0 or of a size that a double holds (5e-324 to 1.79e308). That is what
  every reader of JSON takes (RFC 8259, section 6), and what keeps arithmetic short: `1e300000000` is eleven characters,
  and as an `int` more than a function's memory. Digits beyond a double's 17 are kept;
- at most `MAX_LEVELS` levels of objects and lists, because what reads values further goes down by recursion.

`loads` also refuses an object with a key twice, of which readers of JSON take the first, the last or none (RFC 8259,
section 4): nobody can say which was meant. What a model or a tool has written is read with `last_wins`: there is nobody
to ask.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from decimal import Decimal
from typing import Any

from loopllama.core.patterns import late

MOST_DIGITS = 1_000
"""Of a number, leading zeros left out. The longest exact form of a double has 767."""
MAX_LEVELS = 200
"""Of objects and lists within each other; Python's recursion ends at 1,000 calls."""

_LONGEST_PLAIN = 400
"""Numbers with more digits than this are written with an exponent, so that 1E+1000000 stays short. DynamoDB's end at
1E+125."""


HALF = "half a surrogate pair (\\ud800 to \\udfff), which is no character"
"""What JSON can write, Python can hold, and neither DynamoDB nor a provider takes."""


def dumps(value: Any, indent: int | None = None, *, ascii_only: bool = True, spaced: bool = False) -> str:
    """Return the JSON text of plain values: compact, or indented by `indent` spaces a level, or `spaced`, with a space
    after each comma and colon, as people write it. ASCII with escapes for records and wires; for a model
    `ascii_only=False`, as escapes cost it several tokens a character.

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


class NotTaken(ValueError):
    """A value that is JSON, or what many write for it, and is not taken. `path` leads to it; `message` says what is
    wrong and what would be right, without the place."""

    def __init__(self, path: Sequence[str | int], message: str) -> None:
        super().__init__(f"{_place(path)} {message}")
        self.path = tuple(path)
        self.message = message

    @property
    def field(self) -> str:
        """The path as `details` of errors name fields: `input.items.0.price`; empty for the whole value."""
        return ".".join(str(part)[:60] for part in self.path[:10])


CONSTANTS = ("NaN", "Infinity", "-Infinity")
"""What many write for a number, and JSON lacks."""


class Literal:
    """A number of a JSON text that is not taken, as it was written: `1e400`, `NaN`. `dumps` writes it so again."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def loads(text: str | bytes, *, by_model: bool = False, last_wins: bool = False) -> Any:
    """Return the value of a JSON text; numbers become `int` or `Decimal`. Of a key that an object has twice the last
    counts where it is said that `last_wins`.

    In what models write (`by_model`) the last of two counts as well, and texts may hold line ends and tabs as they are:
    that is no JSON, says nothing else, and is what many write into long texts (github.com/rhesis-ai/rhesis, pull
    request 2488).

    Raises `NotTaken`, a `ValueError`, naming the place of what is not taken (see above), and any other `ValueError` for
    what is no JSON.
    """
    value, literals, deep = _read(text, by_model or last_wins, strict=not by_model)
    if literals or deep:
        check(value, numbers=bool(literals))
    return value


def loads_around(text: str | bytes) -> Any:
    """Return the value of a JSON text of which we need only some fields: as `loads`, but a number that is not taken
    becomes a `Literal`, so that it spoils nothing beside it. Raises `ValueError` for what is no JSON or too deep."""
    value, _, deep = _read(text)
    if deep:
        check(value, numbers=False)
    return value


def loads_kept(text: str | bytes) -> Any:
    """Return the value of a JSON text that was written by `dumps`. It is not checked again: a record may be older than
    the rule."""
    return json.loads(text, parse_float=Decimal, parse_constant=_refuse)


def check(value: Any, *, numbers: bool = True) -> None:
    """Raise `NotTaken` where a JSON value that somebody else has read holds what `loads` would not take; without
    `numbers`, only where it is too deep."""
    level: list[tuple[Any, Any]] = [(value, None)]
    for depth in range(MAX_LEVELS + 1):
        inner: list[tuple[Any, Any]] = []
        for node, way in level:
            if isinstance(node, Mapping | list | tuple):
                if depth == MAX_LEVELS:
                    # Of what is in an object its field: the whole way would be longer than anybody reads.
                    raise NotTaken([key for key in _path(way)[:1] if isinstance(key, str)], _TOO_DEEP)
                pairs = node.items() if isinstance(node, Mapping) else enumerate(node)
                inner += [(item, (way, key)) for key, item in pairs]
            elif numbers and not isinstance(node, str | bool) and node is not None and not _is_taken(node):
                raise NotTaken(_path(way), why_not(node))
        level = inner


def number_of(text: str) -> int | Decimal:
    """Return the number that a literal stands for, exactly. Raises `NotTaken` for one that is not taken and
    `ValueError` for what is no number."""
    form = _NUMERAL.fullmatch(text)
    if form is None:
        raise ValueError(f"{text[:40]!r} is no number")
    digits, exponent = form.groups()
    if not digits.strip("0."):
        # 0e99999999999999999999 is zero, and more than Decimal holds as it stands.
        return 0 if exponent is None and "." not in digits else Decimal(0)
    value: int | Decimal | None = None
    if len(digits.lstrip("0.")) <= MOST_DIGITS + 1:  # with a point
        with contextlib.suppress(ArithmeticError):  # an exponent of more than 18 digits
            value = int(text) if exponent is None and "." not in digits else Decimal(text)
    if value is None or not _is_taken(value):
        raise NotTaken((), why_not(text))
    return value


def kept(value: Any) -> str:
    """Return the JSON text of a value that is to be kept. Raises `ValueError`, for `HALF` of a character too."""
    text = dumps(value)
    if "\\ud" in text:
        try:
            dumps(value, ascii_only=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"it has {HALF}") from None
    return text


STORABLE = "at most 38 digits, and be 0 or from 1E-100 to 1E+100 in size"
"""What numbers in tables must have."""


def storable(value: Decimal) -> bool:
    """Return whether DynamoDB keeps the number as it is: `STORABLE`, somewhat less than what it has room for.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html"""
    return value.is_finite() and len(value.as_tuple().digits) <= 38 and -100 <= value.adjusted() <= 100


_TOO_DEEP = f"is nested too deeply: at most {MAX_LEVELS} levels of objects and lists are taken"
_NUMERAL = late(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_NAME = late(r"[A-Za-z_][A-Za-z0-9_]*")
_SHORT = 300
"""A literal that is not longer, and has no exponent, is always taken."""


def _read(text: str | bytes, last_wins: bool = True, *, strict: bool = True) -> tuple[Any, list[Literal], bool]:
    """Return the value of a JSON text, the numbers in it that are not taken, and whether it may be too deep. Raises
    `NotTaken` for a key that an object has twice, unless the last one wins."""
    literals: list[Literal] = []
    doubled: list[tuple[dict[str, Any], str]] = []

    def literal(text: str) -> Literal:
        literals.append(Literal(text))
        return literals[-1]

    def integer(text: str) -> Any:
        return int(text) if len(text) <= _SHORT else other(text)

    def decimal(text: str) -> Any:
        return other(text) if len(text) > _SHORT or "e" in text or "E" in text else Decimal(text)

    def other(text: str) -> Any:
        try:
            return number_of(text)
        except NotTaken:
            return literal(text)

    def with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            doubled.append((found, next(key for key, count in counts.items() if count > 1)))
        return found

    brackets = text.count("{") + text.count("[") if isinstance(text, str) else text.count(b"{") + text.count(b"[")
    try:
        hook = None if last_wins else with_unique_keys
        value = json.loads(
            text,
            parse_float=decimal,
            parse_int=integer,
            parse_constant=literal,
            object_pairs_hook=hook,
            strict=strict,
        )
    except RecursionError:
        raise NotTaken((), _TOO_DEEP) from None
    if doubled:
        # The one that was read last is in the value; others may be what a key that is there twice has replaced.
        whole, key = doubled[-1]
        raise NotTaken([*_way_to(value, whole), key], "is there twice; keep one")
    return value, literals, brackets > MAX_LEVELS  # most texts have not even so many


def _is_taken(value: Any) -> bool:
    if isinstance(value, Decimal) and (not value.is_finite() or len(value.as_tuple().digits) > MOST_DIGITS):
        return False
    if not isinstance(value, int | float | Decimal):
        return not isinstance(value, Literal)  # what is no JSON at all is told by who writes it
    try:
        size = abs(float(value))
    except OverflowError:
        return False
    return math.isfinite(size) and (size > 0 or value == 0)


def why_not(value: Any) -> str:
    """Return why a number is not taken, beginning with `is`."""
    text = f"{value.bit_length():,} bits" if isinstance(value, int) else str(value)  # str() ends at 4,300 digits
    if text.lstrip("+-").lower() in ("nan", "inf", "infinity"):
        return f"is {text}, which is no JSON number: take a number, null or a text"
    shown = text if len(text) <= 40 else f"{text[:30]}…, {len(text):,} characters"
    return (
        f"is out of range ({shown}): take 0, a number from 5e-324 to 1.79e308 in size with at most {MOST_DIGITS:,} "
        "digits, or a text"
    )


def _path(way: Any) -> list[str | int]:
    """Return the keys that lead to a value, from a chain of `(before, key)`."""
    path: list[str | int] = []
    while way is not None:
        way, key = way
        path.append(key)
    return path[::-1]


def _way_to(value: Any, whole: Any) -> list[str | int]:
    """Return the path that leads to an object or list inside a value."""
    level: list[tuple[Any, Any]] = [(value, None)]
    while level:
        inner: list[tuple[Any, Any]] = []
        for node, way in level:
            if node is whole:
                return _path(way)
            pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
            inner += [(item, (way, key)) for key, item in pairs]
        level = inner
    return []


def _place(path: Sequence[str | int]) -> str:
    """Return a path as JSONPath writes it (RFC 9535): `$.items[2].price`."""
    text = "$"
    for part in path:
        name = str(part)[:60]
        text += f"[{part}]" if isinstance(part, int) else f".{name}" if _NAME.fullmatch(name) else f"[{name!r}]"
    return text if len(text) <= 200 else f"{text[:200]}…"


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _chunks(
    value: Any, indent: int | None, newline: str, ascii_only: bool, separators: tuple[str, str]
) -> Iterator[str]:
    if isinstance(value, Decimal):
        yield number(value)
        return
    if isinstance(value, Literal):
        yield value.text
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
    """Return the JSON number literal equal to a Decimal, without trailing zeros."""
    if not value.is_finite():
        raise ValueError(f"{value} is no JSON number")
    _, digits, exponent = value.as_tuple()
    if abs(int(exponent)) + len(digits) > _LONGEST_PLAIN:
        return str(value)
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
