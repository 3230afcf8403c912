"""The six layers that may say which model a step uses. Pure: rows, catalog and time come in, a decision goes out.

| # | layer | `source` |
|---|---|---|
| 1 | the run's request: `models[step]`, then `models["*"]` | `run` |
| 2 | the routes table's row of the step | `step` |
| 3 | the agent of the crew | `agent` |
| 4 | the routes table's row `*` | `workflow` |
| 5 | the workflow's default model | `default` |
| 6 | the deployment's default model | `deployment` |

Each field comes from the first layer that sets it; `policy`, `candidates` and `fallbacks` travel with `model`. A layer
none of whose models may be used is passed over like one that makes no sense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from loopllama.catalog import MAX_HOPS, Catalog, Model
from loopllama.errors import ModelUnknown, NoModelLeft
from loopllama.routing.policies import POLICIES
from loopllama.routing.rows import Choice, Override, parse_choice, parse_max_tokens, parse_temperature

SOFT = frozenset({"structured_output", "prompt_cache"})
"""Capabilities that a step likes to have and can do without."""


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What a decision rests on beside the tables.

    `step` is a step of the definition (docs/design.md); `run_models` the run's own `{step: model, "*": model}`;
    `required` the capabilities that the step needs; `prompt_tokens` an estimate of its prompt, 0 where unknown.
    """

    workflow_id: str
    workflow_model: str | None
    step: Mapping[str, Any]
    run_models: Mapping[str, str]
    required: frozenset[str]
    prompt_tokens: int = 0
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """The decision. `chain` is tried in order and holds each model once.

    `ignored` is what was passed over on the way: `{"layer", "reason"}`, with `"model"` where it is about one model.
    `invalid_overrides` counts the rows of the routes table among it that make no sense.
    """

    chain: tuple[Model, ...]
    source: str
    route_version: int | None
    policy: str
    ignored: tuple[dict[str, str], ...] = ()
    max_tokens: int | None = None
    temperature: Decimal | None = None
    invalid_overrides: int = 0

    def to_record(self) -> dict[str, Any]:
        """The decision as DynamoDB can hold it, models by id."""
        record: dict[str, Any] = {
            "chain": [model.id for model in self.chain],
            "source": self.source,
            "route_version": self.route_version,
            "policy": self.policy,
            "ignored": [dict(entry) for entry in self.ignored],
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
        }
        return {key: value for key, value in record.items() if value is not None}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], resolve: Callable[[str], Model]) -> Route:
        """A recorded decision with the catalog's present models. Raises `ModelUnknown` where one is gone."""
        version, max_tokens = record.get("route_version"), record.get("max_tokens")
        return cls(
            chain=tuple(resolve(model_id) for model_id in record["chain"]),
            source=record["source"],
            route_version=None if version is None else int(version),
            policy=record.get("policy", "fixed"),
            ignored=tuple(dict(entry) for entry in record.get("ignored", ())),
            max_tokens=None if max_tokens is None else int(max_tokens),
            temperature=record.get("temperature"),
        )


@dataclass(frozen=True, slots=True)
class _Layer:
    source: str
    choice: Choice | None = None
    version: int | None = None
    problem: str = ""
    invalid: bool = False


def decide(
    request: RouteRequest,
    step_row: Override,
    workflow_row: Override,
    default_model: str,
    catalog: Catalog,
    now: float,
) -> Route:
    """The route of a step. Raises `NoModelLeft`, with the reason of each, where no layer has a usable model, and
    `ModelUnknown` where all that is wrong is that nobody knows the models."""
    ignored: list[dict[str, str]] = []
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
        chain = _Chain(request, layer.source, catalog, ignored)
        chain.build(layer.choice)
        only_unknown = only_unknown and chain.only_unknown
        if chain.invalid and layer.source in ("step", "workflow"):
            invalid.add(layer.source)
        if chain.models:
            numbers = _numbers(request.step, step_row, workflow_row, now, ignored, invalid)
            return Route(
                chain=tuple(chain.models.values()),
                source=layer.source,
                route_version=layer.version,
                policy=layer.choice.policy,
                ignored=tuple(ignored),
                invalid_overrides=len(invalid),
                **numbers,
            )
    why = "; ".join(f"{entry['layer']}: {entry['reason']}" for entry in ignored)
    error = ModelUnknown if only_unknown else NoModelLeft
    raise error(f"no model is left for step {request.step.get('name')!r}: {why or 'no layer names one'}")


def layers(
    request: RouteRequest, step_row: Override, workflow_row: Override, default_model: str, now: float
) -> Iterator[_Layer]:
    """The layers that say something, first to last."""
    for key in (str(request.step.get("name")), "*"):
        if key in request.run_models:
            yield _written("run", {"model": request.run_models[key]})
    yield _row("step", step_row, now)
    yield _written("agent", request.step)
    yield _row("workflow", workflow_row, now)
    if request.workflow_model is not None:
        yield _written("default", {"model": request.workflow_model})
    yield _written("deployment", {"model": default_model})


def _written(source: str, values: Mapping[str, Any]) -> _Layer:
    try:
        return _Layer(source, parse_choice(values))
    except (ValueError, ArithmeticError) as error:
        return _Layer(source, problem=str(error))


def _row(source: str, row: Override, now: float) -> _Layer:
    if row.expires_at is not None and row.expires_at <= now:
        return _Layer(source, problem=f"expired at {int(row.expires_at)}")
    problem = row.problems.get("row") or row.problems.get("model") or row.problems.get("pin") or ""
    return _Layer(source, row.choice, row.version, problem, bool(problem))


class _Chain:
    """Builds the chain of one layer."""

    def __init__(self, request: RouteRequest, source: str, catalog: Catalog, ignored: list[dict[str, str]]) -> None:
        self._required = request.required - SOFT
        self._prompt_tokens = request.prompt_tokens
        self._key = f"{request.run_id}/{request.step.get('name')}"
        self._source, self._catalog, self._ignored = source, catalog, ignored
        self.models: dict[str, Model] = {}
        self.only_unknown = True
        self.invalid = False

    def build(self, choice: Choice) -> None:
        for position, name in enumerate(POLICIES[choice.policy](choice, self._key)):
            try:
                model = self._catalog.resolve(name)
            except ModelUnknown as error:
                self._skip(name, str(error), invalid=True)
                if position == 0 and choice.policy == "fixed":
                    return
                continue
            self.only_unknown = False
            self._report(name, model)
            usable = self._enabled(model)
            if usable is not None and usable.id not in self.models and self._able(usable):
                self.models[usable.id] = usable

    def _enabled(self, model: Model) -> Model | None:
        """The model, or what replaces it while it is disabled."""
        path = [model.id]
        while not model.enabled:
            if model.replaced_by is None or len(path) > MAX_HOPS:
                self._skip(model.id, "disabled")
                return None
            try:
                other = self._catalog.resolve(model.replaced_by)
            except ModelUnknown as error:
                self._skip(model.id, f"disabled, and what replaces it is unknown: {error}")
                return None
            if other.id in path and not other.enabled:
                self._skip(model.id, f"disabled, and its replacements go round in a circle: {', '.join(path)}")
                return None
            self._skip(model.id, f"disabled; replaced by {other.id}")
            path.append(other.id)
            model = other
        return model

    def _able(self, model: Model) -> bool:
        lacking = model.lacks(self._required)
        if lacking:
            self._skip(model.id, f"lacks {', '.join(lacking)}", invalid=True)
        elif model.context_window is not None and self._prompt_tokens > model.context_window:
            self._skip(
                model.id, f"its context window of {model.context_window} tokens is too small for {self._prompt_tokens}"
            )
        else:
            return True
        return False

    def _report(self, name: str, model: Model) -> None:
        for problem in self._catalog.problems:
            if problem["model"] in (name, model.id):
                self._skip(problem["model"], f"its entry in the Models table: {problem['reason']}")

    def _skip(self, name: str, reason: str, invalid: bool = False) -> None:
        self.invalid = self.invalid or invalid
        entry = {"layer": self._source, "model": name, "reason": reason}
        if entry not in self._ignored:
            self._ignored.append(entry)


def _numbers(
    step: Mapping[str, Any],
    step_row: Override,
    workflow_row: Override,
    now: float,
    ignored: list[dict[str, str]],
    invalid: set[str],
) -> dict[str, Any]:
    """`max_tokens` and `temperature`, each from the first of step's row, agent and workflow's row that sets it."""
    found: dict[str, Any] = {}
    for key, parse in (("max_tokens", parse_max_tokens), ("temperature", parse_temperature)):
        for source, row in (("step", step_row), ("agent", None), ("workflow", workflow_row)):
            if row is None:
                try:
                    value = None if step.get(key) is None else parse(step[key])
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
                found[key] = value
                break
    return found
