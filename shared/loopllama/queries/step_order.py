"""The order in which a run's steps are shown: as the crew has them, the rounds of a loop one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopllama.queries.types import StepView


def in_order(steps: Iterable[StepView]) -> list[StepView]:
    """Return steps in the crew's order. What was repeated together stands round by round, not step by step; a forEach
    step stands before its items, and these as in its list."""
    listed = list(steps)
    repeated = {_order(step) for step in listed if _round(step)}
    last_of_loops = {_order(step) for step in listed if step.get("loop_ended")}
    loops: dict[int, int] = {}
    """The first step of the loop that a step is of, by their places in the crew."""
    first: int | None = None
    for order in sorted({_order(step) for step in listed}):
        first = (order if first is None else first) if order in repeated else None
        if first is not None:
            loops[order] = first
            if order in last_of_loops:
                first = None  # what follows at once is another loop

    def key(step: StepView) -> tuple[int, int, int, int]:
        order, again, item = _order(step), _round(step), int(step.get("item") or 0)
        return (loops[order], again, order, item) if order in loops else (order, 0, again, item)

    return sorted(listed, key=key)


def _order(step: StepView) -> int:
    return int(step.get("order") or 0)


def _round(step: StepView) -> int:
    return int(step.get("iteration") or 0)
