"""What stands around a Lambda function's own code: log lines, X-Ray, and errors of AWS."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from loopllama.aws import errors
from loopllama.errors import InternalError, LoopLlamaError
from loopllama.telemetry import logs, xray

_MAX_ID = 256


def working_on(event: Any) -> None:
    """Let this process's log lines carry the ids of what it is asked to do."""
    logs.logger().append_keys(**_ids(event, ("run_id", "step")))


def lambda_handler(function: Callable[[dict[str, Any], Any], Any]) -> Callable[[dict[str, Any], Any], Any]:
    """Make a Lambda handler of `function`: its log lines and its X-Ray segment carry the request's ids. An AWS service
    that does not answer becomes `AwsUnavailable`, which the state machine retries, one that refuses `AwsRefused`, which
    it does not, and any other error that is not ours `InternalError`: Lambda logs what is raised, and Step Functions
    keeps it."""
    traced = function if xray.tracer() is None else _traced(function)

    @functools.wraps(function)
    def handle(event: dict[str, Any], context: Any) -> Any:
        logs.logger().append_keys(request_id=context.aws_request_id)
        working_on(event)
        try:
            return traced(event, context)
        except Exception as error:
            if (trouble := errors.trouble(error)) is not None:
                logs.logger().warning("an AWS service gave no answer", extra={"error": str(trouble)})
                raise trouble from error
            if isinstance(error, LoopLlamaError):
                raise
            raise InternalError(logs.safe_text(error)) from error
        finally:
            logs.logger().remove_keys(["run_id", "step"])

    return handle


def _ids(event: Any, names: Sequence[str]) -> dict[str, str]:
    """Return the ids in an event. Whatever else stands in their place is no id and may be anything."""
    fields = event if isinstance(event, dict) else {}
    fields = fields["work"] if isinstance(fields.get("work"), dict) else fields
    return {name: fields[name] for name in names if isinstance(fields.get(name), str) and len(fields[name]) <= _MAX_ID}


def _traced(function: Callable[[dict[str, Any], Any], Any]) -> Callable[[dict[str, Any], Any], Any]:
    """Run `function` in an X-Ray segment with the event's ids. Results and errors stay out of it, because both may
    quote what people wrote: an error is named and goes round the SDK, which would record its message."""
    raised: list[Exception] = []

    def annotated(event: dict[str, Any], context: Any) -> Any:
        xray.annotate(_ids(event, ("run_id", "workflow", "step")))
        try:
            return function(event, context)
        except Exception as error:
            xray.annotate({"error": type(error).__name__})
            raised.append(error)

    captured = xray.tracer().capture_lambda_handler(annotated, capture_response=False)

    def traced(event: dict[str, Any], context: Any) -> Any:
        raised.clear()
        result = captured(event, context)
        if raised:
            raise raised.pop()
        return result

    return traced
