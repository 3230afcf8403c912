"""What an event looks like, to the API's readers and to targets of the event bus. Events are made from records, not
from these models; a test holds them against each other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from loopllama.api.usage_models import Basis, MaybeTokens


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, protected_namespaces=())
    id: str
    """Unique in its run; what `after` and `Last-Event-ID` take."""
    at: str
    """When it happened, by the clock of the function that did it: ISO 8601, UTC, milliseconds."""
    run_id: str
    """Whose run it is."""
    workflow_id: str | None
    """The run's workflow."""
    workflow_version: int | None
    """The version that the run runs."""


class _OfRun(_Event):
    tags: dict[str, str] | None
    """The run's tags."""


class Totals(MaybeTokens):
    """What a step or a run used. A run's are those at its end: a call whose answer comes later is added to the run, not
    to the event."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    cost_usd: float | None
    """USD, exact; null where nothing has a price."""
    cost_basis: Basis | None
    """How certain `cost_usd` is, by the least certain call in it."""
    unpriced: bool | None
    """Something has no price and is not in `cost_usd`."""
    simulated: bool | None
    """The simulated provider answered."""


class Failure(BaseModel):
    """What failed. Its message is in the run."""

    model_config = ConfigDict(extra="forbid")
    type: str | None
    """The error's name (docs/reference.md)."""
    step: str | None
    """Where it happened."""


class RunStarted(_OfRun):
    type: Literal["RunStarted"]
    resumed: bool
    """The run had failed and was redriven."""


class _OfQuestion(_OfRun):
    question: str
    """Which of the run's `questions`; name it by this `id` in the answer."""
    step: str | None
    """The step's name."""
    iteration: int
    """Which round of a loop, from 0."""
    item: int | None
    """Which item of a forEach step's list, from 1; null for other steps."""
    kind: Literal["input", "approval"] | None
    """What is asked for."""
    tool: str | None
    """The tool whose call waits for approval."""
    asked_at: str | None
    """Since when it waits."""
    expires_at: str | None
    """Until when it waits."""


class RunWaiting(_OfQuestion):
    """The run asks a person; what it asks is in the run's `questions`."""

    type: Literal["RunWaiting"]


class QuestionExpiring(_OfQuestion):
    """A fifth of the time to answer is left; told once of each question that is still open then."""

    type: Literal["QuestionExpiring"]


class _OfStep(Totals, _Event):
    step: str | None
    """The step's name."""
    order: int | None
    """The agent's place in the crew, from 0."""
    role: str | None
    """The agent's role."""
    iteration: int
    """Which round of a loop, from 0."""
    item: int | None
    """Which item of a forEach step's list, from 1; null for other steps."""
    model: str | None
    """The model that answered; of a failed step the one called last."""
    source: str | None
    """Which layer named the model."""
    started_at: str | None
    """When the step or run started."""
    latency_ms: int | None
    """From its start to its end, without `waited_ms`."""
    waited_ms: int
    """How long it waited for people."""
    error: Failure | None
    """What failed, where something did."""
    late: bool
    """The run had ended before: the call was under way then. Readers who have seen the run's end are told no more."""


class StepCompleted(_OfStep):
    type: Literal["StepCompleted"]


class StepFailed(_OfStep):
    type: Literal["StepFailed"]


class _Ended(Totals, _OfRun):
    total_steps: int | None
    """Agents' turns that the run has taken."""
    unsatisfied_loops: list[str] | None
    """Last steps of loops that ended though their `until` did not hold, or was not asked; null where there are none."""
    started_at: str | None
    """When the step or run started."""
    finished_at: str | None
    """When the run ended."""
    latency_ms: int | None
    """From its start to its end, without `waited_ms`."""
    waited_ms: int
    """How long it waited for people."""
    error: Failure | None
    """What failed, where something did."""


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
    """The run's limits."""


Event = Annotated[
    RunStarted
    | StepCompleted
    | StepFailed
    | RunWaiting
    | QuestionExpiring
    | BudgetExceeded
    | RunCompleted
    | RunFailed
    | RunCancelled,
    Field(discriminator="type"),
]
