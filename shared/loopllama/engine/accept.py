"""Accepting a run: store the input, start the execution. The API, events and the command line all come here."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopllama.budgets import budget as budgets
from loopllama.core import exact_json
from loopllama.core.names import meant
from loopllama.engine import executions
from loopllama.errors import Conflict, InvalidRequest, RunNotFound, WorkflowPaused
from loopllama.runs.store import RunStore
from loopllama.runs.value_store import ValueStore
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.runs.records import Run
    from loopllama.workflows.types import WorkflowItem

MAX_MODELS = 200
MAX_TAGS = 20
MAX_NAME = 256
"""Of a tag, in characters."""


def accept_run(
    settings: Settings,
    workflow_id: str,
    run_input: Any,
    *,
    models: Mapping[str, str] | None = None,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
    budget: Mapping[str, Any] | None = None,
    pin: str | None = None,
    api_key: str | None = None,
    key_max_usd: Decimal | None = None,
) -> str:
    """Accept a run of the workflow's current version; returns its id.

    `run_input` is a text or any JSON value. `models` maps step names (or `*`) to models. `key` makes it idempotent: the
    same key always means the same run, and another request under it raises `Conflict`. `budget` is `{"max_steps",
    "max_tokens", "max_cost_usd"}`, each of which replaces the workflow's own. `pin` `"run"` keeps the models as they
    stand when the run starts. `api_key` is the id of who asks, for the bill, and `key_max_usd` what the key may cost in
    a day. Raises `WorkflowNotFound`,
    `WorkflowPaused` and `InvalidRequest`.
    """
    # What the request says, so that a repeated key with another request is noticed.
    request: dict[str, Any] = {"workflow": workflow_id, "input": run_input, "models": models or {}, "tags": tags or {}}
    if budget:
        request["budget"] = budget
    if pin:
        request["pin"] = pin
    check_json(request)
    if key and (run_id := started_before(settings, key, request)):
        return run_id
    workflow = DefinitionStore(settings).get(workflow_id)
    run_id = run_id_of(key) if key else new_run_id()
    run = new_run(workflow, run_id, run_input, models, tags, budget, pin)
    run |= {"api_key": api_key, "key_max_usd": key_max_usd}
    run["input"] = ValueStore(settings).store(run_id, "input", run_input)
    begin(settings, run, key, request)
    return run_id


def check_json(request: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest`, naming the field, where a request that has come as values holds what `exact_json.loads`
    would not take as text: events and executions by hand are read by Lambda's runtime."""
    try:
        exact_json.check(request)
    except exact_json.NotTaken as error:
        field = error.field or "request"
        raise InvalidRequest.of(field, error.message, sentence=f"{field} {error.message}") from error


def started_before(settings: Settings, key: str, request: Mapping[str, Any]) -> str | None:
    """Return the id of the run that an idempotency key has started, however the workflow has changed since; makes sure
    that its execution is started. Raises `Conflict` where the key stood for another request."""
    run_id = run_id_of(key)
    try:
        run = RunStore(settings).run(run_id)
    except RunNotFound:
        return None
    if run.get("request_hash") != _hash(request):
        raise Conflict(f"The idempotency key was used for another request; it started run {run_id}.")
    if run["status"] == "queued":
        start_execution(settings, run_id)
    return run_id


def begin(settings: Settings, run: Run, key: str | None, request: Mapping[str, Any]) -> None:
    """Store a new run and start its execution; where another was faster with the same key, make sure that it means
    the same request. Raises `Conflict`."""
    # Without a key the id is this call's alone: what is there already is its own write, repeated by the SDK because its
    # answer was lost.
    if RunStore(settings).create({**run, "request_hash": _hash(request)}) or not key:
        start_execution(settings, run["run_id"])
    elif started_before(settings, key, request) is None:
        raise Conflict(f"There is another run {run['run_id']}.")


def _hash(request: Mapping[str, Any]) -> str:
    try:
        return hashlib.sha256(exact_json.kept(request).encode()).hexdigest()
    except ValueError as error:
        raise InvalidRequest(f"the request cannot be kept: {error}") from error


def new_run_id() -> str:
    """Return an id that no run has."""
    return f"run_{uuid.uuid4().hex[:24]}"


def run_id_of(key: str) -> str:
    """Return the id of the run that an idempotency key or an event's id stands for."""
    return f"run_{hashlib.sha256(key.encode()).hexdigest()[:24]}"


def start_execution(settings: Settings, run_id: str) -> bool:
    """Start the run's first execution; its name is the run's id. `False` where there has been one that has ended."""
    return executions.start(execution_arn(settings, run_id), run_id)


def execution_arn(settings: Settings, run_id: str) -> str:
    """Return the ARN of the execution that `start_execution` starts."""
    return f"{settings.state_machine_arn.replace(':stateMachine:', ':execution:')}:{run_id}"


def is_of_this_stack(settings: Settings, arn: str) -> bool:
    """Return whether an execution is one of this stack's state machine. Runs that a deleted stack has left (`deploy
    --adopt`) have one of another, which is gone with it; the functions' roles may not even ask for it."""
    return arn.startswith(execution_arn(settings, ""))


def new_run(
    workflow: WorkflowItem,
    run_id: str,
    run_input: Any,
    models: Mapping[str, str] | None,
    tags: Mapping[str, str] | None,
    budget: Mapping[str, Any] | None = None,
    pin: str | None = None,
) -> Run:
    """Return the `RUN` item of a new run, without its input. Raises `InvalidRequest` and `WorkflowPaused`."""
    if workflow["status"] == "paused":
        raise WorkflowPaused(f"workflow {workflow['workflow_id']!r} is paused; activate it before starting runs")
    crew = workflow["definition"]["crew"]
    names = {step["name"] for step in crew}
    if run_input is None or run_input == "":
        raise InvalidRequest.of("input", "give a text or a JSON value", sentence="the run's input is empty")
    check_texts("models", models, MAX_MODELS, 256)
    check_texts("tags", tags, MAX_TAGS, 256)
    if pin not in (None, "run"):
        raise InvalidRequest.of("pin", "run, or left out", sentence="pin must be run, or left out")
    for step in models or {}:
        if step != "*" and step not in names:
            sentence = (
                f"workflow {workflow['workflow_id']!r} has no step {step!r}; its steps are {', '.join(sorted(names))}"
                f"{meant(step, names)}"
            )
            raise InvalidRequest.of(f"models.{step}", "no such step", sentence=sentence)
    return {
        "run_id": run_id,
        "workflow_id": workflow["workflow_id"],
        "workflow_version": int(workflow["version"] or workflow["current_version"]),
        "status": "queued",
        "models": dict(models) if models else None,
        "tags": dict(tags) if tags else None,
        "budget": budgets.merged(workflow["definition"], budgets.check(budget)),
        "pin": pin,
        "total_steps": 0,
    }


def check_texts(field: str, value: Any, most: int, longest: int) -> None:
    """Raise `InvalidRequest` unless `value` is `None` or at most `most` texts by name, each of 1 to `longest`
    characters. DynamoDB takes no empty name."""
    if value is None:
        return
    if not isinstance(value, Mapping) or len(value) > most:
        message = f"an object of at most {most} texts"
        raise InvalidRequest.of(field, message, sentence=f"{field} must be {message}")
    for name, text in value.items():
        if not 0 < len(name) <= MAX_NAME:
            raise InvalidRequest.of(field, f"names must have 1 to {MAX_NAME} characters")
        if not isinstance(text, str) or not 0 < len(text) <= longest:
            message = f"a text of 1 to {longest} characters"
            raise InvalidRequest.of(f"{field}.{name}", message, sentence=f"{field}.{name} must be {message}")
