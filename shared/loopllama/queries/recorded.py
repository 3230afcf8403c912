"""Recorded runs to learn from, a bounded number of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from loopllama.queries.types import RunView

MAX_RUNS = 200
"""Runs that a prediction rests on, at most."""
FINISHED = ("completed",)


class Runs(Protocol):
    """Where runs are read (`queries.runs.RunReader`)."""

    def ended(
        self, workflow_id: str, limit: int = 20, cursor: str | None = None
    ) -> tuple[Sequence[RunView], str | None]:
        """Return a page of a workflow's runs, newest first, and the next page's cursor."""
        ...

    def get(self, run_id: str, show: Callable[[Any], Any] | None = None) -> RunView:
        """Return a run with its steps."""
        ...


def recent_runs(reader: Runs, workflow_id: str, *, limit: int = 20, since: datetime | None = None) -> list[RunView]:
    """Return the newest completed runs of a workflow, whole; at most `limit`, none older than `since`. `reader` is a
    `queries.runs.RunReader`. Inputs and outputs are not fetched. Replays that kept steps are left out: what they cost
    and took is a part of a run."""
    views: list[RunView] = []
    for run in summaries(reader, workflow_id, most=10 * limit, page=min(100, 2 * limit), since=since):
        if run["status"] in FINISHED:
            view = reader.get(run["id"], show=_nothing)
            if not any(step.get("replayed_from") for step in view["steps"]):
                views.append(view)
            if len(views) == limit:
                break
    return views


def summaries(
    reader: Runs, workflow_id: str, *, most: int, page: int = 100, since: datetime | None = None
) -> Iterator[RunView]:
    """Yield a workflow's runs without their steps, newest first: at most `most`, none older than `since`, read `page`
    at a time."""
    cursor: str | None = None
    seen = 0
    while seen < most:
        runs, cursor = reader.ended(workflow_id, limit=page, cursor=cursor)
        for run in runs:
            if seen == most or (since is not None and datetime.fromisoformat(run["created_at"]) < since):
                return
            seen += 1
            yield run
        if cursor is None:
            return


def _nothing(_: Any) -> None:
    """Instead of a value that nobody looks at."""
