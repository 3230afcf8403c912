"""Moves that leave a step on its model: what it thinks, how it is served, what it may answer, how its prompt is laid
out, whether anybody reads it; and the one to a better model, where repairs cost more than that would. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, cast

from loopllama.catalog import pricing, variants
from loopllama.catalog.model import EFFORTS, Model
from loopllama.errors import ModelUnknown
from loopllama.llm import usage
from loopllama.llm.token_estimate import count_tokens
from loopllama.llm.types import STANDARD, Usage
from loopllama.queries.advice import commands
from loopllama.queries.advice.candidates import shortlist
from loopllama.queries.advice.lines import line, to_model
from loopllama.queries.advice.reckon import Reckoner, StepFacts
from loopllama.queries.advice.signals import answers, repairs, weight, words
from loopllama.workflows import graph, prompt_template, reads

if TYPE_CHECKING:
    from loopllama.queries.advice.types import Line
    from loopllama.queries.types import RunView, StepView
    from loopllama.workflows.types import CrewStep

LEAST_CACHED = 1024
"""Tokens of a beginning that are cached at least, at OpenAI, and by most of Claude's models
(https://platform.openai.com/docs/guides/prompt-caching,
https://docs.claude.com/en/docs/build-with-claude/prompt-caching)."""
WORTH_MOVING = 200
"""Tokens of fixed text in a prompt from which on its place is worth a thought."""
CACHE_SECONDS = 300
"""How long a provider keeps a beginning that nobody reads."""
CAP_CALLS = 20
"""Answers from which on their longest says something about the next."""
CAP_ROOM = 2
"""The limit that is proposed, in longest answers of the record; one that is twice as high again may stay."""
_ROUND = 100


def of_step(reckoner: Reckoner, facts: StepFacts) -> Iterator[Line]:
    """Yield every move that suits a step, but for that to a cheaper model."""
    yield from cap(reckoner, facts)
    yield from cached_prompt(reckoner, facts)
    yield from unread_output(reckoner, facts)
    if not facts.now.chosen and facts.now.model is not None:
        yield from effort(reckoner, facts, facts.now.model)
        yield from tier(reckoner, facts, facts.now.model)


def effort(reckoner: Reckoner, facts: StepFacts, model: Model) -> Iterator[Line]:
    """Yield a lower reasoning effort, where the record has tokens of reasoning.

    How many of them are left at a lower effort nobody knows: the saving lies between none and all of them, and the
    middle is what lines are ordered by."""
    lower = lower_effort(model)
    if lower is None:
        return
    spent: list[Decimal] = []
    for run in reckoner.runs:
        total = Decimal(0)
        for record in run["steps"]:
            for call in answers(record) if record["step"] == facts.name else ():
                used = usage.of_shown(call)
                all_of_it = Usage(0, min(used.reasoning_tokens, used.output_tokens), service_tier=used.service_tier)
                total += pricing.cost(model, all_of_it, reckoner.at) or Decimal(0)
        spent.append(total)
    if not any(spent):
        return
    told = to_model(
        reckoner,
        facts,
        "effort",
        lower,
        reckoner.unchanged(facts, [part / 2 for part in spent]),
        weight=facts.weight,
        says=f"ask it to think less: effort {lower.effort}. Between nothing and all of its reasoning is saved",
    )
    told["basis"] = "bounds"
    for name in ("saving_usd_run", "saving_usd_month"):
        if (half := told[name]) is not None:
            told[name] = {"estimate": half["estimate"], "low": Decimal(0), "high": 2 * half["high"]}
    told["latency_ms"]["after"] = None
    told["unknown"] = [
        f"how much of its reasoning is left at effort {lower.effort}, and whether the answers are as good"
    ]
    if (tried := told["try_command"]) is not None:
        told["command"] = tried
    yield told


def lower_effort(model: Model) -> Model | None:
    """Return a model at the next lower effort that it has; `None` where there is none. One whose name says no effort is
    at the provider's own, of which only `low` is known to be lower."""
    have = [name for name in EFFORTS if name in (model.efforts or ())]
    if model.effort is None:
        lower = "low" if "low" in have and len(have) > 1 else None
    else:
        before = have[: have.index(model.effort)] if model.effort in have else []
        lower = before[-1] if before else None
    return None if lower is None else _variant(model, lower, model.service_tier or "")


def tier(reckoner: Reckoner, facts: StepFacts, model: Model) -> Iterator[Line]:
    """Yield a cheaper service tier, where the step could take twice as long and no run would notice."""
    if not facts.slack or facts.slack < facts.latency:
        return
    other = variants.standard(model) if model.service_tier == "priority" else None
    if "flex" in variants.called_tiers(model) and model.service_tier != "flex":
        other = _variant(model, model.effort or "", "flex")
    effect = None if other is None else reckoner.change(facts, other)
    if other is None or effect is None or sum(effect.saved) <= 0:
        return
    served = other.service_tier or STANDARD
    told = to_model(
        reckoner,
        facts,
        "tier",
        other,
        effect,
        weight=Decimal(1),
        says=f"have it served at the tier {served}: other steps take longer, it has {facts.slack:.0f} ms to spare",
    )
    told["latency_ms"]["after"] = None
    told["speaks_against"] = []
    told["unknown"] = [f"how much longer a call takes at the tier {served}, and how often it is refused there"]
    yield told


def cap(reckoner: Reckoner, facts: StepFacts) -> Iterator[Line]:
    """Yield a limit of the answer, where none was ever near: it saves nothing as long as all goes well, and bounds what
    one answer can cost."""
    calls = facts.calls
    longest = max((usage.of_shown(call).output_tokens for call in calls), default=0)
    if len(calls) < CAP_CALLS or not longest or any(call["stop_reason"] == "max_tokens" for call in calls):
        return
    limit = math.ceil(CAP_ROOM * longest / _ROUND) * _ROUND
    if facts.now.cap is not None and facts.now.cap < 2 * limit:
        return
    model, now = facts.now.model, facts.now.cap
    before = now or (model.max_output if model else None)
    if before is not None and before <= limit:
        return
    told = line(
        reckoner,
        facts,
        "cap",
        says=f"limit its answers to {limit:,} tokens (limit now: {now or 'none'}; the longest had {longest:,})",
        command=commands.command("trace", reckoner.run_that_answered(facts.name, longest)),
        saved=[Decimal(0)] * len(reckoner.runs),
        unknown=["whether an answer that is longer than any before it would have been needed"],
    )
    told["basis"] = "none"
    told["apply_command"] = commands.routes_set(
        reckoner.deployment.workflow_id, facts.name, facts.now.row, max_tokens=limit
    )
    told["worst_call_usd"] = {
        "before": _answer_cost(reckoner, model, before),
        "after": _answer_cost(reckoner, model, limit),
    }
    yield told


def _answer_cost(reckoner: Reckoner, model: Model | None, tokens: int | None) -> Decimal | None:
    return None if model is None or tokens is None else pricing.cost(model, Usage(0, tokens), reckoner.at)


def cached_prompt(reckoner: Reckoner, facts: StepFacts) -> Iterator[Line]:
    """Yield the fixed text of a prompt's template as a part of the system prompt, where it would be cached then.

    A cache point stands behind the system prompt, and providers that cache by themselves do so up to the first
    difference: fixed text behind a run's own words is paid in full each time. What is saved rests on how many of the
    recorded turns came within five minutes of another one; the first of them pays for writing."""
    model, template = facts.now.model, facts.step.get("prompt")
    price = pricing.price_at(model, reckoner.at) if model is not None else None
    if model is None or price is None or price.cache_read is None or not template:
        return
    points = model.capabilities is not None and "prompt_cache" in model.capabilities
    fixed = _fixed_tokens(template, behind_first=not points)
    if fixed < WORTH_MOVING or count_tokens(facts.step["system_prompt"]) + fixed < LEAST_CACHED:
        return
    saved = []
    for run, warm in zip(reckoner.runs, _warm(reckoner.runs), strict=True):
        turns = sum(1 for record in run["steps"] if record["step"] == facts.name and record["attempts"])
        reads = max(0, turns - (0 if warm else 1))
        total = Decimal(0)
        for used, times in ((Usage(fixed, 0, fixed), reads), (Usage(fixed, 0, 0, fixed), turns - reads)):
            plain, cached = (pricing.cost(model, one, reckoner.at) or Decimal(0) for one in (Usage(fixed, 0), used))
            total += times * (plain - cached)
        saved.append(total)
    if sum(saved) <= 0:
        return
    told = line(
        reckoner,
        facts,
        "cached_prompt",
        says=f"move the fixed text of its prompt (about {fixed:,} tokens) into its systemPrompt, where it is cached",
        command=commands.command("workflows", "export", reckoner.deployment.workflow_id),
        saved=saved,
        to=model.id,
        unknown=["how many tokens the provider makes of the text, and what it really finds in its cache"],
    )
    told["estimated"] = True
    yield told


def _fixed_tokens(template: str, *, behind_first: bool) -> int:
    """Return the tokens of a template's own text, or of that behind the first value."""
    parts = prompt_template.parse(template).parts
    first = next((place for place, part in enumerate(parts) if not isinstance(part, str)), len(parts))
    return sum(count_tokens(part) for part in parts[first if behind_first else 0 :] if isinstance(part, str))


def _warm(runs: Sequence[RunView]) -> list[bool]:
    """Return of each run, newest first, whether the one before it began so shortly before that a cache was warm."""
    begun = [datetime.fromisoformat(run["created_at"]).timestamp() for run in runs]
    return [place + 1 < len(begun) and begun[place] - begun[place + 1] < CACHE_SECONDS for place in range(len(begun))]


def unread_output(reckoner: Reckoner, facts: StepFacts) -> Iterator[Line]:
    """Yield that nobody reads what the step says: no prompt and no expression of a later step, and it is not the run's
    output. A step with tools may be there for what they do, one with an approval for the person."""
    step, crew = facts.step, reckoner.deployment.crew
    if step.get("tools") or step.get("approval") or is_read(crew, step) or facts.bill is None:
        return
    told = line(
        reckoner,
        facts,
        "unread_output",
        says="no later step reads its output and it is not the run's: take it out, if nobody reads it in the record",
        command=commands.command("workflows", "show", reckoner.deployment.workflow_id),
        saved=facts.bill,
        unknown=["whether somebody reads it in the record, or it is there to stop the run when it fails"],
    )
    told["rests_on"].append("no template and no expression names it")
    yield told


def is_read(crew: Sequence[CrewStep], step: CrewStep) -> bool:
    """Return whether a step's output has a reader within the workflow, or may be what the run gives. Of steps in a loop
    that is taken for granted: each round shows what the one before said."""
    name = step["name"]
    if graph.loop_of(crew, name) is not None:
        return True
    place = [agent["name"] for agent in crew].index(name)
    # The run's output is that of the last agent that was not skipped.
    if all(agent.get("when") for agent in crew[place + 1 :]):
        return True
    for agent in (*crew[place + 1 :], *crew[:place]):  # a reader mostly stands behind
        named = reads.named_by(agent)
        if name in (graph.ancestors(crew, agent["name"]) if named is None else named):
            return True
    return False


def repair(reckoner: Reckoner, facts: StepFacts) -> Iterator[Line]:
    """Yield a dearer model, where answers that had to be repaired cost more than its own would: the record without the
    repairs, at its price."""
    model = facts.now.model
    if model is None or facts.now.chosen or not any(repairs(facts.step, record) for record in facts.records):
        return
    deployment = reckoner.deployment
    better, _ = shortlist(
        deployment.models,
        facts.needs,
        model,
        reckoner.at,
        usable=deployment.usable,
        named=deployment.named,
        dearer=True,
    )
    runs = [_unrepaired(run, facts.step) for run in reckoner.runs]
    found = [(effect, other) for other in better if (effect := reckoner.change(facts, other, runs)) is not None]
    if not found:
        return
    effect, other = max(found, key=lambda entry: (sum(entry[0].saved), entry[1].id))
    if sum(effect.saved) <= 0:
        return
    repaired = next(signal["says"] for signal in facts.signals if signal["name"] == "no_repairs")
    told = to_model(
        reckoner,
        facts,
        "repair",
        other,
        effect,
        weight=weight(facts.signals, without="no_repairs"),
        says=f"a better model costs less than the repairs of this one ({repaired})",
    )
    told["rests_on"].append(repaired)
    told["speaks_against"] = [says for says in words(facts.signals, False) if says != repaired]
    told["unknown"].append(f"whether {other.id} needs no repairs; `whatif` keeps those of the record")
    if (tried := told["try_command"]) is not None:
        told["command"] = tried
    yield told


def _unrepaired(run: RunView, step: CrewStep) -> RunView:
    """Return a run as if the first answer of each turn of a step had been right: the prompt of the first answer, the
    length of the last."""
    records = []
    for record in run["steps"]:
        count = repairs(step, record) if record["step"] == step["name"] else 0
        records.append(_without(record, count) if count else record)
    return {**run, "steps": records}


def _without(record: StepView, count: int) -> StepView:
    right = answers(record)
    first, last = right[-1 - count], right[-1]
    kept = [*right[: -1 - count], {**first, "tokens_out": last["tokens_out"]}]
    dropped = sum(int(call.get("latency_ms") or 0) for call in right[-count:])
    took = None if record["latency_ms"] is None else max(0, record["latency_ms"] - dropped)
    failed = [call for call in record["attempts"] if call["outcome"] != "ok"]
    return cast("StepView", {**record, "attempts": [*failed, *kept], "latency_ms": took})


def _variant(model: Model, effort: str, service_tier: str) -> Model | None:
    """Return the same model at another effort and tier; `None` where it has no such."""
    try:
        return variants.of(replace(model, id=model.entry, effort=None, service_tier=None), effort, service_tier)
    except ModelUnknown:
        return None
