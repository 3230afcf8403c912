"""What is known about a step: how many tokens its turns take, and how fast each model answers it. Pure.

It rests on samples of the step's recent calls (`policies.samples`). They live in the Models table in an item of their
own, `observed#<workflow>#<step>`, which the consumer of the Runs table's stream writes (`routing.step_figures`) and
which is read together with the entries of the models:

| attribute | |
|---|---|
| `wanted_at` | epoch ms; a step that needs facts says so once a day |
| `delete_at` | epoch s; DynamoDB deletes what nobody has wanted for three days |
| `workflow`, `step`, `latency_of` | whose it is, and the models whose latency it needs |
| `samples` | recent calls on this step by the name under which a model is measured (`catalog.model.measured_as`) |
| `elsewhere` | those on other steps, of models of which this one has too few |
| `latency` | what they say: name to `{ms, samples, count, prior_ms, tried}`: mean of recent calls on this step,
failures included, how many they are when old ones count less, and how many at all; mean on other steps, where they are
few; whether the model has been called on this step, however long ago |
| `calls`, `input_tokens`, `output_tokens`, `cached_tokens` | means: calls a turn, tokens a call |
| `simulated` | whether simulated calls are among those |
| `leader` | the model that leads by latency (`lead`), by its name there |
| `revision`, `observed_at` | grows by one with each write of figures; epoch ms of the last one |
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopllama.catalog import pricing
from loopllama.catalog.model import SIMULATED, Model, measured_as
from loopllama.core.numbers import natural
from loopllama.llm.types import Usage

if TYPE_CHECKING:
    from loopllama.policies.samples import Group

PREFIX = "observed#"
WANTED_MS = 24 * 3600 * 1000
"""How often a step says again that it needs facts."""
FORGOTTEN_MS = 3 * WANTED_MS
"""What nobody has wanted for so long is deleted."""
MAX_NAMES = 110
"""Models of which a step's item keeps samples: a step has at most 100 candidates. Then it is well below DynamoDB's
400 KB (350 at most, 2 for two candidates)."""
USUAL = (1.0, 2000, 400, 0)
"""Calls, tokens in, out and cached where nothing has been observed: a prompt of three pages, a page of answer."""
ENOUGH = 10.0
"""Samples from which on a model's latency is known."""
PRIOR_SAMPLES = 1.0
"""The catalog's prior counts as one sample."""
MARGIN = 0.8
"""Another model takes the lead where it is expected to take less than this share of the leader's time."""
SPREAD = 0.5
"""Assumed standard deviation of a call's latency, as a share of its mean: few samples say little of their own."""
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
    the mean on other steps, where there are any calls: with another prompt it is a guess, and no knowledge. `tried`:
    it has been called on this step, however long ago."""

    ms: float
    samples: float
    prior_ms: float | None = None
    tried: bool = False


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
    simulated: Collection[str] = ()
    """Providers that the simulated one stands in for; `*` is all. `latency` and `leader` name their models so."""

    def name_of(self, model: Model) -> str:
        """Return the name under which the model's next call will be measured."""
        return measured_as(model.id, "*" in self.simulated or model.provider in self.simulated)

    def candidate(self, model: Model, weight: float, at: datetime) -> Candidate:
        """Return the model with what is expected of it on this step."""
        cached = min(self.cached_tokens, self.input_tokens)
        call_cost = pricing.cost(model, Usage(self.input_tokens, self.output_tokens, cached), at)
        known = self.latency.get(self.name_of(model))
        return Candidate(
            model=model,
            weight=weight,
            cost_usd=None if call_cost is None else call_cost * Decimal(str(self.calls)),
            latency_ms=expected_ms(known, self.prior_ms(model)) * self.calls,
            samples=0.0 if known is None else known.samples,
            tried=known is not None and bool(known.samples or known.tried),
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


def summary(here: Mapping[str, Group], elsewhere: Mapping[str, Group], now: float) -> dict[str, Any]:
    """Return what an item says of samples, by name, at `now` (epoch s): a decision over a hundred candidates has no
    time to look at two thousand of them."""
    from loopllama.policies import samples  # only steps whose policy needs figures read them

    failed_ms = samples.failure_ms(here.values())
    latency: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((*here, *elsewhere)):
        ours, prior = samples.recent(here.get(name, ()), now, failed_ms), None
        if ours.weight < ENOUGH:
            prior = samples.recent(elsewhere.get(name, ()), now, samples.failure_ms([elsewhere.get(name, ())]))
        latency[name] = {
            "ms": round(ours.ms),
            "samples": Decimal(f"{ours.weight:.1f}"),
            "count": ours.count,
            **({"prior_ms": round(prior.ms)} if prior is not None and prior.count else {}),
            **({"tried": True} if name in here else {}),
        }
    tokens = samples.tokens(here.values())
    if tokens:
        tokens["calls"] = Decimal(f"{tokens['calls']:.2f}")
        tokens["simulated"] = any(name.endswith(SIMULATED) for name in here)
    return {"latency": latency, **tokens, "observed_at": int(now * 1000)}


def parse_facts(item: Mapping[str, Any] | None, now: float, simulated: Collection[str] = ()) -> Facts:
    """Read a step's item as it counts at `now` (epoch s); never raises: what is invalid counts as not known.
    `simulated` are the providers that the simulated one stands in for: without any no simulated call counts."""
    if not item:
        return Facts(simulated=simulated)
    from loopllama.policies import samples

    observed_at = natural(item.get("observed_at"))
    share = 1.0 if observed_at is None else max(0.0, now - observed_at / 1000) / samples.WINDOW_SECONDS
    raw = item.get("latency")
    latency: dict[str, Latency] = {}
    for name, value in raw.items() if isinstance(raw, Mapping) else ():
        if isinstance(value, Mapping) and (simulated or not str(name).endswith(SIMULATED)):
            ms, weight = _number(value.get("ms")), _number(value.get("samples"))
            if ms is not None and weight is not None:
                # Each sample has lost as much of its weight since.
                left = max(0.0, weight - (_number(value.get("count")) or weight) * share)
                prior_ms = _number(value.get("prior_ms")) if share < 1 else None
                latency[str(name)] = Latency(ms if left else 0.0, left, prior_ms, value.get("tried") is True)
    numbers = [_number(item.get(name)) for name in ("calls", "input_tokens", "output_tokens", "cached_tokens")]
    calls, given, taken, cached = numbers
    known = calls is not None and given is not None and taken is not None
    measured = known and (bool(simulated) or item.get("simulated") is not True)
    leader = item.get("leader")
    return Facts(
        calls=max(calls or 0, 1.0) if measured else USUAL[0],
        input_tokens=int(given or 0) if measured else USUAL[1],
        output_tokens=int(taken or 0) if measured else USUAL[2],
        cached_tokens=int(cached or 0) if measured else USUAL[3],
        measured=measured,
        latency=latency,
        leader=leader if isinstance(leader, str) else None,
        wanted_at=natural(item.get("wanted_at")) or 0,
        latency_of=names_in(item.get("latency_of")),
        simulated=simulated,
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
