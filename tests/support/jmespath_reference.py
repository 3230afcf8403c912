"""JMESPath's functions as its specification says them, over exact numbers: what `exact_jmespath` is compared with.

Numbers are `Fraction`s where something is computed. A function that does not take its arguments raises `Refused`. An
argument of the kind `&field` is a `Callable`. https://jmespath.org/specification.html#built-in-functions
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from loopllama.core import exact_json

_KINDS = {int: "number", Decimal: "number", str: "string", list: "array", dict: "object", type(None): "null"}


class Refused(Exception):
    """The specification's errors `invalid-type` and `invalid-arity`."""


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "expref" if callable(value) else _KINDS[type(value)]


def canonical(value: Any) -> Any:
    """Equal exactly where two values are the same JSON."""
    if isinstance(value, Fraction):
        return ("number", value)
    match kind(value):
        case "number":
            return ("number", Fraction(value))
        case "array":
            return ("array", tuple(map(canonical, value)))
        case "object":
            return ("object", frozenset((key, canonical(inner)) for key, inner in value.items()))
        case other:
            return (other, value)


def only(*kinds: str) -> Callable[[Any], Any]:
    """A check that a value is of one of these kinds; returns it."""

    def check(value: Any) -> Any:
        inner = {kind(one) for one in value} if isinstance(value, list) else set()
        if kind(value) in kinds or (inner <= {"number"} and f"{kind(value)}-number" in kinds):
            return value
        if inner <= {"string"} and f"{kind(value)}-string" in kinds:
            return value
        raise Refused

    return check


any_value = only("number", "string", "boolean", "array", "object", "null")
string, array, reference = only("string"), only("array"), only("expref")
sortable = only("array-number", "array-string")
numbers = only("array-number")


def _number(value: Any) -> Fraction:
    return Fraction(only("number")(value))


def _to_number(value: Any) -> Any:
    if kind(any_value(value)) == "number":
        return value
    try:
        # White space around a JSON text is no part of it (RFC 8259, section 2).
        read = exact_json.loads(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return read if kind(read) == "number" else None


def _contains(subject: Any, search: Any) -> bool:
    any_value(search)
    if isinstance(only("array", "string")(subject), str):
        return isinstance(search, str) and search in subject
    return canonical(search) in map(canonical, subject)


def _first(*values: Any) -> Any:
    if not values:
        raise Refused
    return next((value for value in [any_value(value) for value in values] if value is not None), None)


def _merged(*objects: Any) -> dict[str, Any]:
    if not objects:
        raise Refused
    return {key: value for one in map(only("object"), objects) for key, value in one.items()}


def _by(items: Any, field: Any) -> list[Any]:
    """The items in the order of what `&field` says of them."""
    array(items), reference(field)
    sortable([field(item) for item in items])
    return sorted(items, key=field)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": lambda a: abs(_number(a)),
    "avg": lambda a: sum(map(Fraction, a)) / len(a) if numbers(a) else None,
    "ceil": lambda a: math.ceil(_number(a)),
    "contains": _contains,
    "ends_with": lambda a, b: string(a).endswith(string(b)),
    "floor": lambda a: math.floor(_number(a)),
    "join": lambda a, b: string(a).join(only("array-string")(b)),
    "keys": lambda a: list(only("object")(a)),
    "length": lambda a: len(only("array", "string", "object")(a)),
    "map": lambda a, b: list(map(reference(a), array(b))),
    "max": lambda a: max(sortable(a), default=None),
    "max_by": lambda a, b: max(_by(a, b), key=b, default=None),
    "merge": _merged,
    "min": lambda a: min(sortable(a), default=None),
    "min_by": lambda a, b: min(_by(a, b), key=b, default=None),
    "not_null": _first,
    "reverse": lambda a: only("array", "string")(a)[::-1],
    "sort": lambda a: sorted(sortable(a)),
    "sort_by": _by,
    "starts_with": lambda a, b: string(a).startswith(string(b)),
    "sum": lambda a: sum(map(Fraction, numbers(a))),
    "to_array": lambda a: a if isinstance(any_value(a), list) else [a],
    "to_number": _to_number,
    "to_string": lambda a: a if isinstance(any_value(a), str) else exact_json.dumps(a, ascii_only=False),
    "type": lambda a: kind(any_value(a)),
    "values": lambda a: list(only("object")(a).values()),
}


def called(name: str, arguments: Sequence[Any]) -> Any:
    """What a function of the language gives. Raises `Refused`, also for a wrong number of arguments."""
    function = FUNCTIONS[name]
    most = function.__code__.co_argcount
    variadic = bool(function.__code__.co_flags & 4)
    if not variadic and len(arguments) != most:
        raise Refused
    return function(*arguments)
