"""Workflow definitions as people write them: the same model reads YAML files and the API's JSON.

`Workflow.model_validate(data)` (or `Workflow(...)`) takes camelCase and snake_case keys, checks everything that can be
known before a run, and raises `WorkflowInvalid`, whose details name every field that is wrong. `to_definition()` is
the normalised form that the engine reads. Needs pydantic: modules that `run_step` loads must not import this one.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from loopllama.budgets import budget
from loopllama.core import exact_json, money
from loopllama.errors import WorkflowInvalid
from loopllama.workflows import expressions, validation

if TYPE_CHECKING:
    from loopllama.workflows.types import CrewStep, DefinedBudget, Definition

MAX_AGENTS = 200
"""A run has at most 2,000 steps (25,000 history events); this leaves each agent ten turns of a loop or a list."""
MAX_DEFINITION_BYTES = 350_000
"""A definition is one item of DynamoDB, which ends at 400 KB, names of attributes included."""
MAX_PROBLEMS = 50
"""So many problems are told at most."""


def _one_line(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
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


def _storable(value: float) -> float:
    if value and not exact_json.storable(Decimal(repr(value))):
        raise ValueError("is too near to 0 to be stored: take 0 or more than 1E-100")
    return value


OneLine = Annotated[str, AfterValidator(_one_line)]
ModelName = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_one_line)]
StepName = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[a-z0-9_]+$")]
ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


Money = Annotated[
    Decimal,
    BeforeValidator(money.usd),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": money.MOST_USD},
                {"type": "string", "pattern": money.USD_TEXT},
            ]
        }
    ),
]
ExpressionText = Annotated[str, Field(min_length=1, max_length=expressions.MAX_LENGTH), AfterValidator(_one_line)]


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


class Candidate(_Model):
    """A model that a policy chooses among; a plain text is a model without a weight."""

    model: ModelName
    """Catalog id, alias or `provider:model`."""
    weight: Annotated[float, Field(ge=0, le=1_000_000), AfterValidator(_storable)] | None = None
    """Its share under policy `weighted`, relative to the others."""

    @model_validator(mode="before")
    @classmethod
    def _text(cls, data: Any) -> Any:
        return {"model": data} if isinstance(data, str) else data


class Repeat(_Model):
    """Goes back over a line of steps, which nothing else leaves, until they are good enough."""

    back_to: StepName
    """The step to go back to: this one, or one that it follows in a line."""
    until: ExpressionText
    """JMESPath over the outputs, this step's own among them; true ends the loop. In the next round each step sees what
    it and the sender said in the last."""
    max: int = Field(ge=2, le=20)
    """Most rounds, the first included; after the last one the run goes on as it is."""


class Approval(_Model):
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


class Agent(_Model):
    """One agent of a crew; each takes one turn in a run."""

    role: OneLine = Field(min_length=1, max_length=60)
    """What it is in the crew; the title over its output for later agents."""
    system_prompt: str = Field(min_length=1, max_length=8000)
    """What it does and how it answers; not a template."""
    model: ModelName | None = None
    """Catalog id, alias (`frontier`, `balanced`, `small`) or `provider:model`; the workflow's model by default."""
    name: StepName | None = None
    """Its step's name, unique: `a-z`, `0-9` and `_`. Left out, the role's slug, with a number where another agent
    has it (`writer_2`). Overrides and templates use it: write it out if you will change the role."""
    needs: Annotated[list[str], Field(max_length=MAX_AGENTS), AfterValidator(_distinct)] | None = None
    """Names of the steps it waits for, in no circle; the agent before it by default, `[]` starts at once."""
    prompt: str | None = Field(default=None, min_length=1, max_length=8000)
    """Template of its prompt; left out, the run's input and the outputs of all steps before it, each under its role."""
    output_schema: dict[str, Any] | None = None
    """JSON Schema of its answer, which is then the parsed value; nothing outside the schema may be referred to."""
    tools: Annotated[list[ToolName], Field(max_length=64), AfterValidator(_distinct)] | None = None
    """Names of the deployment's tools that it may call."""
    policy: Literal["fixed", "weighted", "cheapest", "fastest"] | None = None
    """How its model is chosen among `candidates`; `fixed` by default."""
    candidates: Annotated[list[Candidate], Field(min_length=1, max_length=100), AfterValidator(_distinct)] | None = None
    """Models that the policy chooses among: names, for `weighted` with a `weight` each."""
    fallbacks: Annotated[list[ModelName], Field(max_length=20), AfterValidator(_distinct)] | None = None
    """Models tried in order when the chosen one fails; with a `model` or a `policy` of the agent's own."""
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Most tokens of one answer."""
    temperature: Annotated[float, Field(ge=0, le=2), AfterValidator(_storable)] | None = None
    """The provider's own default where left out."""
    max_turns: int | None = Field(default=None, ge=1, le=100)
    """Most model calls of its turn, those that follow tool calls included."""
    timeout_seconds: int | None = Field(default=None, ge=1, le=86_400)
    """Longest time of its turn, in seconds; waiting for a person does not count."""
    retries: int | None = Field(default=None, ge=0, le=10)
    """How often the step is tried again later when no model of its chain answers."""
    when: ExpressionText | None = None
    """JMESPath over the input and the earlier outputs; the step is skipped unless it is true. A skipped step counts as
    done and its output is null; a step all of whose needs were skipped is skipped."""
    for_each: ExpressionText | None = None
    """JMESPath that gives a list of at most 1,000; the agent takes one turn for each item, and the output is the list
    of theirs."""
    max_concurrency: int | None = Field(default=None, ge=1, le=40)
    """Most items of `forEach` at once; 40 where left out."""
    max_failures: int | None = Field(default=None, ge=0, le=1000)
    """Most items of `forEach` that may fail, their output being null; 0 where left out."""
    repeat: Repeat | None = None
    """Goes back to an earlier step until a condition holds."""
    approval: Approval | None = None
    """A person decides before the step starts (`start`, or `true`), or before named tools run."""


class Limits(_Model):
    """Most that may be used."""

    max_steps: int | None = Field(default=None, ge=1, le=budget.MOST["steps"])
    """Most steps (agent turns)."""
    max_tokens: int | None = Field(default=None, ge=1, le=budget.MOST["tokens"])
    """Most tokens, those of prompts and of answers together."""
    max_cost_usd: Money | None = None
    """Most USD."""


class Budget(Limits):
    """What one run may use, unless it brings limits of its own."""

    allow_unpriced: bool | None = None
    """Whether models without a price may be called under a limit in USD; they count as nothing in it."""
    daily: Limits | None = None
    """What all runs of a day (UTC) may use."""


DEFAULT_CREW: tuple[dict[str, str], ...] = (
    {
        "role": "planner",
        "systemPrompt": (
            "You plan the work on a request; somebody else writes the answer from your plan. Say in one sentence what "
            "is asked for and for whom. Then list, numbered and in order, what the answer must cover, with the facts, "
            "names and figures of the request that belong to each point. Keep every constraint that the request names "
            "(length, tone, language, format). List what is unclear or missing and the assumption to make instead of "
            "asking. Invent no facts. Do not write the answer itself."
        ),
    },
    {
        "role": "writer",
        "systemPrompt": (
            "You write the final answer to a request, following the planner's plan. Use the language of the request, "
            "and the tone and format that it asks for. Cover every point of the plan in its order, use only facts "
            "that stand in the request or the plan, and name an assumption where the plan makes one. Be as short as "
            "the request allows. Give only the answer: no preface, no notes about the plan, no offer of more."
        ),
    },
)
"""The crew of a workflow that names none."""


_NULL_IS_NONE = ("crew", "description")
"""What may be null and then counts as left out; other fields take null themselves."""


class Workflow(_Model):
    """A reusable definition: name, default model, crew."""

    name: OneLine = Field(min_length=1, max_length=120)
    """The workflow's id is its slug: `Support reply` is `support_reply`. Pushing a file of the same name makes the
    workflow's next version."""
    description: str = Field(default="", max_length=500)
    """What it is for."""
    model: ModelName | None = None
    """Model of every agent that names none: catalog id, alias or `provider:model`; the deployment's default if none."""
    pin: Literal["run"] | None = None
    """`run`: a run keeps the models as they stood when it started."""
    budget: Budget | None = None
    """Limits of its runs, in steps, tokens and USD."""
    crew: list[Agent] = Field(
        default_factory=lambda: [Agent.model_validate(agent) for agent in DEFAULT_CREW],
        min_length=1,
        max_length=MAX_AGENTS,
    )
    """The agents in order; a planner and a writer where left out. As JSON a definition has at most 350,000 bytes."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: ModelWrapValidatorHandler[Workflow]) -> Workflow:
        if isinstance(data, dict):
            data = {key: value for key, value in data.items() if value is not None or key not in _NULL_IS_NONE}
        try:
            workflow = handler(data)
        except ValidationError as error:
            # `from None`: pydantic's own message shows what was handed in, prompts included.
            raise _invalid([_problem(one) for one in error.errors(include_url=False)[:MAX_PROBLEMS]]) from None
        _resolve(workflow.crew)
        problems = validation.check(workflow.crew)
        if not problems:
            problems = _too_large(workflow.to_definition())
        if problems:
            raise _invalid(problems)
        return workflow

    def to_definition(self) -> Definition:
        """The normalised form of the engine (docs/design.md): snake_case, what is not set left out, names and needs
        written out. JSON values only; a new copy each time, but for `output_schema`."""
        definition: Definition = {"crew": [_step(agent) for agent in self.crew]}
        if self.model:
            definition["model"] = self.model
        if self.pin:
            definition["pin"] = self.pin
        if self.budget and (limits := _limits(self.budget)):
            definition["budget"] = limits
        return definition


def workflow_id_of(name: str) -> str:
    """The id of a workflow of this name: its slug (`Support reply` is `support_reply`); where no letter of it is
    Latin, a digest, so that the same name always gives the same id."""
    return _slug(name, 120) or f"workflow_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a workflow file, for editors (camelCase spelling)."""
    schema = Workflow.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    definitions["Candidate"] = {"anyOf": [{"type": "string"}, definitions["Candidate"]]}
    definitions["Approval"] = {"anyOf": [{"enum": [True, "start"]}, definitions["Approval"]]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _slug(text: str, longest: int) -> str:
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return re.sub(r"[^a-z0-9]+", "_", "".join(letters).lower()).strip("_")[:longest].rstrip("_")


def _resolve(crew: Sequence[Agent]) -> None:
    """Write out the names and needs that were left out. Agents of one role are told apart by number (`writer_2`)."""
    taken = {agent.name for agent in crew if agent.name}
    for position, agent in enumerate(crew):
        if agent.name is None:
            base = _slug(agent.role, 60) or f"agent_{position + 1}"
            agent.name, number = base, 1
            while agent.name in taken:
                number += 1
                agent.name = f"{base[: 59 - len(str(number))]}_{number}"
            taken.add(agent.name)
        if agent.needs is None:
            agent.needs = [str(crew[position - 1].name)] if position else []


def _step(agent: Agent) -> CrewStep:
    values = {key: getattr(agent, key) for key in Agent.model_fields}
    if agent.candidates is not None:
        values["candidates"] = [
            one.model if one.weight is None else {"model": one.model, "weight": one.weight} for one in agent.candidates
        ]
    values["fallbacks"] = agent.fallbacks or None
    for key in ("repeat", "approval"):
        if values[key] is not None:
            values[key] = values[key].model_dump(exclude_none=True)
    lists = {key: list(value) for key, value in values.items() if isinstance(value, list)}
    return cast("CrewStep", {key: lists.get(key, value) for key, value in values.items() if value is not None})


def _limits(limits: Limits) -> DefinedBudget:
    values = {key: value for key, value in limits if value is not None}
    if "max_cost_usd" in values:
        values["max_cost_usd"] = exact_json.number(values["max_cost_usd"])  # as text: JSON numbers are read as floats
    if "daily" in values:
        values["daily"] = _limits(values["daily"])
    return cast("DefinedBudget", {key: value for key, value in values.items() if value != {}})


def _too_large(definition: Definition) -> list[dict[str, object]]:
    size = len(json.dumps(definition, ensure_ascii=False).encode())
    if size <= MAX_DEFINITION_BYTES:
        return []
    message = f"has {size:,} bytes as JSON; at most {MAX_DEFINITION_BYTES:,} fit: shorten prompts or split the workflow"
    return [{"field": "crew", "message": message}]


def _invalid(problems: list[dict[str, object]]) -> WorkflowInvalid:
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return WorkflowInvalid(f"The workflow cannot run: {first['field']}: {first['message']}{more}", problems)


def _problem(error: Any) -> dict[str, object]:
    """One of pydantic's errors as `{"field", "message"}`, without what was handed in."""
    place = tuple(error["loc"])
    inner: dict[str, type[_Model]] = {
        "candidates": Candidate,
        "repeat": Repeat,
        "approval": Approval,
        "crew": Agent,
        "daily": Limits,
        "budget": Budget,
    }
    model = next((inner[part] for part in inner if part in place[:-1]), Workflow)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        message = _unknown(model, str(place[-1]))
    elif kind == "missing":
        field = next(field for field in model.model_fields.values() if field.alias == place[-1])
        message = f"is missing: {' '.join(str(field.description).split())}"
    elif kind == "value_error":
        message = str(context["error"])
    elif kind == "string_pattern_mismatch":
        allowed = "a-z, 0-9 and _" if place[-1] == "name" else "A-Z, a-z, 0-9, _ and -, at most 64"
        message = f"must consist of {allowed}" + _suggest_slug(error["input"] if place[-1] == "name" else "")
    elif kind in ("string_too_long", "too_long"):
        message = f"must have at most {context['max_length']:,} {_unit(kind)}, not {len(error['input']):,}"
    elif kind in ("model_type", "model_attributes_type", "dict_type"):
        message = "must be a mapping of fields to values"
    else:
        message = re.sub(r"^(Input|String|List|Value) should", "must", error["msg"])
        message = message.replace("a valid string", "a text, in quotes where it looks like something else")
        message = message.replace("valid integer", "whole number").replace(" after validation", "")
    return {"field": ".".join(str(part)[:60] for part in place) or "workflow", "message": message}


def _unit(kind: str) -> str:
    return "characters" if kind == "string_too_long" else "items"


def _suggest_slug(text: str) -> str:
    slug = _slug(text, 60)
    return f", for example {slug}" if slug else ""


def _unknown(model: type[_Model], key: str) -> str:
    spelled = to_camel(key[:60]) if "_" in key else key[:60]
    known = [str(field.alias) for field in model.model_fields.values()]
    if spelled in known:
        return f"is there twice, as {spelled} and as {key}; keep one"
    folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(spelled.lower(), folded, n=1)
    return f"is unknown; did you mean {folded[close[0]]}?" if close else f"is unknown; known are {', '.join(known)}"
