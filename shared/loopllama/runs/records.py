"""The records of runs: what the items of the Runs and Usage tables hold (docs/design.md, Data). Types only.

Import them under `TYPE_CHECKING`: they cost a function's start nothing then. Numbers come from DynamoDB as `Decimal`
and are written as `int` too. No attribute is promised to be there: an item may be read in part, or not written yet.
An attribute that is written as `None` is left out (`aws/dynamo.py`).

Some attributes are named by what they stand for: `attempt_<n>`, `tool_<turn>_<n>`, `human_<question>` and
`iteration_<step>`. `runs/totals.py`, `engine/human_input.py` and `runs/step_ref.py` read them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, NotRequired, TypedDict

Number = int | Decimal
Stored = Any
"""A value as `ValueStore.store` or `prompts.keep` gives it."""

RunStatus = Literal["queued", "running", "completed", "failed", "cancelled"]
StepStatus = Literal["running", "completed", "failed", "skipped"]
LoopEnd = Literal["satisfied", "max_reached", "stopped", "unjudged", "skipped"]
CostBasis = Literal["measured", "estimated", "unknown"]
Source = Literal["run", "step-override", "agent", "workflow-override", "workflow-default", "deployment-default"]
"""The layer that said which model a step uses (`routing/decision.py`)."""
AttemptOutcome = Literal[
    "ok",
    "open",
    "ModelError",
    "ModelThrottled",
    "ModelUnavailable",
    "ModelTimeout",
    "ContextTooLong",
    "ContentFiltered",
    "InvalidModelResponse",
    "ModelRequestRejected",
    "ModelNotAvailable",
    "CredentialsRejected",
]
"""How a model call went: `open` until it is settled, then `ok` or its error's name."""
ToolOutcome = Literal["open", "ok", "failed"]
QuestionKind = Literal["input", "approval"]
GoesOn = Literal["continue", "retry_later", "waiting", "fork", "more", "advance"]
Ends = Literal["done", "failed", "stopped", "set_aside", "crashed", "line_left"]
ChainOutcome = GoesOn | Ends
"""What the state machine is told of a chain; `crashed` it says itself. `set_aside` goes on in the run's next execution.
A run's only chain becomes a round of `more`, or asks what is ready (`advance`); `line_left` ends a line it has left."""


class RecordedError(TypedDict, total=False):
    """Why a run or a step failed; a run's names the step."""

    step: str | None
    type: str
    message: str


class Usage(TypedDict, total=False):
    """What was used and paid: of an attempt, a step or a run."""

    input_tokens: Number
    output_tokens: Number
    cached_tokens: Number
    cost_usd: Decimal | None
    cost_basis: CostBasis
    cache_saving_usd: Decimal | None
    unpriced: bool | None
    simulated: bool | None


class Counts(TypedDict):
    """The tokens of attempts together: the figures of `llm/usage.py` that are summed."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int


class Totals(Counts):
    """What attempts come to together (`totals.totals`)."""

    cost_usd: Decimal | None
    cost_basis: CostBasis
    cache_saving_usd: Decimal | None
    unpriced: bool
    simulated: bool


class RunTotals(Totals):
    """What a run's steps come to together (`totals.of_run`)."""

    total_steps: int
    unsatisfied_loops: list[str] | None


class Bill(Usage, total=False):
    """What one model call used and cost."""

    answered_by: str | None
    cache_write_tokens: Number | None
    cache_write_1h_tokens: Number | None
    reasoning_tokens: Number | None
    service_tier: str | None


class Attempt(Bill):
    """One model call of a step (`attempt_<n>`)."""

    model: str
    provider: str
    turn: Number
    outcome: AttemptOutcome
    started_at: str
    latency_ms: NotRequired[Number]
    error: NotRequired[str]
    retry_after: NotRequired[Decimal]
    repeatable: NotRequired[Literal[True]]
    stop_reason: NotRequired[Literal["max_tokens"] | None]
    output_mode: NotRequired[str | None]
    mode_refused: NotRequired[str | None]
    max_tokens: NotRequired[Number | None]
    queued_ms: NotRequired[Number]
    no_retry: NotRequired[bool | None]
    answer: NotRequired[Stored]


class KeptCall(TypedDict):
    """A tool call of an answer that is kept for a replay."""

    id: str
    name: str
    arguments: Any
    raw: str
    signature: NotRequired[str]


class KeptThoughts(TypedDict):
    """What a provider wants back with the tool calls of an answer (`llm.types.Thoughts`)."""

    provider: str
    model: str
    value: Any


class KeptAnswer(TypedDict):
    """The value behind an attempt's `answer`."""

    text: str
    stop_reason: Literal["end", "tool_calls", "max_tokens"]
    tool_calls: list[KeptCall]
    thoughts: NotRequired[KeptThoughts]


class ToolCallRecord(TypedDict):
    """One tool call of a step (`tool_<turn>_<n>`)."""

    name: str
    id: str
    arguments: Stored
    outcome: ToolOutcome
    started_at: str
    result: NotRequired[Stored]
    latency_ms: NotRequired[Number]


class Question(TypedDict):
    """What a step asks a person (`pending`); on the run it names the step, and `cut` says that it is not all of it.
    `expiring_since`: when it was told that its time is nearly over. Versions before that kept `tool_input` as JSON."""

    key: str
    kind: QuestionKind
    prompt: Stored
    asked_at: str
    expires_at: str
    tool: NotRequired[str]
    tool_input: NotRequired[Stored]
    step: NotRequired[str]
    expiring_since: NotRequired[str]
    cut: NotRequired[bool]


class HumanAnswer(TypedDict, total=False):
    """What a person answered (`human_<question>`)."""

    input: str
    approved: bool
    note: str
    id: str
    by: str
    asked_at: str
    at: str


class Ignored(TypedDict):
    """What was skipped on the way to a step's model: a layer, or one model of it."""

    layer: Source | Literal["budget", "calls"]
    reason: str
    model: NotRequired[str]


class RouteRecord(TypedDict):
    """A decision of the router (`Route.to_record`)."""

    attempt_order: list[str]
    source: Source
    policy: NotRequired[str]
    route_version: NotRequired[Number]
    ignored: NotRequired[list[Ignored]]
    max_tokens: NotRequired[Number]
    temperature: NotRequired[Decimal]
    pinned: NotRequired[bool]


class StepRecord(Usage, total=False):
    """The item of a step, of one iteration of it, or of one item of a forEach step."""

    run_id: str
    item: str
    workflow_id: str
    usage_by_hour: bool
    """Its rows of usage begin with their hour: it was not begun by a version that did not know of hours."""
    step: str
    order: Number
    role: str
    status: StepStatus
    iteration: Number | None
    item_index: Number | None
    item_count: Number
    input: Stored
    output: Stored
    error: RecordedError
    model: str | None
    source: Source
    route: RouteRecord
    route_version: Number | None
    ignored: list[Ignored] | None
    invalid_overrides: Number | None
    routing_ms: Number
    started_at: str
    finished_at: str
    latency_ms: Number
    waited_ms: Number | None
    skipped_because: str | None
    lease_owner: str
    lease_until: Number
    token: str
    pending: Question
    unanswered: Question
    repeat_pending: bool | None
    loop_ended: LoopEnd | None
    stopping: bool
    tries: Number
    set_aside: bool
    retry_at: Number
    queued_at: Number | None
    throttled_at: Number | None
    attempts_before_retry: Number
    metrics_reported_attempts: Number
    crash_count: Number | None
    first_turn: Number
    turns: Number
    tags: dict[str, str] | None
    api_key: str | None
    replayed_from: str
    delete_at: Number | None


class ReplayedFrom(TypedDict):
    """Which run a replay began from, and where."""

    run_id: str
    from_step: str


class RunBudget(TypedDict, total=False):
    """The limits that count for a run."""

    max_steps: Number
    max_tokens: Number
    max_cost_usd: Decimal
    allow_unpriced: bool


class Run(Usage, total=False):
    """The `RUN` item."""

    run_id: str
    item: str
    workflow_id: str
    workflow_version: Number
    status: RunStatus
    input: Stored
    output: Stored
    error: RecordedError
    models: dict[str, str] | None
    pin: str | None
    pinned: bool
    tags: dict[str, str] | None
    budget: RunBudget | None
    api_key: str | None
    key_max_usd: Number | None
    request_hash: str
    system_prompts: dict[str, str] | None
    replayed_from: ReplayedFrom
    total_steps: Number
    unsatisfied_loops: list[str] | None
    created_at: str
    started_at: str
    finished_at: str
    waited_ms: Number
    execution_arn: str
    executions: Number
    starting: bool
    pending: dict[str, Question]
    reopened_at: str
    stopping: bool
    crashed: bool | None
    active: str
    check_at: str
    delete_at: Number


class UsageRow(Usage, total=False):
    """A row of the Usage table: one model call of a step that has ended."""

    day_workflow: str
    run_step_model: str
    run_id: str
    step: str
    model: str
    steps: Number
    tags: dict[str, str] | None
    key: str | None
    delete_at: Number


class WorkPayload(TypedDict):
    """What RunStep is invoked with for a step (`Work.to_payload`)."""

    contract: int
    run_id: str
    workflow: str
    version: int
    step: str
    iteration: int
    item: int
    depth: int


class Branch(TypedDict):
    """A step that may start, or an item of a forEach step: what differs among the chains of one Map."""

    step: str
    iteration: int
    item: int


class ChainEnd(TypedDict):
    """How a chain ended, as the state machine hands it to AdvanceRun and to a forEach step."""

    outcome: ChainOutcome
    left: NotRequired[int]
    step: NotRequired[str]
    item: NotRequired[int]
    error: NotRequired[str]
    ended: NotRequired[list[ChainEnd]]


class RoundShares(TypedDict):
    """What a Map of chains begins, and how many events each may cause; none where none were counted when it began."""

    ready: list[Branch]
    share: NotRequired[int]
    left: NotRequired[int]


class StepPayload(WorkPayload):
    """What RunStep is invoked with: work, behind a fork how its chains ended, how often it was repeated (`retry`), of a
    run's only chain the number of its `round`. Where the chain waits for a person it is `work` and `token` alone."""

    left: NotRequired[int]
    left_out: NotRequired[int]
    ended: NotRequired[list[ChainEnd]]
    retry: NotRequired[int]
    round: NotRequired[int]
    work: NotRequired[WorkPayload]
    token: NotRequired[str]


class StepOutcome(StepPayload):
    """What RunStep returns: where the chain goes on, with what it is invoked again, or that it ends."""

    outcome: ChainOutcome
    seconds: NotRequired[int]
    ready: NotRequired[list[Branch]]
    share: NotRequired[int]
    least: NotRequired[int]
    join: NotRequired[bool]
    max_concurrency: NotRequired[int]
