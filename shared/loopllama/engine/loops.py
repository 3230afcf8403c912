"""How loops end: what their last step's record says of it, and what a skipped round leaves.

| `loop_ended` | what happened |
|---|---|
| `satisfied` | `until` held |
| `max_reached` | `until` did not hold in the last round that there may be |
| `stopped` | the `when` of its first step was false in a later round; the outputs of the round before stand |
| `unjudged` | its last step, which decides, was skipped by a `when` of its own |
| `skipped` | it never began: its first step was skipped |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopllama.errors import InvalidRequest
from loopllama.workflows import expressions

if TYPE_CHECKING:
    from loopllama.engine.step_context import View
    from loopllama.runs.records import StepRecord


def verdict(view: View, output: Any) -> StepRecord:
    """Return what a step that completes with an output says of its loop; nothing where it has no `repeat`. Raises
    `InvalidRequest` where `until` cannot be computed and there could be another round."""
    repeat = view.step.get("repeat")
    if not repeat:
        return {}
    is_last = view.work.iteration + 1 >= int(repeat["max"])
    document = view.document()
    document["steps"][view.work.step] = {"output": output}
    try:
        holds = expressions.parse(repeat["until"]).holds(document)
    except InvalidRequest:
        if not is_last:
            raise
        holds = False  # after the last round the run goes on as it is
    if holds:
        return {"loop_ended": "satisfied"}
    return {"loop_ended": "max_reached"} if is_last else {"repeat_pending": True}


def skipped(view: View, reason: str | None) -> StepRecord:
    """Return what a skipped step's record says: skipped by its own `when`, for that `reason`, or because all that it
    needs were.

    Where the first step of a loop is skipped in a later round, so is the whole round. What the round before gave stands
    then, for the steps behind the loop and as the run's output: it was made and judged.
    """
    needed = ", ".join(view.step["needs"])
    values: StepRecord = {"status": "skipped", "skipped_because": reason or f"all that it needs was skipped: {needed}"}
    if not view.loop:
        return values
    whole_round = reason is None or view.work.step == view.loop[0]
    if (
        whole_round
        and view.work.iteration
        and (output := view.before.get(view.work.step, {}).get("output")) is not None
    ):
        values["output"] = output
    if view.step.get("repeat"):
        never_began: bool = not view.work.iteration
        values["loop_ended"] = "unjudged" if not whole_round else "skipped" if never_began else "stopped"
    return values


def passes_over(record: StepRecord) -> bool:
    """Return whether a step that needs only such steps is skipped too."""
    return record.get("status") == "skipped" and record.get("loop_ended") != "stopped"


def has_spoken(record: StepRecord) -> bool:
    """Return whether a step has an output that those behind it are shown."""
    return record.get("status") == "completed" or (record.get("status") == "skipped" and "output" in record)
