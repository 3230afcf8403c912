"""Which of several candidates are proven, tested at once: the Benjamini-Hochberg procedure on e-values. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

Name = TypeVar("Name")


def proven(log_e_values: Mapping[Name, float], alpha: float = 0.05) -> set[Name]:
    """Return the names whose null hypotheses are rejected; `log_e_values` holds the natural logarithm of each e-value.

    Of K, the k with the largest e-values are rejected, for the most k such that the k-th is at least K/(k alpha). On
    average at most a share of `alpha` of what is rejected is a false discovery, however the e-values depend on each
    other: candidates may share their samples, and each may stop when it likes. Source: Wang and Ramdas, False discovery
    rate control with e-values, JRSS B 84 (2022). Costs a sort.

    A single candidate is proven at 1/alpha, and of several one alone at K/alpha. The e-value of a comparison is that of
    the sample at which it stopped, not the largest that there was before.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, and must be between 0 and 1")
    ordered = sorted(log_e_values, key=lambda name: log_e_values[name], reverse=True)
    needed = math.log(len(ordered) / alpha) if ordered else 0.0
    passing = [
        rank for rank, name in enumerate(ordered, 1) if log_e_values[name] + math.log(rank) >= needed - 1e-12
    ]  # logarithms of equal numbers may differ in their last digit
    return set(ordered[: max(passing, default=0)])
