"""Routing policies: what one is, which there are, and how each chooses. Pure.

A policy gets candidates that may all be used, in the order in which the row lists them, and the facts about the step.
It ranks them once; a key that is the same for every retry of the same step of the same run then says which comes first.
Everybody who has to know something of a policy asks its object: what rows, workflow files and the API take, which
candidates are left out, which facts are gathered for a step and which metrics it writes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from itertools import accumulate
from typing import Literal

from loopllama.policies.step_stats import ENOUGH, Candidate, Facts

Need = Literal["cost", "latency"]
NEEDS: frozenset[Need] = frozenset({"cost", "latency"})
MAX_NAME = 40
EXPLORED = 0.1
"""Share of the runs with which `fastest` gets to know candidates that it does not know enough of, all together."""
UNTRIED = 0.25
"""That share while there are candidates that the step has never called: it goes to them, all together."""
_UNPRICED = Decimal("Infinity")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates in order of preference, and which of them, by its place, a key puts first."""

    order: Sequence[Candidate]
    choose: Callable[[str], int] = lambda _key: 0

    def tried(self, key: str) -> list[Candidate]:
        """Return the candidates in the order in which they are to be tried."""
        first = self.choose(key)
        return [self.order[first], *self.order[:first], *self.order[first + 1 :]]


@dataclass(frozen=True, slots=True)
class Policy:
    """A way to choose a step's model.

    `by` says in a few words what it chooses by (docs/routing.md). `rank` orders the candidates; without it there is
    nothing to choose: the model of the layer is tried, then its fallbacks. `needs` are the facts that it ranks by: they
    are gathered for each step that uses it, from its first use on. With `takes_weights` people give each candidate its
    share.
    """

    name: str
    by: str
    rank: Callable[[Sequence[Candidate], Facts], Ranking] | None = None
    needs: frozenset[Need] = frozenset()
    takes_weights: bool = False

    @property
    def chooses(self) -> bool:
        """Whether it chooses among candidates."""
        return self.rank is not None

    def refusal(self, candidate: Candidate) -> str | None:
        """Return why it leaves the candidate out, or `None` where it admits it."""
        if "cost" in self.needs and candidate.cost_usd is None:
            return "has no price, so its cost cannot be compared"
        if self.takes_weights and not candidate.weight:
            return "has the weight 0"
        return None


POLICIES: dict[str, Policy] = {}
"""Every policy by its name."""


def register(policy: Policy) -> Policy:
    """Make a policy known to everybody who asks, and return it.

    Raise `ValueError` where its name is taken or no identifier, or where it needs facts that nobody gathers."""
    if policy.name in POLICIES:
        raise ValueError(f"there is a policy {policy.name!r} already")
    if not policy.name.isidentifier() or len(policy.name) > MAX_NAME:
        raise ValueError(f"a policy's name is an identifier of at most {MAX_NAME} characters, not {policy.name!r}")
    if unknown := policy.needs - NEEDS:
        raise ValueError(f"nobody gathers {', '.join(sorted(unknown))}; a policy may need {', '.join(sorted(NEEDS))}")
    POLICIES[policy.name] = policy
    return policy


def find(name: object) -> Policy | None:
    """Return the policy of this name, `fixed` where none is named, or `None` where no policy is called so."""
    if name is None:
        return FIXED
    return POLICIES.get(name) if isinstance(name, str) else None


FIXED = register(Policy("fixed", "nothing: the row's `model`, then its `fallbacks`"))
"""What counts where nobody names a policy."""


def weighted(candidates: Sequence[Candidate], _facts: Facts) -> Ranking:
    """Split by weight: the key falls on one of the candidates' shares of [0, 1), laid side by side in their order, so
    the same run and step get the same model as long as the shares stay. The rest follow as they are listed."""
    ends = list(accumulate(candidate.weight for candidate in candidates))
    last = max((place for place, candidate in enumerate(candidates) if candidate.weight > 0), default=0)
    return Ranking(candidates, lambda key: min(bisect_right(ends, share_of(key) * ends[-1]), last))


register(Policy("weighted", "weight", weighted, takes_weights=True))


def cheapest(candidates: Sequence[Candidate], _facts: Facts) -> Ranking:
    """By expected cost of the step; equal ones as they are listed, unpriced ones last. The key has no say."""
    return Ranking(sorted(candidates, key=_cost))


register(Policy("cheapest", "the least expected cost", cheapest, needs=frozenset({"cost"})))


def fastest(candidates: Sequence[Candidate], facts: Facts) -> Ranking:
    """By expected latency, the step's leader first.

    Nine runs in ten use the leader; one in ten (`EXPLORED`) tries a candidate of which fewer than `ENOUGH` samples of
    this step are known, each of m such candidates with the same share. While there are candidates that the step has
    never called, one run in four (`UNTRIED`) tries one of them: of m, each is tried within 16 * m runs with a
    probability of 1 - (1 - 0.25 / m)^(16 m), 98 %. It counts as tried once its first call was seen, a few seconds
    later. What it did on other steps is a guess, and makes nobody known. So what a bad candidate can cost is bounded:
    this is the epsilon-greedy rule (Sutton and Barto, Reinforcement Learning, section 2.2), epsilon falling to 0 as
    soon as everything is known. Who leads is decided where the samples are gathered (`step_stats.lead`), because
    staying with a leader among equals takes memory; without a leader that may be used, the least expected latency
    leads.
    """
    order = sorted(candidates, key=_latency)
    leader = facts.leader
    if leader is not None:
        order.sort(key=lambda candidate: facts.name_of(candidate.model) != leader)
    others = list(enumerate(order))[1:]
    untried = [place for place, candidate in others if not candidate.tried]
    unknown = untried or [place for place, candidate in others if candidate.samples < ENOUGH]
    share = UNTRIED if untried else EXPLORED

    def choose(key: str) -> int:
        point = share_of(key)
        return unknown[int(point / share * len(unknown))] if unknown and point < share else 0

    return Ranking(order, choose)


register(Policy("fastest", "the least expected latency", fastest, needs=frozenset({"latency"})))


def share_of(key: str) -> float:
    """Return a number in [0, 1) that depends on the key alone, in every process and Python."""
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=6).digest(), "big") / (1 << 48)


def _cost(candidate: Candidate) -> Decimal:
    return _UNPRICED if candidate.cost_usd is None else candidate.cost_usd


def _latency(candidate: Candidate) -> float:
    return candidate.latency_ms
