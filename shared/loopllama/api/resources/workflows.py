"""/v1/workflows: definitions, in versions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Body, Query
from pydantic import BeforeValidator, Field

from loopllama.api import idempotency, response_models
from loopllama.api.dependencies import Services, new_router
from loopllama.api.parameters import Cursor, IdempotencyKey, WorkflowId
from loopllama.api.responses import data
from loopllama.core import exact_json
from loopllama.core.input_model import InputModel
from loopllama.core.numbers import floats
from loopllama.engine.lifecycle import delete_workflow, roll_back
from loopllama.errors import InvalidRequest, VersionConflict, WorkflowNotFound
from loopllama.routing import validation
from loopllama.workflows.presenter import view
from loopllama.workflows.schema import Workflow

if TYPE_CHECKING:
    from loopllama.workflows.types import WorkflowItem

MAX_LISTED_BYTES = 3 * 1024 * 1024
"""Workflows that an answer lists to who asks for no page; DynamoDB's pages of 1 MB come on top. Lambda's answers end at
6 MB."""
_PAGE = 1000


class WorkflowPatch(InputModel):
    """What changes; the rest stays."""

    status: Literal["active", "paused"] | None = None
    """A paused workflow starts no runs; those that run go on."""
    name: str | None = Field(default=None, min_length=1, max_length=120)
    """Makes a new version; the id stays."""
    description: str | None = Field(default=None, max_length=500)
    """Makes a new version."""


class WorkflowRollback(InputModel):
    """Which version comes back."""

    version: int | None = Field(default=None, ge=1, lt=10**9)
    """By default the one before the current one."""


WorkflowBody = Annotated[Workflow, BeforeValidator(floats), Body()]
"""Limits and schemas are JSON, not money."""


def routes(services: Services) -> Router:
    """Return the resource's routes."""
    router = new_router()

    def shown(item: WorkflowItem) -> dict[str, Any]:
        return view(item, services.settings.default_model)

    @router.get(
        "/v1/workflows",
        summary="List the workflows, most recently updated first",
        responses=response_models.answers((200, "The workflows", response_models.Page[response_models.Workflow])),
    )
    def list_workflows(
        limit: Annotated[int | None, Query(ge=1, le=100, description="At most so many; all by default.")] = None,
        cursor: Cursor = None,
    ) -> Response[str]:
        only = router.context["caller"].workflows
        if only is not None:
            return data([shown(item) for item in _those(services, only)], next_cursor=None)
        items, following = services.definitions.list(limit or _PAGE, cursor)
        # LoopLlama's v1 lists every workflow, and its clients know nothing of pages.
        while limit is None and following and len(exact_json.dumps(items)) < MAX_LISTED_BYTES:
            more, following = services.definitions.list(_PAGE, following)
            items += more
        return data([shown(item) for item in items], next_cursor=following)

    @router.post(
        "/v1/workflows",
        summary="Create a workflow",
        description="Its id is the slug of its name, with a short suffix where that is taken. A tool that the "
        "deployment does not have is a 400; models that it does not know are told in `warnings`.",
        responses=response_models.answers((201, "The workflow", response_models.Checked[response_models.Workflow])),
    )
    def create_workflow(body: WorkflowBody, key: IdempotencyKey = None) -> Response[str]:
        request = ["POST /v1/workflows", body.name, body.description, body.to_definition()]
        return idempotency.once(
            services,
            router.context["caller"],
            key,
            request,
            lambda _: _checked(services, services.definitions.create(body), 201),
        )

    @router.get(
        "/v1/workflows/<workflow_id>",
        summary="Get a workflow",
        responses=response_models.answers((200, "The workflow", response_models.Data[response_models.Workflow])),
    )
    def get_workflow(workflow_id: WorkflowId) -> Response[str]:
        return data(shown(services.workflow(workflow_id)))

    @router.put(
        "/v1/workflows/<workflow_id>",
        summary="Replace a workflow's definition",
        description="Makes a new version where it changes anything; runs keep the version that they started with. "
        "Tools and models are checked as they are for a new workflow.",
        responses=response_models.answers((200, "The workflow", response_models.Checked[response_models.Workflow])),
    )
    def put_workflow(workflow_id: WorkflowId, body: WorkflowBody) -> Response[str]:
        services.workflow(workflow_id)
        return _checked(services, services.definitions.push(body, workflow_id))

    @router.patch(
        "/v1/workflows/<workflow_id>",
        summary="Pause or resume a workflow, or change its name or description",
        responses=response_models.answers((200, "The workflow", response_models.Checked[response_models.Workflow])),
    )
    def patch_workflow(workflow_id: WorkflowId, body: Annotated[WorkflowPatch, Body()]) -> Response[str]:
        if not body.model_dump(exclude_none=True):
            raise InvalidRequest.of("body", "needs at least one of status, name, description", subject="The body")
        item = services.workflow(workflow_id)
        if body.name is not None or body.description is not None:
            item = _rename(services, item, body)
        if body.status is not None and body.status != item["status"]:
            item = services.definitions.set_status(workflow_id, body.status)
        return _checked(services, item)

    @router.delete(
        "/v1/workflows/<workflow_id>",
        summary="Delete a workflow with its versions and routes; its runs and usage stay",
        responses=response_models.answers((200, "It is gone", response_models.Data[response_models.Deleted])),
    )
    def delete(workflow_id: WorkflowId) -> Response[str]:
        delete_workflow(services.settings, workflow_id, by=router.context["caller"].key_id)
        return data({"id": workflow_id, "deleted": True})

    @router.post(
        "/v1/workflows/<workflow_id>/rollback",
        summary="Make an earlier version of a workflow the current one",
        description="As a new version, checked like any other. Runs keep the version that they started with.",
        responses=response_models.answers((200, "The workflow", response_models.Checked[response_models.Workflow])),
    )
    def roll_back_workflow(
        workflow_id: WorkflowId, body: Annotated[WorkflowRollback, Body()], key: IdempotencyKey = None
    ) -> Response[str]:
        def act(_: str | None) -> Response[str]:
            return _checked(services, roll_back(services.settings, workflow_id, body.version))

        request = ["POST rollback", workflow_id, body.model_dump()]
        return idempotency.once(services, router.context["caller"], key, request, act)

    return router


def _those(services: Services, ids: Iterable[str]) -> list[WorkflowItem]:
    """Return the workflows of these ids that there are, most recently updated first."""
    found = []
    for workflow_id in ids:
        with contextlib.suppress(WorkflowNotFound):
            found.append(services.workflow(workflow_id))
    return sorted(found, key=lambda item: item["updated_at"], reverse=True)


def _checked(services: Services, item: WorkflowItem, status: int = 200) -> Response[str]:
    """Return the answer of a write: the workflow, and beside it what the deployment does not know of what it names, and
    routes that do nothing as the crew is now."""
    more: dict[str, Any] = {}
    idle = validation.idle_routes(services.settings, item["workflow_id"], item["definition"])
    if warnings := [*validation.warnings(services.settings, item["definition"]), *idle]:
        more["warnings"] = warnings
    return data(view(item, services.settings.default_model), status, **more)


def _rename(services: Services, item: WorkflowItem, body: WorkflowPatch) -> WorkflowItem:
    """Return a new version with another name or description. Whatever else changes meanwhile is kept."""
    for _ in range(5):
        named = {
            "name": item["name"] if body.name is None else body.name,
            "description": item["description"] if body.description is None else body.description,
        }
        changed = Workflow.model_validate({**item["definition"], **named})
        try:
            return services.definitions.push(changed, item["workflow_id"], item["current_version"])
        except VersionConflict:
            item = services.workflow(item["workflow_id"])
    raise VersionConflict(f"Workflow '{item['workflow_id']}' is being changed by many at once; try again.")
