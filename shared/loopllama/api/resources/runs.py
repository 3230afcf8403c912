"""/v1/runs and a workflow's runs: start, follow, stop, replay."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from pydantic import Field

from loopllama.api import idempotency, response_models, run_models
from loopllama.api.dependencies import Services, new_router, possible_run
from loopllama.api.parameters import Cursor, IdempotencyKey, Limit, RunId, WorkflowId
from loopllama.api.responses import data
from loopllama.api.scopes import only_workflow
from loopllama.catalog.allowed import not_allowed
from loopllama.core import exact_json
from loopllama.core.input_model import InputModel
from loopllama.engine.accept import accept_run
from loopllama.engine.cancel import cancel_run
from loopllama.engine.human_input import respond
from loopllama.engine.redrive import redrive_run
from loopllama.engine.replay import replay_run
from loopllama.errors import InvalidRequest, ModelUnknown
from loopllama.queries.run_index import Filter, ShownStatus
from loopllama.runs.value_store import ValueStore
from loopllama.workflows.schema import Limits

if TYPE_CHECKING:
    from loopllama.queries.types import RunView

MAX_SHOWN_BYTES = 256 * 1024
"""Values of a run that an answer holds in all; what does not fit comes as a link."""
LINK_BYTES = 500
"""About as long as a link: a shorter value comes whole, whatever else there is."""
MAX_STEPS_BYTES = 4 * 1024 * 1024
"""Steps of a run that an answer holds; more come as a link. Lambda's answers end at 6 MB, the JSON of ours inside the
JSON of its own: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
LINKERS = 10
"""Values that are put at once where a link can lead: as many as the SDK has connections."""

_SINCE = "Only those accepted from this time on, in ISO 8601: UTC where it names no zone, a date is its beginning."
_TAG = "Only those with this tag: `name=value`, or `name` with any value."
_BEGINNING = "Only those whose input begins so, in the same letters; an object is its JSON without spaces."

Input = Annotated[str, Field(min_length=1)] | dict[str, Any]
Texts = dict[str, str]


class RunRequest(InputModel):
    """What a run is started with."""

    input: Input
    """A text, or a JSON object whose fields templates reach."""
    models: Texts | None = None
    """Models of steps in this run only: `{step: model, "*": model}`."""
    tags: Texts | None = None
    """For the bill: at most 20 texts by name."""
    pin: Literal["run"] | None = None
    """`run`: the run keeps the models as they stand when it starts."""
    budget: Limits | None = None
    """Most that the run may use; each limit replaces the workflow's own."""


class ReplayRequest(InputModel):
    """What a replay redoes, and how."""

    from_step: str = Field(min_length=1, max_length=60)
    """The first step that is redone; those before it in the crew are kept as they ended."""
    models: Texts | None = None
    """Models of steps, beside those of the run that is replayed."""
    input: Input | None = None
    """Another input for the steps that are redone."""
    system_prompts: Texts | None = None
    """Other system prompts of steps that are redone, by step."""


class Answer(InputModel):
    """What a person says to a run that waits: `input`, or `approved` and perhaps a `note`."""

    input: str | None = None
    """The answer to a question."""
    approved: bool | None = None
    """Whether the step may start, or the tool be called."""
    note: str | None = None
    """Why, for the agent to read."""
    id: str | None = Field(default=None, max_length=64)
    """That of the run's `pending`: what is answered. By default what the run has been asking longest."""


def routes(services: Services) -> Router:
    """Return the resource's routes."""
    router = new_router()

    @router.get(
        "/v1/workflows/<workflow_id>/runs",
        summary="List a workflow's runs, newest first, without their steps",
        responses=response_models.answers((200, "The runs", response_models.Page[run_models.RunSummary])),
    )
    def list_runs(workflow_id: WorkflowId, limit: Limit = 20, cursor: Cursor = None) -> Response[str]:
        services.workflow(workflow_id)
        runs, following = services.reader.list(workflow_id, limit, cursor)
        return data(_with_values(services, runs), next_cursor=following)

    @router.get(
        "/v1/runs",
        summary="List all runs, newest first, without their steps",
        description="Only those that each given filter admits. A request looks at a limited number of runs: a page may "
        "have fewer than `limit`, even none, and `next_cursor` goes on where it ended. The end is where it is null.",
        responses=response_models.answers((200, "The runs", response_models.Page[run_models.RunSummary])),
    )
    def list_all_runs(
        workflow: Annotated[str | None, Query(max_length=128, description="Only this workflow's.")] = None,
        status: Annotated[ShownStatus | None, Query(description="Only those in this state.")] = None,
        since: Annotated[str | None, Query(max_length=100, description=_SINCE)] = None,
        until: Annotated[str | None, Query(max_length=100, description="Only those accepted before this time.")] = None,
        tag: Annotated[str | None, Query(max_length=600, description=_TAG)] = None,
        q: Annotated[str | None, Query(max_length=200, description=_BEGINNING)] = None,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Response[str]:
        workflow = only_workflow(router.context["caller"], workflow)
        which = Filter.of(workflow, status, since, until, tag, q)
        runs, following = services.reader.list(limit=limit, cursor=cursor, which=which)
        if workflow and not runs and cursor is None:
            services.workflow(workflow)
        return data(_with_values(services, runs), next_cursor=following)

    @router.post(
        "/v1/workflows/<workflow_id>/runs",
        summary="Start a run",
        description="409 while the workflow is paused.",
        responses=response_models.answers((202, "The run, queued", response_models.Data[run_models.RunSummary])),
    )
    def start_run(
        workflow_id: WorkflowId, body: Annotated[RunRequest, Body()], key: IdempotencyKey = None
    ) -> Response[str]:
        caller = router.context["caller"]
        budget = body.budget.model_dump(exclude_none=True) if body.budget else None

        def act(use: str | None) -> Response[str]:
            _check_models(services, body.models)
            run_id = accept_run(
                services.settings,
                workflow_id,
                body.input,
                models=body.models,
                tags=body.tags,
                budget=budget,
                pin=body.pin,
                key=use,
                api_key=caller.key_id,
                key_max_usd=caller.max_usd_per_day,
            )
            return _accepted(services, run_id)

        # What is left out and what is empty is the same request.
        options = [body.models or None, body.tags or None, budget or None, body.pin]
        return idempotency.once(services, caller, key, ["POST runs", workflow_id, body.input, options], act)

    @router.get(
        "/v1/runs/<run_id>",
        summary="Get a run with its steps",
        description="Values that are too large for the answer come as `{url}`, a signed link.",
        responses=response_models.answers((200, "The run", response_models.Data[run_models.Run])),
    )
    def get_run(run_id: RunId) -> Response[str]:
        return data(_run(services, run_id))

    @router.post(
        "/v1/runs/<run_id>/cancel",
        summary="Cancel a run",
        description="What is done stays recorded. Cancelling a cancelled run is harmless; one that has ended is a 409.",
        responses=response_models.answers((200, "The run, cancelled", response_models.Data[run_models.Run])),
    )
    def cancel(run_id: RunId, key: IdempotencyKey = None) -> Response[str]:
        def act(_: str | None) -> Response[str]:
            possible_run(run_id)
            cancel_run(services.settings, run_id, by=router.context["caller"].key_id)
            return data(_run(services, run_id))

        return idempotency.once(services, router.context["caller"], key, ["POST cancel", run_id], act)

    @router.post(
        "/v1/runs/<run_id>/respond",
        summary="Answer a run that waits for a person",
        description="`input` where it asks for one, `approved` where it asks for an approval; `pending` of the run "
        "says which. Of two answers at once one wins, the other is a 409, as is one that comes too late.",
        responses=response_models.answers((200, "The run", response_models.Data[run_models.Run])),
    )
    def answer(run_id: RunId, body: Annotated[Answer, Body()], key: IdempotencyKey = None) -> Response[str]:
        given, caller = body.model_dump(exclude_none=True), router.context["caller"]
        request = ["POST respond", run_id, dict(given)]
        question = given.pop("id", None)

        def act(_: str | None) -> Response[str]:
            possible_run(run_id)
            respond(services.runs, run_id, given, by=caller.key_id, question=question)
            return data(_run(services, run_id))

        return idempotency.once(services, caller, key, request, act)

    @router.post(
        "/v1/runs/<run_id>/redrive",
        summary="Let a failed run go on where it failed",
        description="What is done is not done or paid again. Harmless for a run that goes on already. `status` stays "
        "`failed` until the execution has begun again. 409 for a run that did not fail, or whose execution Step "
        "Functions cannot redrive any more: replay it.",
        responses=response_models.answers((202, "The run", response_models.Data[run_models.Run])),
    )
    def redrive(run_id: RunId, key: IdempotencyKey = None) -> Response[str]:
        def act(_: str | None) -> Response[str]:
            possible_run(run_id)
            redrive_run(services.settings, run_id)
            return data(_run(services, run_id), 202)

        return idempotency.once(services, router.context["caller"], key, ["POST redrive", run_id], act)

    @router.post(
        "/v1/runs/<run_id>/replay",
        summary="Replay a run from a step on",
        description="A new run of the same version. The steps before `fromStep` are kept and cost nothing.",
        responses=response_models.answers((202, "The new run, queued", response_models.Data[run_models.RunSummary])),
    )
    def replay(run_id: RunId, body: Annotated[ReplayRequest, Body()], key: IdempotencyKey = None) -> Response[str]:
        caller = router.context["caller"]
        asked = [body.from_step, body.input, body.models or None, body.system_prompts or None]

        def act(use: str | None) -> Response[str]:
            possible_run(run_id)
            _check_models(services, body.models)
            new_run_id = replay_run(
                services.settings,
                run_id,
                body.from_step,
                run_input=body.input,
                models=body.models,
                system_prompts=body.system_prompts,
                key=use,
                api_key=caller.key_id,
                key_max_usd=caller.max_usd_per_day,
            )
            return _accepted(services, new_run_id)

        return idempotency.once(services, caller, key, ["POST replay", run_id, *asked], act)

    return router


class Shown:
    """Turns stored values into what an answer holds of them: whole while they fit, then links, which `link` fills in
    once all are known."""

    def __init__(self, values: ValueStore, run_id: str, most: int = MAX_SHOWN_BYTES) -> None:
        self._values, self._run_id, self._left = values, run_id, most
        self._due: list[tuple[dict[str, Any], Any]] = []

    def __call__(self, stored: Any) -> Any:
        if stored is None:
            return None
        if isinstance(stored, dict) and "bytes" in stored:
            size = int(stored["bytes"])
        else:
            text = stored["$json"] if isinstance(stored, dict) else stored
            size = len(str(text).encode())
        if size <= max(self._left, LINK_BYTES):
            self._left = max(0, self._left - size)
            return self._values.load(stored)
        due: dict[str, Any] = {"url": None}
        self._due.append((due, stored))
        return due

    def link(self) -> None:
        """Fill in the links. What lies in the record is put where a link can lead, many at once: a run of a thousand
        items has thousands of values."""
        with ThreadPoolExecutor(LINKERS) as pool:
            for (due, _), url in zip(self._due, pool.map(self._link, self._due), strict=True):
                due["url"] = url
        self._due = []

    def _link(self, due: tuple[dict[str, Any], Any]) -> str:
        url = self._values.link(due[1])
        return url or self.link_to("shown", self._values.load(due[1]))

    def link_to(self, name: str, value: Any) -> str:
        """Return a link to a value that has no place in the bucket yet."""
        url = self._values.link(self._values.store(self._run_id, name, value, inline_bytes=0))
        assert url is not None  # noqa: S101 - nothing is inline
        return url


def _run(services: Services, run_id: str) -> dict[str, Any]:
    """Return a run as an answer holds it, never longer than Lambda lets an answer be."""
    shown = Shown(services.values, run_id)
    run = services.reader.get(run_id, shown)
    shown.link()
    if len(exact_json.dumps(run["steps"])) > MAX_STEPS_BYTES:
        return {**run, "steps": {"url": shown.link_to("steps", run["steps"])}}
    return {**run}


def _accepted(services: Services, run_id: str) -> Response[str]:
    shown = Shown(services.values, run_id)
    run = services.reader.accepted(run_id, shown)
    shown.link()
    return data(run, 202)


def _with_values(services: Services, runs: Sequence[RunView]) -> list[RunView]:
    """Return a page of runs with their inputs and outputs, which the index leaves out."""
    from loopllama.aws import dynamo
    from loopllama.runs.store import RUN

    keys = [{"run_id": run["id"], "item": RUN} for run in runs]
    records = dynamo.batch_get(services.runs.dynamodb, services.runs.table, keys, by="run_id")
    bytes_each = MAX_SHOWN_BYTES // max(1, len(runs))
    shown_runs: list[RunView] = []
    for run in runs:
        record, shown = records.get(run["id"], {}), Shown(services.values, run["id"], bytes_each)
        shown_runs.append({**run, "input": shown(record.get("input")), "output": shown(record.get("output"))})
        shown.link()
    return shown_runs


def _check_models(services: Services, models: Texts | None) -> None:
    """Refuse a typing error in a model, and one that the deployment does not allow, at once: a run would skip it."""
    router = services.router()
    details: list[dict[str, object]] = []
    for step, model in list((models or {}).items())[:200]:
        try:
            if router.model(model).barred:
                message = f"{model[:80]!r} {not_allowed(services.settings.allowed_models)}"
                details.append({"field": f"models.{step[:60]}", "message": message})
        except ModelUnknown as error:
            details.append({"field": f"models.{step[:60]}", "message": str(error)})
    if details:
        raise InvalidRequest.of_all(details)
