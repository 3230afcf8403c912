"""One step of the engine, over tables in this process, with providers on loopback called by their own adapters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from loopllama.runs.records import StepRecord
from support.deployment import Deployment
from support.dialects import Dialect
from support.wire_server import WireServer

PROMPT = "Invoice 4711 was charged to me twice."
USAGE = (21, 7)
"""The tokens that the dialects' answers count, unless a test says otherwise."""
NUMBERS = itertools.count()
"""Tests share tables; their models and workflows have names of their own."""


def cost_of(tokens_in: int, tokens_out: int) -> Decimal:
    """At the price of every model here: 3 and 15 USD a million tokens."""
    return Decimal(3 * tokens_in + 15 * tokens_out) / 1_000_000


@dataclass
class Here:
    """A deployment and two providers: the first speaks the dialect under test."""

    live: Deployment
    dialect: Dialect
    first: WireServer
    second: WireServer
    models: list[str] = field(default_factory=list)

    def start(
        self, fallback: bool = False, has: Sequence[str] = ("tools",), **agent: Any
    ) -> tuple[str, dict[str, Any]]:
        """A run of one step, its first model with the first provider; its models can do what `has` says.
        Returns the run's id and the step's work."""
        number = next(NUMBERS)
        self.models = [
            self.live.put_model(f"first-{number}", self.dialect.name, self.dialect.model, capabilities=list(has)),
            self.live.put_model(f"second-{number}", "second", "second-model", capabilities=list(has)),
        ]
        others = {"fallbacks": self.models[1:]} if fallback else {}
        crew = [{"name": "reply", "model": self.models[0], **others, **agent}]
        run_id = self.live.accept(self.live.push(crew, name=f"Faults {number}"), PROMPT)
        return run_id, self.live.map(self.live.start(run_id))[0]

    def read(self, run_id: str) -> dict[str, Any]:
        """The run's only step."""
        [step] = self.live.read(run_id)["steps"]
        return dict(step)

    def stored(self, run_id: str) -> StepRecord:
        """The step's item, as it is in the table."""
        key = "STEP#reply#0#0"
        return self.live.runs.items(run_id, [key])[key]
