"""The metrics of a step and of a run that ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from loopllama.catalog.model import measured_as
from loopllama.core import clock
from loopllama.errors import CredentialsRejected, ModelNotAvailable, ModelThrottled
from loopllama.llm.usage import SUMMED
from loopllama.runs.totals import METRICS_REPORTED, attempts_of, totals
from loopllama.telemetry import xray
from loopllama.telemetry.metrics import DEPLOYMENT, emit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopllama.runs.records import Attempt, Run, RunTotals, StepRecord


_REFUSED = (CredentialsRejected.__name__, ModelNotAvailable.__name__)
"""Outcomes that somebody has to mend, who may not see them: a fallback answers meanwhile."""


def step_ended(workflow_id: str, run_id: str, record: StepRecord) -> None:
    """Emit the metrics of a step that completed or failed, with those of the models it called."""
    xray.annotate({name: record.get(name) for name in ("model", "source", "route_version", "status")})
    attempts = list(attempts_of(record).values())[int(record.get(METRICS_REPORTED) or 0) :]
    sums, paid = totals(attempts), totals(attempt for attempt in attempts if not attempt.get("simulated"))
    counts = cast("dict[str, int]", sums)
    step, calls = record["step"], _by_name(attempts)
    answering = next((name for name in reversed(calls) if calls[name][-1]["model"] == record.get("model")), None)
    # Models that only failed before another answered have no step metrics, only their own.
    for called, mine in calls.items():
        answered = called == answering
        good = [int(attempt["latency_ms"]) for attempt in mine if attempt["outcome"] == "ok"]
        throttled = len([attempt for attempt in mine if attempt["outcome"] == ModelThrottled.__name__])
        refused = len([attempt for attempt in mine if attempt["outcome"] in _REFUSED])
        bad = len([attempt for attempt in mine if attempt["outcome"] not in ("ok", "open")])
        emit(
            [
                (
                    ("workflow", "step", "model"),
                    {
                        "Cost": sums["cost_usd"],
                        **{figure.metric: counts[figure.name] for figure in SUMMED if figure.metric},
                        "StepLatency": record.get("latency_ms"),
                    }
                    if answered
                    else {},
                ),
                (("model",), {"ModelLatency": good[:100], "ModelCalls": len(mine), "ModelErrors": bad}),
                (
                    ("workflow",),
                    {
                        "InvalidOverride": record.get("invalid_overrides") if answered else None,
                        "Fallbacks": 1 if answered and mine[0]["model"] != attempts[0]["model"] else None,
                    },
                ),
                (
                    DEPLOYMENT,
                    {
                        "Cost": paid["cost_usd"] if answered and (paid["cost_usd"] or not sums["simulated"]) else None,
                        "InvalidOverride": record.get("invalid_overrides") if answered else None,
                        "ModelThrottles": throttled or None,
                        "ModelsRefused": refused or None,
                    },
                ),
            ],
            {
                "workflow": workflow_id,
                "step": step,
                "model": called,
                "run_id": run_id,
                "source": record.get("source"),
                "route_version": record.get("route_version"),
                **{figure.name: record.get(figure.name) for figure in SUMMED if not figure.metric},
                "cost_basis": record.get("cost_basis"),
                "attempts": len(mine),
                "status": record.get("status"),
                "routing_ms": record.get("routing_ms"),
                "waited_ms": record.get("waited_ms"),
                "simulated": any(attempt.get("simulated") for attempt in mine) or None,
            },
        )


def _by_name(attempts: Sequence[Attempt]) -> dict[str, list[Attempt]]:
    """Return attempts by the value of the dimension `model`, the one whose last call was made last behind the others.

    A simulated call counts under a name of its own. So it changes no figure of the real model, and whoever looks at a
    figure sees what it is. A call that was lost in a crash says nothing of itself; it counts as the model's others."""
    simulated = {attempt["model"] for attempt in attempts if attempt.get("simulated")}
    calls: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        lost = attempt["outcome"] == "open" and attempt["model"] in simulated
        name = measured_as(attempt["model"], attempt.get("simulated") or lost)
        calls[name] = [*calls.pop(name, ()), attempt]
    return calls


def run_ended(run: Run, totals: RunTotals, completed: bool, waited_ms: int) -> None:
    """Emit the metrics of a run that ends now. `run` is its item as it was before; `totals` what its steps come to;
    `waited_ms` for how long it waited for people, which is none of its latency."""
    age_ms = clock.ms_between(run.get("started_at") or run["created_at"], clock.now_text())
    cost = totals.get("cost_usd")
    if cost is not None:
        cost -= run.get("cost_usd") or 0  # told already, when the run failed and before it was redriven
    workflow, simulated = run["workflow_id"], totals.get("simulated")
    figures: dict[str, Any] = {"RunCost": cost, "RunLatency": max(0, age_ms - waited_ms)}
    counts = {"RunsCompleted" if completed else "RunsFailed": 1}
    about = {
        "run_id": run["run_id"],
        "simulated": simulated or None,
        "cost_basis": totals.get("cost_basis"),
        "unpriced": totals.get("unpriced") or None,
        "waited_ms": waited_ms or None,
    }
    if simulated:
        # Under a name of their own, as a simulated model's. The run itself is one like any other.
        emit([(("workflow",), figures)], {"workflow": measured_as(workflow, simulated), **about})
        figures = {}
    sets = [(("workflow",), {**figures, **counts}), (DEPLOYMENT, {"RunsFailed": None if completed else 1})]
    emit(sets, {"workflow": workflow, **about})
