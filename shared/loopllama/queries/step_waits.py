"""What a step waited for, and when: a person, its next try, or its place among a model's calls. A pure function.

Only what people are asked is recorded as such. That a step was put off is seen by what its calls left: after a call
that failed nothing happens for a second or more (the state machine's shortest wait) until the next one begins. Calls
themselves say how long they had waited for their place.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from loopllama.core import clock
from loopllama.runs import waits
from loopllama.runs.totals import QUEUED_AT, attempts_of

if TYPE_CHECKING:
    from loopllama.queries.types import WaitView
    from loopllama.runs.records import StepRecord

_LEAST_MS = 1000


def waits_of(record: StepRecord) -> list[WaitView]:
    """Return the step's waits in their order; the last has no end (`until`) where the step waits for that now."""
    found: list[WaitView] = [
        {"reason": "person", "since": since, "until": until} for since, until in waits.for_people(record)
    ]
    attempts = list(attempts_of(record).values())
    for place, before in enumerate(attempts):
        after = attempts[place + 1] if place + 1 < len(attempts) else None
        queued_ms = int(before.get("queued_ms") or 0)
        if queued_ms:
            found.append(
                {"reason": "place", "since": _later(before["started_at"], -queued_ms), "until": before["started_at"]}
            )
        if before["outcome"] in ("ok", "open"):
            continue
        failed_at = _later(before["started_at"], int(before.get("latency_ms") or 0))
        if after is None:
            if _is_put_off(record) and QUEUED_AT not in record:
                found.append({"reason": "retry", "since": failed_at, "until": None})
        elif clock.ms_between(failed_at, after["started_at"]) >= _LEAST_MS and not after.get("queued_ms"):
            found.append({"reason": "retry", "since": failed_at, "until": after["started_at"]})
    if (queued_at := record.get(QUEUED_AT)) and record["status"] == "running":
        found.append({"reason": "place", "since": clock.now_text(int(queued_at) / 1000), "until": None})
    return sorted(found, key=lambda wait: wait["since"])


def _is_put_off(record: StepRecord) -> bool:
    """Return whether no invocation has the step, which is not over: the last one has let go of it."""
    return record["status"] == "running" and not int(record.get("lease_until") or 0)


def _later(time: str, milliseconds: int) -> str:
    return clock.now_text((datetime.fromisoformat(time) + timedelta(milliseconds=milliseconds)).timestamp())
