"""RecordRouteChange: the consumer of the Routes and Models tables' streams; keeps their history, tells the bus."""

from loopllama.recording import RouteRecorder
from loopllama.settings import settings
from loopllama.tracing import lambda_handler

recorder = RouteRecorder(settings())


@lambda_handler
def handler(event, context):
    return recorder.handle(event["Records"])
