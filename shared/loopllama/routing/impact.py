"""Which steps of which workflows a change of the catalog moves: asked before a model is disabled or an alias moved."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import clients, dynamo
from loopllama.catalog.catalog import Catalog
from loopllama.errors import LoopLlamaError
from loopllama.routing.decision import RouteRequest, plan
from loopllama.routing.overrides import NO_OVERRIDE, Override, parse_row
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.routing.types import MovedStep, RouteRow
    from loopllama.workflows.types import CrewStep, WorkflowItem

PAGE = 100


def moved(settings: Settings, before: Catalog, after: Catalog) -> list[MovedStep]:
    """Return the steps that use another model, or in another order, under `after` than under `before`: `workflow`,
    `step`, `source`, `from` and `to` (ids, the first to be tried first; `to` is empty where no model is left). Reads
    every current workflow, and the routes table once."""
    rows = _rows(settings)
    now = time.time()
    moves: list[MovedStep] = []
    for workflow in _workflows(settings):
        mine = rows.get(workflow["workflow_id"], {})
        for step in workflow["definition"]["crew"]:
            old, new = (_route(settings, workflow, step, mine, catalog, now) for catalog in (before, after))
            if old["attempt_order"] != new["attempt_order"]:
                moves.append(
                    {
                        "workflow": workflow["workflow_id"],
                        "step": step["name"],
                        "source": old["source"],
                        "from": old["attempt_order"],
                        "to": new["attempt_order"],
                    }
                )
    return moves


def _route(
    settings: Settings,
    workflow: WorkflowItem,
    step: CrewStep,
    rows: Mapping[str, Override],
    catalog: Catalog,
    now: float,
) -> dict[str, Any]:
    required = frozenset({"tools"}) if step.get("tools") else frozenset()
    request = RouteRequest(workflow["workflow_id"], workflow["definition"].get("model"), step, {}, required)
    pair = rows.get(step["name"], NO_OVERRIDE), rows.get("*", NO_OVERRIDE)
    try:
        decision = plan(request, *pair, settings.default_model, catalog, now)
    except LoopLlamaError:
        return {"source": None, "attempt_order": []}
    # Of candidates each may be used: all count, not only the one that a key falls on.
    attempt_order = [
        *(candidate.model.id for candidate in decision.candidates),
        *(model.id for model in decision.route_.attempt_order),
    ]
    return {"source": decision.route_.source, "attempt_order": list(dict.fromkeys(attempt_order))}


def _workflows(settings: Settings) -> Iterator[WorkflowItem]:
    store, cursor = DefinitionStore(settings), None
    while True:
        page, cursor = store.list(PAGE, cursor)
        yield from page
        if cursor is None:
            return


def _rows(settings: Settings) -> dict[str, dict[str, Override]]:
    rows: dict[str, dict[str, Override]] = defaultdict(dict)
    for page in clients.client("dynamodb").get_paginator("scan").paginate(TableName=settings.routes_table):
        for item in page["Items"]:
            row = cast("RouteRow", dynamo.from_item(item))
            rows[str(row["workflow"])][str(row["step"])] = parse_row(row)
    return rows
