"""The recorded runs that advice rests on: how many are read, and what is kept of them.

The bound: API Gateway waits 30 s for an answer. At most `MAX_COUNTED` runs are counted (their summaries lie in pages of
an index), at most `limit` of them are read whole, and reading ends early after `SECONDS`, or once `MAX_CALLS` model
calls are in memory (about 1 KB each). What was left unread is said. Inputs and outputs are not fetched: of each only
what tells equal ones apart is kept (`ValueStore.fingerprint`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from loopllama.errors import RunNotFound
from loopllama.queries.advice.spread import WINDOW_DAYS, RunRate, rate_of
from loopllama.queries.recorded import FINISHED, Runs, summaries
from loopllama.runs.value_store import ValueStore

if TYPE_CHECKING:
    from loopllama.queries.types import RunView

DEFAULT_RUNS = 20
MAX_RUNS = 100
"""Runs that are read whole, at most: each takes two or three calls of DynamoDB."""
MAX_COUNTED = 1_000
MAX_CALLS = 10_000
SECONDS = 12.0
_PAGE = 100


@dataclass(slots=True)
class Sample:
    """`runs` are completed ones, whole, newest first. `begun` are the times of all that were counted in the window, and
    `all_of_window` says whether there are older ones. `unfinished` are runs of the window that did not complete.
    `stopped` says why fewer runs were read than asked for, if so."""

    runs: list[RunView] = field(default_factory=list)
    begun: list[datetime] = field(default_factory=list)
    all_of_window: bool = False
    unfinished: int = 0
    stopped: str = ""

    def rate(self, now: datetime) -> RunRate | None:
        """Return how often the workflow runs, as far as the record tells."""
        return rate_of(self.begun, now, all_of_window=self.all_of_window)


def read(
    reader: Runs, workflow_id: str, now: datetime, limit: int, monotonic: Callable[[], float] = time.monotonic
) -> Sample:
    """Return a workflow's newest completed runs, and how often it ran lately. Replays are left out: somebody tried
    something."""
    until = monotonic() + SECONDS
    window = now - timedelta(days=WINDOW_DAYS)
    sample, calls = Sample(), 0
    for run in summaries(reader, workflow_id, most=MAX_COUNTED, page=_PAGE):
        begun = datetime.fromisoformat(run["created_at"])
        if begun < window:
            sample.all_of_window = True
            if len(sample.runs) >= limit or sample.stopped:
                break
        if run.get("replayed_from"):
            continue
        if run["status"] not in FINISHED:
            sample.unfinished += begun >= window
            continue
        if begun >= window:
            sample.begun.append(begun)
        if len(sample.runs) >= limit or sample.stopped:
            continue
        if monotonic() > until:
            sample.stopped = f"reading took longer than {SECONDS:g} s"
        elif calls >= MAX_CALLS:
            sample.stopped = f"they made more than {MAX_CALLS:,} model calls"
        else:
            # A run whose time is over may be in the index a little longer than in the table.
            with contextlib.suppress(RunNotFound):
                whole = reader.get(run["id"], show=ValueStore.fingerprint)
                calls += sum(len(step["attempts"]) for step in whole["steps"])
                sample.runs.append(whole)
    return sample
