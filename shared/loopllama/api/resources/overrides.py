"""/v1/workflows/{id}/routes: model overrides. What each step uses now, and rows that change it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Body
from pydantic import BeforeValidator, Field

from loopllama.api import idempotency, response_models
from loopllama.api.dependencies import Services, new_router
from loopllama.api.parameters import (
    Cursor,
    ExpectedVersion,
    ExpectedVersionQuery,
    IdempotencyKey,
    Limit,
    Number,
    Reason,
    ReasonQuery,
    StepName,
    WorkflowId,
)
from loopllama.api.responses import data, fields_as_asked
from loopllama.core import pagination
from loopllama.core.input_model import InputModel
from loopllama.errors import NotFound
from loopllama.policies.field import AnyPolicyName
from loopllama.routing.change_log import plain, route_of, shown
from loopllama.routing.store import MAX_STEP, VALUES

if TYPE_CHECKING:
    from loopllama.routing.types import RouteRow

Temperature = Annotated[Number, Field(ge=0, le=2)]
Version = Annotated[int, Field(ge=1, lt=10**9)]


class RouteCandidate(InputModel):
    """A model that a policy chooses among."""

    model: str = Field(min_length=1, max_length=256)
    weight: Number | None = None


def _named(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


AnyCandidate = Annotated[RouteCandidate, BeforeValidator(_named, json_schema_input_type=str | RouteCandidate)]


class RouteRequest(InputModel):
    """An override; it replaces the row as a whole."""

    model: str | None = Field(default=None, min_length=1, max_length=256)
    """Catalog id, alias or provider:model."""
    policy: AnyPolicyName | None = None
    """How one of the candidates is chosen; `fixed` by default."""
    candidates: list[AnyCandidate] | None = Field(default=None, min_length=1, max_length=100)
    """What the policy chooses among: names, or {model, weight} where it splits by weight."""
    fallbacks: list[str] | None = Field(default=None, min_length=1, max_length=20)
    """Models tried in order when the chosen one fails."""
    max_tokens: int | None = Field(default=None, ge=1, lt=10**9)
    """Instead of the agent's."""
    temperature: Temperature | None = None
    """Instead of the agent's, 0 to 2."""
    max_cost: Annotated[Number, Field(gt=0, lt=10**9)] | None = None
    """USD a turn: models that are expected to cost more are left out."""
    max_latency: int | None = Field(default=None, ge=1, lt=10**9)
    """ms a turn: models that are expected to take longer are left out."""
    pin: Literal["run"] | None = None
    """`run`: runs keep what the row says when they start."""
    expires_in: int | None = Field(default=None, ge=1, le=10 * 366 * 86400)
    """The row stops counting after so many seconds."""
    expected_version: ExpectedVersion = None
    reason: Reason = ""
    force: bool = False
    """Also a model without a price."""


class RollbackRequest(InputModel):
    """What a route goes back to."""

    version: Version | None = None
    """The version whose values count again, as a new version; by default what was before the last change."""
    expected_version: ExpectedVersion = None
    reason: Reason = ""


_SEQUENCE = re.compile(r"[0-9]{1,40}")


def routes(services: Services) -> Router:
    """Return the resource's routes."""
    router = new_router()

    @router.get(
        "/v1/workflows/<workflow_id>/routes",
        summary="What each step uses now, and which layer says so",
        description="In the crew's order, all of them.",
        responses=response_models.answers((200, "The steps", response_models.Page[response_models.Route])),
    )
    def list_routes(workflow_id: WorkflowId) -> Response[str]:
        return data(_explained(services, workflow_id), next_cursor=None)

    @router.get(
        "/v1/workflows/<workflow_id>/routes/<step>",
        summary="What a step uses now",
        responses=response_models.answers((200, "The step", response_models.Data[response_models.Route])),
    )
    def get_route(workflow_id: WorkflowId, step: StepName) -> Response[str]:
        return data(_shown_route(services, workflow_id, step))

    @router.put(
        "/v1/workflows/<workflow_id>/routes/<step>",
        summary="Set the override of a step, or of the whole workflow",
        description="It acts within seconds on every step that starts. Nothing is deployed.",
        responses=response_models.answers(
            (200, "The row as it is stored", response_models.Data[response_models.RouteRow])
        ),
    )
    def put_route(workflow_id: WorkflowId, step: StepName, body: Annotated[RouteRequest, Body()]) -> Response[str]:
        _check_step(services, workflow_id, step)
        with fields_as_asked():
            row = services.routes.set(
                workflow_id,
                step,
                _values(body),
                expected_version=body.expected_version,
                updated_by=router.context["caller"].key_id,
                reason=body.reason,
                expires_in=body.expires_in,
                force=body.force,
            )
        return data(row)

    @router.delete(
        "/v1/workflows/<workflow_id>/routes/<step>",
        summary="Remove an override; the next layer decides again",
        description="Harmless where there is none.",
        responses=response_models.answers((200, "It is gone", response_models.Data[response_models.RouteRemoved])),
    )
    def delete_route(
        workflow_id: WorkflowId,
        step: StepName,
        expected_version: ExpectedVersionQuery = None,
        reason: ReasonQuery = "",
    ) -> Response[str]:
        services.workflow(workflow_id)
        _possible(workflow_id, step)
        removed = services.routes.unset(
            workflow_id,
            step,
            expected_version=expected_version,
            updated_by=router.context["caller"].key_id,
            reason=reason,
        )
        return data({"workflow": workflow_id, "step": step, "removed": removed})

    @router.get(
        "/v1/workflows/<workflow_id>/routes/<step>/history",
        summary="Who changed a route, when, why, and from what to what",
        description="Newest first, edits by hand in DynamoDB too. A change is there within seconds.",
        responses=response_models.answers((200, "The changes", response_models.Page[response_models.RouteChange])),
    )
    def list_changes(
        workflow_id: WorkflowId,
        step: StepName,
        limit: Limit = 20,
        cursor: Cursor = None,
    ) -> Response[str]:
        services.workflow(workflow_id)
        _possible(workflow_id, step)
        route = route_of(workflow_id, step)
        binding = pagination.bound("route history", route)
        before = pagination.read(cursor, binding, _SEQUENCE)[0] if cursor else None
        entries = services.history.entries(route, limit + 1, before)
        if not entries:
            _shown_route(services, workflow_id, step)  # says so where there is no such step
        page = [shown(entry) for entry in entries[:limit]]
        return data(page, next_cursor=pagination.write(binding, page[-1]["sequence"]) if len(entries) > limit else None)

    @router.post(
        "/v1/workflows/<workflow_id>/routes/<step>/rollback",
        summary="Make a route say again what it said before",
        description="A new version, checked like any other write. `row` is null where there was no override then.",
        responses=response_models.answers(
            (200, "The row as it is stored", response_models.Data[response_models.RouteRolledBack])
        ),
    )
    def roll_back(
        workflow_id: WorkflowId, step: StepName, body: Annotated[RollbackRequest, Body()], key: IdempotencyKey = None
    ) -> Response[str]:
        caller = router.context["caller"]

        def act(_: str | None) -> Response[str]:
            services.workflow(workflow_id)
            with fields_as_asked():
                row = services.routes.rollback(
                    workflow_id,
                    step,
                    body.version,
                    expected_version=body.expected_version,
                    updated_by=caller.key_id,
                    reason=body.reason,
                )
            return data({"workflow": workflow_id, "step": step, "row": row})

        request = ["POST rollback", workflow_id, step, body.model_dump()]
        return idempotency.once(services, caller, key, request, act)

    return router


def _check_step(services: Services, workflow_id: str, step: str) -> None:
    """Raise `NotFound` unless the workflow has the step, or it is `*`."""
    names = [agent["name"] for agent in services.workflow(workflow_id)["definition"]["crew"]]
    if step != "*" and step not in names:
        raise NotFound(f"Workflow '{workflow_id}' has no step '{step[:60]}'; its steps are {', '.join(names)}.")


def _values(body: RouteRequest) -> RouteRow:
    values = {name: getattr(body, name) for name in VALUES if name in RouteRequest.model_fields}
    values["candidates"] = body.candidates and [
        candidate.model if candidate.weight is None else {"model": candidate.model, "weight": candidate.weight}
        for candidate in body.candidates
    ]
    return cast("RouteRow", values)


def _explained(services: Services, workflow_id: str) -> list[dict[str, Any]]:
    definition = services.workflow(workflow_id)["definition"]
    rows = {str(row["step"]): plain(row) for row in services.routes.rows(workflow_id)}
    return [
        {**_EMPTY, **explained, "row": rows.get(explained["step"]), "workflow_row": rows.get("*")}
        for explained in services.router().explain(workflow_id, definition)
    ]


def _shown_route(services: Services, workflow_id: str, step: str) -> dict[str, Any]:
    for explained in _explained(services, workflow_id):
        if explained["step"] == step:
            return explained
    _possible(workflow_id, step)
    stored = services.routes.get(workflow_id, step)
    row = None if stored is None else plain(stored)
    if step == "*":
        return {**_EMPTY, "step": "*", "row": row, "workflow_row": row}
    if row is None:
        raise _no_step(workflow_id, step)
    # A row without a step: it was renamed, or somebody typed it wrong.
    return {**_EMPTY, "step": step, "error": "the workflow has no such step", "row": row, "workflow_row": None}


_EMPTY: dict[str, Any] = {
    **dict.fromkeys(("model", "source", "route_version", "policy", "error")),
    "fallbacks": [],
    "ignored": [],
}


def _possible(workflow_id: str, step: str) -> None:
    """There is no row of a longer name."""
    if not 0 < len(step) <= MAX_STEP:
        raise _no_step(workflow_id, step)


def _no_step(workflow_id: str, step: str) -> NotFound:
    return NotFound(f"Workflow '{workflow_id}' has no step '{step[:60]}' and no override of it.")
