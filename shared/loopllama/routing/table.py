"""The tables behind a decision, read seldom, and the router that asks them.

A cold decision costs one Query (all the workflow's rows) and one BatchGetItem (the entries of the models that the
rows, the agent, the run, the workflow and the deployment name); a warm one nothing. The bundled catalog knows what its
aliases stand for, so both names are read at once. An alias or a `replaced_by` of the Models table leads to a name that
is not known before it is read: the first time that a process meets such a link, it costs one BatchGetItem more; from
then on both ends are read together. More than 100 names (DynamoDB's limit) take more than one call too.

Reads are strongly consistent, so that what was written acts within `ROUTE_CACHE_SECONDS`, not a little later.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from loopllama import aws, clock
from loopllama.catalog import MAX_HOPS, Catalog, Model, bundled, is_model_id
from loopllama.errors import LoopLlamaError, ModelUnknown, NoModelLeft
from loopllama.routing import health
from loopllama.routing.facts import NOTHING, PREFIX, WANTED_MS, Facts, key_of, parse_facts
from loopllama.routing.health import Health, parse_states
from loopllama.routing.layers import Plan, Route, RouteRequest, layers, plan
from loopllama.routing.rows import NO_OVERRIDE, Choice, Override, parse_row
from loopllama.settings import Settings

MAX_WORKFLOWS = 512
MAX_MODELS = 2048
MAX_DECISIONS = 64
BATCH = 100
_MACHINE = (health.KEY, PREFIX)


@dataclass(slots=True)
class _Kept:
    """A plan and all that it rests on beside the tables."""

    inputs: tuple[Any, ...]
    until: float
    window: float
    news: int
    plan: Plan


@dataclass(slots=True)
class _Workflow:
    until: float
    rows: dict[str, Override]
    decisions: dict[str, list[_Kept]] = field(default_factory=dict)


class RouteTable:
    """The routes table's rows by workflow, kept `seconds`, of the `MAX_WORKFLOWS` used last."""

    def __init__(self, table: str, dynamodb: Callable[[], Any], seconds: float) -> None:
        self._table, self._dynamodb, self._seconds = table, dynamodb, seconds
        self._workflows: OrderedDict[str, _Workflow] = OrderedDict()

    def get(self, workflow_id: str, now: float) -> _Workflow:
        workflow = self._workflows.get(workflow_id)
        if workflow is not None and now < workflow.until:
            self._workflows.move_to_end(workflow_id)
            return workflow
        rows = {str(row["step"]): parse_row(row) for row in query(self._dynamodb, self._table, workflow_id)}
        workflow = self._workflows[workflow_id] = _Workflow(now + self._seconds, rows)
        self._workflows.move_to_end(workflow_id)
        if len(self._workflows) > MAX_WORKFLOWS:
            self._workflows.popitem(last=False)
        return workflow


class ModelTable:
    """The Models table's items by name, kept `seconds`, and the catalog that they make."""

    def __init__(self, table: str, dynamodb: Callable[[], Any], seconds: float) -> None:
        self._table, self._dynamodb, self._seconds = table, dynamodb, seconds
        self._items: OrderedDict[str, tuple[float, Mapping[str, Any] | None]] = OrderedDict()
        self._catalog = bundled()
        self.news = 0
        """Grows with each item that this process writes: what was decided before is out of date."""

    def catalog(self, names: Iterable[str], now: float, spare: Iterable[str] = ()) -> tuple[Catalog, float]:
        """The catalog with the present entries of `names`, and until when they count. `spare` names are read too
        where that costs no further call."""
        if not self._table:
            return self._catalog, float("inf")
        wanted = self._closure([*names, health.KEY])
        changed = False
        read: set[str] = set()
        for _ in range(MAX_HOPS):
            stale = [name for name in wanted if self._until(name) <= now and name not in read]
            if not stale:
                break
            read.update(stale)
            room = BATCH - len(stale) % BATCH
            more = [name for name in self._closure(spare) if self._until(name) <= now and name not in wanted][:room]
            changed = self._read(stale + more, now) or changed
            wanted = self._closure(wanted)
        if changed:
            self._catalog = bundled().with_entries(item for _, item in self._items.values() if item is not None)
        until = min((self._until(name) for name in wanted), default=now + self._seconds)
        while len(self._items) > MAX_MODELS:
            self._items.popitem(last=False)
        return self._catalog, until

    def item(self, name: str) -> Mapping[str, Any] | None:
        """An item as it was read last, however long ago."""
        return self._items.get(name, (0.0, None))[1]

    def keep(self, name: str, item: Mapping[str, Any]) -> None:
        """An item as it is now: this process has just written it. It counts no longer than what was read before."""
        self._items[name] = (self._until(name), item)
        self.news += 1

    def _until(self, name: str) -> float:
        return self._items[name][0] if name in self._items else 0.0

    def _closure(self, names: Iterable[str]) -> dict[str, None]:
        """The names and what they are known to lead to, in order."""
        aliases = bundled().aliases()
        found: dict[str, None] = {}
        todo = [name for name in names if is_model_id(name)]
        while todo:
            name = todo.pop()
            if name in found:
                continue
            found[name] = None
            _, item = self._items.get(name, (0.0, None))
            item = item or {}
            links = (aliases.get(name), bundled().canonical(name), item.get("alias_of"), item.get("replaced_by"))
            todo.extend(str(link) for link in links if is_model_id(link))
        return found

    def _read(self, names: list[str], now: float) -> bool:
        changed = False
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            items = batch_get(self._dynamodb(), self._table, batch)
            for name in batch:
                item = items.get(name)
                _, before = self._items.get(name, (0.0, None))
                changed = changed or (item != before and not name.startswith(_MACHINE))
                self._items[name] = (now + self._seconds, item)
                self._items.move_to_end(name)
        return changed


class Router:
    """Answers which model a step uses. `clock` gives epoch seconds."""

    def __init__(self, settings: Settings, dynamodb: Any = None, clock: Callable[[], float] = time.time) -> None:
        def client() -> Any:
            return aws.client("dynamodb") if dynamodb is None else dynamodb

        self._default_model = settings.default_model
        self._clock = clock
        self._dynamodb, self._models_table = client, settings.models_table
        self._routes = RouteTable(settings.routes_table, client, settings.route_cache_seconds)
        self._models = ModelTable(settings.models_table, client, settings.route_cache_seconds)
        self.health = Health(
            settings.models_table,
            client,
            clock,
            lambda: self._models.item(health.KEY),
            lambda item: self._models.keep(health.KEY, item),
        )
        """Where the outcome of calls is reported, so that a model that keeps failing is set aside."""

    def decide(self, request: RouteRequest) -> Route:
        """The route of a step, which the caller is about to use: the probe of a model that was set aside may be
        claimed for it, and once a day the step's wish for facts is written. Raises `NoModelLeft` with a reason for each
        model, `ModelUnknown` where all that is wrong is that nobody knows the models, and botocore's errors where
        DynamoDB cannot be read."""
        return self._decide(request, probe=True)

    def look(self, request: RouteRequest) -> Route:
        """What `decide` would answer, for those who only want to know: nothing is claimed or written."""
        return self._decide(request, probe=False)

    def pinned_steps(self, workflow_id: str) -> set[str]:
        """The steps (`*`: all) whose rows say `pin: run`."""
        now = self._clock()
        return {
            step
            for step, row in self._routes.get(workflow_id, now).rows.items()
            if row.pin == "run" and (row.expires_at is None or row.expires_at > now)
        }

    def prepare(self, requests: Sequence[RouteRequest]) -> None:
        """Read at once what several decisions of one workflow will read."""
        now = self._clock()
        names: list[str] = []
        for request in requests:
            rows = self._rows(self._routes.get(request.workflow_id, now), request.step["name"])
            said = layers(request, *rows, self._default_model, now)
            names += [model for layer in said if layer.choice is not None for model in layer.choice.names()]
        if names:
            self._models.catalog(names, now)

    @staticmethod
    def _rows(workflow: _Workflow, step: str) -> tuple[Override, Override]:
        return workflow.rows.get(step, NO_OVERRIDE), workflow.rows.get("*", NO_OVERRIDE)

    def _decide(self, request: RouteRequest, probe: bool) -> Route:
        now = self._clock()
        if request.pinned is not None:
            return self._fresh(request, self._routes.get(request.workflow_id, now), None, now, probe)
        workflow = self._routes.get(request.workflow_id, now)
        step = request.step
        get = step.get
        inputs = (
            get("model"),
            get("policy"),
            get("candidates"),
            get("fallbacks"),
            get("max_tokens"),
            get("temperature"),
            request.workflow_model,
            request.run_models,
            request.required,
        )
        for kept in workflow.decisions.get(step["name"], ()):
            if (
                now < kept.until
                and kept.news == self._models.news
                and request.prompt_tokens <= kept.window
                and kept.inputs == inputs
            ):
                return kept.plan.route(request.key)
        return self._fresh(request, workflow, inputs, now, probe)

    def _fresh(
        self, request: RouteRequest, workflow: _Workflow, inputs: tuple[Any, ...] | None, now: float, probe: bool
    ) -> Route:
        """Decide from the tables. `inputs` is what the plan is kept under, if it may be kept."""
        name = request.step["name"]
        rows = self._rows(workflow, name)
        catalog, until, facts = self._read(request, workflow, rows, now)
        aside, due, changes = self._set_aside(now)
        while True:
            made = plan(request, *rows, self._default_model, catalog, now, facts=facts, aside=aside, due=due)
            route = made.route(request.key)
            head = route.chain[0].id
            if head not in made.due or not probe or self.health.claim_probe(head):
                break
            aside[head] = "set aside after failures; another invocation is trying it"
            due -= {head}
        if probe and made.choice is not None and made.choice.needs_facts:
            self._want(request, made.choice, facts, catalog, now)
        if inputs is not None and not made.due and self._free(request, rows, made, catalog, now, facts, aside):
            until = min(until, workflow.until, changes)
            for row in rows:
                if row.expires_at is not None and row.expires_at > now:
                    until = min(until, row.expires_at)
            copied = (*inputs[:-2], dict(request.run_models), request.required)
            models = [*made.route_.chain, *(candidate.model for candidate in made.candidates)]
            windows = [model.context_window for model in models if model.context_window is not None]
            kept = _Kept(copied, until, min(windows, default=float("inf")), self._models.news, made)
            decisions = workflow.decisions.setdefault(name, [])
            decisions[:] = [kept, *decisions[:3]]
            if len(workflow.decisions) > MAX_DECISIONS:
                workflow.decisions.pop(next(iter(workflow.decisions)))
        return route

    def _read(
        self, request: RouteRequest, workflow: _Workflow, rows: tuple[Override, Override], now: float
    ) -> tuple[Catalog, float, Facts]:
        """The catalog for a decision, until when it counts, and what is known about the step.

        Whatever the layers name is read at once; where that is more than one call takes, the first layer's models come
        first, and the others are read only if its models leave the decision to another layer.
        """
        said = [layer for layer in layers(request, *rows, self._default_model, now) if layer.choice is not None]
        choices = [layer.choice for layer in said if layer.choice is not None]
        key = key_of(request.workflow_id, request.step["name"])
        observed = [key] if any(choice.needs_facts for choice in choices) else []
        names = [model for choice in choices for model in choice.names()]
        spare = [model for row in workflow.rows.values() if row.choice is not None for model in row.choice.names()]
        if len(names) > BATCH // 2:
            leading = [layer.choice for layer in said if layer.source == said[0].source and layer.choice is not None]
            first = [model for choice in leading for model in choice.names()]
            catalog, until = self._models.catalog([*observed, *first], now, names)
            facts = parse_facts(self._models.item(key)) if observed else NOTHING
            try:
                made = plan(request, *rows, self._default_model, catalog, now, facts=facts)
            except (NoModelLeft, ModelUnknown):
                made = None
            if made is not None and made.route_.source == said[0].source:
                return catalog, until, facts
        catalog, until = self._models.catalog([*observed, *names], now, spare)
        return catalog, until, parse_facts(self._models.item(key)) if observed else NOTHING

    def _set_aside(self, now: float) -> tuple[dict[str, str], frozenset[str], float]:
        """Which models are set aside, with the reason; which wait for a probe; and when that changes next."""
        moment = int(now * 1000)
        aside: dict[str, str] = {}
        due: set[str] = set()
        changes = float("inf")
        for model_id, state in parse_states(self._models.item(health.KEY)).items():
            if state.aside(moment):
                until = max(state.aside_until, state.probe_until)
                aside[model_id] = f"set aside after failures until {clock.now_text(until / 1000)}"
                changes = min(changes, until / 1000)
            elif state.due(moment):
                due.add(model_id)
        return aside, frozenset(due), changes

    def _free(
        self,
        request: RouteRequest,
        rows: tuple[Override, Override],
        made: Plan,
        catalog: Catalog,
        now: float,
        facts: Facts,
        aside: Mapping[str, str],
    ) -> bool:
        """Whether the prompt's length had no part in the plan: a window that was too small makes it one of this prompt
        only, not to be kept."""
        if not request.prompt_tokens:
            return True
        anybody = replace(request, prompt_tokens=0)
        other = plan(anybody, *rows, self._default_model, catalog, now, facts=facts, aside=aside)
        return other.route_ == made.route_ and other.candidates == made.candidates

    def _want(self, request: RouteRequest, choice: Choice, facts: Facts, catalog: Catalog, now: float) -> None:
        """Say that facts about the step are wanted, unless that was said lately for all of its models."""
        wanted = set()
        if choice.policy == "fastest" or choice.max_latency is not None:
            for name in choice.names():
                with contextlib.suppress(ModelUnknown):
                    wanted.add(catalog.resolve(name).id)
        late = now * 1000 - facts.wanted_at > WANTED_MS
        if not self._models_table or not (late or wanted - facts.latency_of):
            return
        key = key_of(request.workflow_id, request.step["name"])
        values = {
            "wanted_at": int(now * 1000),
            "workflow": request.workflow_id,
            "step": request.step["name"],
            "latency_of": sorted(wanted if late else wanted | facts.latency_of),
        }
        try:
            _, item = aws.update(
                self._dynamodb(),
                self._models_table,
                {"model": key},
                values,
                condition="NOT begins_with(model, :none)",
                parameters={":none": "none"},
            )
        except Exception:
            return  # Facts make a decision better; wanting them must not make a step fail.
        self._models.keep(key, item)

    def restore(self, record: Mapping[str, Any]) -> Route | None:
        """A recorded decision (`Route.to_record`) with its models' present entries, or `None` where one of them has
        been disabled or is gone since, so that the step has to be decided anew. At most one BatchGetItem."""
        catalog, _ = self._models.catalog(record["chain"], self._clock())
        try:
            route = Route.from_record(record, catalog.resolve)
        except ModelUnknown:
            return None
        return route if all(model.enabled for model in route.chain) else None

    def model(self, model_id: str) -> Model:
        """A model by id, alias or `provider:model`, with the Models table's present entry. Raises `ModelUnknown`."""
        return self._models.catalog([model_id], self._clock())[0].resolve(model_id)

    def catalog_for(self, workflow_id: str) -> Catalog:
        """The catalog with the present entries of the models that the workflow's rows and the deployment name, and
        of all others that were asked for in the last `ROUTE_CACHE_SECONDS`."""
        now = self._clock()
        rows = self._routes.get(workflow_id, now).rows.values()
        names = [model for row in rows if row.choice is not None for model in row.choice.names()]
        return self._models.catalog([*names, self._default_model], now)[0]

    def explain(
        self, workflow_id: str, definition: Mapping[str, Any], run_models: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """For each step of a definition what it uses now: `step`, `model`, `source`, `route_version`, `policy`,
        `fallbacks`, `ignored`, and `error` (with `model` and `source` absent) where no model is left."""
        told: list[dict[str, Any]] = []
        for step in definition["crew"]:
            required = frozenset({"tools"}) if step.get("tools") else frozenset()
            request = RouteRequest(workflow_id, definition.get("model"), step, run_models or {}, required)
            try:
                route = self.look(request)
            except LoopLlamaError as error:
                told.append({"step": step["name"], "model": None, "source": None, "error": str(error)})
                continue
            told.append(
                {
                    "step": step["name"],
                    "model": route.chain[0].id,
                    "source": route.source,
                    "route_version": route.route_version,
                    "policy": route.policy,
                    "fallbacks": [model.id for model in route.chain[1:]],
                    "ignored": list(route.ignored),
                }
            )
        return told


def query(dynamodb: Callable[[], Any], table: str, workflow_id: str) -> list[dict[str, Any]]:
    """The workflow's rows, in one Query unless they are more than a megabyte. No table has no rows."""
    if not table:
        return []
    return aws.query(dynamodb(), table, "workflow = :workflow", {":workflow": workflow_id}, consistent=True)


def batch_get(dynamodb: Any, table: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """Up to 100 items of the Models table by name; the missing are absent. Raises `RuntimeError` where DynamoDB
    leaves some of them unanswered five times."""
    asked: dict[str, Any] = {table: {"Keys": [{"model": {"S": name}} for name in names], "ConsistentRead": True}}
    found: dict[str, dict[str, Any]] = {}
    for _ in range(5):
        answer = dynamodb.batch_get_item(RequestItems=asked)
        for item in answer["Responses"].get(table, ()):
            found[item["model"]["S"]] = aws.from_item(item)
        asked = answer.get("UnprocessedKeys") or {}
        if not asked:
            return found
    raise RuntimeError(f"DynamoDB left {len(asked[table]['Keys'])} keys of {table} unanswered")
