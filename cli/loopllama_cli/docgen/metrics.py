"""The metrics, from what a step and a run really print."""

from __future__ import annotations

import contextlib
import io
import json
from decimal import Decimal
from typing import TYPE_CHECKING, cast

from loopllama.engine import metrics as run_metrics
from loopllama.policies.registry import POLICIES
from loopllama.runs import totals
from loopllama.telemetry import metrics
from loopllama_cli.docgen import markdown

if TYPE_CHECKING:
    from loopllama.runs.records import Attempt, Run, StepRecord


def table() -> str:
    """Return every metric with its dimensions and unit."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        _tell_everything()
    dimensions: dict[str, list[str]] = {}
    units: dict[str, str] = {}
    for line in printed.getvalue().splitlines():
        for directive in json.loads(line)["_aws"]["CloudWatchMetrics"]:
            for metric in directive["Metrics"]:
                shown = " · ".join(f"`{', '.join(names)}`" for names in directive["Dimensions"])
                units[metric["Name"]] = metric["Unit"]
                if shown not in dimensions.setdefault(metric["Name"], []):
                    dimensions[metric["Name"]].append(shown)
    if unseen := metrics.METRICS.keys() - units:
        raise ValueError(f"no step and no run tells {', '.join(sorted(unseen))}")
    return markdown.table(
        ["metric", "by", "unit", "what it counts"],
        (
            [f"`{name}`", " and ".join(dimensions[name]), units[name], meaning]
            for name, (_, meaning) in metrics.METRICS.items()
        ),
    )


def _tell_everything() -> None:
    """Print the metrics of a step under a policy that needs latency, which a fallback answered after a throttled call
    and a refused one; a run of each end."""
    answered: Attempt = {
        "model": "b",
        "provider": "p",
        "turn": 0,
        "outcome": "ok",
        "started_at": "2026-11-23T20:15:00.123Z",
        "latency_ms": 1,
        "input_tokens": 1,
        "output_tokens": 1,
        "cost_usd": Decimal(1),
        "cost_basis": "measured",
    }
    attempts: dict[str, Attempt] = {
        "attempt_1": {**answered, "model": "a", "outcome": "ModelThrottled"},
        "attempt_2": {**answered, "model": "a", "outcome": "ModelNotAvailable"},
        "attempt_3": answered,
    }
    policy = next(name for name, policy in POLICIES.items() if "latency" in policy.needs)
    step: StepRecord = {
        "step": "writer",
        "model": "b",
        "route": {"attempt_order": ["a", "b"], "source": "step-override", "policy": policy},
        "latency_ms": 1,
        "invalid_overrides": 1,
    }
    run_metrics.step_ended("workflow", "run", cast("StepRecord", {**step, **attempts}))
    for completed in (True, False):
        run: Run = {"workflow_id": "workflow", "run_id": "run", "created_at": "2026-11-23T20:15:00.123Z"}
        run_metrics.run_ended(run, totals.of_run([step]), completed, waited_ms=1)
