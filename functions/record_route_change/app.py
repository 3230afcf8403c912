"""RecordRouteChange: the consumer of the Routes and Models tables' streams; keeps their history, tells the bus."""

from typing import Any

from loopllama.jobs.record_route_change import RouteRecorder
from loopllama.settings import settings
from loopllama.telemetry.handler import lambda_handler

recorder = RouteRecorder(settings())


@lambda_handler
def handler(event: Any, context: Any) -> Any:
    return recorder.handle(event["Records"])
