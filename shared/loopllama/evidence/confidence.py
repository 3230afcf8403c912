"""Bounds on the mean of samples in [-1, 1] that hold at every time: the bets of `betting.py`, inverted. Pure.

The lower bound is the largest m such that the gambler who bets on "the mean is above m" has reached 1/alpha. Were the
true mean below it, that gambler would have won where winning has a probability of at most alpha: at all times together,
the true mean is below its lower bound in at most a share of alpha of all experiments. So one may look after each
sample, and stop when one likes. Source: Waudby-Smith and Ramdas (2024).

Wealth falls as m rises, for each bet, so bisection finds the bound. It depends on the samples and not on their order.
Costs 19 logarithms a different sample and step, and 14 steps a bound: 400 samples take some milliseconds where few
differ, 10,000 different ones about two seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from loopllama.evidence import betting
from loopllama.evidence.betting import BILLION, Number, billionths

STEP = BILLION // 8192
"""How far bounds are told, in billionths: they are rounded outwards by at most 0.00012."""


def interval(samples: Iterable[Number], alpha: float = 0.05) -> tuple[float, float]:
    """Return the lower and the upper bound of the mean, wrong with a probability of at most `alpha` together."""
    counted, each = _counted(samples), _level(alpha) / 2
    return _lower(counted, each), -_lower(_mirrored(counted), each)


def lower_bound(samples: Iterable[Number], alpha: float = 0.05) -> float:
    """Return the lower bound alone: over -margin just when the e-value of `as_good` has reached 1/alpha."""
    return _lower(_counted(samples), _level(alpha))


def upper_bound(samples: Iterable[Number], alpha: float = 0.05) -> float:
    """Return the upper bound alone."""
    return -_lower(_mirrored(_counted(samples)), _level(alpha))


def _level(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, and must be between 0 and 1")
    return alpha


def _counted(samples: Iterable[Number]) -> Counter[int]:
    return Counter(billionths(sample) for sample in samples)


def _mirrored(counted: Counter[int]) -> Counter[int]:
    return Counter({-sample: count for sample, count in counted.items()})


def _lower(counted: Counter[int], alpha: float) -> float:
    low, high = -BILLION, BILLION
    if not counted or not _refuted(counted, low, alpha):
        return -1.0
    while high - low > STEP:
        middle = (low + high) // 2
        low, high = (middle, high) if _refuted(counted, middle, alpha) else (low, middle)
    return low / BILLION


def _refuted(counted: Counter[int], bound: int, alpha: float) -> bool:
    """Return whether "the mean is at most the bound" is refuted."""
    logs = [0] * len(betting.BETS)
    for sample, count in counted.items():
        logs = [log + count * gain for log, gain in zip(logs, betting.gains(sample, bound, "above"), strict=True)]
    return betting.crossed(logs, alpha)
