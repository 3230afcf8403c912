"""Files of a workflow's routes: written for those who review changes in git, and applied to a stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, cast

from loopllama.errors import InvalidRequest
from loopllama.routing.change_log import differences, plain
from loopllama.routing.store import VALUES, RouteStore
from loopllama_cli import workflow_files, yaml_text
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.routing.types import Difference, RouteRow
    from loopllama.settings import Settings


class Change(TypedDict):
    """What a file changes of one step's route."""

    step: str
    change: Literal["set", "removed"]
    differences: Sequence[Difference]


@dataclass(frozen=True)
class RouteFile:
    """What a file says that the routes of a workflow are to be."""

    workflow: str
    routes: dict[str, RouteRow]

    def changes(self, settings: Settings, *, prune: bool = False, force: bool = False) -> list[Change]:
        """Return what would change, each row checked; `prune` also removes what the file does not have. Raises
        `RouteInvalid`."""
        there, store = present(settings, self.workflow), RouteStore(settings)
        changes: list[Change] = []
        for step in [*self.routes, *((name for name in there if name not in self.routes) if prune else ())]:
            if different := differences(there.get(step), self.routes.get(step)):
                kind: Literal["set", "removed"] = "set" if step in self.routes else "removed"
                changes.append({"step": step, "change": kind, "differences": different})
                if step in self.routes:
                    store.check(self.workflow, step, self.routes[step], force=force)
        return changes

    def apply(
        self, settings: Settings, changes: Sequence[Change], by: str, reason: str, *, force: bool = False
    ) -> None:
        """Write changes. Raises `VersionConflict` where somebody changed a route meanwhile."""
        store = RouteStore(settings)
        rows = {str(row["step"]): row for row in store.rows(self.workflow)}
        for change in changes:
            step = change["step"]
            version = int(rows[step].get("version") or 0) if step in rows else 0
            if change["change"] == "set":
                row = self.routes[step]
                store.set(self.workflow, step, row, expected_version=version, force=force, updated_by=by, reason=reason)
            else:
                store.unset(self.workflow, step, expected_version=version, updated_by=by, reason=reason)


def present(settings: Settings, workflow: str) -> dict[str, RouteRow]:
    """Return what each row says, without who and when."""
    return {
        str(row["step"]): cast("RouteRow", {name: row.get(name) for name in VALUES if row.get(name) is not None})
        for row in RouteStore(settings).rows(workflow)
    }


def dump(workflow: str, routes: dict[str, RouteRow]) -> str:
    """Return a file's text, in YAML."""
    return yaml_text.dump({"workflow": workflow, "routes": {name: plain(row) for name, row in routes.items()}})


def read(file: Path) -> RouteFile:
    """Return what a file says. Raises `InvalidRequest`."""
    document = workflow_files.read(file)
    export = next_command("routes export WORKFLOW")
    shape = f"workflow: ID and routes: {{STEP: {{model: …}}}}; write one with: {export}"
    if not isinstance(document, dict) or set(document) - {"workflow", "routes"}:
        raise InvalidRequest(f"{file} is not a valid file of routes: it must hold {shape}")
    workflow, routes = document.get("workflow"), document.get("routes") or {}
    if not isinstance(workflow, str) or not isinstance(routes, dict):
        raise InvalidRequest(f"{file} is not a valid file of routes: it must hold {shape}")
    for step, row in routes.items():
        if not isinstance(step, str) or not isinstance(row, dict) or not row:
            raise InvalidRequest(f"{file}: the route of {step!r} must be a mapping such as {{model: small}}")
    return RouteFile(workflow, routes)
