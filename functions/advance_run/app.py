"""AdvanceRun: what becomes of a run once no chain of it is alive."""

from typing import Any

from loopllama.engine.advance import advance_run
from loopllama.settings import settings
from loopllama.telemetry.handler import lambda_handler


@lambda_handler
def handler(event: Any, context: Any) -> Any:
    return advance_run(settings(), event)
