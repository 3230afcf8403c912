"""One agent of a crew as people write it, and the kinds of text that its fields take."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from loopllama.core import exact_json
from loopllama.core.input_model import InputModel
from loopllama.policies.field import PolicyName
from loopllama.workflows import expressions

MAX_AGENTS = 200
"""A run has at most 2,000 steps (25,000 history events); this leaves each agent ten turns of a loop or a list."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _one_line(text: str) -> str:
    _not_blank(text)
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("must be one line without control characters")
    return text


def _distinct(items: list[Any]) -> list[Any]:
    seen: set[str] = set()
    for item in items:
        name = item.model if isinstance(item, Candidate) else item
        if name in seen:
            raise ValueError(f"has '{name[:60]}' twice")
        seen.add(name)
    return items


def _kept(value: object) -> object:
    if isinstance(value, Decimal):
        raise ValueError("has more digits than are kept: take at most 15")
    return value


def _storable(value: float) -> float:
    if value and not exact_json.storable(Decimal(repr(value))):
        raise ValueError("is too near to 0 to be stored: take 0 or more than 1E-100")
    return value


OneLine = Annotated[str, AfterValidator(_one_line)]
ModelName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_one_line)]
StepName = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[a-z0-9_]+$")]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
ExpressionText = Annotated[str, Field(min_length=1, max_length=expressions.MAX_LENGTH), AfterValidator(_one_line)]


class Candidate(InputModel):
    """A model that a policy chooses among; a plain text is a model without a weight."""

    model: ModelName
    """Catalog id, alias or `provider:model`."""
    weight: Annotated[float, Field(ge=0, le=1_000_000), AfterValidator(_storable), BeforeValidator(_kept)] | None = None
    """Its share under a policy that splits by weight, relative to the others."""

    @model_validator(mode="before")
    @classmethod
    def _text(cls, data: Any) -> Any:
        return {"model": data} if isinstance(data, str) else data


class Repeat(InputModel):
    """Goes back over a line of steps, which nothing else leaves, until they are good enough."""

    back_to: StepName
    """The step to go back to: this one, or one that it follows in a line."""
    until: ExpressionText
    """JMESPath over the outputs, this step's own among them; true ends the loop. In the next round each step sees what
    it and the sender said in the last."""
    max: int = Field(ge=2, le=20)
    """Most rounds, the first included; after the last one the run goes on as it is, and says so."""


class Approval(InputModel):
    """Where a person decides."""

    start: bool = False
    """Whether the step waits for a person before it starts."""
    tools: Annotated[list[ToolName], Field(max_length=64), AfterValidator(_distinct)] | None = None
    """Tools of the agent each call of which waits for a person."""
    timeout_seconds: int | None = Field(default=None, ge=1, le=2_160_000)
    """How long it waits, in seconds; 7 days where left out, at most 25: a run may last 30."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"start": True} if data is True or data == "start" else data


class Agent(InputModel):
    """One agent of a crew; each takes one turn in a run."""

    role: OneLine = Field(min_length=1, max_length=60)
    """What it is in the crew; the title over its output for later agents."""
    system_prompt: Annotated[str, Field(min_length=1, max_length=8000), AfterValidator(_not_blank)]
    """What it does and how it answers; not a template."""
    model: ModelName | None = None
    """Catalog id, alias (`frontier`, `balanced`, `small`) or `provider:model`; the workflow's model by default."""
    name: StepName | None = None
    """Its step's name, unique: `a-z`, `0-9` and `_`. Left out, the role's slug, with a number where another agent
    has it (`writer_2`). Overrides and templates use it: write it out if you will change the role."""
    needs: Annotated[list[str], Field(max_length=MAX_AGENTS), AfterValidator(_distinct)] | None = None
    """Names of the steps it waits for, in no circle; the agent before it by default, `[]` starts at once."""
    prompt: Annotated[str, Field(min_length=1, max_length=8000), AfterValidator(_not_blank)] | None = None
    """Template of its prompt; left out, the run's input and the outputs of all steps before it, each under its role."""
    output_schema: dict[str, Any] | None = None
    """JSON Schema of its answer, which is then the parsed value; nothing outside the schema may be referred to."""
    tools: Annotated[list[ToolName], Field(max_length=64), AfterValidator(_distinct)] | None = None
    """Names of the deployment's tools that it may call."""
    policy: PolicyName | None = None
    """How its model is chosen among `candidates`; `fixed` by default."""
    candidates: Annotated[list[Candidate], Field(min_length=1, max_length=100), AfterValidator(_distinct)] | None = None
    """Models that the policy chooses among: names, each with a `weight` where it splits by weight."""
    fallbacks: Annotated[list[ModelName], Field(max_length=20), AfterValidator(_distinct)] | None = None
    """Models tried in order when the chosen one fails; with a `model` or a `policy` of the agent's own."""
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Most tokens of one answer."""
    temperature: Annotated[float, Field(ge=0, le=2), AfterValidator(_storable), BeforeValidator(_kept)] | None = None
    """The provider's own default where left out."""
    max_turns: int | None = Field(default=None, ge=1, le=100)
    """Most model calls of its turn, those that follow tool calls included."""
    timeout_seconds: int | None = Field(default=None, ge=1, le=86_400)
    """Longest time of its turn, in seconds; waiting for a person does not count."""
    retries: int | None = Field(default=None, ge=0, le=10)
    """How often the step is tried again later when no model of its attempt order answers."""
    when: ExpressionText | None = None
    """JMESPath over the input and the earlier outputs; the step is skipped unless it is true. A skipped step counts as
    done and its output is null; a step all of whose needs were skipped is skipped. In a loop it ends the loop."""
    for_each: ExpressionText | None = None
    """JMESPath that gives a list of at most 1,000; the agent takes one turn for each item, and the output is the list
    of theirs."""
    max_concurrency: int | None = Field(default=None, ge=1, le=40)
    """Most items of `forEach` at once; where left out, the deployment's `MaxConcurrency`, 40 unless set."""
    max_failures: int | None = Field(default=None, ge=0, le=1000)
    """Most items of `forEach` that may fail, their output being null; 0 where left out."""
    repeat: Repeat | None = None
    """Goes back to an earlier step until a condition holds."""
    approval: Approval | None = None
    """A person decides before the step starts (`start`, or `true`), or before named tools run."""
