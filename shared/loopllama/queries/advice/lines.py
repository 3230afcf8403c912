"""Lines of advice: what each says alike. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from loopllama.catalog.providers import KNOWN, OWN
from loopllama.queries.advice import commands
from loopllama.queries.advice.reckon import Effect, Reckoner, StepFacts
from loopllama.queries.advice.signals import words
from loopllama.queries.advice.spread import interval, more_runs, rounded

if TYPE_CHECKING:
    from loopllama.catalog.model import Model
    from loopllama.queries.advice.types import Alternative, Interval, LatencyEffect, Line, Move

NOTHING: Interval = {"estimate": Decimal(0), "low": Decimal(0), "high": Decimal(0)}


def of_month(reckoner: Reckoner, values: Sequence[Decimal]) -> Interval | None:
    """Return what values of runs come to a month; `None` where the rate of runs is not known."""
    return None if reckoner.rate is None else interval(values, reckoner.rate)


def share(reckoner: Reckoner, saved: Sequence[Decimal]) -> Decimal | None:
    """Return which part of the workflow's bill a saving is, as a fraction."""
    bill = reckoner.bill(reckoner.steps)
    total = sum(bill, Decimal(0)) if bill else Decimal(0)
    return round(sum(saved, Decimal(0)) / total, 4) if total else None


def line(
    reckoner: Reckoner,
    facts: StepFacts,
    move: Move,
    *,
    says: str,
    command: str,
    saved: Sequence[Decimal],
    to: str | None = None,
    latency: LatencyEffect | None = None,
    unknown: Sequence[str] = (),
) -> Line:
    """Return a line with what all lines have; `saved` is USD in each run."""
    usual = reckoner.usual_latency
    return {
        "step": facts.name,
        "move": move,
        "from": facts.now.model.id if facts.now.model else None,
        "to": to,
        "alias": reckoner.deployment.aliases.get(to or ""),
        "saving_usd_run": interval(saved) or NOTHING,
        "saving_usd_month": of_month(reckoner, saved),
        "share": share(reckoner, saved),
        "once_usd": Decimal(0),
        "weight": Decimal(1),
        "latency_ms": latency or {"before": usual, "after": usual, "slack": round(facts.slack), "source": "the record"},
        "rests_on": [f"{facts.runs} runs, {len(facts.calls)} answers"],
        "speaks_against": [],
        "basis": "repriced",
        "estimated": facts.is_estimated,
        "simulated": facts.is_simulated,
        "more_runs": more_runs(saved),
        "certificates": [],
        "says": says,
        "command": command,
        "try_command": None,
        "apply_command": None,
        "alternatives": [],
        "unknown": list(unknown),
    }


def to_model(
    reckoner: Reckoner, facts: StepFacts, move: Move, model: Model, effect: Effect, *, weight: Decimal, says: str
) -> Line:
    """Return the line of a move to another model, or to the same in another way."""
    deployment, name = reckoner.deployment, facts.name
    told = line(
        reckoner,
        facts,
        move,
        says=says,
        command=commands.whatif(deployment.workflow_id, {name: model.id}),
        saved=effect.saved,
        to=model.id,
        latency=reckoner.latency({name: effect}, facts),
        unknown=effect.unknown,
    )
    told["weight"] = weight
    told["once_usd"] = rounded(reckoner.rebuilt_cache(facts, model))
    told["rests_on"] += words(facts.signals, True)
    told["speaks_against"] = words(facts.signals, False)
    told["estimated"] = True
    if model.entry not in deployment.named and KNOWN.get(model.provider, OWN).by_role:
        told["unknown"].append(f"whether this account may call {model.id}")
    told["try_command"] = commands.replay(reckoner.newest_run(name), name, model.id)
    told["apply_command"] = commands.routes_set(deployment.workflow_id, name, facts.now.row, model=model.id)
    return told


def alternative(told: Line) -> Alternative:
    """Return a line as another one's alternative."""
    return {
        "model": told["to"] or "",
        "alias": told["alias"],
        "saving_usd_run": told["saving_usd_run"],
        "saving_usd_month": told["saving_usd_month"],
        "latency_ms": told["latency_ms"],
        "command": told["command"],
    }
