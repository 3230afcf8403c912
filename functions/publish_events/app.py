"""PublishEvents: the consumer of the Runs table's stream; numbers the events of runs and sends them to the bus."""

from loopllama.events.publish import Publisher
from loopllama.settings import settings
from loopllama.tracing import lambda_handler

publisher = Publisher(settings())


@lambda_handler
def handler(event, context):
    return publisher.handle(event["Records"])
