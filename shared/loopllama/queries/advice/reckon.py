"""What a change of one step does to each recorded run, by the arithmetic of `whatif`. Pure.

A bill is what the runs would have cost today: at today's prices, and with the models that their steps use now. Where
the record has other models, its calls are priced as if the present one had been asked, as `whatif` does it, and the
step is marked as estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from loopllama.catalog import pricing
from loopllama.catalog.model import Model
from loopllama.llm import usage
from loopllama.llm.types import Usage
from loopllama.queries.advice.candidates import Needs, needs_of
from loopllama.queries.advice.signals import answers, signals, weight
from loopllama.queries.advice.spread import RunRate
from loopllama.queries.durations import Speeds, critical_path, slack
from loopllama.queries.whatif import StepOfRun, estimate

if TYPE_CHECKING:
    from loopllama.queries.advice.types import LatencyEffect, Signal
    from loopllama.queries.types import AttemptView, RunView, StepView
    from loopllama.workflows.types import CrewStep


@dataclass(frozen=True, slots=True)
class Incumbent:
    """What a step uses now. `order` are the ids of its models, the first to be tried first; `chosen`: a policy chooses
    among them. `cap` is the most tokens that it may answer, where something says so; `row` its own override."""

    model: Model | None
    order: Sequence[str] = ()
    source: str | None = None
    chosen: bool = False
    cap: int | None = None
    row: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is known of a workflow and of the deployment that runs it.

    `models` are those of the catalog, `aliases` the alias of a model by its id, `named` the ids that somebody here has
    named already, `usable` says of each provider whether it can be called, `tools` of each tool whether it only reads
    (`None`: not known).
    """

    workflow_id: str
    version: int
    crew: Sequence[CrewStep]
    incumbents: Mapping[str, Incumbent]
    models: Sequence[Model]
    resolve: Callable[[str], Model]
    aliases: Mapping[str, str] = field(default_factory=dict)
    named: frozenset[str] = frozenset()
    usable: Mapping[str, bool] = field(default_factory=dict)
    tools: Mapping[str, bool | None] = field(default_factory=dict)

    @property
    def needs(self) -> dict[str, Sequence[str]]:
        """Which steps each step waits for."""
        return {step["name"]: step["needs"] for step in self.crew}


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change of a step does: USD saved in each run, the step's new length in each run (ms), where the latency
    comes from, and what is not known."""

    saved: list[Decimal]
    lengths: list[float]
    source: str
    unknown: list[str]


@dataclass(frozen=True, slots=True)
class StepFacts:
    """A step and what its record says. `runs` are those in which it made calls, `repriced` whether the record has
    other models than it uses now, `bill` is USD in each run, `None` where something is unpriced."""

    step: CrewStep
    now: Incumbent
    records: Sequence[StepView]
    needs: Needs
    signals: Sequence[Signal]
    runs: int
    repriced: bool
    bill: Sequence[Decimal] | None
    latency: float
    """Median length of the step, ms."""
    slack: float
    """Median slack of the step, ms."""

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step["name"]

    @property
    def weight(self) -> Decimal:
        """What its savings are multiplied by for their order."""
        return weight(self.signals)

    @property
    def calls(self) -> list[AttemptView]:
        """Its calls that gave an answer."""
        return [call for record in self.records for call in answers(record)]

    @property
    def is_estimated(self) -> bool:
        """Whether its bill is not what was measured and charged."""
        return self.repriced or any(call["cost_basis"] != "measured" for call in self.calls)

    @property
    def is_simulated(self) -> bool:
        """Whether simulated calls are among its own."""
        return any(call["simulated"] for call in self.calls)


class Reckoner:
    """Recorded runs under changes of single steps."""

    def __init__(self, runs: Sequence[RunView], deployment: Deployment, rate: RunRate | None, at: datetime) -> None:
        self.runs, self.deployment, self.rate, self.at = runs, deployment, rate, at
        self._speeds = Speeds(runs)
        self._needs = deployment.needs
        recorded = _recorded_models(runs)
        self._repriced = {
            name: now.model
            for name, now in deployment.incumbents.items()
            if now.model is not None and not now.chosen and recorded.get(name, set()) - {*now.order}
        }
        base = estimate(runs, self._repriced, deployment.resolve, self._speeds)
        self.unknown = list(base.unknown)
        self._base = [run.steps for run in base.runs]
        self._lengths = [{name: step.ms_after for name, step in steps.items()} for steps in self._base]
        taken = [critical_path(self._needs, {name: s.ms_before for name, s in steps.items()}) for steps in self._base]
        self._paths = [critical_path(self._needs, lengths) for lengths in self._lengths]
        self._latency = [
            max(0.0, run.latency_before + path - before)
            for run, path, before in zip(base.runs, self._paths, taken, strict=True)
        ]
        self._slack = [slack(self._needs, lengths) for lengths in self._lengths]

    def bill(self, names: Iterable[str]) -> list[Decimal] | None:
        """Return what these steps cost in each run, USD; `None` where something is unpriced."""
        chosen = [*names]
        bills: list[Decimal] = []
        for steps in self._base:
            costs = [steps[name].cost_after for name in chosen if name in steps]
            if None in costs:
                return None
            bills.append(sum(filter(None, costs), Decimal(0)))
        return bills

    @property
    def steps(self) -> list[str]:
        """The steps that the runs took, those of the workflow and those that it has no longer."""
        return list(dict.fromkeys(name for steps in self._base for name in steps))

    def facts(self, step: CrewStep) -> StepFacts:
        """Return what the record says of a step."""
        name = step["name"]
        records = [record for run in self.runs for record in run["steps"] if record["step"] == name]
        records = [record for record in records if record["attempts"]]
        lengths = [lengths[name] for lengths in self._lengths if name in lengths]
        return StepFacts(
            step=step,
            now=self.deployment.incumbents.get(name, Incumbent(None)),
            records=records,
            needs=needs_of(step, records),
            signals=signals(step, records, self.deployment.tools),
            runs=sum(1 for run in self.runs if any(r["step"] == name and r["attempts"] for r in run["steps"])),
            repriced=name in self._repriced,
            bill=self.bill([name]),
            latency=median(lengths) if lengths else 0.0,
            slack=median(slacks[name] for slacks in self._slack) if self._slack else 0.0,
        )

    def change(self, facts: StepFacts, model: Model, runs: Sequence[RunView] | None = None) -> Effect | None:
        """Return what moving the step to `model` does, `None` where something is unpriced. `runs` are the runs as they
        would have been, where the move changes more of them than the model."""
        name = facts.name
        mine = [_only(run, name) for run in (self.runs if runs is None else runs)]
        told = estimate(mine, {name: model}, self.deployment.resolve, self._speeds)
        if facts.bill is None:
            return None
        after = [run.steps.get(name, StepOfRun()) for run in told.runs]
        saved: list[Decimal] = []
        for before, step in zip(facts.bill, after, strict=True):
            if step.cost_after is None:
                return None
            saved.append(before - step.cost_after)
        source = told.steps[name].latency_from if name in told.steps else "the record"
        return Effect(saved, [step.ms_after for step in after], source, list(told.unknown))

    def unchanged(self, facts: StepFacts, saved: Sequence[Decimal]) -> Effect:
        """Return a saving that changes nothing of how long the step takes, as far as anybody knows."""
        return Effect([*saved], [lengths.get(facts.name, 0.0) for lengths in self._lengths], "the record", [])

    def latency(self, effects: Mapping[str, Effect], facts: StepFacts | None = None) -> LatencyEffect:
        """Return what changes of steps do to a run together; `facts` is the step whose slack is told."""
        after: list[float] = []
        for place, (lengths, path) in enumerate(zip(self._lengths, self._paths, strict=True)):
            new = {name: effect.lengths[place] for name, effect in effects.items() if name in lengths}
            moved = critical_path(self._needs, {**lengths, **new}) if new else path
            after.append(max(0.0, self._latency[place] + moved - path))
        sources = {effect.source for effect in effects.values()}
        return {
            "before": self.usual_latency,
            "after": round(fmean(after)) if after else None,
            "slack": round(facts.slack) if facts else 0,
            "source": sources.pop() if len(sources) == 1 else "several" if sources else "the record",
        }

    @property
    def usual_latency(self) -> int:
        """How long a run takes, ms, as a mean."""
        return round(fmean(self._latency)) if self._latency else 0

    def rebuilt_cache(self, facts: StepFacts, model: Model) -> Decimal:
        """Return what it costs once, in USD, to write the step's cached prompts for another model: what a run reads
        from the cache, as a mean, at the price of writing instead of reading."""
        price = pricing.price_at(model, self.at)
        if price is None or price.cache_read is None or not self.runs:
            return Decimal(0)
        total = Decimal(0)
        for call in facts.calls:
            used = usage.of_shown(call)
            read = Usage(used.input_tokens, 0, used.cached_tokens)
            written = Usage(used.input_tokens, 0, 0, used.cached_tokens)
            total += (pricing.cost(model, written, self.at) or 0) - (pricing.cost(model, read, self.at) or 0)
        return max(Decimal(0), total / len(self.runs))

    def run_that_answered(self, name: str, tokens: int) -> str:
        """Return the newest run in which a step gave an answer of so many tokens. Raises `StopIteration`."""
        return next(
            run["id"]
            for run in self.runs
            for record in run["steps"]
            if record["step"] == name and any(usage.of_shown(call).output_tokens == tokens for call in answers(record))
        )

    def newest_run(self, name: str) -> str | None:
        """Return the newest run in which a step made calls."""
        for run in self.runs:
            if any(record["step"] == name and record["attempts"] for record in run["steps"]):
                return run["id"]
        return None


def _only(run: RunView, name: str) -> RunView:
    return {**run, "steps": [record for record in run["steps"] if record["step"] == name]}


def _recorded_models(runs: Sequence[RunView]) -> dict[str, set[str]]:
    """Return the models that answered each step."""
    models: dict[str, set[str]] = {}
    for run in runs:
        for record in run["steps"]:
            models.setdefault(record["step"], set()).update(call["model"] for call in answers(record))
    return models
