"""The six layers that may say which model a step uses. Pure: rows, catalog and time come in, a decision goes out.

| # | layer | `source` |
|---|---|---|
| 1 | the run's request: `models[step]`, then `models["*"]` | `run` |
| 2 | the routes table's row of the step | `step-override` |
| 3 | the agent of the crew | `agent` |
| 4 | the routes table's row `*` | `workflow-override` |
| 5 | the workflow's default model | `workflow-default` |
| 6 | the deployment's default model | `deployment-default` |

Each field comes from the first layer that sets it; `policy`, `candidates` and `fallbacks` travel with `model`. A layer
none of whose models may be used is skipped like one that is invalid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopllama.catalog import variants
from loopllama.catalog.catalog import Catalog
from loopllama.catalog.model import Model
from loopllama.errors import ModelUnknown, NoEligibleModel
from loopllama.policies.registry import FIXED, Ranking
from loopllama.policies.step_stats import NOTHING, Candidate, Facts
from loopllama.routing.eligibility import AttemptOrderBuilder
from loopllama.routing.overrides import (
    CHOICE,
    MAX_FALLBACKS,
    Choice,
    Override,
    parse_choice,
    parse_max_tokens,
    parse_temperature,
)

if TYPE_CHECKING:
    from loopllama.routing.types import RouteRow
    from loopllama.runs.records import Ignored, RouteRecord, Source
    from loopllama.workflows.types import CrewStep


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What a decision rests on beside the tables.

    `step` is a step of the definition (docs/design.md); `run_models` the run's own `{step: model, "*": model}`;
    `required` the capabilities that the step needs; `prompt_tokens` an estimate of its prompt, 0 where unknown;
    `pinned` the decision that was recorded for the step when the run started (`Route.to_record`), if one was.
    """

    workflow_id: str
    workflow_model: str | None
    step: CrewStep
    run_models: Mapping[str, str]
    required: frozenset[str]
    prompt_tokens: int = 0
    run_id: str = ""
    pinned: RouteRecord | None = None

    @property
    def key(self) -> str:
        """What policies choose by: the same for every retry of the step."""
        return f"{self.run_id}/{self.step.get('name')}"


@dataclass(frozen=True, slots=True)
class Route:
    """The decision. `attempt_order` is tried in order and holds each model once.

    `ignored` is what was skipped on the way: `{"layer", "reason"}`, with `"model"` where it is about one model.
    `invalid_overrides` counts the rows of the routes table among it that are invalid.
    """

    attempt_order: tuple[Model, ...]
    source: Source
    route_version: int | None
    policy: str
    ignored: tuple[Ignored, ...] = ()
    max_tokens: int | None = None
    temperature: Decimal | None = None
    invalid_overrides: int = 0
    pinned: bool = False
    """Whether the run keeps decisions as they stood when it started."""

    def to_record(self) -> RouteRecord:
        """Return the decision as DynamoDB can hold it, models by id."""
        record: RouteRecord = {
            "attempt_order": [model.id for model in self.attempt_order],
            "source": self.source,
            "policy": self.policy,
            "ignored": [{**entry} for entry in self.ignored],
        }
        if self.route_version is not None:
            record["route_version"] = self.route_version
        if self.max_tokens is not None:
            record["max_tokens"] = self.max_tokens
        if self.temperature is not None:
            record["temperature"] = self.temperature
        if self.pinned:
            record["pinned"] = True
        return record

    @classmethod
    def from_record(cls, record: RouteRecord, resolve: Callable[[str], Model]) -> Route:
        """Return a recorded decision with the catalog's present models. Raises `ModelUnknown` where one is gone."""
        version, max_tokens = record.get("route_version"), record.get("max_tokens")
        return cls(
            attempt_order=tuple(resolve(model_id) for model_id in record["attempt_order"]),
            source=record["source"],
            route_version=None if version is None else int(version),
            policy=record.get("policy", FIXED.name),
            ignored=tuple(record.get("ignored", ())),
            max_tokens=None if max_tokens is None else int(max_tokens),
            temperature=record.get("temperature"),
            pinned=bool(record.get("pinned")),
        )


@dataclass(slots=True)
class Plan:
    """A decision but for the key: what the tables, the step and the facts say. `route` adds the key.

    `route_` is the route without candidates; `due` are models whose probe nobody has claimed yet; `barred` is as
    `_with_standard` takes it.
    """

    route_: Route
    choice: Choice | None = None
    candidates: Sequence[Candidate] = ()
    facts: Facts = NOTHING
    due: frozenset[str] = frozenset()
    barred: frozenset[str] | None = frozenset()
    ranking: Ranking | None = None
    made: dict[int, Route] = field(default_factory=dict)

    def route(self, key: str) -> Route:
        """Return the route of the run and step that the key stands for. The chosen candidate comes first, then the
        layer's fallbacks, then the other candidates."""
        rank = None if self.choice is None else self.choice.policy.rank
        if rank is None or not self.candidates:
            return self.route_
        if self.ranking is None:
            self.ranking = rank(self.candidates, self.facts)
        first = self.ranking.choose(key)
        route = self.made.get(first)
        if route is None:
            order = self.ranking.tried(key)
            models = {
                model.id: model
                for model in (order[0].model, *self.route_.attempt_order, *(candidate.model for candidate in order))
            }
            route = replace(self.route_, attempt_order=_with_standard(models, self.barred)[: MAX_FALLBACKS + 1])
            self.made[first] = route
        return route


@dataclass(frozen=True, slots=True)
class _Layer:
    source: Source
    choice: Choice | None = None
    version: int | None = None
    problem: str = ""
    invalid: bool = False
    pinned: bool = False
    policy: str | None = None
    max_tokens: int | None = None
    temperature: Decimal | None = None


def decide(
    request: RouteRequest,
    step_row: Override,
    workflow_row: Override,
    default_model: str,
    catalog: Catalog,
    now: float,
) -> Route:
    """Return the route of a step where nothing has been observed and no circuit breaker is open; raises as `plan`
    does."""
    return plan(request, step_row, workflow_row, default_model, catalog, now).route(request.key)


def plan(
    request: RouteRequest,
    step_row: Override,
    workflow_row: Override,
    default_model: str,
    catalog: Catalog,
    now: float,
    *,
    facts: Facts = NOTHING,
    open_breakers: Mapping[str, str] | None = None,
    due: frozenset[str] = frozenset(),
    behind: Callable[[Model], Model] | None = None,
) -> Plan:
    """Return the decision but for the key. `open_breakers` is model to reason; `due` are those models of which
    somebody may claim the probe; `now` is epoch seconds; `behind` fills in what an inference profile stands for.

    Raises `NoEligibleModel`, with the reason of each, where no layer has a usable model, and `ModelUnknown` where all
    that is wrong is that nobody knows the models."""
    ignored: list[Ignored] = []
    invalid: set[str] = set()
    only_unknown = True
    for layer in layers(request, step_row, workflow_row, default_model, now):
        if layer.problem:
            ignored.append({"layer": layer.source, "reason": layer.problem})
            only_unknown = False
            if layer.invalid:
                invalid.add(layer.source)
        if layer.choice is None:
            continue
        builder = AttemptOrderBuilder(
            layer.source,
            catalog,
            ignored,
            request.required,
            request.prompt_tokens,
            open_breakers or {},
            facts,
            _moment(now),
            behind,
        )
        builder.build(layer.choice)
        only_unknown = only_unknown and builder.only_unknown
        if builder.invalid and layer.source in ("step-override", "workflow-override"):
            invalid.add(layer.source)
        if builder.candidates or builder.models:
            numbers = (
                {"max_tokens": layer.max_tokens, "temperature": layer.temperature}
                if layer.pinned
                else _numbers(request.step, step_row, workflow_row, now, ignored, invalid)
            )
            # What was decided for the run is the whole order.
            barred = None if layer.pinned else frozenset(builder.barred)
            route = Route(
                attempt_order=_with_standard(builder.models, barred),
                source=layer.source,
                route_version=layer.version,
                policy=layer.policy or layer.choice.policy.name,
                ignored=tuple(ignored),
                invalid_overrides=len(invalid),
                pinned=layer.pinned,
                **numbers,
            )
            used = {*builder.models, *(candidate.model.id for candidate in builder.candidates)}
            return Plan(route, layer.choice, builder.candidates, facts, due & used, barred=barred)
    why = "; ".join(map(_ignored_text, ignored))
    error = ModelUnknown if only_unknown else NoEligibleModel
    raise error(f"no model is left for step {request.step.get('name')!r}: {why or 'no layer names one'}")


def _with_standard(models: Mapping[str, Model], barred: frozenset[str] | None) -> tuple[Model, ...]:
    """Return models in their order, each that is asked at a service tier with the same at the standard tier behind it:
    a tier may be refused for want of capacity while the standard one answers. One that is among them already keeps its
    place; those of `barred` are left out, all where it is `None`."""
    order: list[Model] = []
    for model in models.values():
        order.append(model)
        if model.service_tier is not None and barred is not None:
            usual = variants.standard(model)
            order += [] if usual.id in models or usual.id in barred else [usual]
    return tuple({model.id: model for model in order}.values())


def _ignored_text(entry: Ignored) -> str:
    model = entry.get("model", "")
    about = f" ({model})" if model and model not in entry["reason"] else ""
    return f"{entry['layer']}{about}: {entry['reason']}"


def _moment(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)


def layers(
    request: RouteRequest, step_row: Override, workflow_row: Override, default_model: str, now: float
) -> Iterator[_Layer]:
    """Yield the layers that say something, first to last. A pinned decision says it before all others, under the name
    of the layer that it came from."""
    if request.pinned is not None:
        yield _pinned(request.pinned)
    for key in (str(request.step.get("name")), "*"):
        if key in request.run_models:
            yield _written("run", {"model": request.run_models[key]})
    yield _row("step-override", step_row, now)
    yield _written("agent", request.step)
    yield _row("workflow-override", workflow_row, now)
    if request.workflow_model is not None:
        yield _written("workflow-default", {"model": request.workflow_model})
    yield _written("deployment-default", {"model": default_model})


def _pinned(record: RouteRecord) -> _Layer:
    version, max_tokens = record.get("route_version"), record.get("max_tokens")
    return _Layer(
        record["source"],
        Choice(None, fallbacks=tuple(str(name) for name in record["attempt_order"])),
        None if version is None else int(version),
        policy=str(record.get("policy", FIXED.name)),
        pinned=True,
        max_tokens=None if max_tokens is None else int(max_tokens),
        temperature=record.get("temperature"),
    )


def _written(source: Source, values: RouteRow | CrewStep) -> _Layer:
    try:
        return _Layer(source, parse_choice(values))
    except (ValueError, ArithmeticError) as error:
        return _Layer(source, problem=str(error))


def _row(source: Source, row: Override, now: float) -> _Layer:
    if row.expires_at is not None and row.expires_at <= now:
        return _Layer(source, problem=f"expired at {int(row.expires_at)}")
    problem = next((row.problems[key] for key in _OF_LAYER if key in row.problems), "") if row.problems else ""
    return _Layer(source, row.choice, row.version, problem, bool(problem))


_OF_LAYER = ("row", *CHOICE, "pin")
"""Attributes whose problem is told with the layer; `_numbers` tells the others."""


def _numbers(
    step: CrewStep,
    step_row: Override,
    workflow_row: Override,
    now: float,
    ignored: list[Ignored],
    invalid: set[str],
) -> dict[str, Any]:
    """`max_tokens` and `temperature`, each from the first of step's row, agent and workflow's row that sets it."""
    numbers: dict[str, Any] = {}
    rows: list[tuple[Source, Override | None]] = [
        ("step-override", step_row),
        ("agent", None),
        ("workflow-override", workflow_row),
    ]
    of_agent = {"max_tokens": step.get("max_tokens"), "temperature": step.get("temperature")}
    for key, parse in (("max_tokens", parse_max_tokens), ("temperature", parse_temperature)):
        for source, row in rows:
            if row is None:
                try:
                    value = None if of_agent[key] is None else parse(of_agent[key])
                except (ValueError, ArithmeticError) as error:
                    ignored.append({"layer": source, "reason": f"`{key}` {error}"})
                    continue
            elif row.expires_at is not None and row.expires_at <= now:
                continue
            else:
                value = getattr(row, key)
                if key in row.problems:
                    ignored.append({"layer": source, "reason": row.problems[key]})
                    invalid.add(source)
            if value is not None:
                numbers[key] = value
                break
    return numbers
