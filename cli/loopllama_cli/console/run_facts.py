"""What a run object says, where it has to be put together: order, status, cost, latency, certainty, errors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopllama.queries.step_order import in_order
from loopllama_cli.console import output

if TYPE_CHECKING:
    from loopllama.queries.types import RunView, StepView, WaitView


def steps_of(run: RunView) -> list[StepView]:
    """Return the run's steps in their order, the rounds of a loop one after the other."""
    return in_order(run.get("steps") or [])


def step_status(step: StepView) -> str:
    """Return a step's status, derived where the record does not say it."""
    if step.get("status") == "running" and (wait := waits_for(step)) and wait["reason"] == "person":
        return "waiting_input"
    if step.get("status"):
        return str(step["status"])
    if step.get("error"):
        return "failed"
    if step.get("finished_at"):
        return "completed"
    return "running" if step.get("started_at") else "queued"


def waits_for(step: StepView) -> WaitView | None:
    """Return what a step waits for now, `None` where it does not wait."""
    return next((wait for wait in reversed(step.get("waits") or []) if wait["until"] is None), None)


def run_latency(run: RunView) -> Decimal | None:
    """Milliseconds from the run's start to its end, without what it waited for people; `None` while it has no end."""
    if (latency := run.get("latency_ms")) is not None:
        return Decimal(latency)
    started, finished = output.moment(run.get("started_at")), output.moment(run.get("finished_at"))
    if started is None or finished is None:
        return None
    return Decimal((finished - started) // timedelta(microseconds=1)) / 1000 - (run.get("waited_ms") or 0)


def simulated(run: RunView) -> bool:
    """Return whether a run's figures come from the simulated provider, in part or whole."""
    return bool(run.get("simulated")) or any(step_simulated(step) for step in run.get("steps") or [])


def step_simulated(step: StepView) -> bool:
    """Return whether a step's figures come from the simulated provider, in part or whole."""
    return bool(step.get("simulated")) or any(attempt.get("simulated") for attempt in step.get("attempts") or [])


def error_text(error: Any) -> str:
    """Return a run's or step's error as a sentence: its step, its type, its message."""
    if not isinstance(error, Mapping):
        return output.one_line(error, 1000)
    parts = [str(error[key]) for key in ("step", "type", "message") if error.get(key)]
    return output.one_line(": ".join(parts) or error, 1500)


def run_cost(run: RunView) -> Decimal | None:
    """USD of the run: the recorded total, or the sum of its steps while it has none; `None` where nothing is
    priced."""
    if (total := run.get("cost_usd")) is not None:
        return Decimal(total)
    costs = [Decimal(cost) for step in run.get("steps") or [] if (cost := step.get("cost_usd")) is not None]
    return sum(costs, Decimal(0)) if costs else None


def cost_basis(run: RunView) -> str:
    """Return the basis of the run's cost: that of its least certain step."""
    bases = {str(part.get("cost_basis")) for part in [run, *(run.get("steps") or [])] if part.get("cost_basis")}
    return next((basis for basis in ("unknown", "estimated") if basis in bases), "measured")
