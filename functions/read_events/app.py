"""ReadEvents: the HTTP API's route of a run's events. Its readers wait, so it has a function, and concurrency, of its
own."""

from typing import Any

from loopllama.api.app import Api
from loopllama.settings import settings

api = Api(settings())


def handler(event: Any, context: Any) -> Any:
    return api.handle(event, context)
