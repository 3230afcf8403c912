"""The shapes of a run as the API answers it: its steps, their attempts and tool calls."""

from __future__ import annotations

from typing import Any, Literal

from loopllama.api.response_models import Ignored, Link
from loopllama.api.usage_models import Basis, CallTokens, Shape, Totals


class Question(Shape):
    """What a run asks a person. In lists of runs a long prompt is cut to its beginning, and long arguments are null:
    `cut` says so."""

    id: str
    """Hand it back with the answer, so that no other question is answered."""
    kind: Literal["input", "approval"]
    prompt: str | Link
    tool: str | None
    tool_input: Any
    """The arguments of the call that waits for approval, whole; a link where they are large."""
    cut: bool
    """Whether this is a part only: get the run before you decide."""
    step: str
    iteration: int
    """Which round of a loop asks, from 0."""
    item: int | None
    """Which item of a forEach step's list asks, from 1."""
    asked_at: str
    expires_at: str


class ReplayedFrom(Shape):
    run_id: str
    from_step: str


class Failure(Shape):
    """Why a run or a step failed, for programs; `error` says it in a sentence."""

    type: str
    """The error's name (docs/reference.md)."""
    step: str | None
    """Where it happened; null where no step was at work."""
    message: str


class Wait(Shape):
    reason: Literal["person", "retry", "place"]
    """For a person's answer, to be tried again, or for its place among the calls of its model."""
    since: str
    until: str | None
    """Null where it still waits."""


class Attempt(CallTokens):
    model: str
    provider: str | None
    turn: int | None
    outcome: str
    """`ok`, `open`, `lost` (its process died), or an error's name."""
    error: str | None
    cost_usd: float | None
    cost_basis: Basis | None
    latency_ms: int | None
    started_at: str | None
    simulated: bool | None
    unpriced: bool | None
    cache_saving_usd: float | None
    """What reading from the provider's cache saved, less what writing to it cost."""
    stop_reason: str | None
    """`max_tokens`: the answer was cut off."""
    retry_after: float | None
    """Seconds that the provider asked to wait."""
    output_mode: Literal["native", "tool", "instructions"] | None
    """How the model was asked for JSON of the step's `outputSchema`."""
    mode_refused: str | None
    """Which better way of asking the provider refused, and why."""
    answered_by: str | None
    """The provider's name for what answered, where it is another than the one that was asked."""
    queued_ms: int | None
    """How long the call waited for its place among the model's calls, where it has a limit of calls at once."""
    max_tokens: int | None
    """The limit of the answer where the agent did not set it: what a budget left, or that of a server of one's own."""
    service_tier: str | None
    """The service tier that answered, where the provider says it, such as `standard`, `flex`. It decides the price."""


class ToolCall(Shape):
    name: str
    outcome: str
    arguments: Any
    result: Any
    latency_ms: int | None
    started_at: str | None


class Step(Totals):
    id: str
    step: str
    order: int
    iteration: int
    item: int | None
    """Which item of a forEach step's list, from 1."""
    item_count: int | None
    """How many items the list has, of the forEach step itself."""
    status: Literal["queued", "running", "completed", "failed", "skipped"]
    role: str
    model: str | None
    source: (
        Literal["run", "step-override", "agent", "workflow-override", "workflow-default", "deployment-default"] | None
    )
    """Which layer named the model."""
    route_version: int | None
    ignored: list[Ignored]
    """Layers and models that were skipped, and why."""
    input: str | Link | None
    """The prompt that the agent received; null where it has received none: before its turn, in a step that was skipped,
    and in a forEach step beside its items."""
    output: Any
    error: str | None
    failure: Failure | None
    skipped_because: str | None
    """Why it was skipped: its `when` with what stands where that looks, or what it needs was skipped."""
    started_at: str | None
    finished_at: str | None
    latency_ms: int | None
    """From its start to its end, without `waited_ms`."""
    waited_ms: int
    """How long it has waited for people, which `timeoutSeconds` does not count either."""
    waits: list[Wait]
    """When it waited, and for what."""
    routing_ms: int | None
    replayed_from: str | None
    """The run that this step was kept from; it cost nothing here."""
    loop_ended: Literal["satisfied", "max_reached", "stopped", "unjudged", "skipped"] | None
    """How the loop ended whose last step this is, in the step's last round; null for other steps and rounds."""
    attempts: list[Attempt]
    tool_calls: list[ToolCall]
    cache_saving_usd: float | None = None


class Used(Shape):
    steps: int | None
    tokens: int | None
    cost_usd: float | None


class RunBudget(Shape):
    """Null for what is not limited. In lists only the limits."""

    max_steps: int | None
    max_tokens: int | None
    max_cost_usd: float | None
    spent: Used | None = None
    reserved: Used | None = None
    """What the calls under way are expected to take."""
    left: Used | None = None
    """Below 0 where calls took more than expected."""


class RunSummary(Totals):
    id: str
    workflow_id: str
    workflow_version: int
    status: Literal["queued", "running", "waiting_input", "completed", "failed", "cancelled"]
    input: Any
    output: Any
    error: str | None
    """Names the step."""
    failure: Failure | None
    models: dict[str, str] | None
    pin: str | None
    tags: dict[str, str] | None
    budget: RunBudget | None
    pending: Question | None
    """What it asks a person: the first of `questions`."""
    questions: list[Question]
    """All that it asks people now, wherever it asks; first what ends first."""
    replayed_from: ReplayedFrom | None
    total_steps: int
    """Agents' turns that it has taken so far: each round of a loop and each item of a forEach is one. Steps that were
    skipped, or that a replay kept, took none."""
    unsatisfied_loops: list[str] | None
    """Last steps of loops that ended though their `until` did not hold, or was not asked: `loop_ended` says how."""
    latency_ms: int | None
    """From its start to its end, without `waited_ms`."""
    waited_ms: int
    """How long it has done nothing but wait for people."""
    created_at: str
    started_at: str | None
    finished_at: str | None


class Run(RunSummary):
    steps: list[Step] | Link
    """A link where they are too many for an answer: thousands."""
    cache_saving_usd: float | None = None
