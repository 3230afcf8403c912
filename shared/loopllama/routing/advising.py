"""Advice for a workflow, from the tables: its runs, definition, overrides, the catalog, tools, and which providers have
a key. Reads only, and calls no model (`queries.advice.advise`)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients
from loopllama.catalog.store import CatalogStore
from loopllama.core import clock
from loopllama.errors import InvalidRequest, ModelUnknown
from loopllama.policies.registry import find
from loopllama.queries.advice import sample
from loopllama.queries.advice.advise import advise
from loopllama.queries.advice.reckon import Deployment, Incumbent
from loopllama.queries.runs import RunReader
from loopllama.routing.overrides import Override, parse_row
from loopllama.routing.router import Router
from loopllama.routing.store import RouteStore
from loopllama.routing.validation import RouteChecks
from loopllama.tools.effects import only_read
from loopllama.tools.store import ToolStore
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.catalog.catalog import Catalog
    from loopllama.queries.advice.types import Advice
    from loopllama.routing.types import Explained, RouteRow
    from loopllama.settings import Settings
    from loopllama.workflows.types import CrewStep, WorkflowItem

MAX_CANDIDATES = 20
"""Models that a caller may name to reckon with."""


def advice(
    settings: Settings,
    workflow_id: str,
    *,
    runs: int = sample.DEFAULT_RUNS,
    runs_month: float | None = None,
    candidates: Sequence[str] = (),
    monotonic: Callable[[], float] = time.monotonic,
) -> Advice:
    """Return the advice for a workflow by its newest `runs` completed runs. `runs_month` is how often it runs, where
    somebody knows better than the record; `candidates` are ids or aliases of the only models to reckon with. Raises
    `WorkflowNotFound`, `ModelUnknown`, and `InvalidRequest` for numbers out of range."""
    if not 1 <= runs <= sample.MAX_RUNS:
        raise InvalidRequest.of("runs", f"must be 1 to {sample.MAX_RUNS}")
    if len(candidates) > MAX_CANDIDATES:
        raise InvalidRequest.of("candidate", f"may be given at most {MAX_CANDIDATES} times")
    workflow = DefinitionStore(settings).get(workflow_id)
    catalog_store = CatalogStore(settings)
    entries = catalog_store.items()
    catalog = catalog_store.with_entries(entries)
    wanted = {catalog.resolve(name).id for name in candidates}
    now = clock.now()
    found = sample.read(RunReader(settings), workflow_id, now, runs, monotonic)
    recorded = {call["model"] for run in found.runs for step in run["steps"] for call in step["attempts"]}
    known = _deployment(
        settings, workflow, catalog, {*recorded, *(str(entry["model"]) for entry in entries)}, wanted, now
    )
    return advise(found, known, now, runs_month=runs_month, candidates=wanted)


def _deployment(
    settings: Settings,
    workflow: WorkflowItem,
    catalog: Catalog,
    named: Collection[str],
    wanted: Collection[str],
    now: datetime,
) -> Deployment:
    crew = workflow["definition"]["crew"]
    rows = {str(row["step"]): row for row in RouteStore(settings).rows(workflow["workflow_id"])}
    explained = Router(settings).explain(workflow["workflow_id"], workflow["definition"])
    checks = RouteChecks(settings, lambda: clients.client("dynamodb"))
    models = list({model.id: model for model in (*catalog.models(), *map(catalog.resolve, wanted))}.values())
    tools = list(dict.fromkeys(name for step in crew for name in step.get("tools") or ()))
    aliases = _aliases(catalog)
    used = [name for route in explained for name in (route["model"], *route.get("fallbacks", ())) if name]
    return Deployment(
        workflow_id=workflow["workflow_id"],
        version=workflow.get("current_version", workflow["version"]),
        crew=crew,
        incumbents={
            step["name"]: _incumbent(step, route, rows, catalog, now.timestamp())
            for step, route in zip(crew, explained, strict=True)
        },
        models=models,
        resolve=catalog.resolve,
        aliases=aliases,
        named=frozenset(_resolved(catalog, (*aliases, *named, *used, *wanted))),
        usable={provider: checks.has_key(provider) for provider in {model.provider for model in models}},
        tools=only_read(tools, ToolStore(settings).named(tools)),
    )


def _incumbent(
    step: CrewStep, route: Explained, rows: Mapping[str, RouteRow], catalog: Catalog, now: float
) -> Incumbent:
    name, row = route["model"], rows.get(step["name"])
    policy = find(route.get("policy"))
    mine, everybodys = (parse_row(rows.get(key, {})) for key in (step["name"], "*"))
    caps = [_counts(mine, now) and mine.max_tokens, step.get("max_tokens")]
    cap = next((limit for limit in (*caps, _counts(everybodys, now) and everybodys.max_tokens) if limit), None)
    kept: dict[str, Any] | None = {**row} if row is not None and _counts(mine, now) else None
    if kept is not None and mine.expires_at is not None:
        kept["expires_in"] = f"{max(1, int(mine.expires_at - now))}s"
    order = [name, *route.get("fallbacks", ())] if name else []
    model = None
    with contextlib.suppress(ModelUnknown):
        model = catalog.resolve(name) if name else None
    chosen = policy is not None and policy.chooses
    return Incumbent(model, order, route["source"], chosen, cap, kept)


def _counts(row: Override, now: float) -> bool:
    return row.expires_at is None or row.expires_at > now


def _aliases(catalog: Catalog) -> dict[str, str]:
    """Return the alias of each model that has one, by the model's id; of several the shortest."""
    names: dict[str, str] = {}
    for alias in sorted(catalog.aliases(), key=lambda name: (-len(name), name)):
        with contextlib.suppress(ModelUnknown):
            names[catalog.resolve(alias).id] = alias
    return names


def _resolved(catalog: Catalog, names: Collection[str]) -> set[str]:
    """Return the ids that names stand for; those that nobody knows are left out."""
    found = set()
    for name in names:
        with contextlib.suppress(ModelUnknown):
            found.add(catalog.resolve(name).id)
    return found
