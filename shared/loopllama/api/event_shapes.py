"""What an event looks like, to the API's readers and to targets of the event bus. Events are made from records, not
from these models; a test holds them against each other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, protected_namespaces=())
    id: str
    """Unique in its run; what `after` and `Last-Event-ID` take."""
    at: str
    """When it happened."""
    run_id: str
    workflow_id: str | None
    workflow_version: int | None


class _OfRun(_Event):
    total_steps: int | None
    """Agents of the crew."""
    tags: dict[str, str] | None


class _Totals(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    cost_usd: float | None
    """USD, exact; null where nothing has a price."""
    cost_basis: Literal["measured", "estimated", "unknown"] | None
    unpriced: bool | None
    """Something has no price and is not in `cost_usd`."""
    simulated: bool | None
    """The simulated provider answered."""


class Failure(BaseModel):
    """What failed. Its message is in the run."""

    model_config = ConfigDict(extra="forbid")
    type: str | None
    step: str | None


class RunStarted(_OfRun):
    type: Literal["RunStarted"]
    resumed: bool
    """The run had failed and was redriven."""


class RunWaiting(_OfRun):
    """The run asks a person; the question itself is in the run's `pending`."""

    type: Literal["RunWaiting"]
    step: str | None
    iteration: int
    item: int | None
    kind: Literal["input", "approval"] | None
    tool: str | None
    asked_at: str | None
    expires_at: str | None


class _OfStep(_Totals, _Event):
    step: str | None
    order: int | None
    role: str | None
    iteration: int
    item: int | None
    """Which item of a forEach step's list, from 1."""
    model: str | None
    source: str | None
    """Which layer named the model."""
    started_at: str | None
    latency_ms: int | None
    error: Failure | None


class StepCompleted(_OfStep):
    type: Literal["StepCompleted"]


class StepFailed(_OfStep):
    type: Literal["StepFailed"]


class _Ended(_Totals, _OfRun):
    started_at: str | None
    finished_at: str | None
    latency_ms: int | None
    error: Failure | None


class RunCompleted(_Ended):
    type: Literal["RunCompleted"]


class RunFailed(_Ended):
    type: Literal["RunFailed"]


class RunCancelled(_Ended):
    type: Literal["RunCancelled"]


class BudgetExceeded(_Ended):
    """The next call did not fit the budget; the run's end follows."""

    type: Literal["BudgetExceeded"]
    budget: dict[str, float | int | str | bool | None]


Event = Annotated[
    RunStarted | StepCompleted | StepFailed | RunWaiting | BudgetExceeded | RunCompleted | RunFailed | RunCancelled,
    Field(discriminator="type"),
]
