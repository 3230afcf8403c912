"""What `GET /v1/workflows/{id}/advice` answers, for its schema (`queries/advice/types.py`)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from loopllama.api.usage_models import Shape

SignalName = Literal[
    "few_fields", "enumerations", "short_output", "no_repairs", "no_retries", "stable_output", "harmless_tools"
]


class Interval(Shape):
    """USD, with the ends of its 90 % confidence interval."""

    estimate: float
    low: float
    high: float


class Signal(Shape):
    name: SignalName
    holds: bool | None
    """Whether the step looks routine by it; null where the record does not tell."""
    says: str


class Rate(Shape):
    runs_month: float
    """Runs in 30 days."""
    source: Literal["record", "given"]
    """`given`: by `runsMonth`."""
    runs: int
    """Runs that were counted."""
    days: float | None
    """The time in which they began."""
    dispersion: float | None
    """How much more days differ than chance would have it; null where too few are known."""


class LatencyEffect(Shape):
    """A run's latency in ms, means over the runs."""

    before: int
    after: int | None
    """Null where nobody knows."""
    slack: int
    """How much longer the step could take without the run taking longer: median, ms."""
    source: str
    """What the step's new latency rests on."""


class Alternative(Shape):
    model: str
    alias: str | None
    saving_usd_run: Interval
    saving_usd_month: Interval | None
    latency_ms: LatencyEffect
    command: str


class WorstCall(Shape):
    before: float | None
    after: float | None


class AdviceLine(Shape):
    step: str
    move: Literal["model", "repair", "effort", "tier", "cached_prompt", "unread_output", "cap"]
    from_: str | None = Field(alias="from")
    """The model that the step uses now."""
    to: str | None
    """The model, at its effort and tier, that it would use."""
    alias: str | None
    saving_usd_run: Interval
    saving_usd_month: Interval | None
    """Null where it is not known how often the workflow runs."""
    share: float | None
    """The saving as a fraction of the workflow's bill."""
    once_usd: float
    """What the move costs once: prompts are written to another model's cache."""
    weight: float
    """Lines are ordered by their saving times this. Each signal that speaks against halves it; it is no probability."""
    latency_ms: LatencyEffect
    rests_on: list[str]
    speaks_against: list[str]
    basis: Literal["repriced", "bounds", "none"]
    """`repriced`: recorded tokens at other prices. `bounds`: the saving lies between low and high, and the middle is
    shown. `none`: it saves nothing that can be foreseen."""
    estimated: bool
    """Whether it is not all measured."""
    simulated: bool
    """Whether simulated calls are in it."""
    more_runs: int
    """How many more runs it takes until the saving is told from nothing."""
    certificates: list[dict[str, Any]]
    """Proofs that the answers are as good; none yet."""
    says: str
    command: str
    """The command that proves it, or shows what it rests on."""
    try_command: str | None
    """The command that tries it on a recorded run, which makes calls."""
    apply_command: str | None
    """The command that does it."""
    worst_call_usd: WorstCall | None = None
    """Of `cap`: what the longest answer can cost."""
    alternatives: list[Alternative]
    unknown: list[str]


class LeftOut(Shape):
    reason: str
    models: int


class StepAdvice(Shape):
    step: str
    model: str | None
    """What it uses now."""
    source: str | None
    models_recorded: list[str]
    runs: int
    """Runs in which it made calls."""
    turns: int
    usd_run: Interval | None
    usd_month: Interval | None
    share: float | None
    latency_ms: int | None
    slack_ms: int | None
    tokens_in: int
    """Mean of an answered call, like the other two."""
    tokens_out: int
    tokens_cached: int
    longest_prompt: int
    longest_output: int
    signals: list[Signal]
    weight: float
    candidates: int
    """Models whose saving was reckoned."""
    left_out: list[LeftOut]
    """How many models are none, by reason."""
    certificates: list[dict[str, Any]]
    more_runs: int
    """How many more runs it takes until there is advice."""
    says: str


class Together(Shape):
    """The first model of each routine step, all at once."""

    steps: dict[str, str]
    saving_usd_run: Interval
    saving_usd_month: Interval | None
    latency_ms: LatencyEffect
    command: str


class Advice(Shape):
    workflow: str
    workflow_version: int
    runs: int
    """Completed runs that were read."""
    from_: str | None = Field(alias="from")
    to: str | None
    rate: Rate | None
    """How often it runs; null where the record is too short to tell."""
    usd_run: Interval | None
    usd_month: Interval | None
    enough: bool
    more_runs: int
    simulated: bool
    advice: list[AdviceLine]
    together: Together | None
    steps: list[StepAdvice]
    unknown: list[str]
