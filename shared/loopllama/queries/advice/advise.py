"""Advice: what a workflow spends by step, and what would make it less, by recorded runs. Calls no model. Pure.

The savings are `whatif`'s: recorded calls at other prices. What is added is where to look first: lines are ordered by
their saving times a weight that says how routine the step looks (`signals`), which is no probability. Whether a cheaper
model's answers are as good is what the command of each line is there to find out.

The work is bounded: of at most `MAX_STEPS` steps, those that cost most, moves are reckoned, each with at most
`candidates.SHOWN` models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, cast

from loopllama.core.names import plural
from loopllama.errors import InvalidRequest
from loopllama.llm import usage
from loopllama.queries.advice import commands, moves
from loopllama.queries.advice.candidates import shortlist
from loopllama.queries.advice.lines import alternative, of_month, share, to_model
from loopllama.queries.advice.reckon import Deployment, Effect, Reckoner, StepFacts
from loopllama.queries.advice.sample import Sample
from loopllama.queries.advice.spread import MIN_DAYS, MIN_RUNS, RunRate, interval

if TYPE_CHECKING:
    from loopllama.queries.advice.types import Advice, LeftOut, Line, StepAdvice, Together

MAX_STEPS = 30
ROUTINE = Decimal("0.5")
"""The least weight of a step that counts as routine: one signal at most speaks against it."""


def advise(
    sample: Sample,
    deployment: Deployment,
    now: datetime,
    *,
    runs_month: float | None = None,
    candidates: Collection[str] = (),
) -> Advice:
    """Return what can be said of a workflow's steps, and what to do, the largest saving that can be expected first.

    `runs_month` is how often the workflow runs, where somebody knows better than the record; `candidates` are the ids
    of the only models to reckon with. Raises `InvalidRequest` for a rate that is not above 0.
    """
    if runs_month is not None and not 0 < runs_month < 1e12:
        raise InvalidRequest.of("runsMonth", "must be more than 0")
    rate = sample.rate(now) if runs_month is None else RunRate(runs_month)
    reckoner = Reckoner(sample.runs, deployment, rate, now)
    facts = [reckoner.facts(step) for step in deployment.crew]
    dearest = sorted(facts, key=lambda step: -sum(step.bill or ()))[:MAX_STEPS]
    lines: list[Line] = []
    told: list[StepAdvice] = []
    firsts: dict[str, Effect] = {}
    for step in facts:
        found: list[Line] = []
        counts: tuple[int, list[LeftOut]] = (0, [])
        if step in dearest and step.runs >= MIN_RUNS:
            found = list(moves.of_step(reckoner, step))
            found += moves.repair(reckoner, step)
            model_line, effect, counts = _model_line(reckoner, step, candidates)
            if model_line is not None and effect is not None:
                found.append(model_line)
                firsts[step.name] = effect
        lines += found
        told.append(_of_step(reckoner, step, found, counts, examined=step in dearest))
    lines.sort(key=lambda line: (-line["saving_usd_run"]["estimate"] * line["weight"], line["step"], line["move"]))
    bill = reckoner.bill(reckoner.steps)
    dates = sorted(run["created_at"] for run in sample.runs)
    return {
        "workflow": deployment.workflow_id,
        "workflow_version": deployment.version,
        "runs": len(sample.runs),
        "from": dates[0] if dates else None,
        "to": dates[-1] if dates else None,
        "rate": rate.record() if rate is not None else None,
        "usd_run": None if bill is None else interval(bill, floor=Decimal(0)),
        "usd_month": None if bill is None or rate is None else interval(bill, rate, floor=Decimal(0)),
        "enough": len(sample.runs) >= MIN_RUNS,
        "more_runs": max(0, MIN_RUNS - len(sample.runs)),
        "simulated": any(run["simulated"] for run in sample.runs),
        "advice": lines,
        "together": _together(reckoner, lines, firsts),
        "steps": told,
        "unknown": list(_unknown(sample, reckoner, rate, len(facts))),
    }


def _model_line(
    reckoner: Reckoner, facts: StepFacts, wanted: Collection[str]
) -> tuple[Line | None, Effect | None, tuple[int, list[LeftOut]]]:
    """Return the line that moves a step to a cheaper model, with the others as alternatives, and how many there are."""
    model, deployment = facts.now.model, reckoner.deployment
    if model is None or facts.bill is None:
        return None, None, (0, [])
    models, left_out = shortlist(
        deployment.models,
        facts.needs,
        model,
        reckoner.at,
        usable=deployment.usable,
        named=deployment.named,
        wanted=wanted,
    )
    counts: list[LeftOut] = [{"reason": reason, "models": count} for reason, count in left_out.most_common()]
    found: list[tuple[Line, Effect]] = []
    for other in models:
        effect = reckoner.change(facts, other)
        if effect is None or sum(effect.saved) <= 0:
            continue
        says = "try it on a cheaper model"
        found.append((to_model(reckoner, facts, "model", other, effect, weight=facts.weight, says=says), effect))
    if not found:
        return None, None, (len(models), counts)
    known = {*deployment.named}
    found.sort(key=lambda entry: (entry[0]["to"] not in known, -entry[0]["saving_usd_run"]["estimate"]))
    first, effect = found[0]
    first["alternatives"] = [alternative(other) for other, _ in found[1:]]
    return first, effect, (len(models), counts)


def _of_step(
    reckoner: Reckoner,
    facts: StepFacts,
    lines: Sequence[Line],
    counts: tuple[int, list[LeftOut]],
    *,
    examined: bool,
) -> StepAdvice:
    calls = [usage.of_shown(call) for call in facts.calls]
    bill = facts.bill if facts.runs else None
    recorded = dict.fromkeys(call["model"] for call in facts.calls)
    figures = {figure.shown: getattr(facts.needs.usual, figure.name) for figure in usage.SUMMED}
    told = {
        "step": facts.name,
        "model": facts.now.model.id if facts.now.model else None,
        "source": facts.now.source,
        "models_recorded": list(recorded),
        "runs": facts.runs,
        "turns": len(facts.records),
        "usd_run": None if bill is None else interval(bill, floor=Decimal(0)),
        "usd_month": None if bill is None else of_month(reckoner, bill),
        "share": None if bill is None else share(reckoner, bill),
        "latency_ms": round(facts.latency) if facts.runs else None,
        "slack_ms": round(facts.slack) if facts.runs else None,
        **figures,
        "longest_prompt": max((call.input_tokens for call in calls), default=0),
        "longest_output": max((call.output_tokens for call in calls), default=0),
        "signals": [*facts.signals],
        "weight": facts.weight,
        "candidates": counts[0],
        "left_out": counts[1],
        "certificates": [],
        "more_runs": max(0, MIN_RUNS - facts.runs),
        "says": _says(facts, lines, examined=examined),
    }
    return cast("StepAdvice", told)


def _says(facts: StepFacts, lines: Sequence[Line], *, examined: bool) -> str:
    """Return what comes of a step, in one sentence."""
    if facts.runs < MIN_RUNS:
        more = MIN_RUNS - facts.runs
        return f"not enough data: {facts.runs} of the runs took it, {more} more {'is' if more == 1 else 'are'} needed"
    if facts.now.model is None:
        return "no model is left for it now: see `loopllama routes list`"
    if facts.bill is None:
        name = facts.now.model.id
        return f"{name} has no price; give it one: loopllama models price {name} --input USD --output USD"
    if not examined:
        return f"not looked at: the {MAX_STEPS} steps that cost most are"
    saving = sum(1 for line in lines if line["saving_usd_run"]["estimate"] > 0)
    return f"{plural(saving, 'way')} to save" if saving else "nothing cheaper was found that has what it needs"


def _together(reckoner: Reckoner, lines: Sequence[Line], effects: dict[str, Effect]) -> Together | None:
    """Return what the first model of each routine step saves, all of them at once."""
    models = {
        line["step"]: line["to"]
        for line in lines
        if line["move"] == "model" and line["weight"] >= ROUTINE and line["to"] is not None
    }
    if not models:
        return None
    chosen = {step: effects[step] for step in models}
    saved = [sum(parts, Decimal(0)) for parts in zip(*(effect.saved for effect in chosen.values()), strict=True)]
    a_run = interval(saved)
    if a_run is None:
        return None
    return {
        "steps": models,
        "saving_usd_run": a_run,
        "saving_usd_month": of_month(reckoner, saved),
        "latency_ms": reckoner.latency(chosen),
        "command": commands.whatif(reckoner.deployment.workflow_id, models),
    }


def _unknown(sample: Sample, reckoner: Reckoner, rate: RunRate | None, steps: int) -> Iterator[str]:
    """Yield what the advice cannot know."""
    if rate is None:
        yield (
            f"what a month costs: the runs of the record lie within less than {MIN_DAYS:g} day; "
            "say how many runs a month has"
        )
    elif rate.days is not None and rate.dispersion is None:
        yield "how much days differ: the record has too few of them, so that a month may lie outside its interval"
    if sample.unfinished:
        yield f"what runs cost that failed, were cancelled or go on ({sample.unfinished}): they are not in the figures"
    if sample.stopped:
        yield f"what more runs say than were read ({len(sample.runs)}): {sample.stopped}"
    if steps > MAX_STEPS:
        yield f"what could be saved at the steps that cost least ({steps - MAX_STEPS})"
    gone = [name for name in reckoner.steps if name not in reckoner.deployment.needs]
    if gone:
        yield f"what the workflow costs without {', '.join(gone)}: these runs took it, and it has it no longer"
    yield from reckoner.unknown
    yield "whether another model's answers are as good and as long, and how many tokens its tokenizer makes of them"
