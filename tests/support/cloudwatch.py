"""What CloudWatch makes of the metrics that functions print."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from loopllama.telemetry.metrics import namespace


def gather(printed: str, cloudwatch: Any, at: float | None = None) -> set[tuple[tuple[str, ...], str]]:
    """Put the metrics of printed lines into CloudWatch, as it does itself with a function's log, at the epoch seconds
    `at` instead of their own time. Return the dimensions and names of those that there are."""
    data: list[dict[str, Any]] = []
    for line in filter(lambda one: '"_aws"' in one, printed.splitlines()):
        values = json.loads(line)
        when = values["_aws"]["Timestamp"] / 1000 if at is None else at
        for directive in values["_aws"]["CloudWatchMetrics"]:
            assert directive["Namespace"] == namespace()
            (dimensions,) = directive["Dimensions"]
            for metric in directive["Metrics"]:
                value = values[metric["Name"]]
                data.append(
                    {
                        "MetricName": metric["Name"],
                        "Dimensions": [{"Name": name, "Value": values[name]} for name in dimensions],
                        "Timestamp": datetime.fromtimestamp(when, UTC),
                        "Values": [float(one) for one in (value if isinstance(value, list) else [value])],
                    }
                )
    if data:
        cloudwatch.put_metric_data(Namespace=namespace(), MetricData=data)
    return {(tuple(one["Name"] for one in metric["Dimensions"]), metric["MetricName"]) for metric in data}
