"""What is known of a value before a run: the types that the crew's `outputSchema`s promise.

A name that leads nowhere whatever a run's values are is a mistake, and `Nothing` says so. Where a schema leaves a way
open (`anyOf`, `$ref`, no `type`), anything may be there: only what `type`, `properties` and `items` say plainly counts.
A value may always be null as well, because a step may be skipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loopllama.core import exact_json
from loopllama.core.names import closest


class Nothing(ValueError):
    """A name leads nowhere. The message is a sentence that says why, and what there is."""


class Type:
    """Of a value that may be anything."""

    later = False
    """Whether the value is null in a loop's first round, because its step comes later in the loop."""

    def field(self, name: str) -> Type:  # noqa: ARG002
        """Return the type of a field. Raises `Nothing`, as the others do."""
        return ANYTHING

    def element(self) -> Type:
        """Return the type of a list's items."""
        return ANYTHING

    def values(self) -> Type:
        """Return the type of the values of an object's fields."""
        return ANYTHING

    def flat(self) -> Type:
        """Return the type of what it leaves in the place of itself, as a list's item, when the list is flattened."""
        return ANYTHING

    def part(self, segment: str) -> Type:
        """Return the type of what a template's path leads to, in which a number may be a list's index."""
        return self.field(segment)

    def never(self, value: object) -> str:  # noqa: ARG002
        """Return why the value of an expression is never equal to this one; empty where it may be."""
        return ""


ANYTHING = Type()


class Named(Type):
    """An object of the language's own, such as `steps`: `named` is what it is called."""

    named = ""

    def element(self) -> Type:
        raise Nothing(f"{self.named} is an object, which has no items")


@dataclass(frozen=True)
class Text(Type):
    """The output of a step without a schema."""

    step: str
    later: bool = False

    def field(self, name: str) -> Type:  # noqa: ARG002
        raise self._nothing("fields", f"write steps.{self.step}.output, or ")

    def element(self) -> Type:
        raise self._nothing("items")

    def values(self) -> Type:
        raise self._nothing("fields")

    def flat(self) -> Type:
        return self

    def never(self, value: object) -> str:
        if value is None or isinstance(value, str):
            return ""
        return f"{self.step} has no outputSchema, so its output is a text, and never {_shown(value)}"

    def _nothing(self, missing: str, hint: str = "") -> Nothing:
        text = f"{self.step} has no outputSchema, so its output is a text without {missing}"
        return Nothing(f"{text}; {hint}give {self.step} an outputSchema")


@dataclass(frozen=True)
class Described(Type):
    """A value that the `outputSchema` of `step` describes; `place` leads to it there, as in `.lines[].price`."""

    step: str
    schema: Mapping[str, Any]
    place: str = ""
    later: bool = False

    def field(self, name: str) -> Type:
        self._expect("object", f"'{name[:60]}'")
        properties = self.schema.get("properties")
        if not isinstance(properties, Mapping) or self._is_open():
            return ANYTHING
        if name in properties:
            return self._inside(properties[name], f"{self.place}.{name}")
        if any(self.schema.get(key, False) is not False for key in _FURTHER) or name in self._required():
            return ANYTHING
        where = f" in {self.place.lstrip('.')}" if self.place else ""
        raise Nothing(f"the outputSchema of {self.step} has no '{name[:60]}'{where}{closest(name, properties)}")

    def element(self) -> Type:
        self._expect("array", "items")
        items = self.schema.get("items")
        return ANYTHING if self._is_open() or "prefixItems" in self.schema else self._inside(items, f"{self.place}[]")

    def values(self) -> Type:
        self._expect("object", "fields")
        return ANYTHING

    def flat(self) -> Type:
        types = self._types()
        if types is None or types > {"array"}:
            return ANYTHING
        return self.element() if "array" in types else self

    def never(self, value: object) -> str:
        name = f"by the outputSchema steps.{self.step}.output{self.place}"
        if value is None or self._is_open():
            return ""
        values = self.schema.get("enum", [self.schema["const"]] if "const" in self.schema else None)
        if isinstance(values, list):
            if any(_same(value, one) for one in values):
                return ""
            return f"{name} is never {_shown(value)}{closest(str(value), [_shown(one, bare=True) for one in values])}"
        types = self._types()
        if types is None or types & _TYPES_OF.get(type(value), {"number", "integer"}):
            return ""
        return f"{name} is {' or '.join(_WORDS.get(kind, kind) for kind in sorted(types))}, and never {_shown(value)}"

    def part(self, segment: str) -> Type:
        types = self._types()
        if not (segment.isascii() and segment.isdigit()) or (types is not None and "array" not in types):
            return self.field(segment)
        return ANYTHING if types is None or "object" in types else self.element()

    def _inside(self, schema: Any, place: str) -> Type:
        return Described(self.step, schema, place, self.later) if isinstance(schema, Mapping) else ANYTHING

    def _is_open(self) -> bool:
        return not self.schema.keys().isdisjoint(_ELSEWHERE)

    def _required(self) -> Sequence[Any]:
        """Fields that there must be, described or not."""
        required = self.schema.get("required")
        return required if isinstance(required, list) else ()

    def _types(self) -> set[str] | None:
        """Return the types that the value may have, null apart; `None` where it may be any."""
        declared = self.schema.get("type")
        if self._is_open() or not isinstance(declared, str | list):
            return None
        return {declared} if isinstance(declared, str) else {str(type_) for type_ in declared} - {"null"}

    def _expect(self, kind: str, missing: str) -> None:
        types = self._types()
        if types is None or kind in types:
            return
        is_ = " or ".join(dict.fromkeys(_WORDS.get(type_, type_) for type_ in sorted(types)))
        hint = f"; {_ITEMS}" if "array" in types else ""
        name = f"steps.{self.step}.output{self.place}"
        raise Nothing(f"by the outputSchema {name} is {is_}, which has no {missing}{hint}")


@dataclass(frozen=True)
class Listed(Type):
    """A list of `inner`: what a step with `forEach` gives, or a projection."""

    name: str
    inner: Type
    later: bool = False

    def field(self, name: str) -> Type:
        raise Nothing(f"{self.name} is a list, which has no '{name[:60]}'; {_ITEMS}")

    def element(self) -> Type:
        return self.inner

    def values(self) -> Type:
        raise Nothing(f"{self.name} is a list, which has no fields; {_ITEMS}")

    def flat(self) -> Type:
        return self.inner

    def part(self, segment: str) -> Type:
        return self.inner if segment.isascii() and segment.isdigit() else self.field(segment)


_ELSEWHERE = (
    *("$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "if"),
    *("dependentSchemas", "dependencies", "patternProperties"),
)
"""Keywords that can say in another place what there is."""
_FURTHER = ("additionalProperties", "unevaluatedProperties")
_WORDS = {
    "string": "a text",
    "number": "a number",
    "integer": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
_TYPES_OF: Mapping[type, set[str]] = {bool: {"boolean"}, str: {"string"}, list: {"array"}, dict: {"object"}}
_ITEMS = "a list's items are .0 in a template, and [0], [*] or [?…] in an expression"


def _same(one: object, other: object) -> bool:
    """Return whether two values are the same JSON: true is not 1."""
    return one == other and isinstance(one, bool) is isinstance(other, bool)


def _shown(value: object, *, bare: bool = False) -> str:
    """Return a value as an expression writes it: a text in single quotes, or `bare`; anything else in backquotes."""
    if isinstance(value, str):
        return value[:60] if bare else f"'{value[:60]}'"
    return f"`{exact_json.dumps(value)[:60]}`"
