"""Whether a canary does worse than the incumbent: bets on two arms whose runs arrive one by one. Pure.

Each run gives a signal in [0, 1]: 1 for a failure and 0 for none, or a cost or latency as the share of a cap
(`clipped`). Null hypothesis: "the candidate's mean is at most `delta` over the incumbent's". Each run of the candidate
makes a block with m runs of the incumbent that no block has had. With a reference r and a bet a that are
fixed before the block's outcomes, the wealth is multiplied by

    (1 + a (x - r - delta)) (1 - a (y1 - r)/m) ... (1 - a (ym - r)/m),

and no factor is negative. Proof that the mean of this is at most 1: runs are independent, so it is the product of the
factors' means, (1 + a u) (1 - a v1/m) ... (1 - a vm/m) with u = E[x] - r - delta and vj = E[yj] - r. By the inequality
of arithmetic and geometric means it is at most (1 + a (u - mean of vj)/(m + 1))^(m + 1), and u is at most the mean of
the vj under the null hypothesis. Nothing else is assumed: rates may change from block to block, for both arms alike.
For 0 and 1, with r and a from the nearest rates of the null hypothesis, this is the E-variable of Turner, Ly and
Grünwald, Generic E-variables for exact sequential k-sample tests that allow for optional stopping, J. Stat. Plan.
Inference 230 (2024), and for differences of Turner and Grünwald, Stat. Prob. Letters 198 (2023). Written as bets it
holds for any r, and for means of bounded signals. By Ville's inequality a look after every run costs nothing.

**History.** With equal shares, half of the noise is the incumbent's. So blocks are filled up to five with runs from its
history, drawn without replacement. That is right while the incumbent fails as often as it did, and wrong in a
provider's bad hour, when both arms fail more. So bets on filled blocks, which decide at 1/(0.8 alpha), do so only when
the bets on concurrent runs alone have reached 3; alone these decide at 1/(0.2 alpha). With a true history at most alpha
of good canaries are ever rolled back. With a false one it is at most a third (Ville at 3), and few in simulations
(docs/benchmarks.md).

Runs are to come in the order of their start, as far as that is known: in the order of their ends, slow failures come
late. A block costs 36 logarithms or more, or a look-up where its outcomes were seen lately: 10,000 runs take 0.1 s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypedDict

from loopllama.evidence import betting
from loopllama.evidence.betting import BILLION, Number, billionths, nanonats

Arm = Literal["candidate", "incumbent"]

BETS = (4.8, 2.4, 1.2, 0.6, 0.3, 0.15)
"""The bets a. The best is about the difference over the variance: 4.6 for 10 points over 1 %, 0.2 for 3 over 10 %."""
MOST = 0.95
"""The share of what may be bet, without the risk of losing all, that is bet at most."""
FILL = 5
"""Runs of the incumbent that a block has at least, while history lasts."""
SHARE_FILLED = 0.8
"""The part of alpha that bets with history may spend."""
CONCURRENT = 1 / 3
"""The level that bets on concurrent runs must have reached for history to count."""
MOST_WAITING = 40
"""Runs kept of an arm that waits for the other; of more, the oldest are left out, whatever came of them."""


class Guard(TypedDict):
    """A signal of a canary under way. Fractions and signals are whole billionths, wealths logarithms in nanonats."""

    delta: int
    margin: int
    alpha: int
    seed: str
    candidates: int
    candidate_total: int
    incumbents: int
    """Concurrent runs; history is apart."""
    incumbent_total: int
    history: int
    history_bad: int
    history_left: int
    history_left_bad: int
    waiting: list[int]
    """Signals of incumbents that no block has yet."""
    held: list[int]
    """Signals of candidates for which there was none."""
    blocks: int
    filled: list[int]
    concurrent: list[int]
    safe: list[int]
    worse_after: int
    """Runs of the candidate after which it was found worse; 0 until then."""
    safe_after: int
    """Runs of the candidate after which "worse by the margin" was refuted; 0 until then."""


class Past(NamedTuple):
    """What the incumbent did before the canary: how many runs, and how many of them with the signal 1."""

    runs: int = 0
    bad: int = 0


NO_PAST = Past()


def start(
    delta: Number = 0.005, margin: Number = 0.05, alpha: Number = 0.05, past: Past = NO_PAST, seed: str = ""
) -> Guard:
    """Return the guard of one signal before its first run.

    `delta` is how much worse is no reason to go back, `margin` how much worse must be refuted to go on; `alpha` is the
    level of each of the two. `past` counts for signals of 0 and 1 only. `seed`, such as the canary's id, decides in
    which order history is drawn. Raises `ValueError` for what is outside [0, 1] or impossible.
    """
    level = billionths(alpha, 0, 1)
    if not 0 < level < BILLION:
        raise ValueError(f"alpha is {alpha}, and must be between 0 and 1")
    if not 0 <= past.bad <= past.runs:
        raise ValueError(f"{past.bad} of {past.runs} runs is no history")
    return {
        "delta": billionths(delta, 0, 1),
        "margin": billionths(margin, 0, 1),
        "alpha": level,
        "seed": seed,
        "candidates": 0,
        "candidate_total": 0,
        "incumbents": 0,
        "incumbent_total": 0,
        "history": past.runs,
        "history_bad": past.bad,
        "history_left": past.runs,
        "history_left_bad": past.bad,
        "waiting": [],
        "held": [],
        "blocks": 0,
        "filled": [0] * len(BETS),
        "concurrent": [0] * len(BETS),
        "safe": [0] * len(BETS),
        "worse_after": 0,
        "safe_after": 0,
    }


def resume(stored: Mapping[str, Any]) -> Guard:
    """Return a guard as it was stored, whose numbers may have become `Decimal` (DynamoDB)."""
    numbers: dict[str, Any] = {
        key: [int(item) for item in value] if isinstance(value, list) else value if key == "seed" else int(value)
        for key, value in stored.items()
    }
    guard: Guard = {**start(), **numbers}  # type: ignore[typeddict-item]  # each key of it is one of start's
    return guard


def clipped(value: Number, cap: Number) -> float:
    """Return a cost or latency as a share of the cap, from 0 to 1: what is over the cap counts as the cap."""
    return min(max(float(value) / float(cap), 0.0), 1.0)


def observe(record: Guard, arm: Arm, signal: Number) -> Guard:
    """Return the guard after one more run. Raises `ValueError` for a signal outside [0, 1]."""
    value = billionths(signal, 0, 1)
    after: Guard = {**record}
    if arm == "incumbent":
        after["incumbents"] += 1
        after["incumbent_total"] += value
        after["waiting"] = [*record["waiting"], value][-MOST_WAITING:]
        if not record["held"]:
            return after
        candidate, after["held"] = record["held"][0], record["held"][1:]
    else:
        after["candidates"] += 1
        after["candidate_total"] += value
        if not record["waiting"]:
            after["held"] = [*record["held"], value][-MOST_WAITING:]
            return after
        candidate = value
    return _after_block(after, candidate)


def means(record: Guard) -> tuple[float | None, float | None]:
    """Return the candidate's and the concurrent incumbent's mean signal so far, `None` without runs."""
    return (
        record["candidate_total"] / record["candidates"] / BILLION if record["candidates"] else None,
        record["incumbent_total"] / record["incumbents"] / BILLION if record["incumbents"] else None,
    )


def _after_block(record: Guard, candidate: int) -> Guard:
    """Close the block of a candidate and the incumbents that wait, and decide."""
    # Half of them, so that some are left for candidates that come in a row, and more come together where they are many.
    count = (len(record["waiting"]) + 1) // 2
    incumbents, record["waiting"] = record["waiting"][:count], record["waiting"][count:]
    reference = _reference(record, incumbents)
    past, record["history_left"], record["history_left_bad"] = _drawn(record, FILL - len(incumbents))
    with_past = tuple(sorted((*incumbents, *past)))
    alone, delta, margin = tuple(sorted(incumbents)), record["delta"], record["margin"]
    record["blocks"] += 1
    record["filled"] = betting.added(record["filled"], _gains(candidate, with_past, reference, delta))
    record["concurrent"] = betting.added(record["concurrent"], _gains(candidate, alone, reference, delta))
    mirrored = tuple(BILLION - value for value in alone)
    against = _gains(BILLION - candidate, mirrored, BILLION - reference, -margin)
    record["safe"] = betting.added(record["safe"], against)
    if not record["worse_after"] and _is_worse(record):
        record["worse_after"] = record["candidates"]
    if not record["safe_after"] and betting.crossed(record["safe"], record["alpha"] / BILLION):
        record["safe_after"] = record["candidates"]
    return record


def _is_worse(record: Guard) -> bool:
    alpha, concurrent = record["alpha"] / BILLION, record["concurrent"]
    if not record["history"]:
        return betting.crossed(concurrent, alpha)
    return betting.crossed(concurrent, (1 - SHARE_FILLED) * alpha) or (
        betting.crossed(record["filled"], SHARE_FILLED * alpha) and betting.crossed(concurrent, CONCURRENT)
    )


def _reference(record: Guard, incumbents: list[int]) -> int:
    """Return the incumbent's mean by its history and all its runs before this block, to a thousandth, in billionths."""
    later = [*incumbents, *record["waiting"]]
    runs = record["incumbents"] - len(later) + record["history"]
    total = record["incumbent_total"] - sum(later) + record["history_bad"] * BILLION
    thousandths = round((total + BILLION / 2) / (runs + 1) * 1000 / BILLION)
    return min(max(thousandths, 1), 999) * BILLION // 1000


def _drawn(record: Guard, count: int) -> tuple[list[int], int, int]:
    """Return so many signals drawn from history without replacement, and what is left of it: how many, and how many
    bad. The draws follow from seed and block, so that who counts again counts the same."""
    left, bad, signals = record["history_left"], record["history_left_bad"], []
    count = min(count, left)
    if count <= 0:
        return [], left, bad
    digest = hashlib.blake2b(f"{record['seed']}/{record['blocks']}".encode(), digest_size=8 * count).digest()
    for place in range(0, 8 * count, 8):
        is_bad = int.from_bytes(digest[place : place + 8], "big") % left < bad
        left, bad = left - 1, bad - is_bad
        signals.append(is_bad * BILLION)
    return signals, left, bad


@lru_cache(maxsize=8192)
def _gains(candidate: int, incumbents: tuple[int, ...], reference: int, delta: int) -> tuple[int, ...]:
    """Return what each bet gains by a block, in nanonats."""
    most = min(BILLION / max(reference + delta, BILLION // 100), len(incumbents) * BILLION / (BILLION - reference))
    gains = []
    for wished in BETS:
        bet = min(wished, MOST * most)
        gain = nanonats(bet * (candidate - reference - delta) / BILLION)
        part = bet / len(incumbents) / BILLION
        gains.append(gain + sum(nanonats(-part * (signal - reference)) for signal in incumbents))
    return tuple(gains)
