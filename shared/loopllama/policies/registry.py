"""How a layer chooses among its candidates: one pure function a policy.

A policy gets candidates that may all be used, in the order in which the row lists them, and the facts about the step.
It ranks them once; a key that is the same for every retry of the same step of the same run then says which comes first.
Whether a model may be used at all is not its job (`chain`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from itertools import accumulate

from loopllama.policies.step_stats import Candidate, Facts

ENOUGH = 10.0
"""Samples from which on a candidate of `fastest` is known."""
EXPLORED = 0.1
"""Share of the runs with which `fastest` gets to know candidates that it does not know enough of, all together."""
_UNPRICED = Decimal("Infinity")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates in order of preference, and which of them, by its place, a key puts first."""

    order: Sequence[Candidate]
    choose: Callable[[str], int]

    def tried(self, key: str) -> list[Candidate]:
        """The candidates in the order in which they are to be tried."""
        first = self.choose(key)
        return [self.order[first], *self.order[:first], *self.order[first + 1 :]]


Policy = Callable[[Sequence[Candidate], Facts], Ranking]


def weighted(candidates: Sequence[Candidate], _facts: Facts) -> Ranking:
    """Split by weight: the key falls on one of the candidates' shares of [0, 1), laid side by side in their order, so
    the same run and step get the same model as long as the shares stay. The rest follow as they are listed."""
    ends = list(accumulate(candidate.weight for candidate in candidates))
    last = max((place for place, candidate in enumerate(candidates) if candidate.weight > 0), default=0)
    return Ranking(candidates, lambda key: min(bisect_right(ends, share_of(key) * ends[-1]), last))


def cheapest(candidates: Sequence[Candidate], _facts: Facts) -> Ranking:
    """By expected cost of the step; equal ones as they are listed, unpriced ones last. The key has no say."""
    return Ranking(sorted(candidates, key=_cost), lambda _: 0)


def fastest(candidates: Sequence[Candidate], facts: Facts) -> Ranking:
    """By expected latency, the step's leader first.

    Nine runs in ten use the leader; one in ten (`EXPLORED`) tries a candidate of which fewer than `ENOUGH` samples are
    known, each of m such candidates with the same share. So among m unknown candidates each is tried within 100 * m
    runs with a probability of 1 - (1 - 0.1 / m)^(100 m), more than 99.99 %, and what a bad one can cost is bounded:
    this is the epsilon-greedy rule (Sutton and Barto, Reinforcement Learning, section 2.2), epsilon falling to 0 as
    soon as everything is known. Who leads is decided where the samples are gathered (`facts.lead`), because staying
    with a leader among equals takes memory; without a leader that may be used, the least expected latency leads.
    """
    order = sorted(candidates, key=_latency)
    leader = facts.leader
    if leader is not None and order[0].model.id != leader:
        order.sort(key=lambda candidate: candidate.model.id != leader)
    unknown = [place for place, candidate in enumerate(order) if place and candidate.samples < ENOUGH]

    def choose(key: str) -> int:
        point = share_of(key)
        return unknown[int(point / EXPLORED * len(unknown))] if unknown and point < EXPLORED else 0

    return Ranking(order, choose)


POLICIES: Mapping[str, Policy | None] = {"fixed": None, "weighted": weighted, "cheapest": cheapest, "fastest": fastest}
"""By name. `fixed` chooses among nothing: it is the model and its fallbacks."""


def share_of(key: str) -> float:
    """A number in [0, 1) that depends on the key alone, in every process and Python."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=6).digest(), "big") / (1 << 48)


def _cost(candidate: Candidate) -> Decimal:
    return _UNPRICED if candidate.cost_usd is None else candidate.cost_usd


def _latency(candidate: Candidate) -> float:
    return candidate.latency_ms
