"""What functions print: CloudWatch Logs, and CloudWatch metrics from lines in embedded metric format."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any


class Logs:
    """Writes into moto's backends of CloudWatch Logs and CloudWatch."""

    def __init__(self, logs_backend: Any, cloudwatch_backend: Any) -> None:
        self._logs = logs_backend
        self._cloudwatch = cloudwatch_backend
        self._streams: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def write(self, group: str, stream: str, lines: list[str]) -> None:
        now = int(time.time() * 1000)
        with self._lock:
            if (group, stream) not in self._streams:
                self._logs.ensure_log_group(group)
                self._logs.create_log_stream(group, stream)
                self._streams.add((group, stream))
            self._logs.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])
            for line in lines:
                for namespace, data in metrics(line):
                    self._cloudwatch.put_metric_data(namespace, data)


def metrics(line: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the metric data in a log line: namespace and `PutMetricData` entries. Lines that are no valid embedded
    metric format give nothing, as in CloudWatch
    (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
    """
    if not line.startswith("{") or '"_aws"' not in line:
        return
    try:
        root = json.loads(line)
        when = datetime.fromtimestamp(root["_aws"]["Timestamp"] / 1000, tz=UTC).replace(tzinfo=None)
        for directive in root["_aws"]["CloudWatchMetrics"]:
            yield directive["Namespace"], list(_data(root, directive, when))
    except (KeyError, TypeError, ValueError, AttributeError):
        return


def _data(root: dict[str, Any], directive: dict[str, Any], when: datetime) -> Iterator[dict[str, Any]]:
    for names in directive["Dimensions"]:
        dimensions = [{"Name": name, "Value": str(root[name])} for name in names]
        for metric in directive["Metrics"]:
            values = root[metric["Name"]]
            yield {
                "MetricName": metric["Name"],
                "Dimensions": dimensions,
                "Timestamp": when,
                "Unit": metric.get("Unit", "None"),
                "Values": [float(value) for value in (values if isinstance(values, list) else [values])],
            }
