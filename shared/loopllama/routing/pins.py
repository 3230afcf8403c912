"""`pin: run`: a run uses the attempt orders as they stood when it started, aliases resolved, in retries and redrives
too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from loopllama.errors import LoopLlamaError
from loopllama.routing.decision import RouteRequest
from loopllama.routing.router import Router

if TYPE_CHECKING:
    from loopllama.runs.records import RouteRecord
    from loopllama.workflows.types import Definition


def pin_routes(
    router: Router,
    workflow_id: str,
    definition: Definition,
    run_models: Mapping[str, str],
    *,
    run_pin: str | None,
    run_id: str,
) -> dict[str, RouteRecord]:
    """Return the decision (`Route.to_record`) of each step that is pinned, by step; empty where none is.

    A step is pinned where the run's request, the workflow's definition, the workflow's row `*` or the step's own row
    says `pin: run`. A step for which no model is left now is not pinned: it is decided when it starts. Costs one Query,
    and where something is pinned the reading of the models that the crew names.
    """
    pinned = router.pinned_steps(workflow_id)
    everything = run_pin == "run" or definition.get("pin") == "run" or "*" in pinned
    steps = [step for step in definition["crew"] if everything or step["name"] in pinned]
    requests = [
        RouteRequest(
            workflow_id=workflow_id,
            workflow_model=definition.get("model"),
            step=step,
            run_models=run_models,
            required=frozenset({"tools"}) if step.get("tools") else frozenset(),
            run_id=run_id,
        )
        for step in steps
    ]
    router.prepare(requests)
    pins: dict[str, RouteRecord] = {}
    for request in requests:
        try:
            route = router.look(request)
        except LoopLlamaError:
            continue
        pins[request.step["name"]] = route.to_record()
    return pins
