"""Bets against a bound on a mean: the e-process under verdicts, confidence sequences and the checks of judges. Pure.

Samples lie in [-1, 1]. A gambler starts with 1 and bets, sample after sample, that their mean is above a bound m. With
a bet of c/(1 + m) the wealth is multiplied by 1 + c (x - m)/(1 + m), which is never negative for c < 1. Where the mean
is at most m, the mean of that factor is at most 1 whatever came before, so the wealth is a supermartingale: it ever
reaches 1/alpha with a probability of at most alpha (Ville), however often one looks and whenever one stops. The mean of
several such wealths is one too; with the mean over `BETS` nobody needs to know the best bet in advance.

Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS B 86 (2024); Ramdas,
Grünwald, Vovk and Shafer, Game-theoretic statistics and safe anytime-valid inference, Statistical Science 38 (2023).

Logarithms of wealth are kept as whole nanonats (1e-9 of a natural logarithm), and each gain is rounded down. So they
overflow nowhere, the order of samples changes no digit, JSON and DynamoDB keep each digit, and what rounding loses
(1e-9 a sample) is lost by the gambler: the promise stays. Samples, bounds and levels are whole billionths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Literal

Number = int | float | Decimal
Side = Literal["above", "below"]
"""What the gambler bets on: that the mean is above the bound, or below it."""

BETS = tuple(place / 20 for place in range(1, 20))
"""The shares c, 0.05 to 0.95, of what may be bet without the risk of losing all."""
BILLION = 10**9
_LEAST_ROOM = 0.05
"""Bets are at most c/0.05. A bound at the edge of the range would allow any bet, and a smaller one is always right."""
_LARGEST = 300 * math.log(10)


def billionths(value: Number, low: int = -1, high: int = 1) -> int:
    """Return a number from `low` to `high` in whole billionths. Raises `ValueError` for any other, NaN too."""
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{value} is not from {low} to {high}")
    return round(value * BILLION)


def gains(sample: int, bound: int, side: Side) -> tuple[int, ...]:
    """Return what each bet gains by a sample, in nanonats; sample and bound are in billionths."""
    return _gains(sample, bound) if side == "above" else _gains(-sample, -bound)


@lru_cache(maxsize=8192)
def _gains(sample: int, bound: int) -> tuple[int, ...]:
    room = max(BILLION + bound, _LEAST_ROOM * BILLION)
    return tuple(nanonats(bet * (sample - bound) / room) for bet in BETS)


def nanonats(part: float) -> int:
    """Return the logarithm of 1 + `part`, rounded down; `part` is over -1."""
    return math.floor(math.log1p(part) * BILLION)


def added(logs: Sequence[int], gained: Sequence[int]) -> list[int]:
    """Return each bet's wealth after one more sample."""
    return [log + gain for log, gain in zip(logs, gained, strict=True)]


def log_e(logs: Sequence[float]) -> float:
    """Return the natural logarithm of the mean of wealths whose logarithms are given in nanonats: of the e-value."""
    most = max(logs)
    return most / BILLION + math.log(math.fsum(math.exp((log - most) / BILLION) for log in logs) / len(logs))


def e_value(logs: Sequence[int]) -> float:
    """Return the e-value, at most 1e300: smaller is always right."""
    return math.exp(min(log_e(logs), _LARGEST))


def crossed(logs: Sequence[int], alpha: float) -> bool:
    """Return whether the e-value has reached 1/alpha."""
    needed = -math.log(alpha)
    # The mean is at most the largest, which mostly spares the exponentials.
    return max(logs) >= needed * BILLION and log_e(logs) >= needed
