"""What a step and a run leave behind beside their record: CloudWatch metrics and logs. Ids and figures only.

Metrics are written by CloudWatch's embedded metric format: a line of JSON on standard output, whose `_aws` member
says which of its properties are metrics under which dimensions. Source:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
One line carries several dimension sets, because a log is billed by its bytes and a metric by each name and dimension
value; everything that is no metric is a property of the same line, for Logs Insights.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from loopllama.core import clock
from loopllama.telemetry.logs import service_name

DEPLOYMENT = ("service",)
"""The dimension of what alarms watch: all workflows of one stack together, as no alarm can search. Its value is the
stack's name."""


METRICS = {
    "Cost": (
        "None",
        "USD of a step, all its model calls together; left out where nothing has a price, and by `service` where it is "
        "simulated",
    ),
    "InputTokens": ("Count", "tokens of a step's prompts, cached ones included"),
    "OutputTokens": ("Count", "tokens of a step's answers"),
    "StepLatency": (
        "Milliseconds",
        "a step from its start to its end: its calls, tools and retries, without what it waits for people",
    ),
    "ModelLatency": ("Milliseconds", "a model call that was answered"),
    "ModelCalls": ("Count", "model calls, failed ones included"),
    "ModelErrors": ("Count", "model calls that gave no usable answer"),
    "Fallbacks": ("Count", "steps that another model answered than the one called first"),
    "InvalidOverride": ("Count", "rows of a step's route that were skipped and that somebody has to fix"),
    "ModelThrottles": ("Count", "model calls that the provider throttled"),
    "ModelsRefused": ("Count", "model calls refused because of the key, or because the model is not there for it"),
    "RunCost": ("None", "USD of a run that completed or failed"),
    "RunLatency": (
        "Milliseconds",
        "a run that completed or failed, from its start to its end, without what it only waits for people",
    ),
    "RunsCompleted": ("Count", "runs that completed"),
    "RunsFailed": ("Count", "runs that failed"),
}
"""Every metric with its unit and what it counts (docs/reference.md)."""


@functools.lru_cache(maxsize=1)
def namespace() -> str:
    """Return the namespace of this stack's metrics, which the template names after the stack: those of two stacks in
    one account never add up. The variable is the one that powertools reads.
    https://docs.powertools.aws.dev/lambda/python/latest/core/metrics/#getting-started"""
    return os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "LoopLlama")


def emit(sets: Sequence[tuple[Sequence[str], Mapping[str, Any]]], properties: Mapping[str, Any]) -> None:
    """Write one line of metrics.

    `sets` pairs the names of dimensions (their values are in `properties`, but for `DEPLOYMENT`) with metrics by
    name; a metric whose value is `None` is left out. A metric's value may be a list of figures, at most 100.
    """
    directives = []
    line = {
        name: int(value) if isinstance(value, Decimal) else value
        for name, value in properties.items()
        if value is not None
    }
    for dimensions, metrics in sets:
        present = {name: value for name, value in metrics.items() if value is not None and value != []}
        if present:
            directives.append(_directive(tuple(dimensions), tuple(present)))
            if dimensions == DEPLOYMENT:
                line["service"] = service_name()
            # Plain floats: metrics are a view, and exact decimals cost ten times as much to print.
            for name, value in present.items():
                line[name] = float(value) if isinstance(value, Decimal) else value
    if not directives:
        return
    head = f'{{"_aws":{{"Timestamp":{clock.now_ms()},"CloudWatchMetrics":[{",".join(directives)}]}},'
    # One write: lines of several threads must not mix.
    sys.stdout.write(f"{head}{_encode(line)[1:]}\n")
    sys.stdout.flush()


_encode = json.JSONEncoder(separators=(",", ":")).encode


@functools.lru_cache(maxsize=256)  # a quarter of what a line takes, and the same few over and over
def _directive(dimensions: tuple[str, ...], metrics: tuple[str, ...]) -> str:
    """Return the JSON of one member of `CloudWatchMetrics`."""
    named = [{"Name": name, "Unit": METRICS[name][0]} for name in metrics]
    return _encode({"Namespace": namespace(), "Dimensions": [list(dimensions)], "Metrics": named})
