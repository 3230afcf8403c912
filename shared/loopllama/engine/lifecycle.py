"""What ends a workflow and what brings an earlier version back: for the API and the command line alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopllama.errors import Conflict, NotFound
from loopllama.routing.store import RouteStore
from loopllama.runs.store import FINAL, RunStore
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.settings import Settings
    from loopllama.workflows.types import WorkflowItem


def delete_workflow(settings: Settings, workflow_id: str, by: str) -> None:
    """Delete a workflow with its versions and routes; its runs and usage stay. `by` is who asks, for the history of
    the routes. Raises `WorkflowNotFound`, and `Conflict` while runs of it are active."""
    definitions, routes = DefinitionStore(settings), RouteStore(settings)
    definitions.get(workflow_id)
    if active := active_runs(settings, workflow_id):
        raise Conflict(
            f"Workflow '{workflow_id}' has {len(active)} active runs, {active[0]} among them; wait for them to end or "
            "cancel them."
        )
    # The routes first: should this be interrupted, the workflow is still there to be deleted.
    for row in routes.rows(workflow_id):
        routes.unset(workflow_id, str(row["step"]), updated_by=by, reason="the workflow was deleted")
    definitions.delete(workflow_id)


def active_runs(settings: Settings, workflow_id: str) -> list[str]:
    """Return the ids of the workflow's unfinished runs."""
    return [
        run["run_id"]
        for run in RunStore(settings).active()
        # One that was cancelled or failed stays in the index until its last calls are settled.
        if run.get("workflow_id") == workflow_id and run["status"] not in FINAL
    ]


def roll_back(settings: Settings, workflow_id: str, to: int | None = None) -> WorkflowItem:
    """Make an earlier version of a workflow the current one, as a new version; by default the one before. Returns the
    current item. Runs keep the version that they started with. Checked as a push is; raises `WorkflowNotFound`,
    `NotFound` where there is no such version, `WorkflowInvalid` for one that this release would refuse, and
    `VersionConflict` where somebody changed the workflow meanwhile."""
    from loopllama.workflows.schema import Workflow

    store = DefinitionStore(settings)
    current = store.get(workflow_id)
    versions = store.versions(workflow_id)
    earlier = [number for number in versions if number < current["current_version"]]
    if to is None and not earlier:
        raise NotFound(f"Workflow '{workflow_id}' has no version before {current['current_version']}.")
    version = earlier[-1] if to is None else to
    if version not in versions:
        there = ", ".join(map(str, versions[-10:]))
        raise NotFound(f"Workflow '{workflow_id}' has no version {version}; the last that it has are {there}.")
    then = store.get(workflow_id, version)
    named = {"name": then["name"], "description": then.get("description") or ""}
    return store.push(Workflow.model_validate({**then["definition"], **named}), workflow_id, current["current_version"])
