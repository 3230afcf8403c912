"""StartRun: the first state. Makes the record where somebody started the execution by hand, and says what is ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopllama.core import clock
from loopllama.engine import history, lone_chain
from loopllama.engine.accept import check_json, new_run
from loopllama.engine.advance import finished_of, heads_of, ready_work
from loopllama.errors import InvalidRequest, RunFailed
from loopllama.routing.pins import pin_routes
from loopllama.routing.router import Router
from loopllama.runs.step_ref import contract_of
from loopllama.runs.store import FINAL, RUN_ID, RunStore, watched
from loopllama.runs.value_store import ValueStore
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.runs.records import Run
    from loopllama.workflows.types import Definition


def start_run(settings: Settings, event: Mapping[str, Any]) -> dict[str, Any]:
    """Open the run for its execution, again where that has failed and is redriven. Raises `InvalidRequest`,
    `WorkflowNotFound`, `RunFailed`, and `ContractUnknown` before anything is done."""
    request, contract = event["request"], contract_of(event)
    store = RunStore(settings)
    definitions = DefinitionStore(settings)
    if not isinstance(request, Mapping) or not ("run_id" in request or "workflow" in request):
        raise InvalidRequest('start an execution with {"workflow": its id, "input": a text or a JSON value}')
    if "run_id" in request:
        if not isinstance(request["run_id"], str):
            raise InvalidRequest("run_id is the id of a run that was accepted, a text")
        run = store.run(request["run_id"])
        _check_own(run, event, run["run_id"] == event["execution_name"])
    else:
        # The execution's name is unique for 90 days, which makes it an idempotent id.
        run_id = str(event["execution_name"])
        if not RUN_ID.fullmatch(run_id):
            raise InvalidRequest(
                f"the execution's name {run_id!r} is the run's id, by which people ask for it: start it under a name "
                "of letters, digits, - and _, and of dots but for the first character"
            )
        workflow = definitions.get(request["workflow"])
        options = (request.get(name) for name in ("input", "models", "tags", "budget", "pin"))
        check_json(request)
        run = new_run(workflow, run_id, *options)
        run["input"] = ValueStore(settings).store(run_id, "input", request["input"])
        if not store.create(run):
            run = store.run(run_id)
            _check_own(run, event, "request_hash" not in run)
    run_id = run["run_id"]
    if run["status"] == "failed" and run.get("execution_arn") in (None, event["execution_arn"]):
        # Its execution ended in this very state, and somebody redrives it: AdvanceRun opens the others.
        store.reopen(run_id)
    opened = store.change(
        run_id,
        {
            "status": "running",
            "started_at": run.get("started_at") or clock.now_text(),
            "execution_arn": event["execution_arn"],
            **watched(run_id, "run"),
        },
        only_from=("queued", "running"),
        remove=("starting",),
    )
    if not opened and store.run(run_id)["status"] in FINAL:
        raise RunFailed(f"run {run_id} has ended already; replay it or start another")
    version = int(run["workflow_version"])
    definition = definitions.get(run["workflow_id"], version)["definition"]
    if not run.get("pinned"):
        _pin(settings, store, run, definition)
    finished: set[str] = set()
    if "executions" in run:  # an execution before this one has done a part
        finished = finished_of(heads_of(run, definition["crew"], store.steps(run_id)))
    crew, left = definition["crew"], history.begin(settings.execution_events)
    if settings.steps_per_invocation == 1:  # else an invocation takes what follows its step too
        line = [name for name in lone_chain.line_of(crew) if name not in finished]
        if (begun := lone_chain.as_line(run, line, left, contract)) is not None:
            return begun
    ready = history.fitting(left, ready_work(run, crew, finished))
    return lone_chain.as_round(run, crew, ready, 0, left, contract)


def _check_own(run: Run, event: Mapping[str, Any], is_its_first: bool) -> None:
    """Raise `InvalidRequest` unless the run is this execution's: the one that its record names, or the first one that
    was started for it. Whoever may start executions must not get hold of a run that way."""
    own = run.get("execution_arn")
    if own != event["execution_arn"] if own else not is_its_first:
        raise InvalidRequest(
            f"run {run['run_id']} is not this execution's but {own or 'that of its own name'}: to let a failed run go "
            f"on, loopllama runs redrive {run['run_id']}; to start another, give a workflow and an input"
        )


def _pin(settings: Settings, store: RunStore, run: Run, definition: Definition) -> None:
    """Keep the routes of the steps that are pinned, before any of them can be decided. The first to write them wins."""
    pins = pin_routes(
        Router(settings),
        run["workflow_id"],
        definition,
        run.get("models") or {},
        run_pin=run.get("pin"),
        run_id=run["run_id"],
    )
    if pins:
        store.pin(run, pins)
