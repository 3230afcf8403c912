"""/v1/usage: what was used and paid."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Query

from loopllama.api import response_models, usage_models
from loopllama.api.dependencies import Services, new_router
from loopllama.api.responses import data
from loopllama.api.scopes import only_workflow
from loopllama.queries.usage import BY, DEFAULT_DAYS, summarise


def routes(services: Services) -> Router:
    """Return the resource's routes."""
    router = new_router()

    @router.get(
        "/v1/usage",
        summary="Steps, tokens and cost of a range of days",
        description="Sums of what completed steps used: to the digit what the runs' records say. Groups are ordered by "
        "cost, highest first; a run with several tags counts in the group of each.",
        responses=response_models.answers((200, "The sums", response_models.Data[usage_models.Usage])),
    )
    def get_usage(
        first: Annotated[
            str | None,
            Query(alias="from", max_length=10, description=f"First day (UTC); by default {DEFAULT_DAYS} days back."),
        ] = None,
        last: Annotated[str | None, Query(alias="to", max_length=10, description="Last day (UTC); today.")] = None,
        by: Annotated[
            str, Query(max_length=100, description=f"What to group by: one or several, by comma, of {', '.join(BY)}.")
        ] = "workflow",
        workflow: Annotated[str | None, Query(max_length=128, description="Only this workflow's.")] = None,
    ) -> Response[str]:
        workflow = only_workflow(router.context["caller"], workflow or None)
        names = [name.strip() for name in by.split(",") if name.strip()]
        return data(summarise(services.settings, names, first or None, last or None, workflow))

    return router
