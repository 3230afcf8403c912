"""StartRun: the first state of run_workflow.asl.json."""

from typing import Any

from loopllama.engine.start import start_run
from loopllama.settings import settings
from loopllama.telemetry.handler import lambda_handler


@lambda_handler
def handler(event: Any, context: Any) -> Any:
    return start_run(settings(), event)
