"""Whether arms are filled as their shares say: a sequential multinomial test that may be looked at after every run.

Pure. Null hypothesis: each run takes an arm with the probability that the shares say. The alternative's probabilities
follow a Dirichlet distribution around the shares. The e-value after counts n of arms with shares s is the ratio of the
two likelihoods,

    gamma(C) / gamma(C + sum n)  *  product of gamma(C s + n) / gamma(C s)  /  product of s^n,

a martingale under the null hypothesis, because a run more multiplies it by predicted over true probability of the run's
arm. Source: Lindon and Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022.

Each stage of a canary has shares of its own and begins a factor of its own; a product of such factors is a martingale
too. A run in an arm without a share refutes the shares at once. A look costs three logarithms an arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from loopllama.evidence.betting import BILLION, Number, billionths

CONCENTRATION = 100
"""How many runs the alternative's closeness to the shares is worth. Any finds great deviations after dozens of runs;
100 finds those of some points too."""


class SampleRatio(TypedDict):
    """A check under way; shares are weights."""

    alpha: int
    """The level, in billionths."""
    shares: list[int]
    counts: list[int]
    """Runs of each arm in this stage."""
    earlier: int
    """The e-value of the stages before: its logarithm in nanonats, rounded down."""
    runs: int
    """Runs of all stages."""
    mismatch_after: int
    """Runs after which the shares were refuted; 0 until then."""


def start(shares: Sequence[int], alpha: Number = 0.01) -> SampleRatio:
    """Return a check before its first run. `shares` are whole weights, such as 5 and 95. Raises `ValueError` for those
    that are no shares, and for an alpha outside (0, 1)."""
    level = billionths(alpha, 0, 1)
    if not 0 < level < BILLION:
        raise ValueError(f"alpha is {alpha}, and must be between 0 and 1")
    return {
        "alpha": level,
        "shares": _checked(shares),
        "counts": [0] * len(shares),
        "earlier": 0,
        "runs": 0,
        "mismatch_after": 0,
    }


def resume(stored: Mapping[str, Any]) -> SampleRatio:
    """Return a check as it was stored, whose numbers may have become `Decimal` (DynamoDB)."""
    return {
        "alpha": int(stored["alpha"]),
        "shares": [int(share) for share in stored["shares"]],
        "counts": [int(count) for count in stored["counts"]],
        "earlier": int(stored["earlier"]),
        "runs": int(stored["runs"]),
        "mismatch_after": int(stored["mismatch_after"]),
    }


def next_stage(record: SampleRatio, shares: Sequence[int]) -> SampleRatio:
    """Return the check with other shares for as many arms. What the stages before showed counts on."""
    if len(shares) != len(record["shares"]):
        raise ValueError(f"there are {len(record['shares'])} arms, and {len(shares)} shares were given")
    # Refuted once is refuted: a record that says so needs no endless number.
    earlier = 0 if record["mismatch_after"] else math.floor(log_e(record) * BILLION)
    return {**record, "shares": _checked(shares), "counts": [0] * len(shares), "earlier": earlier}


def observe(record: SampleRatio, arm: int) -> SampleRatio:
    """Return the check after a run of the arm, counted from 0, under the shares of its own stage."""
    counts = list(record["counts"])
    counts[arm] += 1
    after: SampleRatio = {**record, "counts": counts, "runs": record["runs"] + 1}
    if not record["mismatch_after"] and log_e(after) >= -math.log(record["alpha"] / BILLION):
        after["mismatch_after"] = after["runs"]
    return after


def log_e(record: SampleRatio) -> float:
    """Return the natural logarithm of the e-value, infinite where an arm without a share has a run."""
    whole, runs = sum(record["shares"]), sum(record["counts"])
    log = record["earlier"] / BILLION + math.lgamma(CONCENTRATION) - math.lgamma(CONCENTRATION + runs)
    for weight, count in zip(record["shares"], record["counts"], strict=True):
        if not weight:
            if count:
                return math.inf
            continue
        share = weight / whole
        prior = CONCENTRATION * share
        log += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return log


def _checked(shares: Sequence[int]) -> list[int]:
    if len(shares) < 2 or min(shares) < 0 or not any(shares):
        raise ValueError(f"{list(shares)} are no shares of two arms or more")
    return [int(share) for share in shares]
