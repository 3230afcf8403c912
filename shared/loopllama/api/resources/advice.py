"""/v1/workflows/{id}/advice: what would make a workflow cheaper, by its recorded runs."""

from __future__ import annotations

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.api_gateway import Router
from aws_lambda_powertools.event_handler.openapi.params import Query

from loopllama.api import advice_models, response_models
from loopllama.api.dependencies import Services, new_router
from loopllama.api.parameters import WorkflowId
from loopllama.api.responses import data
from loopllama.queries.advice.sample import DEFAULT_RUNS, MAX_RUNS
from loopllama.routing import advising

Candidates = Annotated[
    list[str] | None,
    Query(
        alias="candidate",
        max_length=advising.MAX_CANDIDATES,
        description="A model to reckon with, instead of those of the catalog. Repeatable.",
    ),
]


def routes(services: Services) -> Router:
    """Return the resource's routes."""
    router = new_router()

    @router.get(
        "/v1/workflows/<workflow_id>/advice",
        summary="What would make a workflow cheaper",
        description="By its newest completed runs; calls no model. The largest saving to expect comes first, "
        "each with its spread, what it rests on, what is not known, and the command that proves it.",
        responses=response_models.answers((200, "The advice", response_models.Data[advice_models.Advice])),
    )
    def get_advice(
        workflow_id: WorkflowId,
        runs: Annotated[int, Query(ge=1, le=MAX_RUNS, description="By the newest so many.")] = DEFAULT_RUNS,
        runs_month: Annotated[
            float | None,
            Query(alias="runsMonth", gt=0, lt=1e12, description="How often it runs in 30 days; else by the record."),
        ] = None,
        candidate: Candidates = None,
    ) -> Response[str]:
        told = advising.advice(
            services.settings, workflow_id, runs=runs, runs_month=runs_month, candidates=candidate or ()
        )
        return data(told)

    return router
