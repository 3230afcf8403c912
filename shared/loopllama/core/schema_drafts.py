"""The drafts of JSON Schema as they are checked here: jsonschema's, with exact numbers, patterns that end, and an end
to the work that a small schema may ask for.

jsonschema hands every check of a keyword to a function. These count before they work: each application of a keyword,
what it goes through, and each error, which is kept until all branches of an `anyOf` have failed. So neither schemas
that branch in every `$ref` nor lists of a hundred thousand items take longer than `MOST_WORK` lets them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from functools import lru_cache
from typing import Any

from loopllama.core.schema_values import identity, parts
from loopllama.core.text_patterns import TextPattern
from loopllama.core.work import Work

MOST_WORK = 800_000
"""Units of `Work` for all that is checked at once: less than a second, and 80,000 keywords at values of an answer."""
MAX_PATTERNS = 50
"""Different patterns of a schema."""
_KEYWORD, _ERROR = 8, 20

Keyword = Callable[[Any, Any, Any, Any], Any]


class SchemaWork(Work):
    """What is left of the work of a check, and what it has made ready."""

    def __init__(self, what: str) -> None:
        super().__init__(MOST_WORK, what)
        self._patterns: dict[str, TextPattern] = {}
        self.each_schema = 2
        """Units for each schema that is looked through for what it evaluates."""

    def matches(self, pattern: str, text: str) -> bool:
        """Return whether a schema's pattern is in a text."""
        if pattern not in self._patterns:
            self._patterns[pattern] = TextPattern(pattern, self)
        return self._patterns[pattern].is_in(text, self)


_WORK: ContextVar[SchemaWork] = ContextVar("schema_work")


@contextmanager
def bounded(what: str) -> Iterator[SchemaWork]:
    """Give `MOST_WORK` to all checks inside together; within another `bounded`, what is left of that."""
    work = _WORK.get(None)
    if work is not None:
        yield work
        return
    token = _WORK.set(SchemaWork(what))
    try:
        yield _WORK.get()
    finally:
        _WORK.reset(token)


@lru_cache(maxsize=1)
def drafts() -> dict[str, Any]:
    """Return validator classes by `$schema`, with and without the empty fragment that older drafts write. What they
    check is checked inside of `bounded`."""
    from jsonschema import Draft4Validator, Draft6Validator, Draft7Validator, Draft201909Validator, Draft202012Validator

    classes = (Draft4Validator, Draft6Validator, Draft7Validator, Draft201909Validator, Draft202012Validator)
    names = ((cls.META_SCHEMA["$schema"].rstrip("#"), _bounded(cls)) for cls in classes)
    return {f"{name}{fragment}": cls for name, cls in names for fragment in ("", "#")}


@lru_cache(maxsize=8)
def checker_of_schemas(draft: str) -> Any:
    """Return the validator of schemas of a draft."""
    cls = drafts()[draft]
    return cls(_flat(cls.META_SCHEMA))


def _flat(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return a draft's metaschema as one schema: the newer drafts' consist of seven, joined by references that are
    resolved anew for each schema within a schema, which takes ten times as long."""
    if "allOf" not in meta:
        return dict(meta)
    from urllib.parse import urljoin

    from jsonschema_specifications import REGISTRY

    vocabularies = [REGISTRY.contents(urljoin(meta["$id"], part["$ref"])) for part in meta["allOf"]]
    one: dict[str, Any] = {"type": meta["type"], "properties": {}, "$defs": {}}
    for vocabulary in [*vocabularies, meta]:
        one["properties"].update(vocabulary.get("properties", {}))
        one["$defs"].update(vocabulary.get("$defs", {}))
    own: dict[str, Any] = _with_own_references(one)
    return own


def _with_own_references(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_own_references(inner) for inner in node]
    if not isinstance(node, Mapping):
        return node
    if node.get("$dynamicRef") == "#meta" or node.get("$recursiveRef") == "#":
        return {"$ref": "#"}
    if isinstance(reference := node.get("$ref"), str):
        return {"$ref": f"#{reference.partition('#')[2]}"}
    return {key: _with_own_references(inner) for key, inner in node.items()}


def _bounded(cls: Any) -> Any:
    from jsonschema import validators

    is_type = cls.TYPE_CHECKER.is_type  # draft 4 takes 1.0 for no integer

    def is_integer(_checker: Any, value: Any) -> bool:
        if isinstance(value, Decimal):
            return is_type(1.0, "integer") and value == value.to_integral_value()
        return bool(is_type(value, "integer"))

    def is_boolean(_checker: Any, value: Any) -> bool:
        # What looks for unevaluated items and properties asks this of each schema, and nothing else of most.
        work = _WORK.get()
        work.spend(work.each_schema, "unevaluated")
        return isinstance(value, bool)

    own: dict[str, Keyword] = {"multipleOf": _multiple_of, "pattern": _pattern, "uniqueItems": _unique_items}
    own |= {"patternProperties": _pattern_properties, "additionalProperties": _additional(cls)}
    keywords = {**cls.VALIDATORS, **{name: function for name, function in own.items() if name in cls.VALIDATORS}}
    return validators.extend(  # type: ignore[no-untyped-call]
        cls,
        {name: _counted(name, function) for name, function in keywords.items()},
        type_checker=cls.TYPE_CHECKER.redefine_many({"integer": is_integer, "boolean": is_boolean}),
    )


def _counted(name: str, function: Keyword) -> Keyword:
    def keyword(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        work = _WORK.get()
        work.spend(_cost(name, value, instance), name)
        before = work.each_schema
        if name.startswith("unevaluated"):
            work.each_schema = 2 + _square(instance)
        try:
            for error in function(validator, value, instance, schema) or ():
                work.spend(_ERROR, name)
                yield error
        finally:
            work.each_schema = before

    return keyword


_GO_THROUGH = frozenset(
    (
        *("items", "additionalItems", "contains", "additionalProperties", "patternProperties", "propertyNames"),
        *("unevaluatedItems", "unevaluatedProperties"),
    )
)


def _cost(name: str, value: Any, instance: Any) -> int:
    """Return the units of a keyword's own work, without that of the schemas and patterns within it."""
    units = _KEYWORD
    if name in ("const", "enum"):
        units += parts(value)
    elif name == "uniqueItems":
        units += 10 * parts(instance)
    elif name == "format" and isinstance(instance, str):
        units += len(instance) // 200
    elif name in _GO_THROUGH and isinstance(instance, list | dict):
        units += len(instance) * (1 if name in ("items", "contains") else 4)
        if name.startswith("unevaluated"):
            units += _square(instance)
    if isinstance(value, list | dict):
        units += len(value) // 10
    if name in ("$ref", "$dynamicRef", "$recursiveRef"):
        units += 25
    return units


def _square(instance: Any) -> int:
    """Return the units of looking for each item in a list of them."""
    return len(instance) ** 2 // 60 if isinstance(instance, list | dict) else 0


def _multiple_of(validator: Any, step: Any, value: Any, _schema: Any) -> Iterator[Any]:
    from fractions import Fraction

    from jsonschema import ValidationError

    if validator.is_type(value, "number") and (Fraction(value) / Fraction(step)).denominator != 1:
        yield ValidationError(f"{value!r} is not a multiple of {step!r}")


def _pattern(_validator: Any, pattern: Any, value: Any, _schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(value, str) and not _WORK.get().matches(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, value: Any, _schema: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for pattern, schema in patterns.items():
            for key, inner in value.items():
                if _WORK.get().matches(pattern, key):
                    yield from validator.descend(inner, schema, path=key, schema_path=pattern)


def _additional(cls: Any) -> Keyword:
    function: Keyword = cls.VALIDATORS["additionalProperties"]

    def additional(validator: Any, additional: Any, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            names, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
            matches = _WORK.get().matches
            others = [key for key in value if key not in names and not any(matches(one, key) for one in patterns)]
            # The library looks for patterns by Python's `re`, so it is shown what none has matched.
            yield from function(validator, additional, {key: value[key] for key in others}, {}) or ()

    return additional


def _unique_items(_validator: Any, unique: Any, value: Any, _schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if unique and isinstance(value, list) and len(set(map(identity, value))) != len(value):
        yield ValidationError(f"{value!r} has non-unique elements")
