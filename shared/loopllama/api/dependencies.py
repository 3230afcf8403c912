"""What the API's resources stand on: one of each in a process."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from aws_lambda_powertools.event_handler.api_gateway import Router as HttpRouter

from loopllama.catalog.store import CatalogStore
from loopllama.errors import RunNotFound
from loopllama.queries.runs import RunReader
from loopllama.routing.change_log import History
from loopllama.routing.router import Router
from loopllama.routing.store import RouteStore
from loopllama.runs.store import RunStore
from loopllama.runs.value_store import ValueStore
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.workflows.types import WorkflowItem


@dataclass
class Services:
    """Stores over one deployment's settings."""

    settings: Settings
    definitions: DefinitionStore = field(init=False)
    runs: RunStore = field(init=False)
    reader: RunReader = field(init=False)
    values: ValueStore = field(init=False)
    routes: RouteStore = field(init=False)
    history: History = field(init=False)
    catalog: CatalogStore = field(init=False)

    def __post_init__(self) -> None:
        self.definitions = DefinitionStore(self.settings)
        self.runs = RunStore(self.settings)
        self.reader = RunReader(self.settings)
        self.values = ValueStore(self.settings)
        self.routes = RouteStore(self.settings)
        self.history = History(self.settings)
        self.catalog = CatalogStore(self.settings)

    def router(self) -> Router:
        """Return a router that reads the tables anew: who has just written sees it."""
        return Router(replace(self.settings, route_cache_seconds=0.0))

    def workflow(self, workflow_id: str) -> WorkflowItem:
        """Return a workflow's current definition. Raises `WorkflowNotFound`."""
        return self.definitions.get(workflow_id)


def possible_run(run_id: str) -> None:
    """Raise `RunNotFound` for an id over DynamoDB's key limit before it gets there."""
    if len(run_id) > 128:
        raise RunNotFound(f"There is no run '{run_id[:128]}'.")


def new_router() -> HttpRouter:
    """Return an empty router for one resource's routes."""
    return HttpRouter()  # type: ignore[no-untyped-call]
