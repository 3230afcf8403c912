"""JSON Schema: which schemas are taken, and where a value does not follow one.

Used for an agent's `outputSchema` and for the parameters of tools. A schema stands alone: nothing is fetched, so a
`$ref` outside it is refused. jsonschema loads when a schema is first used.

Numbers are compared exactly, in the schema and in the value, as they are written: 19.99 is a multiple of 0.01, which it
is not as a binary float; 1, 1.0 and 1e0 are the same number, and integers (JSON Schema 2020-12 Core, section 4.2).

A check ends: its work is counted, that of patterns too (`work`, `text_patterns`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from loopllama.core import exact_json
from loopllama.core.schema_drafts import MAX_PATTERNS, bounded, checker_of_schemas, drafts
from loopllama.core.schema_values import LONGEST_SHOWN, exact
from loopllama.core.text_patterns import TextPattern
from loopllama.errors import InvalidRequest

MAX_BYTES = 64 * 1024
"""Longest schema taken, as JSON: it is sent with every call."""
MAX_DEPTH = 32
"""Deepest nesting of objects and lists taken in a schema."""

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_DATA = ("const", "enum", "default", "examples")
_NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def check(schema: Any) -> None:
    """Raise `InvalidRequest` for a schema that is too large, too deep, refers outside itself, has a pattern that cannot
    be run, asks for too much work or is no JSON Schema (the drafts that jsonschema knows; 2020-12 where `$schema` names
    none)."""
    _compiled(_text(schema))


def violations(schema: Mapping[str, Any], value: Any, limit: int = 5) -> list[str]:
    """Return where `value` does not follow `schema`: sentences like `$.items[2].price: 'abc' is not of type 'number'`.

    Its numbers are `int`, `Decimal`, or `float` for what its shortest form says. At most `limit` are listed, and then
    that there are more. Formats checked are date, date-time, email and uuid. Raises `InvalidRequest` as `check`, and
    where the value takes too much work.
    """
    validator = _compiled(_text(schema))
    from referencing.exceptions import Unresolvable

    try:
        with bounded("checking a value against the schema"):
            errors = list(islice(validator.iter_errors(exact(value)), limit + 1))
    except RecursionError:
        return ["$: is nested too deep to be checked"]
    except Unresolvable as error:
        raise InvalidRequest(f"the schema refers to what it does not hold: {error}") from error
    sentences = [_sentence(error) for error in errors[:limit]]
    if len(errors) > limit:
        sentences.append("and more")
    return sentences


def matches(pattern: str, text: str) -> bool:
    """Return whether a schema's pattern is in a text. Raises `InvalidRequest` where it cannot be run."""
    with bounded("looking for a pattern") as work:
        return work.matches(pattern, text)


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
        schema = exact(exact_json.loads(text))
    except ValueError as error:
        raise InvalidRequest(f"the schema is not JSON that can be taken: {error}") from error
    keywords = list(_walk(schema, ()))
    for _, key, value in keywords:
        if key in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
            raise InvalidRequest(f"{key} {value!r} is outside the schema; put what it names under $defs: '#/$defs/…'")
    draft = schema.get("$schema", jsonschema.Draft202012Validator.META_SCHEMA["$schema"])
    if not isinstance(draft, str) or draft not in drafts():
        raise InvalidRequest(f"$schema {draft!r} is unknown; leave it out for draft 2020-12")
    with bounded("checking the schema") as work:
        wrong = next(checker_of_schemas(draft).iter_errors(schema), None)
        if wrong is not None:
            raise InvalidRequest(f"no valid JSON Schema: {_sentence(wrong)}")
        for pattern, place in _patterns(keywords).items():
            try:
                TextPattern(pattern, work)
            except InvalidRequest as error:
                raise InvalidRequest(f"no valid JSON Schema: {'.'.join(('$', *_names(place)))}: {error}") from error
    resource = referencing.Resource.from_contents(schema, default_specification=referencing.jsonschema.DRAFT202012)
    # An empty registry fetches nothing; jsonschema's default one does. Anchors are looked for once, not at each use.
    registry = referencing.Registry[Any]().with_resource(resource.id() or "", resource).crawl()
    resolver = registry.resolver(resource.id() or "")
    for reference in {value for _, key, value in keywords if key == "$ref" and isinstance(value, str)}:
        try:
            resolver.lookup(reference)
        except referencing.exceptions.Unresolvable:
            raise InvalidRequest(f"$ref {reference!r} names nothing in the schema") from None
    return drafts()[draft](schema, registry=registry, _resolver=resolver, format_checker=_formats())


_Place = tuple[()] | tuple["_Place", str]
"""Where something is in a schema: the place that it is in, and its name there."""


def _names(place: _Place) -> list[str]:
    names: list[str] = []
    while place:
        place, name = place
        names.append(name[:60])
    return names[::-1]


def _patterns(keywords: list[tuple[_Place, str, Any]]) -> dict[str, _Place]:
    """Return the different patterns of a schema, each with a place. Raises `InvalidRequest` where they cannot be
    bounded."""
    if {"patternProperties", "unevaluatedProperties"} <= {key for _, key, _ in keywords}:
        raise InvalidRequest("patternProperties and unevaluatedProperties in one schema are not taken together")
    patterns: dict[str, _Place] = {}
    for place, key, value in keywords:
        if key in ("pattern", "patternProperties"):
            patterns.update(dict.fromkeys([value] if key == "pattern" else value, place))
    if len(patterns) > MAX_PATTERNS:
        raise InvalidRequest(f"the schema has {len(patterns):,} different patterns; at most {MAX_PATTERNS} are taken")
    return patterns


def _walk(node: Any, place: _Place, depth: int = 1) -> Iterator[tuple[_Place, str, Any]]:
    """Yield every keyword of the schema, its place and its value, but for those that are plain data."""
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"the schema is nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _DATA:
                continue
            here = (place, key)
            yield here, key, value
            if key in _NAMES and isinstance(value, dict):
                for name, schema in value.items():  # by names of people's own, which may be any
                    yield from _walk(schema, (here, name), depth + 2)
            else:
                yield from _walk(value, here, depth + 1)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _walk(value, (place, str(index)), depth + 1)


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
    text = f"{error.json_path[:LONGEST_SHOWN]}: {_message(error)}"
    if error.context:
        # Of the branches of an anyOf or oneOf, the one that failed deepest was most likely meant.
        nearest = max(error.context, key=lambda inner: len(inner.path))
        text += f" (nearest: {nearest.json_path[:LONGEST_SHOWN]}: {_message(nearest)})"
    return text


def _message(error: Any) -> str:
    message: str = error.message
    if len(message) > LONGEST_SHOWN:
        # jsonschema opens with the value itself; the sentence after it is what helps.
        message = message.replace(repr(error.instance), "the value")
    return message if len(message) <= LONGEST_SHOWN else message[:LONGEST_SHOWN] + "…"
