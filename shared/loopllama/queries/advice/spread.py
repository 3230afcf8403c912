"""How far a figure may be off: confidence intervals of what a run and a month cost. Pure.

A month's figure is the mean of a run times the runs of a month (30 days), two figures that are both estimates:

- the mean of the runs that were read has the variance s²/n, s² being that of the runs;
- the rate of runs is n/T, of n runs in T days. Were runs independent of one another, its relative variance would be
  1/n (Poisson). Days differ by more than that, so it is multiplied by the dispersion φ of the daily counts, Pearson's
  statistic over its degrees of freedom, but never by less than 1 (quasi-Poisson: McCullagh and Nelder, Generalized
  Linear Models, 2nd edition 1989, sections 4.5 and 6.2).

The variance of the product of two independent estimates x and y is y²·v(x) + x²·v(y) + v(x)·v(y), the first two being
the estimates themselves (Goodman, On the exact variance of products, JASA 1960, with the sign of his unbiased
estimator's last term turned so that it errs to the wide side). The interval is the estimate and Student's t on both
sides, 90 % in all. It knows nothing of trends: a workflow that grows spends more next month than this one says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import NormalDist, fmean, variance
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopllama.queries.advice.types import Interval, Rate

MIN_RUNS = 5
"""Runs from which on there is an interval at all."""
MONTH_DAYS = 30
WINDOW_DAYS = 30
"""How far back runs are counted."""
MIN_DAYS = 1.0
"""Time that a rate of runs rests on, at least: an hour of tests is no month."""
MIN_DAYS_TO_COMPARE = 4
"""Whole days from which on it is known how much days differ."""
_Z = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, slots=True)
class RunRate:
    """Runs a month, and the variance of that over its square. `runs` in `days` were counted; `dispersion` is `None`
    where too few days are known. `days` is `None` where somebody has said the rate."""

    per_month: float
    relative_variance: float = 0.0
    runs: int = 0
    days: float | None = None
    dispersion: float | None = None

    def record(self) -> Rate:
        """As JSON."""
        return {
            "runs_month": rounded(self.per_month),
            "source": "given" if self.days is None else "record",
            "runs": self.runs,
            "days": None if self.days is None else rounded(self.days),
            "dispersion": None if self.dispersion is None else rounded(self.dispersion),
        }


A_RUN = RunRate(1.0)
"""The rate for figures of one run."""


def rate_of(begun: Sequence[datetime], now: datetime, *, all_of_window: bool) -> RunRate | None:
    """Return the rate of runs that began at these times, newest first, all within `WINDOW_DAYS` before `now`.
    `all_of_window`: there were runs before the window, so that nothing of it is missing. Otherwise the time counts from
    the oldest run, which starts the clock and is not counted. `None` where that is too short a time to tell."""
    if not begun:
        return None
    span = timedelta(days=WINDOW_DAYS) if all_of_window else now - begun[-1]
    days = span.total_seconds() / 86400
    count = len(begun) if all_of_window else len(begun) - 1
    if days < MIN_DAYS or count < 1:
        return None
    dispersion = _dispersion(begun[:count], now, int(days))
    per_month = count / days * MONTH_DAYS
    return RunRate(per_month, (dispersion or 1.0) / count, count, days, dispersion)


def _dispersion(begun: Sequence[datetime], now: datetime, days: int) -> float | None:
    """Return how much more the counts of whole days vary than those of a Poisson process would; at least 1."""
    if days < MIN_DAYS_TO_COMPARE:
        return None
    counts = [0] * days
    for moment in begun:
        day = int((now - moment).total_seconds() // 86400)
        if 0 <= day < days:
            counts[day] += 1
    mean = fmean(counts)
    return max(1.0, float(variance(counts)) / mean) if mean else None


def t_quantile(freedom: int) -> float:
    """Return the 95 % quantile of Student's t, by Fisher's expansion (Abramowitz and Stegun, 26.7.5): within 0.2 % from
    4 degrees of freedom on."""
    z = _Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum((term / freedom**power for power, term in enumerate(terms, start=1)), 0.0)


def interval(values: Sequence[Decimal], rate: RunRate = A_RUN, *, floor: Decimal | None = None) -> Interval | None:
    """Return what these values, one a run, come to at a rate of runs; `None` under `MIN_RUNS` runs. No end lies below
    `floor`."""
    if len(values) < MIN_RUNS:
        return None
    mean = sum(values, Decimal(0)) / len(values)
    m, v = float(mean), variance(map(float, values)) / len(values)
    r = rate.relative_variance
    half = t_quantile(len(values) - 1) * rate.per_month * math.sqrt(v + m * m * r + v * r)
    estimate = mean * Decimal(repr(rate.per_month))
    low, high = float(estimate) - half, float(estimate) + half
    if floor is not None:
        low = max(low, float(floor))
    return {"estimate": rounded(estimate), "low": rounded(low), "high": rounded(high)}


def more_runs(values: Sequence[Decimal]) -> int:
    """Return how many more runs it takes until the interval of a run's mean, at the spread of these, is wholly on one
    side of 0; 0 where it is."""
    if len(values) < MIN_RUNS:
        return MIN_RUNS - len(values)
    mean, s = fmean(map(float, values)), math.sqrt(variance(map(float, values)))
    if not mean:
        return 0 if not s else len(values)
    needed = (t_quantile(len(values) - 1) * s / abs(mean)) ** 2
    return max(0, math.ceil(needed) - len(values))


def rounded(value: float | Decimal) -> Decimal:
    """Return a figure with ten significant digits: more than an estimate has, and few enough to read."""
    return Decimal(f"{Decimal(value):.10g}").normalize() + 0
