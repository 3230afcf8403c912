"""The normalised form of a workflow: what the items of the Workflows table hold (docs/design.md, Data). Types only.

`schema.Workflow.to_definition` makes it. Import the types under `TYPE_CHECKING`: they cost a function's start nothing
then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

if TYPE_CHECKING:
    from typing_extensions import ReadOnly  # of typing itself from Python 3.13 on

WorkflowStatus = Literal["active", "paused"]


class Back(TypedDict):
    """Where a loop goes back to."""

    back_to: ReadOnly[str]


class Repeat(Back):
    """A loop: back to an earlier step until a condition holds, for at most so many rounds."""

    until: str
    max: int


class Approval(TypedDict, total=False):
    """Where a person decides: before the step starts, before tools run."""

    start: bool
    tools: list[str]
    timeout_seconds: int


class Candidate(TypedDict):
    """A model that a policy chooses among, with its weight."""

    model: str
    weight: float


class Node(TypedDict):
    """What the crew's graph is made of (`workflows/graph.py`)."""

    name: ReadOnly[str]
    needs: ReadOnly[Sequence[str]]
    repeat: NotRequired[ReadOnly[Back | None]]


class CrewStep(TypedDict):
    """One agent of a crew. What it does not set is left out."""

    name: str
    role: str
    system_prompt: str
    needs: list[str]
    model: NotRequired[str]
    policy: NotRequired[str]
    candidates: NotRequired[list[str | Candidate]]
    fallbacks: NotRequired[list[str]]
    prompt: NotRequired[str]
    output_schema: NotRequired[dict[str, Any]]
    tools: NotRequired[list[str]]
    max_tokens: NotRequired[int]
    temperature: NotRequired[float]
    max_turns: NotRequired[int]
    timeout_seconds: NotRequired[int]
    retries: NotRequired[int]
    when: NotRequired[str]
    for_each: NotRequired[str]
    max_concurrency: NotRequired[int]
    max_failures: NotRequired[int]
    repeat: NotRequired[Repeat]
    approval: NotRequired[Approval]


class DefinedLimits(TypedDict, total=False):
    """Most that may be used. USD are a text, because JSON numbers are read as floats."""

    max_steps: int
    max_tokens: int
    max_cost_usd: str


class DefinedBudget(DefinedLimits, total=False):
    """The budget of a definition: limits of a run, and of all runs of a day."""

    allow_unpriced: bool
    daily: DefinedLimits


class Definition(TypedDict):
    """A workflow as the engine reads it."""

    crew: list[CrewStep]
    model: NotRequired[str]
    pin: NotRequired[Literal["run"]]
    budget: NotRequired[DefinedBudget]


class WorkflowItem(TypedDict):
    """An item of the Workflows table. Version 0 carries `current_version` and `status`."""

    workflow_id: str
    version: int
    name: str
    description: str
    definition: Definition
    created_at: str
    updated_at: str
    current_version: NotRequired[int]
    status: NotRequired[WorkflowStatus]
    listed: NotRequired[str]
    since: NotRequired[str]
