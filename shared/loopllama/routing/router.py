"""The router: answers which model a step uses, by the tables and the pure rules of this package."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients, dynamo, errors
from loopllama.catalog.catalog import Catalog
from loopllama.catalog.model import Model
from loopllama.core import clock
from loopllama.errors import LoopLlamaError, ModelUnknown, NoEligibleModel
from loopllama.policies.step_stats import FORGOTTEN_MS, NOTHING, WANTED_MS, Facts, key_of, parse_facts
from loopllama.routing import cache, circuit_breaker, model_health
from loopllama.routing.cache import Kept, ModelTable, RouteTable, WorkflowRows
from loopllama.routing.call_slots import CallSlots
from loopllama.routing.circuit_breaker import CircuitBreaker
from loopllama.routing.decision import Plan, Route, RouteRequest, layers, plan
from loopllama.routing.model_health import ModelHealth
from loopllama.routing.overrides import NO_OVERRIDE, Choice, Override, parse_row
from loopllama.settings import Settings

if TYPE_CHECKING:
    from loopllama.routing.types import Explained, RouteRow
    from loopllama.runs.records import RouteRecord
    from loopllama.workflows.types import Definition

MAX_DECISIONS = 64
"""Steps of one workflow whose decisions a process keeps."""
UNREADABLE_SECONDS = 60


class Router:
    """Answers which model a step uses. `clock` gives epoch seconds."""

    def __init__(
        self, settings: Settings, dynamodb: Any = None, clock: Callable[[], float] = clock.now_seconds
    ) -> None:
        def client() -> Any:
            return clients.client("dynamodb") if dynamodb is None else dynamodb

        self._default_model = settings.default_model
        self._clock = clock
        self._dynamodb, self._models_table = client, settings.models_table
        self._simulated = settings.simulated_providers
        self._unreadable: dict[str, float] = {}
        """Inference profiles that could not be read, and when they are asked for again."""
        self._routes = RouteTable(settings.routes_table, client, settings.route_cache_seconds)
        self._models = ModelTable(settings.models_table, client, settings.route_cache_seconds, settings.allowed)

        self._health = health = ModelHealth(
            settings.models_table,
            client,
            lambda: self._models.item(model_health.KEY),
            lambda item: self._models.keep(model_health.KEY, item),
        )
        probe_ms = circuit_breaker.probe_length(settings.model_timeout_seconds)
        self.circuit_breaker = CircuitBreaker(health, clock, probe_ms)
        """Where the outcome of calls is reported, so that the breaker of a model that keeps failing opens."""
        self.call_slots = CallSlots(health, clock)
        """Where a call of a model with a limit of calls at once takes its place."""

    def health(self, *, fresh: bool) -> ModelHealth:
        """Return the item that says how models fare; `fresh` reads it where this process's copy is old."""
        if fresh:
            self._models.catalog([], self._clock())
        return self._health

    def decide(self, request: RouteRequest) -> Route:
        """Return the route of a step, which the caller is about to use: the probe of a half-open breaker may be
        claimed for it, and once a day the step's wish for facts is written. Raises `NoEligibleModel` with a reason for
        each model, `ModelUnknown` where all that is wrong is that nobody knows the models, and botocore's errors where
        DynamoDB cannot be read."""
        return self._decide(request, probe=True)

    def look(self, request: RouteRequest) -> Route:
        """Return what `decide` would answer, for those who only want to know: nothing is claimed or written."""
        return self._decide(request, probe=False)

    def pinned_steps(self, workflow_id: str) -> set[str]:
        """Return the steps (`*`: all) whose rows say `pin: run`."""
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
            named_layers = layers(request, *rows, self._default_model, now)
            names += [model for layer in named_layers if layer.choice is not None for model in layer.choice.names()]
        if names:
            self._models.catalog(names, now)

    @staticmethod
    def _rows(workflow: WorkflowRows, step: str) -> tuple[Override, Override]:
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
        self, request: RouteRequest, workflow: WorkflowRows, inputs: tuple[Any, ...] | None, now: float, probe: bool
    ) -> Route:
        """Decide from the tables. `inputs` is what the plan is kept under, if it may be kept."""
        name = request.step["name"]
        rows = self._rows(workflow, name)
        catalog, until, facts = self._read(request, workflow, rows, now)
        open_breakers, due, changes = self._open_breakers(now, write=probe)
        while True:
            decision = plan(
                request,
                *rows,
                self._default_model,
                catalog,
                now,
                facts=facts,
                open_breakers=open_breakers,
                due=due,
                behind=self._behind,
            )
            route = decision.route(request.key)
            head = route.attempt_order[0].id
            if head not in decision.due or not probe or self.circuit_breaker.claim_probe(head):
                break
            open_breakers[head] = "its circuit breaker is half-open: another invocation is trying it"
            due -= {head}
        if probe and decision.choice is not None and decision.choice.needs:
            self._want(request, decision.choice, facts, catalog, now)
        if (
            inputs is not None
            and not decision.due
            and self._free(request, rows, decision, catalog, now, facts, open_breakers)
        ):
            until = min(until, workflow.until, changes)
            for row in rows:
                if row.expires_at is not None and row.expires_at > now:
                    until = min(until, row.expires_at)
            copied = (*inputs[:-2], dict(request.run_models), request.required)
            models = [*decision.route_.attempt_order, *(candidate.model for candidate in decision.candidates)]
            windows = [model.context_window for model in models if model.context_window is not None]
            kept = Kept(copied, until, min(windows, default=float("inf")), self._models.news, decision)
            decisions = workflow.decisions.setdefault(name, [])
            decisions[:] = [kept, *decisions[:3]]
            if len(workflow.decisions) > MAX_DECISIONS:
                workflow.decisions.pop(next(iter(workflow.decisions)))
        return route

    def _read(
        self, request: RouteRequest, workflow: WorkflowRows, rows: tuple[Override, Override], now: float
    ) -> tuple[Catalog, float, Facts]:
        """Return the catalog for a decision, until when it counts, and what is known about the step.

        Whatever the layers name is read at once; where that is more than one call takes, the first layer's models come
        first, and the others are read only if its models leave the decision to another layer.
        """
        choosing_layers = [
            layer for layer in layers(request, *rows, self._default_model, now) if layer.choice is not None
        ]
        choices = [layer.choice for layer in choosing_layers if layer.choice is not None]
        key = key_of(request.workflow_id, request.step["name"])
        observed = [key] if any(choice.needs for choice in choices) else []
        names = [model for choice in choices for model in choice.names()]
        spare = [model for row in workflow.rows.values() if row.choice is not None for model in row.choice.names()]
        if len(names) > cache.BATCH // 2:
            leading = [
                layer.choice
                for layer in choosing_layers
                if layer.source == choosing_layers[0].source and layer.choice is not None
            ]
            first = [model for choice in leading for model in choice.names()]
            catalog, until = self._models.catalog([*observed, *first], now, names)
            facts = self._facts(key, now) if observed else NOTHING
            try:
                decision = plan(request, *rows, self._default_model, catalog, now, facts=facts, behind=self._behind)
            except (NoEligibleModel, ModelUnknown):
                decision = None
            if decision is not None and decision.route_.source == choosing_layers[0].source:
                return catalog, until, facts
        catalog, until = self._models.catalog([*observed, *names], now, spare)
        return catalog, until, self._facts(key, now) if observed else NOTHING

    def _facts(self, key: str, now: float) -> Facts:
        return parse_facts(self._models.item(key), now, self._simulated)

    def _open_breakers(self, now: float, write: bool) -> tuple[dict[str, str], frozenset[str], float]:
        """Return which circuit breakers are open, with the reason; which wait for a probe; and when that changes next.
        `write` as `CircuitBreaker.states` takes it."""
        moment = int(now * 1000)
        open_breakers: dict[str, str] = {}
        due: set[str] = set()
        changes = float("inf")
        for model_id, state in self.circuit_breaker.states(write).items():
            if state.is_open(moment):
                until = state.until(moment)
                open_breakers[model_id] = f"its circuit breaker is open until {clock.now_text(until / 1000)}"
                changes = min(changes, until / 1000)
            elif state.due(moment):
                due.add(model_id)
        return open_breakers, frozenset(due), changes

    def _free(
        self,
        request: RouteRequest,
        rows: tuple[Override, Override],
        decision: Plan,
        catalog: Catalog,
        now: float,
        facts: Facts,
        open_breakers: Mapping[str, str],
    ) -> bool:
        """Return whether the prompt's length had no part in the plan: a window that was too small makes it one of this
        prompt only, not to be kept."""
        if not request.prompt_tokens:
            return True
        anybody = replace(request, prompt_tokens=0)
        other = plan(
            anybody,
            *rows,
            self._default_model,
            catalog,
            now,
            facts=facts,
            open_breakers=open_breakers,
            behind=self._behind,
        )
        return other.route_ == decision.route_ and other.candidates == decision.candidates

    def _want(self, request: RouteRequest, choice: Choice, facts: Facts, catalog: Catalog, now: float) -> None:
        """Say that facts about the step are wanted, unless that was said lately for all of its models."""
        wanted = set()
        if "latency" in choice.needs:
            for name in choice.names():
                with contextlib.suppress(ModelUnknown):
                    wanted.add(catalog.resolve(name).id)
        late = now * 1000 - facts.wanted_at > WANTED_MS
        if not self._models_table or not (late or wanted - facts.latency_of):
            return
        key = key_of(request.workflow_id, request.step["name"])
        values = {
            "wanted_at": int(now * 1000),
            "delete_at": int(now + FORGOTTEN_MS / 1000),
            "workflow": request.workflow_id,
            "step": request.step["name"],
            "latency_of": sorted(wanted if late else wanted | facts.latency_of),
        }
        try:
            _, item = dynamo.update(
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

    def restore(self, record: RouteRecord) -> Route | None:
        """Return a recorded decision (`Route.to_record`) with its models' present entries, or `None` where the step has
        to be decided anew: one of them has been disabled or is gone since, or the breaker of the first one has opened
        and another one has not. At most one BatchGetItem."""
        now = self._clock()
        catalog, _ = self._models.catalog(record["attempt_order"], now)
        try:
            route = Route.from_record(record, catalog.resolve)
        except ModelUnknown:
            return None
        open_breakers, _, _ = self._open_breakers(now, write=False)
        head, *others = [model.id for model in route.attempt_order]
        if head in open_breakers and any(other not in open_breakers for other in others):
            return None
        return route if all(model.enabled for model in route.attempt_order) else None

    def model(self, model_id: str) -> Model:
        """Return a model by id, alias or `provider:model`, with the Models table's present entry. Raises
        `ModelUnknown`."""
        return self._models.catalog([model_id], self._clock())[0].resolve(model_id)

    def priced_model(self, model_id: str) -> Model:
        """Return the same with what is known of the one that an inference profile stands for: what it costs."""
        return self._behind(self.model(model_id))

    def _behind(self, model: Model) -> Model:
        """Return a model with what is known of the one that its inference profile stands for, so that a policy and a
        limit can tell what it costs. What cannot be read is asked again after a minute: it takes seconds."""
        if model.prices or "arn:" not in model.provider_model:
            return model
        now = self._clock()
        if now < self._unreadable.get(model.provider_model, 0.0):
            return model
        from loopllama import providers

        found = providers.behind_profile(model, self.model)
        if found is model:
            if len(self._unreadable) > MAX_DECISIONS:
                self._unreadable.clear()
            self._unreadable[model.provider_model] = now + UNREADABLE_SECONDS
        return found

    def answering(self, provider: str, name: str) -> Model | None:
        """Return the priced model that a provider calls `name`, with the Models table's present entry; `None` where
        nobody knows it. A table that cannot be read says nothing: what has been answered must not be lost for it."""
        names = [f"{provider}:{name}", name]
        try:
            catalog, _ = self._models.catalog(names, self._clock())
        except Exception as error:
            if errors.trouble(error) is None:
                raise
            return None
        for written in names:
            with contextlib.suppress(ModelUnknown):
                model = catalog.resolve(written)
                if model.provider == provider and model.prices:
                    return model
        return None

    def preview(self, workflow_id: str, definition: Definition, step: str, row: RouteRow) -> dict[str, str]:
        """Return which model each step that a row (of a step, or of `*`) speaks for would use if the row were there, by
        the decision's own code: a model that the row's limits or the catalog leave out is none of them. A step for
        which no model would be left is not among them."""
        now = self._clock()
        present = self._routes.get(workflow_id, now)
        pretended = WorkflowRows(present.until, {**present.rows, step: parse_row(row)})
        models: dict[str, str] = {}
        for agent in (one for one in definition["crew"] if step in ("*", one["name"])):
            required = frozenset({"tools"}) if agent.get("tools") else frozenset()
            request = RouteRequest(workflow_id, definition.get("model"), agent, {}, required)
            routes: list[Route | None] = []
            for rows in (pretended, present):
                try:
                    routes.append(self._fresh(request, rows, None, now, probe=False))
                except LoopLlamaError:
                    routes.append(None)  # no model is left for it, with the row or as it is
            chosen, sources = routes[0], {route.source for route in routes if route is not None}
            if chosen is not None and (step != "*" or "workflow-override" in sources):
                models[agent["name"]] = chosen.attempt_order[0].id
        return models

    def explain(
        self, workflow_id: str, definition: Definition, run_models: Mapping[str, str] | None = None
    ) -> list[Explained]:
        """Return for each step of a definition what it uses now: `step`, `model`, `source`, `route_version`, `policy`,
        `fallbacks`, `ignored`, and `error` (with `model` and `source` absent) where no model is left."""
        explained: list[Explained] = []
        for step in definition["crew"]:
            required = frozenset({"tools"}) if step.get("tools") else frozenset()
            request = RouteRequest(workflow_id, definition.get("model"), step, run_models or {}, required)
            try:
                route = self.look(request)
            except LoopLlamaError as error:
                explained.append({"step": step["name"], "model": None, "source": None, "error": str(error)})
                continue
            explained.append(
                {
                    "step": step["name"],
                    "model": route.attempt_order[0].id,
                    "source": route.source,
                    "route_version": route.route_version,
                    "policy": route.policy,
                    "fallbacks": [model.id for model in route.attempt_order[1:]],
                    "ignored": list(route.ignored),
                }
            )
        return explained
