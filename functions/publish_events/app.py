"""PublishEvents: the consumer of the Runs table's stream; numbers events, sends them, and keeps figures of steps."""

from typing import Any

from loopllama.jobs.publish_events import Publisher
from loopllama.settings import settings
from loopllama.telemetry.handler import lambda_handler

publisher = Publisher(settings())


@lambda_handler
def handler(event: Any, context: Any) -> Any:
    return publisher.handle(event["Records"])
