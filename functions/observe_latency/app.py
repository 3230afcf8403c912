"""ObserveLatency: turns metrics and recent runs into what routing knows of steps, on a schedule."""

from typing import Any

from loopllama.jobs.observe_latency import Observer
from loopllama.settings import settings
from loopllama.telemetry.handler import lambda_handler

observer = Observer(settings())


@lambda_handler
def handler(event: Any, context: Any) -> Any:
    return observer.refresh()
