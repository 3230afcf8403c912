"""Sums of what a run's records say was used and paid: pure functions over a step's item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

from loopllama.llm.usage import SUMMED_NAMES

if TYPE_CHECKING:
    from loopllama.runs.records import Attempt, Counts, RunTotals, StepRecord, ToolCallRecord, Totals, Usage

ATTEMPT, TOOL = "attempt_", "tool_"
ATTEMPTS_BEFORE_RETRY: Final = "attempts_before_retry"
"""The step's attribute that counts the attempts made before it was last put off or opened again."""
METRICS_REPORTED: Final = "metrics_reported_attempts"
"""The step's attribute that counts the attempts which metrics have told of: those made before it was opened again."""
QUEUED_AT: Final = "queued_at"
"""The step's attribute that says since when (epoch ms) its next call waits for a place among the model's calls."""
THROTTLED_AT: Final = "throttled_at"
"""The step's attribute that says since when (epoch ms) providers turn its next call away."""
FIRST_TURN: Final = "first_turn"
TURNS: Final = "turns"
"""Attributes of a step that was opened again: where its conversation begins, and the model calls that do not count
against its `maxTurns`."""


def attempts_of(record: StepRecord) -> dict[str, Attempt]:
    """Return a step's attempts by their keys, in the order in which they were opened."""
    return cast("dict[str, Attempt]", _named(record, ATTEMPT))


def tool_calls_of(record: StepRecord) -> dict[str, ToolCallRecord]:
    """Return a step's tool calls by their keys, in the order in which the model asked for them."""
    return cast("dict[str, ToolCallRecord]", _named(record, TOOL))


def attempt_of(record: StepRecord, key: str) -> Attempt:
    """Return a step's attempt. Raises `KeyError`."""
    return cast("dict[str, Attempt]", record)[key]


def tool_call_of(record: StepRecord, key: str) -> ToolCallRecord | None:
    """Return a step's tool call, `None` where it has not been opened."""
    return cast("dict[str, ToolCallRecord]", record).get(key)


def of_run(steps: Iterable[StepRecord]) -> RunTotals:
    """Return a run's totals from its steps' records: the sums of their calls, and `total_steps`, the agents' turns that
    the run has taken so far.

    A turn counts once it has ended, well or not; each round of a loop and each item of a forEach is one. A skipped step
    and one that a replay kept took none, nor did a forEach step beside its items.
    """
    steps = list(steps)
    # A step without calls costs nothing, which must not make a run's cost known that no price is known for.
    calls = [attempts for step in steps if (attempts := attempts_of(step))]
    return {
        **totals(totals(step_attempts.values()) for step_attempts in calls),
        "total_steps": sum(map(_is_turn, steps)),
        "unsatisfied_loops": sorted({step["step"] for step in steps if step.get("loop_ended") in UNSATISFIED}) or None,
    }


UNSATISFIED: Final = ("max_reached", "stopped", "unjudged")
"""How loops end whose last round nobody found good."""


def _is_turn(step: StepRecord) -> bool:
    return step.get("status") in ("completed", "failed") and "item_count" not in step and "replayed_from" not in step


def _named(record: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    # `in` is no call, and a step's item is looked through again and again.
    return {key: record[key] for key in sorted([key for key in record if prefix in key and key.startswith(prefix)])}


CERTAINTY: Final = ("measured", "estimated", "unknown")
"""What `cost_basis` may be, the most certain first."""


def totals(entries: Iterable[Usage | Totals]) -> Totals:
    """Sum attempts to a step, or steps to a run.

    `cost_usd` is the exact sum of what is priced, `None` where nothing is; `unpriced` says that something is missing
    from it for want of a price. `cost_basis` is that of the least certain entry; an entry that is still open counts
    as `unknown`.
    """
    counts = dict.fromkeys(SUMMED_NAMES, 0)
    cost: Decimal | None = None
    basis = 0
    simulated = unpriced = False
    saved: Decimal | None = None
    for entry in entries:
        for name in SUMMED_NAMES:
            counts[name] += int(cast("Mapping[str, Any]", entry).get(name) or 0)
        if (paid := entry.get("cost_usd")) is not None:
            cost = (cost or Decimal(0)) + paid
        if (spared := entry.get("cache_saving_usd")) is not None:
            saved = (saved or Decimal(0)) + spared
        unpriced = unpriced or bool(entry.get("unpriced"))
        basis = max(basis, CERTAINTY.index(entry.get("cost_basis", "unknown")))
        simulated = simulated or bool(entry.get("simulated"))
    if cost is None and not unpriced and basis == 0:
        cost = Decimal(0)
    return {
        **cast("Counts", counts),
        "cost_usd": cost,
        "cost_basis": CERTAINTY[basis],
        "cache_saving_usd": saved,
        "unpriced": unpriced,
        "simulated": simulated,
    }
