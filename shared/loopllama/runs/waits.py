"""What steps and runs waited for people, which is none of their latency: pure functions over steps' items.

A step waits from when it asks until somebody has answered, until the time for the answer is over, or still. A run waits
where steps of it do and none is at work meanwhile: what other steps did in that time is latency, as it would have been
without anybody to ask. `timeoutSeconds` goes by the same figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, cast

from loopllama.runs.store import ANSWER, UNANSWERED

if TYPE_CHECKING:
    from loopllama.runs.records import HumanAnswer, Run, StepRecord

Stretch = tuple[float, float]
"""From and to, in milliseconds since the epoch."""


def answers_of(record: StepRecord) -> dict[str, HumanAnswer]:
    """Return what people have answered, by what was asked."""
    entries = cast("dict[str, HumanAnswer]", record)
    return {key.removeprefix(ANSWER): entries[key] for key in entries if key.startswith(ANSWER)}


def for_people(record: StepRecord) -> Iterator[tuple[str, str | None]]:
    """Yield from when until when (ISO 8601 UTC) a step has waited for people, `None` where it still does."""
    answers = answers_of(record)
    yield from ((answer["asked_at"], answer["at"]) for answer in answers.values() if "asked_at" in answer)
    if (closed := record.get(UNANSWERED)) and closed["key"] not in answers:
        yield closed["asked_at"], closed["expires_at"]
    if (asked := record.get("pending")) and asked["key"] not in answers:
        yield asked["asked_at"], None


def of_step(record: StepRecord, until: str) -> int:
    """Return for how many milliseconds a step has waited for people from its start until a time; one that was opened
    again and has not begun anew has no start."""
    if "started_at" not in record:
        return 0
    return round(_length(within(_waits(record, until), _ms(record["started_at"]), _ms(until))))


def of_run(run: Run, steps: Iterable[StepRecord], until: str) -> int:
    """Return for how many milliseconds a run has waited for people until a time. Where it was redriven, what it had
    waited when it failed stands: its steps are asked anew, and forget what they were asked before."""
    since = run.get("reopened_at")
    before = int(run.get("waited_ms") or 0) if since else 0
    return before + of_steps(steps, until, since)


def of_steps(steps: Iterable[StepRecord], until: str, since: str | None = None) -> int:
    """Return for how many milliseconds these steps of a run, or items of a forEach step, have waited for people, while
    none of them was at work, until a time and `since` another."""
    waits: list[Stretch] = []
    work: list[Stretch] = []
    for step in steps:
        # A forEach step is what its items are, and what a replay has kept happened in another run.
        if "started_at" not in step or "item_count" in step or "replayed_from" in step:
            continue
        mine = list(_waits(step, until))
        waits += mine
        work += without((_ms(step["started_at"]), _ms(step.get("finished_at") or until)), mine)
    if not waits:
        return 0
    waited = within(waits, _ms(since) if since else float("-inf"), _ms(until))
    return round(sum(_length(without(wait, work)) for wait in waited))


def _waits(record: StepRecord, until: str) -> Iterator[Stretch]:
    for asked, ended in for_people(record):
        yield _ms(asked), _ms(min(ended or until, until))


def _ms(time: str) -> float:
    return datetime.fromisoformat(time).timestamp() * 1000


def _length(stretches: Iterable[Stretch]) -> float:
    return sum(end - start for start, end in stretches)


def within(stretches: Iterable[Stretch], begin: float, end: float) -> Iterator[Stretch]:
    """Yield what of the stretches lies between two times."""
    for first, last in joined(stretches):
        if min(last, end) > max(first, begin):
            yield max(first, begin), min(last, end)


def without(stretch: Stretch, others: Iterable[Stretch]) -> list[Stretch]:
    """Return what of a stretch lies in none of the others."""
    left: list[Stretch] = []
    begin, end = stretch
    for first, last in within(others, begin, end):
        if first > begin:
            left.append((begin, first))
        begin = last
    return [*left, (begin, end)] if end > begin else left


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return stretches that do not overlap and cover the same, in their order."""
    joined: list[Stretch] = []
    for first, last in sorted(stretches):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        elif last > first:
            joined.append((first, last))
    return joined
