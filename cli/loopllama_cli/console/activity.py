"""What a step that goes on does now, since when, and why it waits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from loopllama_cli.console import output
from loopllama_cli.console.run_facts import waits_for

if TYPE_CHECKING:
    from loopllama.queries.types import AttemptView, StepView

_WAITS = {"person": "waits for a person", "place": "waits for its place among the model's calls"}


def model_of(step: StepView) -> str:
    """Return the model that is asked now, or was last; empty before the first call."""
    called = _last(step)
    return output.clean(str((called["model"] if called else step.get("model")) or ""))


def activity(step: StepView) -> str:
    """Return what the step does: which call of a model, which try of it, which tool, or what it waits for."""
    called, wait = _last(step), waits_for(step)
    if wait and wait["reason"] == "retry":
        why = called["outcome"] if called else "it failed"
        return output.clean(f"waits to be tried again: {why}")
    if wait:
        return _WAITS[wait["reason"]]
    tools = [str(call["name"]) for call in step.get("tool_calls") or [] if call.get("outcome") == "open"]
    if tools:
        return output.clean(f"calls {', '.join(tools)}")
    if called is None:
        return ""
    turn = int(called.get("turn") or 0)
    tries = sum(int(attempt.get("turn") or 0) == turn for attempt in step["attempts"])
    parts = [f"call {turn + 1}" * (turn > 0), f"attempt {tries}" * (tries > 1)]
    return ", ".join(part for part in parts if part)


def elapsed_ms(step: StepView, now: datetime) -> float | None:
    """Return for how long the step has gone on, without its waiting for people, or for how long it waits for somebody
    now; `None` where it has not begun."""
    wait = waits_for(step)
    asked = wait is not None and wait["reason"] == "person"
    since = output.moment(wait["since"] if wait and asked else step.get("started_at"))
    if since is None:
        return None
    waited = 0 if asked else int(step.get("waited_ms") or 0)
    # The clock of whoever looks may be behind.
    return max(0.0, (now - since) / timedelta(milliseconds=1) - waited)


def _last(step: StepView) -> AttemptView | None:
    attempts = step.get("attempts") or []
    return attempts[-1] if attempts else None
