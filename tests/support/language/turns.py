"""Agents' turns as the reference keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Place = tuple[str, int, int]
"""Step, round (from 0), item (from 1; 0 outside a list)."""
ANY = object()
"""Words that the language does not prescribe."""


class Disagreement(AssertionError):
    """The engine did what the reference does not allow."""


@dataclass
class Call:
    """A model's call: what it is billed as."""

    model: str
    tokens_in: int
    tokens_out: int
    cost_usd: Decimal


@dataclass
class Turn:
    """An agent's turn."""

    approved: bool = False
    question: str | None = None
    """What its agent asks a person."""
    talk: list[tuple[str, Any]] = field(default_factory=list)
    """What was said after the prompt: role and words."""
    calls: list[Call] = field(default_factory=list)
    model: str | None = None
    """Which it is to ask; chosen with its first call, and anew by an invocation that finds that it has failed."""
    failed_models: set[str] = field(default_factory=set)
    broken: int = 0
    """Answers so far that did not follow the schema."""
    put_off: int = 0
    answer: Any = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.answer is not None or self.error is not None

    def decide_again(self) -> None:
        """Another invocation takes the turn up."""
        if self.model in self.failed_models:
            self.model = None
