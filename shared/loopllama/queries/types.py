"""The run object and what is reckoned from it, as the API and the command line show them. Types only: import them
under `TYPE_CHECKING`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict

from loopllama.runs.records import (
    AttemptOutcome,
    CostBasis,
    Ignored,
    LoopEnd,
    QuestionKind,
    RecordedError,
    ReplayedFrom,
    RunStatus,
    Source,
    StepStatus,
    ToolOutcome,
)


class ShownTotals(TypedDict):
    """What was used and paid, the counts of tokens under the API's names (`llm/usage.py`)."""

    tokens_in: int
    tokens_out: int
    tokens_cached: int
    cost_usd: Decimal | None
    cost_basis: CostBasis
    cache_saving_usd: Decimal | None
    unpriced: bool
    simulated: bool


class AttemptView(TypedDict):
    """A model call; `lost` where its process died before the answer."""

    model: str
    provider: str
    turn: int
    outcome: AttemptOutcome | Literal["lost"]
    error: str | None
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    tokens_cache_write: int | None
    tokens_cache_write_1h: int | None
    tokens_reasoning: int | None
    cost_usd: Decimal | None
    cost_basis: CostBasis
    latency_ms: int | None
    started_at: str
    simulated: bool | None
    unpriced: bool | None
    cache_saving_usd: Decimal | None
    stop_reason: str | None
    retry_after: Decimal | None
    output_mode: str | None
    mode_refused: str | None
    answered_by: str | None
    queued_ms: int | None
    max_tokens: int | None
    service_tier: str | None


class ToolCallView(TypedDict):
    """A tool call."""

    name: str
    outcome: ToolOutcome
    latency_ms: int | None
    started_at: str
    arguments: Any
    result: Any


class WaitView(TypedDict):
    """A stretch of time in which a step waited: for a `person`, for its next try (`retry`), or for its `place` among a
    model's calls. `until` is null where it still does."""

    reason: Literal["person", "retry", "place"]
    since: str
    until: str | None


class StepView(ShownTotals):
    """A step, `queued` where it has not begun."""

    id: str
    step: str
    order: int
    iteration: int
    item: int | None
    item_count: int | None
    status: StepStatus | Literal["queued"]
    role: str | None
    model: str | None
    source: Source | None
    route_version: int | None
    started_at: str | None
    finished_at: str | None
    latency_ms: int | None
    waited_ms: int
    waits: list[WaitView]
    routing_ms: int | None
    replayed_from: str | None
    loop_ended: LoopEnd | None
    skipped_because: str | None
    ignored: list[Ignored]
    input: Any
    output: Any
    error: str | None
    failure: RecordedError | None
    attempts: list[AttemptView]
    tool_calls: list[ToolCallView]


class QuestionView(TypedDict):
    """What a run asks a person."""

    id: str
    kind: QuestionKind
    prompt: Any
    tool: str | None
    tool_input: Any
    cut: bool
    step: str
    iteration: int
    item: int | None
    asked_at: str
    expires_at: str


class RunView(ShownTotals):
    """The run object."""

    total_steps: int
    unsatisfied_loops: list[str] | None
    id: str
    status: RunStatus | Literal["waiting_input"]
    workflow_id: str
    workflow_version: int
    models: dict[str, str] | None
    pin: str | None
    tags: dict[str, str] | None
    replayed_from: ReplayedFrom | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    latency_ms: int | None
    waited_ms: int
    budget: dict[str, Any] | None
    pending: QuestionView | None
    questions: list[QuestionView]
    error: str | None
    failure: RecordedError | None
    input: NotRequired[Any]
    output: NotRequired[Any]
    steps: NotRequired[list[StepView]]


class ForecastStep(TypedDict):
    """A step of the runs that a forecast is made from. `turns` and USD are those of all runs together, ms means a run;
    `model_after` is null where nothing of it changes."""

    step: str
    models_before: list[str]
    model_after: str | None
    turns: int
    cost_usd_before: Decimal | None
    cost_usd_after: Decimal | None
    cost_basis: CostBasis
    latency_ms_before: int
    latency_ms_after: int
    latency_from: str


class Compared(TypedDict):
    """A figure before and after, means a run; `change` is a fraction."""

    before: Decimal | None
    after: Decimal | None
    change: Decimal | None


class Percentiles(TypedDict):
    """The tenth and ninetieth percentile of a change."""

    p10: Decimal
    p90: Decimal


class Spread(TypedDict):
    """How far the runs' own changes lie apart."""

    cost: Percentiles | None
    latency: Percentiles | None


Forecast = TypedDict(
    "Forecast",
    {
        "runs": int,
        "from": str,
        "to": str,
        "prices": str,
        "cost_usd": Compared,
        "latency_ms": Compared,
        "spread": Spread,
        "steps": list[ForecastStep],
        "cost_basis": CostBasis,
        "simulated": bool,
        "unknown": list[str],
    },
)
"""What a change of models would have done to runs (`whatif.predict`)."""
