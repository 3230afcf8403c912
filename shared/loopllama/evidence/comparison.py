"""Whether a candidate is as good as the incumbent: a verdict on paired differences that may be looked at at any time.

A difference is the candidate's score less the incumbent's on one sample, in [-1, 1]. Two gamblers bet on the mean
(`betting.py`): one that it is above -margin, one that it is below. Whoever first reaches 1/alpha decides, and the
verdict stays. Of candidates that are worse by the margin or more, at most a share of alpha is ever called `as_good`; of
those that are better than that, at most alpha is ever called `worse`.

A record is JSON of whole numbers. `add` costs two sums of 19 numbers, and 38 logarithms for a difference that was not
seen lately: 10,000 samples with a look after each take about a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from loopllama.evidence import betting
from loopllama.evidence.betting import BETS, BILLION, Number, billionths

Verdict = Literal["as_good", "worse", "not_enough_data"]
FARTHEST = 100_000
"""Samples beyond which `more_needed` tells no number."""


class Comparison(TypedDict):
    """A comparison under way. Fractions are whole billionths, wealths logarithms in nanonats, one a bet."""

    margin: int
    alpha: int
    samples: int
    total: int
    """The sum of the differences."""
    as_good: list[int]
    worse: list[int]
    verdict: Verdict
    decided_after: int
    """How many samples the verdict took; 0 until there is one."""


def start(margin: Number = 0.05, alpha: Number = 0.05) -> Comparison:
    """Return a comparison without samples. Raises `ValueError` for a margin outside [0, 1], an alpha outside (0, 1)."""
    level = billionths(alpha, 0, 1)
    if not 0 < level < BILLION:
        raise ValueError(f"alpha is {alpha}, and must be between 0 and 1")
    return {
        "margin": billionths(margin, 0, 1),
        "alpha": level,
        "samples": 0,
        "total": 0,
        "as_good": [0] * len(BETS),
        "worse": [0] * len(BETS),
        "verdict": "not_enough_data",
        "decided_after": 0,
    }


def resume(stored: Mapping[str, Any]) -> Comparison:
    """Return a comparison as it was stored, whose numbers may have become `Decimal` (DynamoDB)."""
    return {
        "margin": int(stored["margin"]),
        "alpha": int(stored["alpha"]),
        "samples": int(stored["samples"]),
        "total": int(stored["total"]),
        "as_good": [int(log) for log in stored["as_good"]],
        "worse": [int(log) for log in stored["worse"]],
        "verdict": stored["verdict"],
        "decided_after": int(stored["decided_after"]),
    }


def add(record: Comparison, difference: Number) -> Comparison:
    """Return the comparison after one more sample. Raises `ValueError` for a difference outside [-1, 1]."""
    sample, bound = billionths(difference), -record["margin"]
    after: Comparison = {
        **record,
        "samples": record["samples"] + 1,
        "total": record["total"] + sample,
        "as_good": betting.added(record["as_good"], betting.gains(sample, bound, "above")),
        "worse": betting.added(record["worse"], betting.gains(sample, bound, "below")),
    }
    if record["verdict"] == "not_enough_data":
        after["verdict"] = _verdict(after)
        if after["verdict"] != "not_enough_data":
            after["decided_after"] = after["samples"]
    return after


def mean(record: Comparison) -> float | None:
    """Return the mean difference so far, `None` without samples."""
    return record["total"] / record["samples"] / BILLION if record["samples"] else None


def e_values(record: Comparison) -> tuple[float, float]:
    """Return the e-values against "worse by the margin or more" and against "better than that", at most 1e300."""
    return betting.e_value(record["as_good"]), betting.e_value(record["worse"])


def more_needed(record: Comparison) -> int | None:
    """Return how many more samples a verdict takes if they go on like those so far: 0 with a verdict, `None` where that
    tells nothing, which is before the first sample, near the margin, and beyond 100,000.

    An estimate: each bet's wealth is taken to grow by its mean gain so far. It promises nothing, and is rough for the
    first dozens of samples.
    """
    if record["verdict"] != "not_enough_data":
        return 0
    estimates = [_reached_after(record[side], record["samples"], record["alpha"]) for side in ("as_good", "worse")]
    return min((count - record["samples"] for count in estimates if count is not None), default=None)


def _verdict(record: Comparison) -> Verdict:
    alpha = record["alpha"] / BILLION
    if betting.crossed(record["as_good"], alpha):
        return "as_good"
    return "worse" if betting.crossed(record["worse"], alpha) else "not_enough_data"


def _reached_after(logs: list[int], samples: int, alpha: int) -> int | None:
    """Return the least number of samples at which wealths that go on to grow alike reach 1/alpha."""

    def reaches(count: int) -> bool:
        return betting.crossed([log * count // samples for log in logs], alpha / BILLION)

    if not samples or not reaches(FARTHEST):
        return None
    # The logarithm of the mean is convex in the count and begins at 0: once reached, it stays.
    least, most = samples, FARTHEST
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if reaches(middle) else (middle, most)
    return most
