"""JSON Schema: which schemas are taken, and where a value does not follow one.

Used for an agent's `outputSchema` and for the parameters of tools. A schema stands alone: nothing is fetched, so a
`$ref` outside it is refused. jsonschema loads when a schema is first used.

Numbers are compared exactly, in the schema and in the value, as they are written: 19.99 is a multiple of 0.01, which it
is not as a binary float; 1, 1.0 and 1e0 are the same number, and integers (JSON Schema 2020-12 Core, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any

from loopllama.core import exact_json
from loopllama.errors import InvalidRequest

MAX_BYTES = 64 * 1024
"""Longest schema taken, as JSON: it is sent with every call."""
MAX_DEPTH = 32
"""Deepest nesting of objects and lists taken in a schema."""

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DATA = ("const", "enum", "default", "examples")
_NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LONGEST_MESSAGE = 300


def check(schema: Any) -> None:
    """Raise `InvalidRequest` for a schema that is too large, too deep, refers outside itself or is no JSON Schema
    (the drafts that jsonschema knows; 2020-12 where `$schema` names none)."""
    _compiled(_text(schema))


def violations(schema: Mapping[str, Any], value: Any, limit: int = 5) -> list[str]:
    """Return where `value` does not follow `schema`: sentences like `$.items[2].price: 'abc' is not of type 'number'`.

    Its numbers are `int`, `Decimal`, or `float` for what its shortest form says. At most `limit` are listed, and then
    that there are more. Formats checked are date, date-time, email and uuid. Raises `InvalidRequest` as `check`.
    """
    validator = _compiled(_text(schema))
    from referencing.exceptions import Unresolvable

    try:
        errors = list(islice(validator.iter_errors(_exact(value)), limit + 1))
    except RecursionError:
        return ["$: is nested too deep to be checked"]
    except Unresolvable as error:
        raise InvalidRequest(f"the schema refers to what it does not hold: {error}") from error
    sentences = [_sentence(error) for error in errors[:limit]]
    if len(errors) > limit:
        sentences.append("and more")
    return sentences


def _text(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        raise InvalidRequest(f"a JSON Schema is an object, not {type(schema).__name__}")
    try:
        return exact_json.dumps(schema)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"the schema cannot be written as JSON: {error}") from error
    except RecursionError:
        raise InvalidRequest(f"the schema is nested deeper than {MAX_DEPTH} levels") from None


@lru_cache(maxsize=64)
def _compiled(text: str) -> Any:
    import jsonschema
    import referencing.jsonschema

    if len(text) > MAX_BYTES:
        raise InvalidRequest(f"the schema has {len(text):,} bytes; at most {MAX_BYTES:,} are taken")
    try:
        schema = _exact(exact_json.loads(text))
    except ValueError as error:
        raise InvalidRequest(f"the schema is not JSON that can be taken: {error}") from error
    for key, value in _walk(schema, 1):
        if key in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
            raise InvalidRequest(f"{key} {value!r} is outside the schema; put what it names under $defs: '#/$defs/…'")
    draft = schema.get("$schema", jsonschema.Draft202012Validator.META_SCHEMA["$schema"])
    if not isinstance(draft, str) or draft not in _drafts():
        raise InvalidRequest(f"$schema {draft!r} is unknown; leave it out for draft 2020-12")
    cls = _drafts()[draft]
    # As check_schema does, but for its class, which would not know our numbers.
    wrong = next(cls(cls.META_SCHEMA, format_checker=cls.FORMAT_CHECKER).iter_errors(schema), None)
    if wrong is not None:
        raise InvalidRequest(f"no valid JSON Schema: {_sentence(wrong)}")
    registry: referencing.Registry[Any] = referencing.Registry()
    resource = referencing.Resource.from_contents(schema, default_specification=referencing.jsonschema.DRAFT202012)
    resolver = registry.resolver_with_root(resource)
    for key, value in _walk(schema, 1):
        if key == "$ref" and isinstance(value, str):
            try:
                resolver.lookup(value)
            except referencing.exceptions.Unresolvable:
                raise InvalidRequest(f"$ref {value!r} names nothing in the schema") from None
    # An empty registry fetches nothing; jsonschema's default one does.
    return cls(schema, registry=registry, format_checker=_formats())


def _walk(node: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield every key and value of the schema, but for those that are plain data."""
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"the schema is nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _NAMES and isinstance(value, dict):
                for schema in value.values():  # by names of people's own, which may be any
                    yield from _walk(schema, depth + 2)
            elif key not in _DATA:
                yield key, value
                yield from _walk(value, depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value, depth + 1)


@lru_cache(maxsize=1)
def _drafts() -> dict[str, Any]:
    """Return validator classes by `$schema`, with and without the empty fragment that older drafts write."""
    from jsonschema import Draft4Validator, Draft6Validator, Draft7Validator, Draft201909Validator, Draft202012Validator

    classes = (Draft4Validator, Draft6Validator, Draft7Validator, Draft201909Validator, Draft202012Validator)
    names = ((cls.META_SCHEMA["$schema"].rstrip("#"), _with_exact_numbers(cls)) for cls in classes)
    return {f"{name}{fragment}": cls for name, cls in names for fragment in ("", "#")}


def _with_exact_numbers(cls: Any) -> Any:
    from jsonschema import validators

    is_type = cls.TYPE_CHECKER.is_type  # draft 4 takes 1.0 for no integer

    def is_integer(_checker: Any, value: Any) -> bool:
        if isinstance(value, Decimal):
            return is_type(1.0, "integer") and value == value.to_integral_value()
        return bool(is_type(value, "integer"))

    return validators.extend(  # type: ignore[no-untyped-call]
        cls,
        {"multipleOf": _multiple_of},
        type_checker=cls.TYPE_CHECKER.redefine("integer", is_integer),
    )


def _multiple_of(validator: Any, step: Any, value: Any, _schema: Any) -> Iterator[Any]:
    from fractions import Fraction

    from jsonschema import ValidationError

    if validator.is_type(value, "number") and (Fraction(value) / Fraction(step)).denominator != 1:
        yield ValidationError(f"{value!r} is not a multiple of {step!r}")


class _Number(Decimal):
    """A number that messages show as JSON."""

    def __repr__(self) -> str:
        return exact_json.number(self)


def _exact(value: Any) -> Any:
    if isinstance(value, float | Decimal):
        return _Number(repr(value) if isinstance(value, float) else value)
    if isinstance(value, Mapping):
        return {key: _exact(inner) for key, inner in value.items()}
    return [_exact(inner) for inner in value] if isinstance(value, list | tuple) else value


@lru_cache(maxsize=1)
def _formats() -> Any:
    """Only formats that need no optional package, so that every installation checks the same."""
    from datetime import datetime

    from jsonschema import FormatChecker

    checker = FormatChecker(formats=("date", "email", "uuid"))

    @checker.checks("date-time", raises=ValueError)
    def _is_date_time(value: object) -> bool:
        # RFC 3339, section 5.6: date, "T", time and an offset.
        return not isinstance(value, str) or (
            value[10:11] in ("T", "t") and datetime.fromisoformat(value.upper()).tzinfo is not None
        )

    return checker


def _sentence(error: Any) -> str:
    text = f"{error.json_path}: {_message(error)}"
    if error.context:
        # Of the branches of an anyOf or oneOf, the one that failed deepest was most likely meant.
        nearest = max(error.context, key=lambda inner: len(inner.path))
        text += f" (nearest: {nearest.json_path}: {_message(nearest)})"
    return text


def _message(error: Any) -> str:
    message: str = error.message
    if len(message) > _LONGEST_MESSAGE:
        # jsonschema opens with the value itself; the sentence after it is what helps.
        message = message.replace(repr(error.instance), "the value")
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"
