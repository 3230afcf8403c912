"""AcceptRun: starts a run for an event. Events arrive at least once: the same event is the same run."""

from loopllama.engine.triggers import accept_event
from loopllama.settings import settings
from loopllama.telemetry.handler import lambda_handler


@lambda_handler
def handler(event, context):
    return {"run_id": accept_event(settings(), event)}
