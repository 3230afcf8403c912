"""What advice says (`advise.advise`), as the API and the command line show it. Types only: import them under
`TYPE_CHECKING`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict

SignalName = Literal[
    "few_fields", "enumerations", "short_output", "no_repairs", "no_retries", "stable_output", "harmless_tools"
]
Move = Literal["model", "repair", "effort", "tier", "cached_prompt", "unread_output", "cap"]
Basis = Literal["repriced", "bounds", "none"]
"""What a saving rests on: recorded tokens at other prices; bounds between which it lies; nothing that can be summed."""


class Interval(TypedDict):
    """A figure with the ends of its 90 % confidence interval (`spread`). USD."""

    estimate: Decimal
    low: Decimal
    high: Decimal


class Signal(TypedDict):
    """A sign that a step is routine; `holds` is null where the record does not tell."""

    name: SignalName
    holds: bool | None
    says: str


class Rate(TypedDict):
    """How often the workflow runs. `source` is `record`, or `given` where somebody said it."""

    runs_month: Decimal
    source: Literal["record", "given"]
    runs: int
    days: Decimal | None
    dispersion: Decimal | None


class LatencyEffect(TypedDict):
    """What a move does to a run, in ms, means over the runs. `after` is null where nobody knows. `slack` is the median
    of how much longer the step could take without the run taking longer."""

    before: int
    after: int | None
    slack: int
    source: str


class Alternative(TypedDict):
    """Another model for the same step."""

    model: str
    alias: str | None
    saving_usd_run: Interval
    saving_usd_month: Interval | None
    latency_ms: LatencyEffect
    command: str


Line = TypedDict(
    "Line",
    {
        "step": str,
        "move": Move,
        "from": str | None,
        "to": str | None,
        "alias": str | None,
        "saving_usd_run": Interval,
        "saving_usd_month": Interval | None,
        "share": Decimal | None,
        "once_usd": Decimal,
        "weight": Decimal,
        "latency_ms": LatencyEffect,
        "rests_on": list[str],
        "speaks_against": list[str],
        "basis": Basis,
        "estimated": bool,
        "simulated": bool,
        "more_runs": int,
        "certificates": list[dict[str, Any]],
        "says": str,
        "command": str,
        "try_command": str | None,
        "apply_command": str | None,
        "worst_call_usd": NotRequired[dict[str, Decimal | None]],
        "alternatives": list[Alternative],
        "unknown": list[str],
    },
)
"""One thing to do. `weight` is what the saving is multiplied by for the order of lines."""


class LeftOut(TypedDict):
    """How many models are no candidates for a step, and why."""

    reason: str
    models: int


class StepAdvice(TypedDict):
    """A step: what it spends and what it looks like, whether or not there is something to do."""

    step: str
    model: str | None
    source: str | None
    models_recorded: list[str]
    runs: int
    turns: int
    usd_run: Interval | None
    usd_month: Interval | None
    share: Decimal | None
    latency_ms: int | None
    slack_ms: int | None
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    longest_prompt: int
    longest_output: int
    signals: list[Signal]
    weight: Decimal
    candidates: int
    left_out: list[LeftOut]
    certificates: list[dict[str, Any]]
    more_runs: int
    says: str


class Together(TypedDict):
    """The first model of each routine step, all at once."""

    steps: dict[str, str]
    saving_usd_run: Interval
    saving_usd_month: Interval | None
    latency_ms: LatencyEffect
    command: str


Advice = TypedDict(
    "Advice",
    {
        "workflow": str,
        "workflow_version": int,
        "runs": int,
        "from": str | None,
        "to": str | None,
        "rate": Rate | None,
        "usd_run": Interval | None,
        "usd_month": Interval | None,
        "enough": bool,
        "more_runs": int,
        "simulated": bool,
        "advice": list[Line],
        "together": Together | None,
        "steps": list[StepAdvice],
        "unknown": list[str],
    },
)
"""All that is advised for a workflow."""
