"""Runs as the API and the command line show them: the run object with its steps, made from the record."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import dynamo
from loopllama.budgets import budget
from loopllama.core import clock, exact_json
from loopllama.core.numbers import whole
from loopllama.errors import RunNotFound, WorkflowNotFound
from loopllama.llm import usage
from loopllama.queries import step_waits
from loopllama.queries.run_index import Filter, RunIndex, shown_status
from loopllama.queries.step_order import in_order
from loopllama.runs import prompts, questions, totals, waits
from loopllama.runs.step_ref import step_key
from loopllama.runs.store import FINAL, RUN, RUN_ID, RunStore
from loopllama.runs.value_store import ValueStore
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.queries.types import AttemptView, QuestionView, RunView, ShownTotals, StepView
    from loopllama.runs.records import Attempt, RecordedError, Run, StepRecord
    from loopllama.workflows.types import CrewStep

_RUN = ("workflow_id", "workflow_version", "models", "pin", "tags", "replayed_from")
_TIMES = ("created_at", "started_at", "finished_at")
_TOTALS = ("total_steps", "unsatisfied_loops", *usage.TOTALS)
_QUESTION = ("kind", "tool", "step", "asked_at", "expires_at")
_STEP = (
    *("role", "model", "source", "route_version", "started_at", "finished_at", "latency_ms", "routing_ms"),
    *("replayed_from", "loop_ended", "skipped_because"),
)
_ATTEMPT = (
    *("model", "provider", "turn", "outcome", "error", *(figure.name for figure in usage.FIGURES)),
    *("cost_usd", "cost_basis", "latency_ms", "started_at", "simulated"),
    *("unpriced", "cache_saving_usd", "stop_reason", "retry_after", "output_mode", "mode_refused"),
    *("answered_by", "queued_ms", "max_tokens", "service_tier"),
)
_TOOL_CALL = ("name", "outcome", "latency_ms", "started_at")


class RunReader:
    """Reads runs from the Runs table."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = RunStore(settings)
        self._values = ValueStore(settings)
        self._definitions = DefinitionStore(settings)
        self._index = RunIndex(settings, self._store, self._values, self._definitions)

    def get(self, run_id: str, show: Callable[[Any], Any] | None = None) -> RunView:
        """Return the run object with its steps, also those that have not started. Totals are summed from the attempts.

        `show` turns a stored value into what the caller wants of it; by default the whole value, large ones fetched.
        Raises `RunNotFound`.
        """
        run, records = self._read(run_id)
        return self._object(run, records, show or self._values.load)

    def accepted(self, run_id: str, show: Callable[[Any], Any] | None = None) -> RunView:
        """Return the run object as it was when the run was accepted, whatever has happened since: the same for
        everybody who asked for the same run. Without steps, of which none had begun. Raises `RunNotFound`."""
        run = self._store.run(run_id)
        later = {"output", "error", "started_at", "finished_at", "pending", "waited_ms", *_TOTALS}
        then = cast("Run", {name: value for name, value in run.items() if name not in later})
        shown = self._summary({**then, "status": "queued", **totals.of_run(())}, {})
        return {**shown, "input": (show or self._values.load)(run.get("input")), "output": None}

    def _read(self, run_id: str) -> tuple[Run, list[StepRecord]]:
        if not RUN_ID.fullmatch(run_id):
            raise RunNotFound(f"There is no run {run_id[:128]!r}.")
        # The run and its steps lie side by side; claims and events, before them in the order of keys, stay unread.
        items = dynamo.query(
            self._store.dynamodb,
            self._settings.runs_table,
            "run_id = :id AND #item BETWEEN :run AND :steps",
            {":id": run_id, ":run": RUN, ":steps": "STEP#\uffff"},
            names={"#item": "item"},
            consistent=True,
        )
        run = cast("Run | None", next((item for item in items if item["item"] == RUN), None))
        if run is None:
            raise RunNotFound(f"There is no run {run_id!r}.")
        records = cast("list[StepRecord]", [item for item in items if "order" in item])
        for record in records:
            # The run's item holds the beginning of a question, the step's the whole.
            asked, full_question = (run.get("pending") or {}).get(record["item"]), record.get("pending")
            if asked and full_question and asked.get("key") == full_question["key"]:
                asked.update({"cut": False, **full_question})
        return run, records

    def _object(self, run: Run, records: Sequence[StepRecord], show: Callable[[Any], Any]) -> RunView:
        # In this order: where not everything can be shown whole, what people have to decide on comes first, then the
        # run's own values.
        used = self._store.budget_used(run["run_id"]) if run.get("budget") else {}
        summary = self._summary({**run, "waited_ms": _waited_ms(run, records)}, used, show)
        run_input, output = show(run.get("input")), show(run.get("output"))
        steps = [self._step(record, show) for record in records]
        # The prompts after all that steps gave: they mostly say it again.
        items: dict[str, Run | StepRecord] = {RUN: run, **{record["item"]: record for record in records}}
        for step, record in zip(steps, records, strict=True):
            step["input"] = show(prompts.whole(record.get("input"), items))
        begun = {step["step"] for step in steps}
        steps += [_waiting(order, step) for order, step in enumerate(self._crew(run)) if step["name"] not in begun]
        return {
            **summary,
            **cast("ShownTotals", usage.shown(totals.of_run(records))),
            "input": run_input,
            "output": output,
            "steps": in_order(steps),
        }

    def ended(self, workflow_id: str, limit: int = 20, cursor: str | None = None) -> tuple[list[RunView], str | None]:
        """Return a page of `list` for whom only the runs that have ended matter: what the others have used is not
        summed."""
        page, following = self._index.page(Filter(workflow_id), limit, cursor)
        return [self._summary(run) for run in page], following

    def _not_indexed(self, page: Sequence[Run]) -> dict[str, Run]:
        """Return what else lists say of the runs of a page that have begun: their unsatisfied loops, and how long they
        waited for people. The index does not hold it, and CloudFormation changes no index that is there."""
        keys = [{"run_id": run["run_id"], "item": RUN} for run in page if run["status"] != "queued"]
        names = ("run_id", "unsatisfied_loops", "waited_ms", "reopened_at")
        read = dynamo.batch_get(self._store.dynamodb, self._store.table, keys, by="run_id", attributes=names)
        return cast("dict[str, Run]", read)

    def list(
        self,
        workflow_id: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
        which: Filter | None = None,
    ) -> tuple[list[RunView], str | None]:
        """Return a workflow's runs, or all, or those of `which`, newest first, without inputs, outputs and steps; and
        the cursor of the next page (`queries/run_index.py`). The totals of those that go on are summed from their
        steps."""
        page, following = self._index.page(which or Filter(workflow_id), limit, cursor)
        more = self._not_indexed(page)
        return [self._so_far({**run, **more.get(run["run_id"], {})}) for run in page], following

    def failed(self, since: str, workflow_id: str | None = None) -> Iterator[RunView]:
        """Yield the runs that failed from that time on, as `list` has them."""
        return (self._summary(run) for run in self._index.failed(since, workflow_id))

    def _so_far(self, run: Run) -> RunView:
        if run["status"] in FINAL and "total_steps" in run and usage.SUMMED_NAMES[0] in run:
            return self._summary(run)
        steps = () if run["status"] == "queued" else self._store.steps(run["run_id"])
        return self._summary({**run, **totals.of_run(steps), "waited_ms": _waited_ms(run, steps)})

    def _summary(
        self, run: Run, used: Mapping[str, Any] | None = None, show: Callable[[Any], Any] | None = None
    ) -> RunView:
        asked = _questions(run, show or self._values.load)
        finished = run.get("finished_at")
        latency = clock.ms_between(run["started_at"], finished) if finished and run.get("started_at") else None
        waited_ms, error = int(run.get("waited_ms") or 0), run.get("error")
        shown = {
            "id": run["run_id"],
            "status": shown_status(run),
            **usage.shown({name: whole(run.get(name)) for name in (*_RUN, *_TIMES, *_TOTALS)}),
            "budget": budget.shown(run.get("budget"), used, run["status"] in FINAL),
            "pending": asked[0] if asked else None,
            "questions": asked,
            "unpriced": bool(run.get("unpriced")),
            "latency_ms": None if latency is None else max(0, latency - waited_ms),
            "waited_ms": waited_ms,
            "error": _sentence(error) if error else None,
            "failure": _failure(error),
        }
        return cast("RunView", shown)

    def _step(self, record: StepRecord, show: Callable[[Any], Any]) -> StepView:
        attempts = totals.attempts_of(record)
        ended = record["status"] != "running"
        error = record.get("error")
        shown = {
            "id": record["item"],
            "step": record["step"],
            "order": int(record["order"]),
            "iteration": int(record.get("iteration") or 0),
            "item": whole(record.get("item_index")),
            "item_count": whole(record.get("item_count")),
            "status": record["status"],
            **{name: whole(record.get(name)) for name in _STEP},
            "model": record.get("model") or next((attempt["model"] for attempt in reversed(attempts.values())), None),
            "waited_ms": _step_waited_ms(record),
            "waits": step_waits.waits_of(record),
            "ignored": record.get("ignored") or [],
            "input": None,
            "output": show(record.get("output")),
            "error": f"{error['type']}: {error['message']}" if error else None,
            "failure": _failure(error, record["step"]),
            **usage.shown(totals.totals(attempts.values())),
            "attempts": [_attempt(attempt, ended) for attempt in attempts.values()],
            "tool_calls": [
                {
                    **{name: whole(call.get(name)) for name in _TOOL_CALL},
                    "arguments": show(call.get("arguments")),
                    "result": show(call.get("result")),
                }
                for call in totals.tool_calls_of(record).values()
            ],
        }
        return cast("StepView", shown)

    def _crew(self, run: Run) -> Sequence[CrewStep]:
        try:
            workflow = self._definitions.get(run["workflow_id"], int(run["workflow_version"]))
        except WorkflowNotFound:
            return []  # It was deleted; what its runs did is still told.
        return workflow["definition"]["crew"]


def _attempt(attempt: Attempt, step_ended: bool) -> AttemptView:
    shown = usage.shown({name: whole(attempt.get(name)) for name in _ATTEMPT})
    if attempt["outcome"] == "open" and step_ended:
        # Its process died; nobody knows whether the provider served and billed the call.
        shown["outcome"] = "lost"
    return cast("AttemptView", shown)


def _waiting(order: int, step: CrewStep) -> StepView:
    shown = {
        "id": step_key(step["name"]),
        "step": step["name"],
        "order": order,
        "iteration": 0,
        "item": None,
        "item_count": None,
        "status": "queued",
        **dict.fromkeys(_STEP),
        "role": step["role"],
        "waited_ms": 0,
        "waits": [],
        "ignored": [],
        "input": None,
        "output": None,
        "error": None,
        "failure": None,
        **usage.shown(totals.totals(())),
        "cost_usd": None,
        "attempts": [],
        "tool_calls": [],
    }
    return cast("StepView", shown)


def _waited_ms(run: Run, steps: Iterable[StepRecord]) -> int:
    """Return how long a run has waited for people: as it was told at its end, or so far."""
    told = run.get("waited_ms") if run["status"] in FINAL else None
    return waits.of_run(run, steps, run.get("finished_at") or clock.now_text()) if told is None else int(told)


def _step_waited_ms(record: StepRecord) -> int:
    if record["status"] != "running" or "item_count" in record:
        return int(record.get("waited_ms") or 0)
    return waits.of_step(record, clock.now_text())


def _failure(error: RecordedError | None, step: str | None = None) -> RecordedError | None:
    if not error:
        return None
    return {"type": error["type"], "step": error.get("step") or step, "message": error["message"]}


def _sentence(error: RecordedError) -> str:
    where = f"step {error['step']!r}: " if error.get("step") else ""
    return f"{where}{error['type']}: {error['message']}"


def _questions(run: Run, show: Callable[[Any], Any]) -> list[QuestionView]:
    """Return all that an unfinished run asks people, first what ends first; each text as `show` gives it."""
    shown = []
    for key, question in questions.open_questions(run):
        iteration, item = questions.place_of(key)
        asked = {"id": questions.id_of(key, question), **{name: question.get(name) for name in _QUESTION}}
        asked |= {"iteration": iteration, "item": item, "prompt": show(question.get("prompt"))}
        asked["cut"] = bool(question.get("cut"))
        shown.append(cast("QuestionView", {**asked, "tool_input": _tool_input(question.get("tool_input"), show)}))
    return shown


def _tool_input(stored: Any, show: Callable[[Any], Any]) -> Any:
    """Return the arguments that wait for approval. Versions before this one kept their JSON as a text, a long one not
    whole."""
    if isinstance(stored, str):
        with contextlib.suppress(ValueError):
            return exact_json.loads_kept(stored)
    return show(stored)
