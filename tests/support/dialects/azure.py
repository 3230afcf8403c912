"""Azure's Chat Completions: OpenAI's format at another address, with the key in another header."""

from __future__ import annotations

from typing import ClassVar

from loopllama.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialsRejected,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from support.dialects.base import KEY, Documented
from support.dialects.openai import OpenAIDialect
from support.wire_server import Request


class AzureDialect(OpenAIDialect):
    name = "azure"
    own_format = False
    path = "/openai/v1"
    too_long = (400, "context_length_exceeded", OpenAIDialect.too_long[2])
    throttled = (429, "429", "Requests have exceeded the token rate limit of your current pricing tier.")
    unauthorized = (401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
    unknown_model = (404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
    documented: ClassVar[Documented] = (
        # https://learn.microsoft.com/azure/ai-foundry/openai/how-to/troubleshoot
        (400, "content_filter", ContentFiltered),
        (400, "context_length_exceeded", ContextTooLong),
        (401, "401", CredentialsRejected),
        (403, "AuthenticationTypeDisabled", ModelNotAvailable),
        (404, "DeploymentNotFound", ModelNotAvailable),
        (408, "Timeout", ModelTimeout),
        (424, "FailedDependency", ModelRequestRejected),
        (429, "429", ModelThrottled),
        (429, "insufficient_quota", ModelThrottled),
        (500, "InternalServerError", ModelUnavailable),
        (503, "ServiceUnavailable", ModelUnavailable),
    )

    def has_key(self, request: Request) -> bool:
        return request.headers.get("api-key") == KEY and "authorization" not in request.headers
