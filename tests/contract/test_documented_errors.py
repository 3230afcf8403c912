"""Providers' errors as they document them, and upstream errors under status 200."""

from __future__ import annotations

import json

import pytest
from support.dialects import CODES, Dialect, converse
from support.failures import Make
from support.wire_server import Reply, WireServer

from loopllama.errors import (
    ContextTooLong,
    CredentialsRejected,
    ModelError,
    ModelRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from loopllama.llm.types import ModelCall

DOCUMENTED = {
    # https://platform.openai.com/docs/guides/error-codes
    "openai": [
        (400, "invalid_request_error", ModelRejected),
        (400, "invalid_value", ModelRejected),
        (400, "unsupported_parameter", ModelRejected),
        (400, "content_policy_violation", "ContentRefused"),
        (401, "invalid_api_key", CredentialsRejected),
        (401, "invalid_organization", CredentialsRejected),
        (401, "ip_not_authorized", CredentialsRejected),
        (403, "unsupported_country_region_territory", ModelRejected),
        (404, "model_not_found", ModelRejected),
        (409, "conflict", ModelUnavailable),
        (422, "unprocessable_entity", ModelRejected),
        (429, "rate_limit_exceeded", ModelThrottled),
        (429, "rate_limit_error", ModelThrottled),
        (429, "insufficient_quota", ModelThrottled),
        (429, "credit_balance_exhausted", ModelThrottled),
        (429, "billing_hard_limit_reached", ModelThrottled),
        (429, "slow_down", ModelThrottled),
        (503, "slow_down", ModelThrottled),
        (500, "server_error", ModelUnavailable),
        (503, "server_is_overloaded", ModelUnavailable),
        (503, "service_unavailable_error", ModelUnavailable),
    ],
    # https://learn.microsoft.com/azure/ai-foundry/openai/how-to/troubleshoot
    "azure": [
        (400, "content_filter", "ContentRefused"),
        (400, "context_length_exceeded", ContextTooLong),
        (401, "401", CredentialsRejected),
        (403, "AuthenticationTypeDisabled", ModelRejected),
        (404, "DeploymentNotFound", ModelRejected),
        (408, "Timeout", ModelTimeout),
        (424, "FailedDependency", ModelRejected),
        (429, "429", ModelThrottled),
        (429, "insufficient_quota", ModelThrottled),
        (500, "InternalServerError", ModelUnavailable),
        (503, "ServiceUnavailable", ModelUnavailable),
    ],
    # https://ai.google.dev/gemini-api/docs/troubleshooting
    "google": [
        (400, "INVALID_ARGUMENT", ModelRejected),
        (400, "API_KEY_INVALID", CredentialsRejected),
        (400, "FAILED_PRECONDITION", ModelRejected),
        (401, "UNAUTHENTICATED", CredentialsRejected),
        (403, "PERMISSION_DENIED", ModelRejected),
        (404, "NOT_FOUND", ModelRejected),
        (429, "RESOURCE_EXHAUSTED", ModelThrottled),
        (499, "CANCELLED", ModelUnavailable),
        (500, "INTERNAL", ModelUnavailable),
        (503, "UNAVAILABLE", ModelUnavailable),
        (504, "DEADLINE_EXCEEDED", ModelTimeout),
    ],
    # https://docs.mistral.ai/api, https://api-docs.deepseek.com/quick_start/error_codes
    "mistral": [
        (400, "invalid_request", ModelRejected),
        (401, "", CredentialsRejected),
        (402, "", ModelThrottled),
        (403, "", ModelRejected),
        (404, "", ModelRejected),
        (422, "", ModelRejected),
        (429, "rate_limited", ModelThrottled),
        (500, "", ModelUnavailable),
        (503, "", ModelUnavailable),
        (520, "", ModelUnavailable),
    ],
    # https://docs.claude.com/en/api/errors
    "anthropic": [
        (400, "invalid_request_error", ModelRejected),
        (401, "authentication_error", CredentialsRejected),
        (402, "billing_error", ModelThrottled),
        (403, "permission_error", ModelRejected),
        (404, "not_found_error", ModelRejected),
        (409, "conflict_error", ModelUnavailable),
        (413, "request_too_large", ContextTooLong),
        (429, "rate_limit_error", ModelThrottled),
        (500, "api_error", ModelUnavailable),
        (504, "timeout_error", ModelTimeout),
        (529, "overloaded_error", ModelUnavailable),
    ],
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html; Converse's own are checked below
    "bedrock": [
        (400, "ServiceQuotaExceededException", ModelThrottled),
        (403, "ExpiredTokenException", CredentialsRejected),
        (403, "IncompleteSignature", CredentialsRejected),
        (403, "InvalidSignatureException", CredentialsRejected),
        (403, "InvalidClientTokenId", CredentialsRejected),
        (403, "UnrecognizedClientException", CredentialsRejected),
        (403, "MissingAuthenticationToken", CredentialsRejected),
        (403, "OptInRequired", CredentialsRejected),
        (401, "NotAuthorized", CredentialsRejected),
        (400, "RequestExpired", ModelUnavailable),
        (500, "InternalFailure", ModelUnavailable),
        (503, "ServiceUnavailable", ModelUnavailable),
        (400, "SomethingNew", ModelRejected),
        (500, "SomethingNew", ModelUnavailable),
    ],
}


def test_documented_errors(dialect: Dialect, monkeypatch: pytest.MonkeyPatch, make_call: Make) -> None:
    with WireServer() as server:
        adapter = dialect.adapter(server.url, monkeypatch)
        for status, code, expected in DOCUMENTED[dialect.name]:
            server.script(dialect.error(status, code, "said the provider"))
            with pytest.raises(ModelError) as caught:
                adapter.complete(make_call())
            name = expected if isinstance(expected, str) else expected.__name__
            assert (status, code, type(caught.value).__name__) == (status, code, name)


def test_the_adapter_names_every_error_of_converse() -> None:
    """botocore's service model is the documentation here; an error that a later version adds shows up."""
    assert {shape.name for shape in converse().error_shapes} <= set(CODES["bedrock"])


def test_every_error_of_converse_by_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    from support.dialects import BedrockDialect

    from loopllama.llm.types import Message

    dialect = BedrockDialect()
    call = ModelCall(dialect.model, "bedrock-test", "", (Message("user", "hi"),), 5.0)
    with WireServer() as server:
        adapter = dialect.adapter(server.url, monkeypatch)
        for shape in converse().error_shapes:
            server.script(dialect.error(shape.metadata["error"]["httpStatusCode"], shape.name, "said Bedrock"))
            with pytest.raises(ModelError) as caught:
                adapter.complete(call)
            assert type(caught.value) is CODES["bedrock"][shape.name]
            assert shape.name in str(caught.value)


def test_upstream_error_under_status_200(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """https://openrouter.ai/docs/api-reference/errors"""
    from support.dialects import OpenAIDialect

    from loopllama.llm.types import Message

    adapter = OpenAIDialect().adapter(server.url, monkeypatch)
    call = ModelCall("m", "m", "", (Message("user", "hi"),), 5.0)
    for code, expected in ((429, ModelThrottled), (502, ModelUnavailable), (None, ModelUnavailable)):
        server.script(Reply(200, {"error": {"code": code, "message": "upstream failed"}}))
        with pytest.raises(expected):
            adapter.complete(call)
    assert json.loads(server.requests[0].body)["model"] == "m"


def test_upstream_error_under_status_200_in_anthropics_format(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.dialects import AnthropicDialect

    from loopllama.llm.types import Message

    adapter = AnthropicDialect().adapter(server.url, monkeypatch)
    call = ModelCall("m", "m", "", (Message("user", "hi"),), 5.0)
    for kind, expected in (
        ("overloaded_error", ModelUnavailable),
        ("rate_limit_error", ModelThrottled),
        ("x", ModelUnavailable),
    ):
        server.script(Reply(200, {"type": "error", "error": {"type": kind, "message": "upstream failed"}}))
        with pytest.raises(expected):
            adapter.complete(call)
