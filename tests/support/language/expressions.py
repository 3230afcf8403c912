"""The family of expressions that crews are made of: each JMESPath text beside its meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from support.language.values import Uncomputable, field, is_number, is_true


class Sight(Protocol):
    """What a step sees when an expression or its prompt is computed."""

    @property
    def input(self) -> Any:
        """The run's input."""
        ...

    def output(self, step: str) -> Any:
        """A step's output, null where there is none (yet)."""
        ...


@dataclass(frozen=True)
class Expression:
    """JMESPath, and what it means. `of` raises `Uncomputable`."""

    text: str
    of: Callable[[Sight], Any]
    names: frozenset[str] = frozenset()


def only(name: str) -> frozenset[str]:
    """The one step that is named."""
    return frozenset([name])


def either(left: Expression, right: Expression) -> Expression:
    """`left || right`."""

    def of(sight: Sight) -> Any:
        value = left.of(sight)
        return value if is_true(value) else right.of(sight)

    return Expression(f"({left.text} || {right.text})", of, left.names | right.names)


def both(left: Expression, right: Expression) -> Expression:
    """`left && right`."""

    def of(sight: Sight) -> Any:
        value = left.of(sight)
        return right.of(sight) if is_true(value) else value

    return Expression(f"({left.text} && {right.text})", of, left.names | right.names)


def less(value: Any, bound: Any) -> bool | None:
    """`value < bound`: null where it is no number."""
    return value < bound if is_number(value) else None


def at_least(value: Any, bound: Any) -> bool | None:
    """`value >= bound`: null where it is no number."""
    return value >= bound if is_number(value) else None


def same(value: Any, other: Any) -> bool:
    """`value == other`, of numbers."""
    return is_number(value) and value == other


def or_empty(value: Any) -> Any:
    """``value || `[]` ``."""
    return value if is_true(value) else []


def length(value: Any) -> int:
    """`length(value)`."""
    if isinstance(value, str | list | dict):
        return len(value)
    raise Uncomputable("length() of what has none")


def ends_with(value: Any, end: str) -> bool:
    """`ends_with(value, end)`."""
    if isinstance(value, str):
        return value.endswith(end)
    raise Uncomputable("ends_with() of what is no text")


def filtered(value: Any) -> Any:
    """`value[?ok]`."""
    return [one for one in value if is_true(field(one, "ok"))] if isinstance(value, list) else None


def first(value: Any, count: int) -> Any:
    """`value[:count]`."""
    return value[:count] if isinstance(value, list) else None
