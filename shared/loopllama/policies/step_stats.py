"""What is known about a step: how many tokens its turns take, and how fast each model answers it. Pure.

Facts live in the Models table in an item of their own, `observed#<workflow>#<step>`, written by the function
ObserveLatency and read together with the entries of the models:

| attribute | |
|---|---|
| `wanted_at` | epoch ms; a step that needs facts says so once a day, and what nobody wants is dropped |
| `latency_of` | the models whose latency it needs |
| `latency` | model to `{ms, samples, prior_ms, tried}`: mean of recent calls on this step, failures included, and how
many they are; mean on all steps, where they are few; epoch ms at which a call on this step was seen last |
| `leader` | the model that leads by latency (`lead`) |
| `calls`, `input_tokens`, `output_tokens`, `cached_tokens` | means: calls a turn, tokens a call |
| `latency_at`, `tokens_at` | epoch ms of the last reading |
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from loopllama.catalog import pricing
from loopllama.catalog.model import Model
from loopllama.llm.types import Usage

PREFIX = "observed#"
WANTED_MS = 24 * 3600 * 1000
"""How often a step says again that it needs facts."""
USUAL = (1.0, 2000, 400, 0)
"""Calls, tokens in, out and cached where nothing has been observed: a prompt of three pages, a page of answer."""
ENOUGH = 10.0
"""Samples from which on a model's latency is known."""
PRIOR_SAMPLES = 1.0
"""The catalog's prior counts as one sample."""
MARGIN = 0.8
"""Another model takes the lead where it is expected to take less than this share of the leader's time."""
SPREAD = 0.5
"""Assumed standard deviation of a call's latency, as a share of its mean: CloudWatch keeps means and counts only."""
ERRORS = 2.0
"""Standard errors that a difference must exceed."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may be used, with what is expected of it on this step: USD (`None`: unpriced) and milliseconds a
    turn. `samples` says on how many recent calls of this step the latency rests; old ones count less. `tried`: it has
    been called on this step, as far as anybody remembers."""

    model: Model
    weight: float = 1.0
    cost_usd: Decimal | None = None
    latency_ms: float = 0.0
    samples: float = 0.0
    tried: bool = True


@dataclass(frozen=True, slots=True)
class Latency:
    """Mean latency of a model's recent calls on a step (ms) and how many they are; old ones count less. `prior_ms` is
    the mean on all steps, where there are any calls: with another prompt it is a guess, and no knowledge. `tried_at`
    (epoch ms) is when a call on this step was seen last, 0 for never."""

    ms: float
    samples: float
    prior_ms: float | None = None
    tried_at: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a step; empty where nothing is."""

    calls: float = USUAL[0]
    input_tokens: int = USUAL[1]
    output_tokens: int = USUAL[2]
    cached_tokens: int = USUAL[3]
    measured: bool = False
    """Whether the tokens were observed."""
    latency: Mapping[str, Latency] = field(default_factory=dict)
    leader: str | None = None
    wanted_at: int = 0
    latency_of: frozenset[str] = frozenset()

    def candidate(self, model: Model, weight: float, at: datetime) -> Candidate:
        """Return the model with what is expected of it on this step."""
        cached = min(self.cached_tokens, self.input_tokens)
        call_cost = pricing.cost(model, Usage(self.input_tokens, self.output_tokens, cached), at)
        known = self.latency.get(model.id)
        return Candidate(
            model=model,
            weight=weight,
            cost_usd=None if call_cost is None else call_cost * Decimal(str(self.calls)),
            latency_ms=expected_ms(known, self.prior_ms(model)) * self.calls,
            samples=0.0 if known is None else known.samples,
            tried=known is not None and bool(known.samples or known.tried_at),
        )

    def prior_ms(self, model: Model) -> float:
        """Return how long one call is expected to take by the catalog alone."""
        return model.speed.first_token_ms + self.output_tokens / max(1, model.speed.tokens_per_second) * 1000


NOTHING = Facts()


def key_of(workflow_id: str, step: str) -> str:
    """Return the key of a step's item in the Models table."""
    return f"{PREFIX}{workflow_id}#{step}"


def expected_ms(known: Latency | None, prior_ms: float) -> float:
    """Return the mean of what was observed on the step and the prior, by weight. What was seen on other steps is a
    better prior than the catalog's."""
    if known is None:
        return prior_ms
    if known.prior_ms is not None:
        prior_ms = known.prior_ms
    return (known.samples * known.ms + PRIOR_SAMPLES * prior_ms) / (known.samples + PRIOR_SAMPLES)


def lead(before: str | None, expected: Mapping[str, Latency]) -> str | None:
    """Return which model leads from now on. `expected` is each candidate's expected latency (`expected_ms`), with its
    samples, the prior's included, in the row's order.

    The leader stays unless another one is faster by more than chance: its upper confidence bound must be below
    `MARGIN` of the leader's lower one (bounds as in Auer et al., Finite-time Analysis of the Multiarmed Bandit Problem,
    2002: the uncertainty of a mean falls with the root of its samples). So equals never take turns, and a model that
    has turned slow loses its place at the next refresh that sees it.
    """
    if not expected:
        return None
    best = min(expected, key=lambda name: expected[name].ms)
    if before is None or before not in expected:
        return best
    floor = _bound(expected[before], -1) * MARGIN
    faster = [name for name in expected if name != before and _bound(expected[name], +1) < floor]
    return min(faster, key=lambda name: expected[name].ms) if faster else before


def _bound(latency: Latency, sign: int) -> float:
    return latency.ms * max(0.0, 1 + sign * ERRORS * SPREAD / math.sqrt(max(latency.samples, PRIOR_SAMPLES)))


def parse_facts(item: Mapping[str, Any] | None) -> Facts:
    """Read a step's item; never raises: what is invalid counts as not known."""
    if not item:
        return NOTHING
    raw = item.get("latency")
    latency: dict[str, Latency] = {}
    for name, value in raw.items() if isinstance(raw, Mapping) else ():
        if isinstance(value, Mapping):
            ms, samples = _number(value.get("ms")), _number(value.get("samples"))
            if ms is not None and samples is not None:
                tried_at = int(_number(value.get("tried")) or 0)
                latency[str(name)] = Latency(ms, samples, _number(value.get("prior_ms")), tried_at)
    tokens = [_number(item.get(name)) for name in ("calls", "input_tokens", "output_tokens", "cached_tokens")]
    calls, given, taken, cached = tokens
    measured = calls is not None and given is not None and taken is not None
    leader, wanted = item.get("leader"), item.get("latency_of")
    return Facts(
        calls=max(calls or 0, 1.0) if measured else USUAL[0],
        input_tokens=int(given or 0) if measured else USUAL[1],
        output_tokens=int(taken or 0) if measured else USUAL[2],
        cached_tokens=int(cached or 0) if measured else USUAL[3],
        measured=measured,
        latency=latency,
        leader=leader if isinstance(leader, str) else None,
        wanted_at=int(_number(item.get("wanted_at")) or 0),
        latency_of=names_in(wanted),
    )


def names_in(value: object) -> frozenset[str]:
    """Return the texts in a list or set of an item."""
    if not isinstance(value, (list, set, frozenset, tuple)):
        return frozenset()
    return frozenset(name for name in _limited(value) if isinstance(name, str))


def _limited(values: Iterable[Any]) -> Iterable[Any]:
    return list(values)[:1000]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    if isinstance(value, Decimal) and not value.is_finite():
        return None
    number = float(value)
    return number if math.isfinite(number) and 0 <= number < 1e15 else None
