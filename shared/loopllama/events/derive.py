"""Events of one change in the Runs table: a pure function, so that a change that is delivered again gives the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from loopllama.aws import dynamo
from loopllama.core import clock
from loopllama.core.numbers import whole
from loopllama.llm.usage import TOTALS, shown
from loopllama.runs import questions
from loopllama.runs.store import FINAL, RUN

if TYPE_CHECKING:
    from loopllama.events.types import Detail, EventError, EventType
    from loopllama.runs.records import Question, RecordedError, Run, StepRecord

STARTED: Final = "RunStarted"
WAITING: Final = "RunWaiting"
EXPIRING: Final = "QuestionExpiring"
BUDGET_EXCEEDED: Final = "BudgetExceeded"
CLOSING: Mapping[str, EventType] = {"completed": "RunCompleted", "failed": "RunFailed", "cancelled": "RunCancelled"}
"""A run's last event by the status it ends with."""
STEP_ENDED: Mapping[str, EventType] = {"completed": "StepCompleted", "failed": "StepFailed"}
TYPES = (STARTED, *STEP_ENDED.values(), WAITING, EXPIRING, BUDGET_EXCEEDED, *CLOSING.values())

_RUN = ("workflow_id", "workflow_version", "tags")
_ENDED = ("total_steps", "unsatisfied_loops", *TOTALS)
_STEP = ("step", "order", "role", "model", "source", "started_at", "latency_ms")
_QUESTION = ("step", "kind", "tool", "asked_at", "expires_at")
# An image holds prompts and answers of up to 400 KB: only what is needed of it is converted.
_BOTH_READ = (*TOTALS, "status", "started_at", "finished_at", "error", "delete_at")
_RUN_READ = frozenset(
    (*_BOTH_READ, *_RUN, "total_steps", "unsatisfied_loops", "check_at", "pending", "budget", "waited_ms")
)
_STEP_READ = frozenset((*_BOTH_READ, *_STEP, "waited_ms", "iteration", "item_index", "replayed_from"))


@dataclass(frozen=True, slots=True)
class Event:
    """One event, not numbered yet."""

    run_id: str
    type: EventType
    change: str
    """What happened, as a text that no other event of the run has and every delivery of the same change gives."""
    at: str
    """When it happened (ISO 8601 UTC)."""
    detail: Detail
    """Ids, totals and cost: never a prompt, an output or an error's message."""
    delete_at: Any = None


def events_of(record: Mapping[str, Any]) -> list[Event]:
    """Return the events that a record of the table's stream (new and old image, as Lambda hands it over) stands for, in
    their order. Records of other items give none."""
    change = record["dynamodb"]
    new_image, old_image = change.get("NewImage"), change.get("OldImage") or {}
    item = change["Keys"]["item"]["S"]
    if not new_image:
        return []
    is_run = item == RUN
    if not is_run and not item.startswith("STEP#"):
        return []
    old, new = (_read(image, _RUN_READ if is_run else _STEP_READ) for image in (old_image, new_image))
    context = _Context(change["Keys"]["run_id"]["S"], item, change, new.get("delete_at"))
    if is_run:
        return _of_run(context, cast("Run", old), cast("Run", new))
    return _of_step(context, cast("StepRecord", old), cast("StepRecord", new))


@dataclass(frozen=True, slots=True)
class _Context:
    run_id: str
    item: str
    change: Mapping[str, Any]
    delete_at: Any

    def event(self, kind: EventType, moment: str | None, detail: Detail, place: str = "", at: Any = None) -> Event:
        """Return an event; `moment`, a time in the record, tells it from others of its kind and place."""
        # A record that somebody wrote by hand may lack its times: then the change itself is the moment.
        seconds = float(self.change.get("ApproximateCreationDateTime") or 0)
        return Event(
            run_id=self.run_id,
            type=kind,
            change=f"{kind}/{place or self.item}/{moment or self.change['SequenceNumber']}",
            at=str(at or moment or clock.now_text(seconds)),
            detail=detail,
            delete_at=self.delete_at,
        )


def _of_run(context: _Context, old: Run, new: Run) -> list[Event]:
    before, status = old.get("status"), new.get("status")
    run = _pick(new, _RUN)
    events = []
    if status == "running" and before in (None, "queued"):
        events.append(context.event(STARTED, new.get("started_at"), {**run, "resumed": False}))
    elif status == "running" and before in FINAL:
        # Redriven; `check_at` was set with it, and is the only time in the record that says so.
        at = clock.now_text(float(context.change.get("ApproximateCreationDateTime") or 0))
        events.append(context.event(STARTED, new.get("check_at"), {**run, "resumed": True}, at=at))
    if status not in FINAL:
        events += _of_questions(context, run, old.get("pending") or {}, new.get("pending") or {})
    elif status != before:
        started, finished = new.get("started_at"), new.get("finished_at")
        took = clock.ms_between(started, finished) if started and finished else None
        waited_ms = int(new.get("waited_ms") or 0)
        took = None if took is None else max(0, took - waited_ms)
        times: Detail = {
            "started_at": started,
            "finished_at": finished,
            "latency_ms": took,
            "waited_ms": waited_ms,
        }
        ended: Detail = {**run, **times, **_pick(new, _ENDED), "error": _error(new.get("error"))}
        if (new.get("error") or {}).get("type") == BUDGET_EXCEEDED:
            budget = {name: whole(value) for name, value in (new.get("budget") or {}).items()}
            events.append(context.event(BUDGET_EXCEEDED, new.get("finished_at"), {**ended, "budget": budget}))
        events.append(context.event(CLOSING[status], new.get("finished_at"), ended))
    return events


def _of_questions(
    context: _Context, run: Detail, before: Mapping[str, Question], now: Mapping[str, Question]
) -> list[Event]:
    """Return what people are to know of the questions that are new, or whose time is nearly over."""
    events = []
    for key, question in sorted(now.items(), key=lambda entry: str(entry[1].get("asked_at"))):
        asked_at, known = question.get("asked_at"), before.get(key)
        if known is not None and (known.get("key"), known.get("asked_at")) != (question.get("key"), asked_at):
            known = None
        detail: Detail = {**run, "question": questions.id_of(key, question), **_pick(question, _QUESTION)}
        detail["iteration"], detail["item"] = questions.place_of(key)
        place = f"{key}/{question.get('key')}"
        if known is None:
            events.append(context.event(WAITING, asked_at, detail, place))
        if (told_at := question.get("expiring_since")) and "expiring_since" not in (known or {}):
            events.append(context.event(EXPIRING, asked_at, detail, place, at=told_at))
    return events


def _of_step(context: _Context, old: StepRecord, new: StepRecord) -> list[Event]:
    status = new.get("status")
    # Steps that a replay has kept happened in another run.
    if status is None or status == old.get("status") or status not in STEP_ENDED or "replayed_from" in new:
        return []
    detail: Detail = {
        **_pick(new, _STEP),
        "waited_ms": int(new.get("waited_ms") or 0),
        "iteration": int(new.get("iteration") or 0),
        "item": whole(new.get("item_index")),
        **_pick(new, TOTALS),
        "error": _error(new.get("error"), new.get("step")),
    }
    return [context.event(STEP_ENDED[status], new.get("finished_at"), detail)]


def _error(error: RecordedError | None, step: str | None = None) -> EventError | None:
    """Return what failed, without its message: that may quote a prompt or an answer."""
    return {"type": error.get("type"), "step": error.get("step", step)} if error else None


def _read(image: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return dynamo.from_item({name: value for name, value in image.items() if name in names})


def _pick(values: Mapping[str, Any], names: tuple[str, ...]) -> Detail:
    """Return every one of `names` under the API's name, `None` where there is nothing."""
    return cast("Detail", shown({name: whole(values.get(name)) for name in names}))
