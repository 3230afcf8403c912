"""Which models may take a step over: those that have what it needs, as far as the catalog and its record tell. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from loopllama.catalog import pricing
from loopllama.catalog.model import Model, foundation_model
from loopllama.llm import structured_output, usage
from loopllama.llm.types import Usage
from loopllama.queries.advice.signals import answers

if TYPE_CHECKING:
    from loopllama.queries.types import StepView
    from loopllama.workflows.types import CrewStep

HEAD_ROOM = 1.5
"""How many times the longest prompt and answer of the record must fit a context window: the next ones may be longer,
and another tokenizer makes more tokens of them."""
SHOWN = 5
"""Candidates of a step whose saving is reckoned."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a step needs of its model: capabilities, tokens of context and of output; `mode` is the least way to
    structured output, `None` where any will do."""

    capabilities: frozenset[str]
    schema: Mapping[str, object] | None
    context: int
    output: int
    usual: Usage
    """Mean tokens of an answered call."""


def needs_of(step: CrewStep, records: Sequence[StepView]) -> Needs:
    """Return what a step needs, by its definition and its recorded turns."""
    calls = [usage.of_shown(call) for record in records for call in answers(record)]
    tools = step.get("tools") or any(record["tool_calls"] for record in records)
    count = max(1, len(calls))
    return Needs(
        capabilities=frozenset({"tools"}) if tools else frozenset(),
        schema=step.get("output_schema"),
        context=max((call.input_tokens + call.output_tokens for call in calls), default=0),
        output=max(step.get("max_tokens") or 0, max((call.output_tokens for call in calls), default=0)),
        usual=Usage(
            sum(call.input_tokens for call in calls) // count,
            sum(call.output_tokens for call in calls) // count,
            sum(call.cached_tokens for call in calls) // count,
        ),
    )


def lacks(model: Model, needs: Needs, usable: Mapping[str, bool]) -> str:
    """Return why a model is no candidate; empty where nothing speaks against it."""
    if model.barred:
        return "not allowed in this deployment"
    if not model.enabled:
        return "disabled"
    if not usable.get(model.provider, False):
        return "no key of its provider"
    if model.capabilities is None:
        return "its capabilities are not known"
    if lacking := model.lacks(needs.capabilities):
        return f"lacks {', '.join(lacking)}"
    if needs.schema is not None:
        askable = structured_output.mode_for({"tools"}, needs.schema) != "instructions"
        if askable and structured_output.mode_for(model.capabilities, needs.schema) == "instructions":
            return "lacks structured output"
    if model.context_window is None or model.context_window < HEAD_ROOM * needs.context:
        return "context window too small or not known"
    if model.max_output is not None and model.max_output < needs.output:
        return "answers too short"
    return ""


def shortlist(
    models: Iterable[Model],
    needs: Needs,
    now: Model,
    at: date,
    *,
    usable: Mapping[str, bool],
    named: Collection[str],
    wanted: Collection[str] = (),
    dearer: bool = False,
) -> tuple[list[Model], Counter[str]]:
    """Return the candidates to reckon with, at most `SHOWN`, and how many models are left out, by reason.

    They cost less than `now` for a call of the step's usual size, or, with `dearer`, more. Models that this deployment
    names already (`named`: aliases, overrides, definitions, entries of its own) come first, then the cheapest.
    `wanted` are the only ones, where there are any.
    """
    mine = pricing.cost(now, needs.usual, at)
    found: list[tuple[bool, Decimal, Model]] = []
    left_out: Counter[str] = Counter()
    for model in models:
        if model.entry == now.entry or (wanted and model.id not in wanted):
            continue
        reason = lacks(model, needs, usable)
        cost = pricing.cost(model, needs.usual, at)
        if not reason and cost is None:
            reason = "no price"
        if not reason and (mine is None or cost is None or (cost <= mine if dearer else cost >= mine)):
            reason = "not dearer" if dearer else "not cheaper"
        if reason or cost is None:
            left_out[reason] += 1
        else:
            found.append((model.id not in named, cost, model))
    if dearer:
        found = [entry for entry in found if not entry[0]]
    here = _geography(now)
    found.sort(key=lambda entry: (entry[0], entry[1], _geography(entry[2]) != here, entry[2].id))
    # Bedrock has one model under several names: by itself, and behind an inference profile of each geography.
    once = {(model.provider, foundation_model(model.provider_model)): model for _, _, model in reversed(found)}
    chosen = [model for _, _, model in found if once[model.provider, foundation_model(model.provider_model)] is model]
    return chosen[:SHOWN], left_out


def _geography(model: Model) -> str:
    """Return what stands before the foundation model's id, as `us` of an inference profile."""
    return model.provider_model.removesuffix(foundation_model(model.provider_model))
