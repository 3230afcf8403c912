"""The HTTP API."""

from typing import Any

from loopllama.api.app import Api
from loopllama.settings import settings

api = Api(settings())


def handler(event: Any, context: Any) -> Any:
    return api.handle(event, context)
