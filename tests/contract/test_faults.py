"""What every adapter makes of trouble. Whatever happens, there was exactly one request."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from support.dialects import CODES, KEY, Dialect, converse
from support.wire_server import Drip, Hang, Raw, Reply, Reset, Step, WireServer

from loopllama.errors import (
    AnswerInvalid,
    ContextTooLong,
    CredentialsRejected,
    ModelError,
    ModelRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from loopllama.llm.types import ModelCall, Provider, Usage

Make = Callable[..., ModelCall]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"


def failure_of(server: WireServer, adapter: Provider, call: ModelCall, step: Step) -> ModelError:
    server.script(step)
    with pytest.raises(ModelError) as caught:
        adapter.complete(call)
    assert len(server.requests) == 1
    return caught.value


def test_throttled(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    error = failure_of(server, adapter, make_call(), dialect.error(*dialect.throttled))
    assert type(error) is ModelThrottled
    assert (error.status, error.retry_after, error.later, error.next_model) == (429, None, True, True)
    assert error.usage is None
    assert not error.maybe_billed
    assert dialect.throttled[2] in str(error)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after": "0.5"}, 0.5, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5, 1.5),
        ({"retry-after": "DATE"}, 27, 30),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 0),
        ({"retry-after": "9999999"}, 86400, 86400),
        ({"retry-after": "-3"}, 0, 0),
    ],
)
def test_retry_after(
    dialect: Dialect,
    server: WireServer,
    adapter: Provider,
    make_call: Make,
    headers: dict[str, str],
    least: float,
    most: float,
) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    headers = {name: value.replace("DATE", soon) for name, value in headers.items()}
    error = failure_of(server, adapter, make_call(), dialect.error(*dialect.throttled, headers))
    assert error.retry_after is not None
    assert least <= error.retry_after <= most


@pytest.mark.parametrize("text", ["soon", "nan", "", "31 Foo 2026"])
def test_retry_after_that_cannot_be_read(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, text: str
) -> None:
    error = failure_of(server, adapter, make_call(), dialect.error(*dialect.throttled, {"retry-after": text}))
    assert error.retry_after is None


@pytest.mark.parametrize("status", [500, 502, 503, 529, 599])
def test_broken_server(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, status: int) -> None:
    page = Reply(status, b"<html><body>Bad gateway</body></html>", {"content-type": "text/html"})
    error = failure_of(server, adapter, make_call(), page)
    assert type(error) is ModelUnavailable
    assert (error.status, error.later) == (status, True)
    assert not error.maybe_billed


def test_overloaded(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    error = failure_of(server, adapter, make_call(), dialect.error(*dialect.overloaded, {"retry-after": "3"}))
    assert type(error) is ModelUnavailable
    assert error.retry_after == 3


def test_bad_request(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    error = failure_of(server, adapter, make_call(), dialect.error(*dialect.bad_request))
    assert type(error) is ModelRejected
    assert not error.next_model
    assert dialect.bad_request[2] in str(error)
    assert f"{dialect.name}-test" in str(error)


def test_context_too_long(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    error = failure_of(server, adapter, make_call(), dialect.error(*dialect.too_long))
    assert type(error) is ContextTooLong
    assert (error.next_model, error.later) == (True, False)


def test_too_large_a_request(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    error = failure_of(server, adapter, make_call(), Reply(413, b"<html>Request Entity Too Large</html>"))
    assert type(error) is ContextTooLong


def test_wrong_key(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    error = failure_of(server, adapter, make_call(), dialect.error(*dialect.unauthorized))
    assert type(error) is CredentialsRejected
    assert not error.next_model
    assert KEY not in str(error)
    if dialect.name == "bedrock":
        assert "role" in str(error)
    else:
        assert f"loopllama providers set {dialect.name}" in str(error)


def test_unknown_model(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    error = failure_of(server, adapter, make_call(), dialect.error(*dialect.unknown_model))
    assert type(error) is ModelRejected
    assert f"{dialect.name}-test" in str(error)


def test_out_of_credit(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    _status, code, _ = dialect.bad_request
    reply = dialect.error(400, code, "Your credit balance is too low to access the API.")
    assert type(failure_of(server, adapter, make_call(), reply)) is ModelThrottled


def test_connection_refused(dialect: Dialect, monkeypatch: pytest.MonkeyPatch, make_call: Make) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    adapter = dialect.adapter(f"http://127.0.0.1:{port}", monkeypatch)
    with pytest.raises(ModelUnavailable, match="cannot connect") as caught:
        adapter.complete(make_call())
    assert not caught.value.maybe_billed


def test_host_that_does_not_exist(dialect: Dialect, monkeypatch: pytest.MonkeyPatch, make_call: Make) -> None:
    adapter = dialect.adapter("http://127.0.0.1:1", monkeypatch)

    def no_such_host(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    with pytest.raises(ModelUnavailable, match="not found"):
        adapter.complete(make_call())


@pytest.mark.parametrize(
    "step",
    [
        Reset(),
        Reset(HEAD + b'{"choices'),
        Raw(b""),
        Raw(HEAD + b"{"),
        Raw(b"HTTP/1.1 200"),
        Raw(b"SSH-2.0-OpenSSH\r\n"),
    ],
    ids=["reset", "reset in the middle", "closed", "closed in the middle", "half a head", "no HTTP"],
)
def test_broken_connection(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, step: Step
) -> None:
    error = failure_of(server, adapter, make_call(), step)
    assert type(error) is ModelUnavailable
    assert error.maybe_billed
    assert error.usage is None


@pytest.mark.parametrize(
    "step",
    [Hang(), Drip(b"HTTP/1.1 200 OK\r\nX-Slow: "), Drip(HEAD), Drip(HEAD, 60)],
    ids=["nothing", "slow headers", "slow body", "body stops"],
)
def test_deadline(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, step: Step) -> None:
    started = time.monotonic()
    error = failure_of(server, adapter, make_call(timeout=0.3), step)
    assert type(error) is ModelTimeout
    assert error.maybe_billed
    assert 0.25 < time.monotonic() - started < 5
    assert re.search(r"within [01]\.\d s", str(error))


def test_no_time_left(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    with pytest.raises(ModelTimeout) as caught:
        adapter.complete(make_call(timeout=-1))
    assert not caught.value.maybe_billed
    assert server.requests == []


def test_a_connection_after_a_deadline_is_a_new_one(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    server.script(Drip(HEAD), Reply(200, dialect.answer("ok")))
    with pytest.raises(ModelTimeout):
        adapter.complete(make_call(timeout=0.2))
    assert adapter.complete(make_call()).text == "ok"
    assert [request.connection for request in server.requests] == [1, 2]


@pytest.mark.parametrize("body", [b"not json", b'{"choices": [', b"\xff\xfe", b"[" * 100_000])
def test_malformed_json(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, body: bytes) -> None:
    error = failure_of(server, adapter, make_call(), Reply(200, body))
    assert type(error) is AnswerInvalid
    assert isinstance(error.usage, Usage)
    assert error.usage.estimated


@pytest.mark.parametrize(
    "body", [{}, {"choices": []}, {"choices": [None]}, {"choices": [{"message": 1}]}, {"content": 3}]
)
def test_an_answer_without_what_it_must_have(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, body: object
) -> None:
    error = failure_of(server, adapter, make_call(), Reply(200, body))
    assert type(error) is AnswerInvalid
    assert isinstance(error.usage, Usage)


def test_too_large_an_answer(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    error = failure_of(server, adapter, make_call(), Reply(200, b" " * (21 * 1024 * 1024)))
    assert type(error) is AnswerInvalid
    assert "20 MB" in str(error)


def test_huge_header(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Huge: " + b"x" * 300_000 + b"\r\n\r\n"
    error = failure_of(server, adapter, make_call(), Raw(head))
    assert type(error) is ModelUnavailable


def test_redirects_are_not_followed(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    # Had it been followed, the server would count a second request.
    reply = Reply(307, b"", {"location": f"{server.url}/elsewhere"})
    error = failure_of(server, adapter, make_call(), reply)
    assert isinstance(error, ModelRejected)


def test_a_long_explanation_is_cut(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    status, code, _ = dialect.bad_request
    error = failure_of(server, adapter, make_call(), dialect.error(status, code, "no " * 5000))
    assert len(str(error)) < 1000


DOCUMENTED: dict[str, list[Any]] = {
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
