"""RunStep: one step of a run, or the rest of one."""

from typing import Any

from loopllama.engine.step import StepRunner
from loopllama.settings import settings
from loopllama.telemetry.handler import lambda_handler

runner = StepRunner(settings())


@lambda_handler
def handler(event: Any, context: Any) -> Any:
    return runner.run_steps(event, context.aws_request_id, context.get_remaining_time_in_millis())
