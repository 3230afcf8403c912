"""Events of runs as they are kept and as their readers see them (docs/events.md). Types only: import them under
`TYPE_CHECKING`, where they cost a function's start nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NotRequired, TypedDict

from loopllama.runs.records import CostBasis, QuestionKind, Source

EventType = Literal[
    "RunStarted",
    "StepCompleted",
    "StepFailed",
    "RunWaiting",
    "QuestionExpiring",
    "BudgetExceeded",
    "RunCompleted",
    "RunFailed",
    "RunCancelled",
]


class EventError(TypedDict):
    """What failed, without its message."""

    type: str | None
    step: str | None


class WorkflowNamed(TypedDict, total=False):
    """Which workflow, in which version."""

    workflow_id: str | None
    workflow_version: int | None


class Detail(WorkflowNamed, total=False):
    """What an event says, all types of events together: ids, totals and cost."""

    tags: dict[str, str] | None
    resumed: bool
    step: str | None
    late: bool
    order: int | None
    iteration: int
    item: int | None
    role: str | None
    model: str | None
    source: Source | None
    started_at: str | None
    finished_at: str | None
    latency_ms: int | None
    waited_ms: int
    total_steps: int | None
    unsatisfied_loops: list[str] | None
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    cost_usd: Decimal | None
    cost_basis: CostBasis | None
    unpriced: bool | None
    simulated: bool | None
    error: EventError | None
    budget: dict[str, int | Decimal]
    question: str
    kind: QuestionKind | None
    tool: str | None
    asked_at: str | None
    expires_at: str | None


class EventItem(TypedDict):
    """An item `EVENT#<number>` of the Runs table."""

    run_id: str
    item: str
    type: EventType
    at: str
    change: str
    detail: Detail
    delete_at: NotRequired[int | Decimal | None]


class ShownEvent(Detail):
    """An event as its readers see it: `id` is its number."""

    id: str
    type: EventType
    at: str
    run_id: str
