"""The tables behind a decision, read seldom.

A cold decision costs one Query (all the workflow's rows) and one BatchGetItem (the entries of the models that the
rows, the agent, the run, the workflow and the deployment name); a warm one nothing. The bundled catalog knows what its
aliases stand for, so both names are read at once. An alias or a `replaced_by` of the Models table leads to a name that
is not known before it is read: the first time that a process meets such a link, it costs one BatchGetItem more; from
then on both ends are read together. More than 100 names (DynamoDB's limit) take more than one call too.

Reads are strongly consistent, so that what was written acts within `ROUTE_CACHE_SECONDS`, not a little later.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import dynamo
from loopllama.catalog.catalog import MAX_HOPS, Catalog, bundled
from loopllama.catalog.entries import is_machine_key
from loopllama.catalog.model import is_model_id
from loopllama.catalog.variants import parse
from loopllama.routing import model_health
from loopllama.routing.decision import Plan
from loopllama.routing.overrides import Override, parse_row

if TYPE_CHECKING:
    from loopllama.routing.types import RouteRow

MAX_WORKFLOWS = 512
MAX_MODELS = 2048
BATCH = 100
_LINKS = ("alias_of", "replaced_by", "same_as")
"""Fields of an entry that name another model."""


@dataclass(slots=True)
class Kept:
    """A plan and all that it rests on beside the tables."""

    inputs: tuple[Any, ...]
    until: float
    window: float
    news: int
    plan: Plan


@dataclass(slots=True)
class WorkflowRows:
    until: float
    rows: dict[str, Override]
    decisions: dict[str, list[Kept]] = field(default_factory=dict)


class RouteTable:
    """The routes table's rows by workflow, kept `seconds`, of the `MAX_WORKFLOWS` used last."""

    def __init__(self, table: str, dynamodb: Callable[[], Any], seconds: float) -> None:
        self._table, self._dynamodb, self._seconds = table, dynamodb, seconds
        self._workflows: OrderedDict[str, WorkflowRows] = OrderedDict()

    def get(self, workflow_id: str, now: float) -> WorkflowRows:
        workflow = self._workflows.get(workflow_id)
        if workflow is not None and now < workflow.until:
            self._workflows.move_to_end(workflow_id)
            return workflow
        rows = {str(row["step"]): parse_row(row) for row in query(self._dynamodb, self._table, workflow_id)}
        workflow = self._workflows[workflow_id] = WorkflowRows(now + self._seconds, rows)
        self._workflows.move_to_end(workflow_id)
        if len(self._workflows) > MAX_WORKFLOWS:
            self._workflows.popitem(last=False)
        return workflow


class ModelTable:
    """The Models table's items by name, kept `seconds`, and the catalog that they make."""

    def __init__(
        self,
        table: str,
        dynamodb: Callable[[], Any],
        seconds: float,
        allowed: tuple[Sequence[str], Collection[str]] = ((), ()),
    ) -> None:
        """Bound the catalog by models and names of options that are `allowed` (`Catalog.allowing`)."""
        self._table, self._dynamodb, self._seconds = table, dynamodb, seconds
        self._items: OrderedDict[str, tuple[float, Mapping[str, Any] | None]] = OrderedDict()
        self._bundled = self._catalog = bundled().allowing(*allowed)
        self.news = 0
        """Grows with each item that this process writes: what was decided before is out of date."""

    def catalog(self, names: Iterable[str], now: float, spare: Iterable[str] = ()) -> tuple[Catalog, float]:
        """Return the catalog with the present entries of `names`, and until when they count. `spare` names are read too
        where that costs no further call."""
        if not self._table:
            return self._catalog, float("inf")
        wanted = self._closure([*names, model_health.KEY])
        changed = False
        read: set[str] = set()
        for _ in range(MAX_HOPS):
            stale = [name for name in wanted if self._until(name) <= now and name not in read]
            if not stale:
                break
            read.update(stale)
            room = -len(stale) % BATCH
            more = [name for name in self._closure(spare) if self._until(name) <= now and name not in wanted][:room]
            changed = self._read(stale + more, now) or changed
            wanted = self._closure(wanted)
        if changed:
            self._catalog = self._bundled.with_entries(item for _, item in self._items.values() if item is not None)
        until = min((self._until(name) for name in wanted), default=now + self._seconds)
        while len(self._items) > MAX_MODELS:
            self._items.popitem(last=False)
        return self._catalog, until

    def item(self, name: str) -> Mapping[str, Any] | None:
        """Return an item as it was read last, however long ago."""
        return self._items.get(name, (0.0, None))[1]

    def keep(self, name: str, item: Mapping[str, Any]) -> None:
        """Keep an item as it is now: this process has just written it. It counts no longer than what was read
        before."""
        self._items[name] = (self._until(name), item)
        self.news += 1

    def _until(self, name: str) -> float:
        return self._items[name][0] if name in self._items else 0.0

    def _closure(self, names: Iterable[str]) -> dict[str, None]:
        """Return the names and what they are known to lead to, in order."""
        known = bundled()
        aliases = known.aliases()
        closure: dict[str, None] = {}
        todo = [name for name in names if is_model_id(name)]
        while todo:
            name = todo.pop()
            if name in closure:
                continue
            closure[name] = None
            _, item = self._items.get(name, (0.0, None))
            item = item or {}
            base = parse(name).base
            links = (base, aliases.get(name), known.canonical(name), *(item.get(field) for field in _LINKS))
            todo.extend(str(link) for link in links if is_model_id(link))
        return closure

    def _read(self, names: list[str], now: float) -> bool:
        changed = False
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            items = dynamo.batch_get(self._dynamodb(), self._table, [{"model": name} for name in batch], by="model")
            for name in batch:
                item = items.get(name)
                _, before = self._items.get(name, (0.0, None))
                changed = changed or (item != before and not is_machine_key(name))
                self._items[name] = (now + self._seconds, item)
                self._items.move_to_end(name)
        return changed


def query(dynamodb: Callable[[], Any], table: str, workflow_id: str) -> list[RouteRow]:
    """Return the workflow's rows, in one Query unless they are more than a megabyte. No table has no rows."""
    if not table:
        return []
    rows = dynamo.query(dynamodb(), table, "workflow = :workflow", {":workflow": workflow_id}, consistent=True)
    return cast("list[RouteRow]", rows)
