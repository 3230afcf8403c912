"""How many events of its execution's history a chain may still cause: an execution ends at 25,000, and fails there.

The events are shared out as a budget is, so that nobody has to be asked: each chain of a round gets a share, a fork
shares out its chain's among its branches, and each outcome of RunStep says in `left` what is left. What a branch did
not use comes back when its fork ends. A chain whose next step does not fit is set aside: the run's next execution
(`engine/executions.py`) takes it up. A run's only chain has all that the execution has left. A line is charged whole
when it begins, repeated invocations among it, because nobody is told how far it came.

Source of the limit: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html. Which events a state
causes: https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html; tests/support/asl counts
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from loopllama.runs.records import Branch, ChainEnd, RoundShares, StepOutcome, StepPayload

_UNSEEN: Final = 25
"""One in so many events is kept for what no outcome can tell: functions that the state machine invoked repeatedly."""

_TASK, _CHOICE, _PASS, _WAIT, _MAP = 5, 2, 2, 2, 4
BEGIN_AND_END: Final = 1 + _TASK + _CHOICE + 2 + 1
"""ExecutionStarted, StartRun, NextState, RunEnded, ExecutionSucceeded."""
ROUND: Final = _MAP + _TASK + _CHOICE
"""RunChains, AdvanceRun, NextState. Kept from the beginning: whatever a run's only chain comes to, it can ask what is
ready."""
CHAIN: Final = 2 + _TASK + _CHOICE + _PASS
"""An iteration of a Map that invokes RunStep once."""
CONTINUE: Final = _TASK + _CHOICE
PUT_OFF: Final = _WAIT + CONTINUE
ASK: Final = 1 + _TASK + CONTINUE
"""A task that waits for its token has one event more, which says that it was submitted."""
FORK: Final = _MAP + _CHOICE
"""A fork without its branches."""
GATHER: Final = _PASS + CONTINUE
"""RunStep once more, behind the fork of a forEach step."""
RETRY: Final = 3
"""An invocation that failed, and that the state machine repeats."""
CRASH: Final = RETRY * 130
"""An invocation that it repeats as often as it may."""
_COSTS: Final = {"continue": CONTINUE, "retry_later": PUT_OFF, "waiting": ASK}

LEAST: Final = CHAIN + PUT_OFF
"""What a branch of a fork must get: it is put off once."""
ENOUGH: Final = 60
"""What an item of a list gets that was set aside before. With it an item comes further in each execution: by a turn, or
by the answer of a person."""
ENOUGH_FOR_CHAIN: Final = CHAIN + FORK + ENOUGH + GATHER
"""What a chain of a round must get: it may be a list's, and come further by one item. So a run ends."""
_LINE_STEP: Final = 2 + _TASK + 4 * RETRY
"""An iteration of the line, repeated as often as one that dies."""


def begin(most_events: int) -> int:
    """Return what chains may cause in an execution that begins."""
    return most_events - most_events // _UNSEEN - BEGIN_AND_END - ROUND


def behind_line(left: int, steps: int) -> int | None:
    """Return what is left of `left` for what may come behind a line of so many steps; `None` where that is too little
    for a run that leaves the line at its first step."""
    rest = left - _MAP - steps * _LINE_STEP
    return rest if rest >= max(left // 2, ENOUGH_FOR_CHAIN) else None


def fitting(left: int, ready: Sequence[Branch]) -> Sequence[Branch]:
    """Return the steps that an execution's first round has room for: one at least, so that a run comes further."""
    return ready[: max(1, left // ENOUGH_FOR_CHAIN)]


def further(left: int, ended: Sequence[ChainEnd], ready: Sequence[Branch]) -> int | None:
    """Return what the chains of another round of the same execution may cause; `None` where the run needs another
    execution. `left` is what the round before left, `ended` how its chains and those of their forks ended."""
    rest = left + unused(ended) - ROUND
    if any(end["outcome"] == "set_aside" for end in ended) or rest < ENOUGH_FOR_CHAIN * len(ready):
        return None
    return rest


def another_round(left: int, ready: Sequence[Branch]) -> RoundShares | None:
    """Return the shares of the round that a run's only chain forks into; `None` where it does not fit."""
    return shares(left, ready) if left >= ENOUGH_FOR_CHAIN * len(ready) else None


def back(left: int) -> int:
    """Return what a run's only chain gives back when it ends at AdvanceRun: that round needed no Map."""
    return left + _MAP


def charged(payload: StepPayload, outcome: StepOutcome) -> StepOutcome:
    """Return the outcome of an invocation with what its chain has `left` after it; a fork that does not fit is cut to
    the items that do, and what does not fit at all is set aside."""
    least = outcome.pop("least", LEAST)
    if "left" not in payload:
        return outcome
    left = left_after(payload)
    if outcome["outcome"] == "fork":
        return _forked(outcome, left, least)
    cost = _COSTS.get(outcome["outcome"], 0)
    if cost and cost > left:
        return {**outcome, "outcome": "set_aside", "left": left}
    return {**outcome, "left": left - cost}


def left_after(payload: StepPayload) -> int:
    """Return what a chain has left after an invocation, beside what its outcome causes."""
    return payload["left"] + unused(payload.get("ended") or ()) - RETRY * payload.get("retry", 0)


def unused(ended: Sequence[ChainEnd]) -> int:
    """Return what chains that have ended did not use; below 0 where they were repeated so often that they used more
    than they had."""
    return sum(end.get("left", 0) - (CRASH if end["outcome"] == "crashed" else 0) for end in ended)


def shares(free: int, ready: Sequence[Branch]) -> RoundShares:
    """Share out events evenly; a share is what a branch has left after its first invocation."""
    each = free // max(1, len(ready))
    return {"ready": [*ready], "share": each - CHAIN, "left": free - each * len(ready)}


def _forked(outcome: StepOutcome, left: int, least: int) -> StepOutcome:
    branches = outcome["ready"]
    free = left - FORK - (GATHER if outcome["join"] else 0)
    taken = branches[: max(0, free // least)]
    if not taken or (len(taken) < len(branches) and not outcome["join"]):
        return {**outcome, "outcome": "set_aside", "ready": [], "left": left}
    return {**outcome, **shares(free, taken), "left_out": len(branches) - len(taken)}
