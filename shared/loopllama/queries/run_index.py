"""Lists of runs, newest first: of one workflow or of all, and only those that are asked for.

They are read by the index `by_workflow`, one partition a workflow, and put together by time. Each list looks at a
limited number of runs: a page may hold fewer runs than asked for, even none, and its cursor says where to go on.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from loopllama.aws import dynamo
from loopllama.core import clock, moments, pagination, tags
from loopllama.core.names import meant
from loopllama.core.patterns import late
from loopllama.errors import InvalidRequest
from loopllama.runs.store import RUN, RUN_ID, RunStore
from loopllama.runs.value_store import ValueStore
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.runs.records import Run

ShownStatus = Literal["queued", "running", "waiting_input", "completed", "failed", "cancelled"]
"""A run's status as it is shown: one that waits for a person is a running one in the record."""
STATUSES: Final = get_args(ShownStatus)
MAX_PAGE = 100
MAX_LOOKED_AT = 1_000
"""Runs that a page looks at, found or not: the index's records are under 1 KB, so this is about a MB."""
MAX_INPUTS = 200
"""Of them, runs whose input a page looks at. An input is not in the index, and its item may have 64 KB."""
MAX_WORKFLOWS = 1_000
"""Workflows whose runs are put together: each costs a Query."""
_AT_ONCE = 10
"""As many as the SDK has connections."""
_PAGE = 250
"""Records of a Query, at most."""
_WORKFLOW_ID = late(r"[^\0]{1,128}")


@dataclass(frozen=True)
class Filter:
    """Which runs a list is about; `None` is any. Times are as records say them. Make it by `of`."""

    workflow_id: str | None = None
    status: str | None = None
    since: str | None = None
    until: str | None = None
    tag: str | None = None
    beginning: str | None = None

    @classmethod
    def of(
        cls,
        workflow: str | None = None,
        status: str | None = None,
        since: str | None = None,
        until: str | None = None,
        tag: str | None = None,
        beginning: str | None = None,
    ) -> Filter:
        """Return the filter that somebody asked for: runs accepted from `since` on and before `until` (ISO 8601), with
        the `tag` `name` or `name=value`, whose input begins with `beginning`. Raises `InvalidRequest`."""
        if status and status not in STATUSES:
            hint = meant(status, STATUSES)
            raise InvalidRequest.of("status", f"must be one of {', '.join(STATUSES)}, not {status[:40]!r}{hint}")
        first, end = since and moments.read(since, "since"), until and moments.read(until, "until")
        if first and end and first >= end:
            raise InvalidRequest.of("until", f"must be later than since ({first}), not {end}")
        return cls(workflow or None, status or None, first or None, end or None, tag or None, beginning or None)

    @property
    def is_selective(self) -> bool:
        """Whether it leaves out runs of the time that it is about."""
        return bool(self.status or self.tag or self.beginning)

    def admits(self, run: Run) -> bool:
        """Return whether it is a run of the list, as far as the index tells."""
        if self.status and shown_status(run) != self.status:
            return False
        return not self.tag or any(
            self.tag in (name, tags.name_text(name), f"{name}={text}", tags.text_of(name, text))
            for name, text in (run.get("tags") or {}).items()
        )


def shown_status(run: Run) -> ShownStatus:
    """Return a run's status as it is shown."""
    return "waiting_input" if run["status"] == "running" and run.get("pending") else run["status"]


def reached(cursor: str) -> str:
    """Return the time of the last run that the page looked at which has this cursor."""
    return pagination.read(cursor, None, _WORKFLOW_ID, RUN_ID, pagination.TIME)[2]


class RunIndex:
    """Reads lists of runs: their records as the index holds them, without inputs and outputs."""

    def __init__(self, settings: Settings, store: RunStore, values: ValueStore, definitions: DefinitionStore) -> None:
        self._settings = settings
        self._store = store
        self._values = values
        self._definitions = definitions

    def page(self, which: Filter, limit: int, cursor: str | None = None) -> tuple[list[Run], str | None]:
        """Return at most `limit` runs, the newest first, and the cursor of what follows, `None` at the end. A page is
        shorter where it has looked at `MAX_LOOKED_AT` runs. Raises `InvalidRequest` for another list's cursor, and
        where there are too many workflows to list the runs of all."""
        limit = max(1, min(limit, MAX_PAGE))
        binding = pagination.bound("runs", *astuple(which))
        after = _place(cursor, binding, which) if cursor else None
        runs = self._newest(which, limit, after)
        found: list[Run] = []
        last: Run | None = None
        inputs, size = 0, _AT_ONCE * 5 if which.beginning else 1
        for _ in range(0, MAX_LOOKED_AT, size):
            chunk = list(islice(runs, size))
            candidates = [run for run in chunk if which.admits(run)]
            matches = self._begin(candidates, which.beginning)
            inputs += len(candidates)
            for run in chunk:
                last = run
                if run["run_id"] in matches:
                    found.append(run)
                if len(found) == limit:
                    break
            if len(chunk) < size or len(found) == limit or (which.beginning and inputs >= MAX_INPUTS):
                break
        if last is None or not chunk or (last is chunk[-1] and next(runs, None) is None):
            return found, None
        return found, pagination.write(binding, last["workflow_id"], last["run_id"], last["created_at"])

    def failed(self, since: str, workflow_id: str | None = None) -> Iterator[Run]:
        """Yield the runs that failed from that time on, of a workflow or of all, one workflow after the other. This
        looks at all runs that are kept: one may have been accepted long before it failed."""
        which = Filter(workflow_id, "failed")
        for name in self._workflows(which):
            if query := self._query(which, name, None, _PAGE):
                for run in self._walk(query, self._store.dynamodb.query(**query)):
                    if which.admits(run) and run.get("finished_at", "") >= since:
                        yield run

    def _begin(self, runs: Sequence[Run], beginning: str | None) -> set[str]:
        """Return the ids of the runs whose input begins so."""
        if not beginning or not runs:
            return {run["run_id"] for run in runs}
        keys = [{"run_id": run["run_id"], "item": RUN} for run in runs]
        names = ("run_id", "input")
        items = dynamo.batch_get(self._store.dynamodb, self._store.table, keys, by="run_id", attributes=names)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            begins = pool.map(lambda item: self._values.begins(item.get("input"), beginning), items.values())
            return {run_id for run_id, good in zip(items, begins, strict=True) if good}

    def _newest(self, which: Filter, limit: int, after: tuple[str, str, str] | None) -> Iterator[Run]:
        """Yield the runs of a time, newest first; those of one moment by their workflow, backwards."""
        workflows = self._workflows(which, most=MAX_WORKFLOWS + 1)
        if len(workflows) > MAX_WORKFLOWS:
            message = f"must name one: there are more than {MAX_WORKFLOWS:,}, too many to list the runs of all"
            raise InvalidRequest.of("workflow", message)
        size = max(2, min(_PAGE if which.is_selective else limit + 1, MAX_LOOKED_AT // max(1, len(workflows))))
        queries = [query for name in workflows if (query := self._query(which, name, after, size))]
        if len(queries) == 1:
            return self._walk(queries[0], self._store.dynamodb.query(**queries[0]))
        dynamodb = self._store.dynamodb
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            firsts = list(pool.map(lambda query: dynamodb.query(**query), queries))
        walks = [self._walk(query, first) for query, first in zip(queries, firsts, strict=True)]
        return heapq.merge(*walks, key=lambda run: (run["created_at"], run["workflow_id"]), reverse=True)

    def _workflows(self, which: Filter, most: int = 10**9) -> list[str]:
        if which.workflow_id:
            return [which.workflow_id]
        # What was deleted earlier has no run left: none was active then.
        kept = clock.now_text(clock.now_seconds() - self._settings.retention_days * 86400)
        return self._definitions.ids(deleted_after=kept, most=most)

    def _query(
        self, which: Filter, workflow_id: str, after: tuple[str, str, str] | None, size: int
    ) -> dict[str, Any] | None:
        """Return what a workflow's partition is asked for; `None` where nothing can be there."""
        first, last = which.since or "0", moments.before(which.until) if which.until else "9"
        request: dict[str, Any] = {
            "TableName": self._store.table,
            "IndexName": "by_workflow",
            "KeyConditionExpression": "workflow_id = :workflow AND created_at BETWEEN :first AND :last",
            "ScanIndexForward": False,
            "Limit": size,
        }
        if after:
            workflow, run_id, created_at = after
            # Of the same moment, what comes before in the order of workflows has been looked at.
            last = moments.before(created_at) if workflow_id > workflow else created_at
            if workflow_id == workflow:
                place = {"run_id": run_id, "item": RUN, "workflow_id": workflow, "created_at": created_at}
                request["ExclusiveStartKey"] = dynamo.to_item(place)
        if first > last:
            return None
        values = {":workflow": workflow_id, ":first": first, ":last": last}
        return {**request, "ExpressionAttributeValues": dynamo.to_item(values)}

    def _walk(self, query: dict[str, Any], page: Any) -> Iterator[Run]:
        size = query["Limit"]
        while True:
            yield from cast("list[Run]", [dynamo.from_item(item) for item in page["Items"]])
            if "LastEvaluatedKey" not in page:
                return
            size = min(_PAGE, 2 * size)
            page = self._store.dynamodb.query(**{**query, "Limit": size, "ExclusiveStartKey": page["LastEvaluatedKey"]})


def _place(cursor: str, binding: str, which: Filter) -> tuple[str, str, str]:
    """Return the workflow, the run and the time at which the page before ended."""
    workflows = re.compile(re.escape(which.workflow_id)) if which.workflow_id else _WORKFLOW_ID
    workflow, run_id, created_at = pagination.read(cursor, binding, workflows, RUN_ID, pagination.TIME)
    # DynamoDB refuses a place outside of the range; only a cursor that somebody made has one.
    created_at = moments.read(created_at, "cursor")
    if created_at < (which.since or "0") or (which.until and created_at >= which.until):
        raise InvalidRequest.of("cursor", "must be the next_cursor of an earlier answer", subject="The cursor")
    return workflow, run_id, created_at
