"""ReadEvents: the HTTP API's route of a run's events. Its readers wait, so it has a function, and concurrency, of its
own."""

from loopllama.api.app import Api
from loopllama.settings import settings

api = Api(settings())


def handler(event, context):
    return api.handle(event, context)
