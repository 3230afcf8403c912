"""When the steps of a run object were at work, and when they only waited for people, in milliseconds since a begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from loopllama.runs.waits import Stretch, joined, without
from loopllama_cli.console import output
from loopllama_cli.console.folding import items_of

if TYPE_CHECKING:
    from loopllama.queries.types import StepView
    from loopllama_cli.console.folding import Folded


def at_work(steps: Sequence[StepView | Folded]) -> Iterator[StepView | Folded]:
    """Yield the steps that did something in this run: neither kept from another nor skipped."""
    yield from (step for step in steps if not step.get("replayed_from") and step.get("status") != "skipped")


def stretch_of(step: StepView | Folded, begin: datetime, now: float) -> Stretch:
    """Return from when to when a step went on."""
    started = offset(step.get("started_at"), begin) or 0.0
    finished = offset(step.get("finished_at"), begin)
    if finished is None:
        finished = now if step.get("status") == "running" else started + float(step.get("latency_ms") or 0)
    return started, max(started, finished)


def idle(steps: Sequence[StepView | Folded], begin: datetime, until: datetime) -> list[Stretch]:
    """Return when steps waited for people and none of them was at work."""
    now = (until - begin) / timedelta(milliseconds=1)
    waits: list[Stretch] = []
    work: list[Stretch] = []
    for step in (part for line in at_work(steps) for part in (items_of(line) or [line])):
        if step.get("item_count") is not None:
            continue  # what it did is what its items did
        mine = []
        for wait in step.get("waits") or []:
            if wait["reason"] == "person":
                ends = offset(wait.get("until"), begin)
                mine.append((offset(wait["since"], begin) or 0.0, now if ends is None else ends))
        waits += mine
        work += without(stretch_of(step, begin, now), mine)
    return [stretch for wait in joined(waits) for stretch in without(wait, work)]


def offset(time: Any, begin: datetime) -> float | None:
    """Return how long after `begin` a record's time is, `None` where there is none."""
    moment = output.moment(time)
    return None if moment is None else (moment - begin) / timedelta(milliseconds=1)
