"""The metrics, from what a step and a run really print."""

from __future__ import annotations

import contextlib
import io
import json
from decimal import Decimal

from loopllama.engine import metrics as run_metrics
from loopllama.policies.registry import POLICIES
from loopllama.telemetry import metrics
from loopllama_cli.docgen import markdown


def table() -> str:
    """Every metric with its dimensions and unit."""
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
    """A step under a policy that needs latency, which a fallback answered after a throttled call; a run of each end."""
    call = {"latency_ms": 1, "input_tokens": 1, "output_tokens": 1, "cost_usd": Decimal(1), "cost_basis": "measured"}
    step = {
        "step": "writer",
        "model": "b",
        "route": {"policy": next(name for name, policy in POLICIES.items() if "latency" in policy.needs)},
        "latency_ms": 1,
        "invalid_overrides": 1,
        "attempt_1": {**call, "model": "a", "outcome": "ModelThrottled"},
        "attempt_2": {**call, "model": "b", "outcome": "ok"},
    }
    run_metrics.step_ended("workflow", "run", step)
    for completed in (True, False):
        run_metrics.run_ended({"workflow_id": "workflow", "run_id": "run"}, {"cost_usd": Decimal(1)}, completed, 1)
