"""Workflow definitions as people write them: the same model reads YAML files and the API's JSON.

`Workflow.model_validate(data)` (or `Workflow(...)`) takes camelCase and snake_case keys, checks everything that can be
known before a run, and raises `WorkflowInvalid`, whose details name every field that is wrong. `to_definition()` is
the normalised form that the engine reads. Needs pydantic: modules that `run_step` loads must not import this one.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from loopllama.budgets import budget
from loopllama.core import money
from loopllama.core.input_model import InputModel, Usd
from loopllama.core.names import near
from loopllama.errors import WorkflowInvalid
from loopllama.workflows import validation
from loopllama.workflows.agent_schema import (
    MAX_AGENTS,
    Agent,
    Approval,
    Candidate,
    ModelName,
    OneLine,
    Repeat,
)

if TYPE_CHECKING:
    from loopllama.workflows.types import CrewStep, DefinedBudget, Definition

MAX_DEFINITION_BYTES = 350_000
"""A definition is one item of DynamoDB, which ends at 400 KB, names of attributes included."""


class Limits(InputModel):
    """Most that may be used."""

    max_steps: int | None = Field(default=None, ge=1, le=budget.MOST["steps"])
    """Most steps (agent turns)."""
    max_tokens: int | None = Field(default=None, ge=1, le=budget.MOST["tokens"])
    """Most tokens, those of prompts and of answers together."""
    max_cost_usd: Usd | None = None
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


class Workflow(InputModel):
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
            raise _invalid(
                [_problem(problem) for problem in error.errors(include_url=False)[: validation.MAX_PROBLEMS]]
            ) from None
        _resolve(workflow.crew)
        # What is too large is not looked into: that might take long.
        problems = _too_large(workflow.to_definition()) or validation.check(workflow.crew)
        if problems:
            raise _invalid(problems)
        return workflow

    def to_definition(self) -> Definition:
        """Return the normalised form of the engine (docs/design.md): snake_case, what is not set left out, names and
        needs written out. JSON values only; a new copy each time, but for `output_schema`."""
        definition: Definition = {"crew": [_step(agent) for agent in self.crew]}
        if self.model:
            definition["model"] = self.model
        if self.pin:
            definition["pin"] = self.pin
        if self.budget and (limits := _limits(self.budget)):
            definition["budget"] = limits
        return definition


def workflow_id_of(name: str) -> str:
    """Return the id of a workflow of this name: its slug (`Support reply` is `support_reply`); where no letter of it is
    Latin, a digest, so that the same name always gives the same id."""
    return _slug(name, 120) or f"workflow_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


_OF_FILES = {
    "id": {
        "type": "string",
        "pattern": "^[a-z0-9_]{1,128}$",
        "description": "The workflow's id, where it is not the slug of its name. `workflows export` writes it.",
    },
    "status": {
        "enum": ["active", "paused"],
        "description": "Beside an `id`: `paused` pauses the workflow that is pushed, `active` changes nothing.",
    },
}
"""What a file may say besides, for `workflows push`."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a workflow file, for editors (camelCase spelling)."""
    schema = Workflow.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    definitions["Candidate"] = {"anyOf": [{"type": "string"}, definitions["Candidate"]]}
    definitions["Approval"] = {"anyOf": [{"enum": [True, "start"]}, definitions["Approval"]]}
    schema["properties"] = {**schema["properties"], **_OF_FILES}
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
            candidate.model if candidate.weight is None else {"model": candidate.model, "weight": candidate.weight}
            for candidate in agent.candidates
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
        values["max_cost_usd"] = money.text(values["max_cost_usd"])
    if "daily" in values:
        values["daily"] = _limits(values["daily"])
    return cast("DefinedBudget", {key: value for key, value in values.items() if value != {}})


def _too_large(definition: Definition) -> list[dict[str, object]]:
    try:
        size = len(json.dumps(definition, ensure_ascii=False, default=str, skipkeys=True).encode(errors="replace"))
    except (ValueError, RecursionError):  # a file's schema that is no JSON, of which `validation` says what is wrong
        return []
    if size <= MAX_DEFINITION_BYTES:
        return []
    message = f"has {size:,} bytes as JSON; at most {MAX_DEFINITION_BYTES:,} fit: shorten prompts or split the workflow"
    return [{"field": "crew", "message": message}]


def _invalid(problems: list[dict[str, object]]) -> WorkflowInvalid:
    first = problems[0]
    others = len(problems) - 1
    more = f" (and {others}{' or' * (len(problems) == validation.MAX_PROBLEMS)} more)" if others else ""
    return WorkflowInvalid.of_all(problems, f"The workflow cannot run: {first['field']}: {first['message']}{more}")


def _problem(error: Any) -> dict[str, object]:
    """One of pydantic's errors as `{"field", "message"}`, without what was handed in."""
    place = tuple(error["loc"])
    inner: dict[str, type[InputModel]] = {
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
        message = "must be a mapping of fields to values" + _not_a_truth(error["input"])
    elif kind == "string_unicode":
        message = "is no valid text: it holds half of a surrogate pair"
    elif kind.startswith("bool_"):
        message = "must be true or false" + _not_a_truth(error["input"])
    else:
        message = re.sub(r"^(Input|String|List|Value) should", "must", error["msg"])
        message = message.replace("a valid string", "a text, in quotes where it looks like something else")
        message = message.replace("valid integer", "whole number").replace(" after validation", "")
    return {"field": ".".join(str(part)[:60] for part in place) or "workflow", "message": message}


def _not_a_truth(given: Any) -> str:
    """Return a hint for who wrote a word that YAML 1.1 takes for true or false."""
    is_word = isinstance(given, str) and given.lower() in ("yes", "no", "on", "off", "y", "n", "true", "false")
    return f"; '{given}' is a text here: write true or false, without quotes" if is_word else ""


def _unit(kind: str) -> str:
    return "characters" if kind == "string_too_long" else "items"


def _suggest_slug(text: str) -> str:
    slug = _slug(text, 60)
    return f", for example {slug}" if slug else ""


def _unknown(model: type[InputModel], key: str) -> str:
    spelled = to_camel(key[:60].lower()) if "_" in key else key[:60]
    known = [str(field.alias) for field in model.model_fields.values()]
    if key in model.model_fields and spelled in known:
        return f"is there twice, as {spelled} and as {key}; keep one"
    if spelled in known:
        return f"is unknown; did you mean {spelled}?"
    close = near(spelled, known)
    return f"is unknown; did you mean {close[0]}?" if close else f"is unknown; known are {', '.join(known)}"
