"""The numbered events of each run, items `EVENT#<number>` of the Runs table.

Numbers begin at 1 and have no gaps, because an event is only ever put behind the last one, on the condition that
nothing is there. That one write is all there is: dying before it leaves nothing, dying after it leaves the event.
An event that comes behind the one that closed the run says so (`late`): a call was under way when the run ended.
Whoever puts an event knows which changes the events before it stand for, so a change that is delivered again, or to
two processes at once, finds the number that it has instead of getting another.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.errors import InvalidRequest, RunNotFound
from loopllama.events.derive import CLOSING, STARTED, STEP_ENDED, Event
from loopllama.runs.store import FINAL, RUN
from loopllama.settings import Settings

if TYPE_CHECKING:
    from loopllama.events.types import Detail, EventItem, EventType, ShownEvent, WorkflowNamed

PREFIX = "EVENT#"
DIGITS = 8
LAST = 10**DIGITS - 1
"""The highest number that an event can have."""
_RUNS_KNOWN = 200
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 1.0
_GIVEN_UP_SECONDS = 6 * 3600
"""A change that could not be handled for so long is given up (docs/events.md), so that a run whose closing event is one
of those is over all the same."""


def event_key(number: int) -> str:
    """Return the sort key of an event."""
    return f"{PREFIX}{number:0{DIGITS}}"


@dataclass
class _Known:
    """What this process knows of a run's events: all of them up to `last`. It may be behind, never wrong."""

    last: int = 0
    numbers: dict[str, int] = field(default_factory=dict)
    workflow: WorkflowNamed | None = None
    closed: bool = False
    """Whether the last event closed the run, or came behind the one that did."""
    late: set[int] = field(default_factory=set)
    """The numbers of events that came behind the one that closed the run."""

    def add(self, number: int, change: str, kind: EventType) -> None:
        """Add the event behind the last one; harmless for one that is known."""
        if number <= self.last:
            return
        self.last = number
        self.numbers[change] = number
        self.closed = kind in CLOSING.values() or (self.closed and kind != STARTED)
        if self.closed and kind not in CLOSING.values():
            self.late.add(number)


class EventLog:
    """Writes and reads the events of runs. `sleep` takes seconds."""

    def __init__(self, settings: Settings, dynamodb: Any = None, sleep: Callable[[float], None] | None = None) -> None:
        self._table = settings.runs_table
        self._given = dynamodb
        self._sleep = sleep or time.sleep
        self._known: OrderedDict[str, _Known] = OrderedDict()

    @property
    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def append(self, event: Event) -> ShownEvent:
        """Return number and keep an event, or find the number that it has; returns the event as readers see it."""
        known = self._of(event.run_id)
        detail: Detail = {**self._workflow(known, event), **event.detail}
        is_step = event.type in STEP_ENDED.values()
        while event.change not in known.numbers:
            number = known.last + 1
            if is_step:
                detail = {**detail, "late": known.closed}
            item: EventItem = {
                "run_id": event.run_id,
                "item": event_key(number),
                "type": event.type,
                "at": event.at,
                "change": event.change,
                "detail": detail,
                "delete_at": event.delete_at,
            }
            if dynamo.put_new(self._dynamodb, self._table, item, "run_id"):
                known.add(number, event.change, event.type)
            else:
                # Somebody has written behind what we know: another process, or we ourselves in a write whose answer
                # was lost.
                self._catch_up(event.run_id, known)
        number = known.numbers[event.change]
        if is_step:
            detail = {**detail, "late": number in known.late}
        return _shown(event.run_id, number, event.type, event.at, detail)

    def after(self, run_id: str, number: int, limit: int) -> list[ShownEvent]:
        """Return the run's events behind `number`, in order, at most `limit`."""
        if number >= LAST:
            return []
        items = self._items(run_id, number, limit=limit)
        return [
            _shown(run_id, int(item["item"].removeprefix(PREFIX)), item["type"], item["at"], item["detail"])
            for item in items
        ]

    def wait(self, run_id: str, number: int, seconds: float) -> bool:
        """Wait until the run has an event behind `number`; whether it has. Returns early, without one, where none will
        come: the run is over and `number` is its last event, or behind it."""
        deadline = time.monotonic() + seconds
        pause = _FIRST_PAUSE
        while True:
            # Numbers have no gaps, so the next event's key is known: the cheapest question there is.
            if self._get(run_id, event_key(number + 1), ("run_id",)) is not None:
                return True
            if pause == _FIRST_PAUSE and self.is_over(run_id, number):
                return False
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self._sleep(min(pause, remaining))
            pause = min(_LONGEST_PAUSE, pause * 1.5)

    def is_over(self, run_id: str, number: int) -> bool:
        """Return whether the run has ended, and whoever has seen event `number` has seen its end: the event that closed
        it is not behind that. Raises `RunNotFound`, and `InvalidRequest` where the run goes on and has not come to that
        number: who waited for what follows it would miss all that comes before."""
        run = self._run(run_id)
        if run["status"] not in FINAL:
            if number and self._get(run_id, event_key(number), ("run_id",)) is None:
                last = self._last(run_id)
                behind = int(last["item"].removeprefix(PREFIX)) if last else 0
                message = f"no event of the run, which has come to {behind}: leave it out, or give the id of one"
                raise InvalidRequest.of("after", message, sentence=f"Event {number} is {message}.")
            return False
        last = self._last(run_id)
        if last is not None and number < int(last["item"].removeprefix(PREFIX)):
            return False
        if last is not None and (last["type"] in CLOSING.values() or last["detail"].get("late")):
            return True
        finished = run.get("finished_at")
        return bool(finished) and clock.ms_between(str(finished), clock.now_text()) > _GIVEN_UP_SECONDS * 1000

    def status(self, run_id: str) -> str:
        """Return the run's status. Raises `RunNotFound`."""
        return str(self._run(run_id)["status"])

    def _run(self, run_id: str) -> dict[str, Any]:
        run = self._get(run_id, RUN, ("status", "finished_at"))
        if run is None:
            raise RunNotFound(f"There is no run {run_id!r}.")
        return run

    def _last(self, run_id: str) -> EventItem | None:
        """Return the run's last event, `None` before the first."""
        items = self._items(run_id, 0, limit=1, attributes=("item", "type", "detail"), newest=True)
        return items[0] if items else None

    def _of(self, run_id: str) -> _Known:
        known = self._known.pop(run_id, None) or _Known()
        self._known[run_id] = known
        if len(self._known) > _RUNS_KNOWN:
            self._known.popitem(last=False)
        return known

    def _workflow(self, known: _Known, event: Event) -> WorkflowNamed:
        """Return a run's workflow, which its steps' records do not name."""
        if known.workflow is None:
            names = ("workflow_id", "workflow_version")
            run = event.detail if "workflow_id" in event.detail else self._get(event.run_id, RUN, names) or {}
            known.workflow = {
                "workflow_id": run.get("workflow_id"),
                "workflow_version": int(run.get("workflow_version") or 0),
            }
        return known.workflow

    def _catch_up(self, run_id: str, known: _Known) -> None:
        for item in self._items(run_id, known.last, attributes=("item", "change", "type")):
            known.add(int(item["item"].removeprefix(PREFIX)), item["change"], item["type"])

    def _items(
        self,
        run_id: str,
        number: int,
        *,
        limit: int | None = None,
        attributes: tuple[str, ...] = (),
        newest: bool = False,
    ) -> list[EventItem]:
        items = dynamo.query(
            self._dynamodb,
            self._table,
            "run_id = :run AND #item BETWEEN :first AND :last",
            {":run": run_id, ":first": event_key(number + 1), ":last": event_key(LAST)},
            names={"#item": "item"},
            attributes=attributes,
            limit=limit,
            consistent=True,
            newest_first=newest,
        )
        return cast("list[EventItem]", items)

    def _get(self, run_id: str, item: str, attributes: tuple[str, ...]) -> dict[str, Any] | None:
        names = {f"#p{place}": name for place, name in enumerate(attributes)}
        stored = self._dynamodb.get_item(
            TableName=self._table,
            Key=dynamo.to_item({"run_id": run_id, "item": item}),
            ProjectionExpression=", ".join(names),
            ExpressionAttributeNames=names,
            ConsistentRead=True,
        ).get("Item")
        return None if stored is None else dynamo.from_item(stored)


def _shown(run_id: str, number: int, kind: EventType, at: str, detail: Detail) -> ShownEvent:
    return {"id": str(number), "type": kind, "at": at, "run_id": run_id, **detail}
