"""The HTTP API."""

from loopllama.api.app import Api
from loopllama.settings import settings

api = Api(settings())


def handler(event, context):
    return api.handle(event, context)
