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
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from loopllama.aws import dynamo as aws
from loopllama.core import clock
from loopllama.errors import LoopLlamaError, Unforeseen

NAMESPACE = "LoopLlama"
DEPLOYMENT = ("service",)
"""The dimension of what alarms watch: all workflows of one stack together, as no alarm can search. Its value is the
stack's name."""

_MAX_ID = 256

METRICS = {
    "Cost": ("None", "USD of a step, all its model calls together; left out where nothing has a price"),
    "InputTokens": ("Count", "tokens of a step's prompts, cached ones included"),
    "OutputTokens": ("Count", "tokens of a step's answers"),
    "StepLatency": ("Milliseconds", "a step from its start to its end: its calls, tools and waits"),
    "ModelLatency": ("Milliseconds", "a model call that was answered; by step only where a policy `fastest` chose"),
    "ModelCalls": ("Count", "model calls, failed ones included"),
    "ModelErrors": ("Count", "model calls that gave no usable answer"),
    "Fallbacks": ("Count", "steps that another model answered than the one called first"),
    "InvalidOverride": ("Count", "rows of a step's route that were passed over and that somebody has to mend"),
    "ModelThrottles": ("Count", "model calls that the provider throttled"),
    "RunCost": ("None", "USD of a run that completed or failed"),
    "RunLatency": ("Milliseconds", "a run that completed or failed, from its start to its end"),
    "RunsCompleted": ("Count", "runs that completed"),
    "RunsFailed": ("Count", "runs that failed"),
}
"""Every metric with its unit and what it counts (docs/reference.md)."""


@functools.lru_cache(maxsize=1)
def logger() -> Any:
    """This process's structured logger."""
    from aws_lambda_powertools import Logger

    return Logger(service=_service())


@functools.lru_cache(maxsize=1)
def _service() -> str:
    return os.environ.get("POWERTOOLS_SERVICE_NAME", "loopllama")


@functools.lru_cache(maxsize=1)
def tracer() -> Any:
    """X-Ray by powertools' Tracer, or `None` where the template's parameter Tracing is off: the X-Ray SDK, which costs
    about 200 ms of start-up, is then never loaded."""
    if os.environ.get("POWERTOOLS_TRACE_DISABLED", "true").lower() != "false":
        return None
    from aws_lambda_powertools import Tracer

    return Tracer()


def annotate(values: Mapping[str, Any]) -> None:
    """Make ids searchable in X-Ray, where it is on. Ids and names only."""
    if (xray := tracer()) is not None:
        for name, value in values.items():
            if value is not None:
                xray.put_annotation(name, str(value))


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
                line["service"] = _service()
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
    """The JSON of one member of `CloudWatchMetrics`."""
    named = [{"Name": name, "Unit": METRICS[name][0]} for name in metrics]
    return _encode({"Namespace": NAMESPACE, "Dimensions": [list(dimensions)], "Metrics": named})


def said(error: Exception) -> str:
    """What logs may hold of an error that nobody foresaw: what an AWS service said; of any other its kind and where it
    happened, because its message may quote what people wrote."""
    if (trouble := aws.trouble(error)) is not None:
        return str(trouble)
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    where = " > ".join(f"{os.path.basename(one.filename)}:{one.lineno} {one.name}" for one in frames)  # noqa: PTH119
    return f"{type(error).__name__} at {where}"


def working_on(event: Any) -> None:
    """Let this process's log lines carry the ids of what it is asked to do."""
    logger().append_keys(**_ids(event, ("run_id", "step")))


def lambda_handler(function: Callable[[dict[str, Any], Any], Any]) -> Callable[[dict[str, Any], Any], Any]:
    """Make a Lambda handler of `function`: its log lines and its X-Ray segment carry the request's ids. An AWS service
    that does not answer becomes `AwsUnavailable`, which the state machine retries, one that refuses `AwsRefused`, which
    it does not, and any other error that is not ours `Unforeseen`: Lambda logs what is raised, and Step Functions keeps
    it."""
    traced = function if tracer() is None else _traced(function)

    @functools.wraps(function)
    def handle(event: dict[str, Any], context: Any) -> Any:
        logger().append_keys(request_id=context.aws_request_id)
        working_on(event)
        try:
            return traced(event, context)
        except Exception as error:
            if (trouble := aws.trouble(error)) is not None:
                logger().warning("an AWS service gave no answer", extra={"error": str(trouble)})
                raise trouble from error
            if isinstance(error, LoopLlamaError):
                raise
            raise Unforeseen(said(error)) from error
        finally:
            logger().remove_keys(["run_id", "step"])

    return handle


def _ids(event: Any, names: Sequence[str]) -> dict[str, str]:
    """The ids in an event. Whatever else stands in their place is no id and may be anything."""
    found = event if isinstance(event, dict) else {}
    return {name: found[name] for name in names if isinstance(found.get(name), str) and len(found[name]) <= _MAX_ID}


def _traced(function: Callable[[dict[str, Any], Any], Any]) -> Callable[[dict[str, Any], Any], Any]:
    """Run `function` in an X-Ray segment with the event's ids. Results and errors stay out of it, because both may
    quote what people wrote: an error is named and goes round the SDK, which would record its message."""
    raised: list[Exception] = []

    def annotated(event: dict[str, Any], context: Any) -> Any:
        annotate(_ids(event, ("run_id", "workflow", "step")))
        try:
            return function(event, context)
        except Exception as error:
            annotate({"error": type(error).__name__})
            raised.append(error)

    captured = tracer().capture_lambda_handler(annotated, capture_response=False)

    def traced(event: dict[str, Any], context: Any) -> Any:
        raised.clear()
        result = captured(event, context)
        if raised:
            raise raised.pop()
        return result

    return traced
