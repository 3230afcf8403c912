"""AcceptRun: starts a run for an event. Events arrive at least once: the same event is the same run."""

from typing import Any

from loopllama.engine.triggers import accept_event
from loopllama.settings import settings
from loopllama.telemetry.handler import lambda_handler


@lambda_handler
def handler(event: Any, context: Any) -> Any:
    return {"run_id": accept_event(settings(), event)}
