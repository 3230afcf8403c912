"""What a change of models would have cost, and how long it would have taken, by the record of runs. Calls no model.

A recorded step is a list of model calls with their tokens. Under the change, the calls that gave an answer are priced
as if the new model had been asked the same and had answered as much:

- cost: `pricing.cost` of the same tokens at the new model's price, of today or of the run's date; the recorded call's
  at the price of the model that really answered it (`catalog.answering`). Cached tokens stay cached where the new model
  has a price for cached reads, and are plain input otherwise; tokens written to a cache are plain input where the new
  model does not charge for writing. What failed calls of the old attempt order cost is left out, as they would not
  have been made; those of the new model itself stay.
- latency of a call: what was observed of that model on that step; else of that model on other steps of these runs,
  scaled by tokens written; else the catalog's prior. The run's change is that of its critical path: steps start when
  all of their needs are done, so a step off the path changes nothing until it becomes the slowest.

What it cannot know is said in `unknown`, among it: a model writes more or fewer tokens than another, counts tokens by
another tokenizer, and may answer worse.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Literal

from loopllama.catalog import pricing
from loopllama.catalog.answering import priced_as
from loopllama.catalog.model import Model
from loopllama.core import clock
from loopllama.core.names import meant
from loopllama.errors import InvalidRequest, ModelUnknown
from loopllama.llm import usage
from loopllama.queries.durations import Speeds, critical_path
from loopllama.runs.totals import CERTAINTY

if TYPE_CHECKING:
    from loopllama.queries.types import AttemptView, Compared, Forecast, ForecastStep, Percentiles, RunView, StepView

Prices = Literal["today", "then"]


@dataclass(slots=True)
class StepOfRun:
    """A step of one run before and after the change: USD (`None`: something is unpriced) and ms, the length that counts
    on the critical path."""

    cost_before: Decimal | None = Decimal(0)
    cost_after: Decimal | None = Decimal(0)
    ms_before: float = 0.0
    ms_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """One run before and after the change, and each of its steps that was taken."""

    run_id: str
    latency_before: float
    steps: Mapping[str, StepOfRun]

    @property
    def cost_before(self) -> Decimal | None:
        """USD, `None` where something is unpriced."""
        return _sum(step.cost_before for step in self.steps.values())

    @property
    def cost_after(self) -> Decimal | None:
        """USD, `None` where something is unpriced."""
        return _sum(step.cost_after for step in self.steps.values())

    def latency_after(self, needs: Mapping[str, Sequence[str]]) -> float:
        """Return how long the run would take (ms): what was recorded, and what its critical path loses or gains."""
        before = critical_path(needs, {name: step.ms_before for name, step in self.steps.items()})
        after = critical_path(needs, {name: step.ms_after for name, step in self.steps.items()})
        return max(0.0, self.latency_before + after - before)


@dataclass(slots=True)
class StepEstimate:
    """One step over all runs: sums of USD and of ms. `after` is the model that it is changed to, `None` where every
    call of it stays as it was."""

    step: str
    before: list[str] = field(default_factory=list)
    after: str | None = None
    turns: int = 0
    cost_before: Decimal | None = Decimal(0)
    cost_after: Decimal | None = Decimal(0)
    latency_before: float = 0.0
    latency_after: float = 0.0
    latency_from: str = "the record"
    basis: int = 0
    """A place in `CERTAINTY`: that of the least certain call."""

    def add(self, call: AttemptView, now: Decimal | None, then: Decimal | None) -> None:
        """Add a call: its cost now and then."""
        self.cost_before, self.cost_after = _add(self.cost_before, now), _add(self.cost_after, then)
        self.basis = max(self.basis, CERTAINTY.index(call.get("cost_basis") or "measured"))
        if call["outcome"] != "ok":
            return
        self.turns += 1
        if call["model"] not in self.before:
            self.before.append(call["model"])

    def record(self, runs: int) -> ForecastStep:
        """As JSON, of so many runs: USD of all runs together, so that the steps sum up to the digit, ms a run."""
        return {
            "step": self.step,
            "models_before": self.before,
            "model_after": self.after,
            "turns": self.turns,
            "cost_usd_before": self.cost_before,
            "cost_usd_after": self.cost_after,
            "cost_basis": CERTAINTY[self.basis],
            "latency_ms_before": round(self.latency_before / runs),
            "latency_ms_after": round(self.latency_after / runs),
            "latency_from": self.latency_from,
        }


def predict(
    runs: Sequence[RunView],
    needs: Mapping[str, Sequence[str]],
    changes: Mapping[str, Model],
    resolve: Callable[[str], Model],
    *,
    prices: Prices = "today",
) -> Forecast:
    """Return what `changes` (step, or `*` for all others, to model) would have done to the runs.

    `runs` are run objects (`RunReader.get`), `needs` maps each step to those that it waits for, `resolve` gives the
    catalog's model of an id. Raises `InvalidRequest` where a step is none of the workflow's or there is no run.

    Returns `{"runs", "from", "to", "prices", "cost_usd": {"before", "after", "change"}, "latency_ms": {…}, "steps",
    "spread": {"cost", "latency"}, "cost_basis", "simulated", "unknown"}`: means a run, `change` as a fraction,
    `spread` the tenth and ninetieth percentile of the runs' own changes. `steps` are all that made calls, whatever
    becomes of them, those last that the workflow has no longer: their USD are of all runs together, which they sum up
    to, their ms are means a run. A step that not every run took is 0 in the others.
    """
    for step in changes:
        if step != "*" and step not in needs:
            hint = meant(step, [*needs, "*"])
            raise InvalidRequest(
                f"the workflow has no step {step!r}: its steps are {', '.join(needs)}, or * for all{hint}"
            )
    if not runs:
        raise InvalidRequest("there is no completed run to learn from; run the workflow first, or look further back")
    estimated = estimate(runs, changes, resolve, Speeds(runs), prices=prices)
    estimates, steps, unknown = estimated.runs, estimated.steps, estimated.unknown
    latencies = [(e.latency_before, e.latency_after(needs)) for e in estimates]
    for step in changes:
        if step != "*" and step not in steps:
            unknown[f"step {step!r} was not taken in these runs"] = None
    gone = [name for name in steps if name not in needs]
    for name in gone:
        unknown[f"what the workflow costs without step {name!r}: these runs took it, and it has the step no longer"] = (
            None
        )
    unknown["whether the answers are as good and as long, and how many tokens another tokenizer makes of them"] = None
    dates = sorted(str(run["created_at"]) for run in runs)
    return {
        "runs": len(runs),
        "from": dates[0],
        "to": dates[-1],
        "prices": prices,
        "cost_usd": _totals([e.cost_before for e in estimates], [e.cost_after for e in estimates]),
        "latency_ms": _totals(
            [Decimal(round(before)) for before, _ in latencies], [Decimal(round(after)) for _, after in latencies]
        ),
        "spread": {
            "cost": _spread((e.cost_before, e.cost_after) for e in estimates),
            "latency": _spread((Decimal(before), Decimal(after)) for before, after in latencies),
        },
        "steps": [steps[name].record(len(runs)) for name in (*needs, *gone) if name in steps],
        "cost_basis": CERTAINTY[max((step.basis for step in steps.values()), default=0)],
        "simulated": any(run.get("simulated") for run in runs),
        "unknown": list(unknown),
    }


@dataclass(frozen=True, slots=True)
class Estimated:
    """What a change does to runs, one by one and summed by step, and what of it is not known."""

    runs: Sequence[Estimate]
    steps: Mapping[str, StepEstimate]
    unknown: dict[str, None]


def estimate(
    runs: Sequence[RunView],
    changes: Mapping[str, Model],
    resolve: Callable[[str], Model],
    speeds: Speeds,
    *,
    prices: Prices = "today",
) -> Estimated:
    """Return what `changes` do to each run. `speeds` are what was observed of models, in these runs or in more."""
    change = _Change(changes, resolve, prices, speeds)
    return Estimated([change.of_run(run) for run in runs], change.steps, change.unknown)


@dataclass(slots=True)
class _Change:
    """What a change of models does to recorded calls; notes in `unknown` what it cannot know."""

    changes: Mapping[str, Model]
    resolve: Callable[[str], Model]
    prices: Prices
    speeds: Speeds
    steps: dict[str, StepEstimate] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)

    def of_run(self, run: RunView) -> Estimate:
        """Return a run before and after; adds its calls to those of their steps."""
        steps: dict[str, StepOfRun] = {}
        turns: dict[str, list[_Turn]] = defaultdict(list)
        for record in run["steps"]:
            turn = _turn(record)
            turns[record["step"]].append(turn)
            step = steps.setdefault(record["step"], StepOfRun())
            for call in record["attempts"]:
                estimate = self.steps.setdefault(record["step"], StepEstimate(record["step"]))
                now, then, takes = self._of_call(estimate, call)
                step.cost_before, step.cost_after = _add(step.cost_before, now), _add(step.cost_after, then)
                turn.takes += takes - _ms(call)
                estimate.add(call, now, then)
        for name, step_turns in turns.items():
            took, takes = _length(step_turns, now=True), _length(step_turns, now=False)
            steps[name].ms_before, steps[name].ms_after = took, takes
            if whole := self.steps.get(name):
                whole.latency_before += took
                whole.latency_after += takes
        return Estimate(str(run["id"]), float(run.get("latency_ms") or 0), steps)

    def _of_call(self, estimate: StepEstimate, call: AttemptView) -> tuple[Decimal | None, Decimal | None, float]:
        """Return what a call costs and would cost, and how long it would take (ms)."""
        name, at = estimate.step, _date(call, self.prices)
        model = self.changes.get(name, self.changes.get("*"))
        if call["outcome"] != "ok" and model is not None and call["model"] != model.id:
            return call.get("cost_usd") or Decimal(0), Decimal(0), 0.0
        now = _price(call, self.resolve, at, self.unknown)
        if model is None or call["model"] == model.id:
            return now, now, _ms(call)
        # What the old model's provider said of tiers says nothing about the new one's.
        then = _cost(model, {**call, "service_tier": None}, at)
        if then is None:
            self.unknown[f"the cost of {model.id}: it has no price"] = None
        used = usage.of_shown(call)
        expected, source = self.speeds.expect(name, model, used.output_tokens)
        if estimate.after is None:
            estimate.after, estimate.latency_from = model.id, source
        if source != "this step":
            where = "it was never seen" if source == "the catalog" else "it was seen on other steps only"
            self.unknown[f"how fast {model.id} answers step {name!r}: {where}"] = None
        if (effort := _effort(call["model"], self.resolve)) != model.effort:
            names = [
                f"effort {effort_name}" if effort_name else "its own effort" for effort_name in (model.effort, effort)
            ]
            self.unknown[f"how much {model.entry} writes at {names[0]}: the tokens are those of {names[1]}"] = None
        if used.cached_tokens or used.cache_write_tokens:
            self.unknown[f"how much of step {name!r} {model.id} would find in its cache"] = None
        return now, then, expected


@dataclass(slots=True)
class _Turn:
    """One turn of a step: how long it took and would take (ms). `item` is 0 but for the turns of a forEach step."""

    iteration: str
    item: str
    took: float
    takes: float


def _turn(record: StepView) -> _Turn:
    iteration, _, item = str(record.get("id") or "0#0").rpartition("#")
    latency = float(record.get("latency_ms") or 0)
    return _Turn(iteration, item, latency, latency)


def _length(turns: Sequence[_Turn], *, now: bool) -> float:
    """Return how long a step took, or would take: its iterations one after another. The turns of a forEach step run
    inside of the step itself (item 0), which is taken to stretch as they do."""
    total = 0.0
    for iteration in dict.fromkeys(turn.iteration for turn in turns):
        step_turns = [turn for turn in turns if turn.iteration == iteration and turn.item == "0"]
        items = [turn for turn in turns if turn.iteration == iteration and turn.item != "0"]
        length = sum(turn.took if now or items else turn.takes for turn in step_turns)
        if items and not step_turns:
            length = max(turn.took for turn in items)
        took = sum(turn.took for turn in items)
        if items and not now and took:
            length *= max(0.0, sum(turn.takes for turn in items)) / took
        total += length
    return total


def _ms(call: AttemptView) -> float:
    return float(call.get("latency_ms") or 0)


def _date(call: Mapping[str, Any], prices: Prices) -> datetime:
    if prices == "then" and call.get("started_at"):
        return datetime.fromisoformat(str(call["started_at"]))
    return clock.now()


def _price(
    call: AttemptView, resolve: Callable[[str], Model], at: datetime, unknown: dict[str, None]
) -> Decimal | None:
    """Return the recorded call at the prices of `at`; as recorded where the catalog does not know its model any
    more."""
    try:
        model = resolve(call["model"])
        if answered := call.get("answered_by"):
            model, _ = priced_as(model, answered, lambda provider, name: _priced(provider, name, resolve))
        cost = _cost(model, call, at)
    except ModelUnknown:
        cost = None
    if cost is None:
        cost = call.get("cost_usd")
        if cost is None:
            unknown[f"the cost of {call['model']}: it has no price"] = None
    return cost


def _priced(provider: str, name: str, resolve: Callable[[str], Model]) -> Model | None:
    """Return the priced model that a provider calls `name`, `None` where nobody knows it."""
    for written in (f"{provider}:{name}", name):
        with contextlib.suppress(ModelUnknown):
            model = resolve(written)
            if model.provider == provider and model.prices:
                return model
    return None


def _cost(model: Model, call: Mapping[str, Any], at: datetime) -> Decimal | None:
    return pricing.cost(model, usage.of_shown(call), at)


def _effort(model_id: str, resolve: Callable[[str], Model]) -> str | None:
    try:
        return resolve(model_id).effort
    except ModelUnknown:
        return None


def _sum(costs: Iterable[Decimal | None]) -> Decimal | None:
    total: Decimal | None = Decimal(0)
    for cost in costs:
        total = _add(total, cost)
    return total


def _add(total: Decimal | None, more: Decimal | None) -> Decimal | None:
    return None if total is None or more is None else total + more


def _totals(before: Sequence[Decimal | None], after: Sequence[Decimal | None]) -> Compared:
    """Means a run, and the change as a fraction."""
    old, new = _mean(before), _mean(after)
    change = (new - old) / old if old and new is not None else None
    return {"before": old, "after": new, "change": None if change is None else round(change, 4)}


def _mean(values: Sequence[Decimal | None]) -> Decimal | None:
    known = [value for value in values if value is not None]
    return sum(known, Decimal(0)) / len(known) if known and len(known) == len(values) else None


def _spread(pairs: Iterable[tuple[Decimal | None, Decimal | None]]) -> Percentiles | None:
    """Tenth and ninetieth percentile of the runs' changes, as fractions; nothing under two runs."""
    changes = sorted((new - old) / old for old, new in pairs if old and new is not None)
    if len(changes) < 2:
        return None
    cuts = quantiles(changes, n=10, method="inclusive")
    return {"p10": round(cuts[0], 4), "p90": round(cuts[-1], 4)}
