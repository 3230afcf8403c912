"""What every adapter makes of trouble. Whatever happens, there was exactly one request."""

from __future__ import annotations

import re
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from support.dialects import KEY, Dialect
from support.failures import Make, failure_of
from support.wire_server import Drip, Hang, Raw, Reply, Reset, Step, WireServer, nobody_listens

from loopllama.errors import (
    ContextTooLong,
    CredentialsRejected,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from loopllama.llm.types import Provider

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"


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
        ({"retry-after": "3600"}, 3600, 3600),
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
    assert type(error) is ModelThrottled
    assert error.retry_after is not None
    assert least <= error.retry_after <= most


@pytest.mark.parametrize(("wait", "seconds"), [("3601", 3_601), ("9999999", 86_400)])
def test_nobody_waits_for_longer_than_an_hour(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, wait: str, seconds: float
) -> None:
    error = failure_of(server, adapter, make_call(), dialect.error(*dialect.throttled, {"retry-after": wait}))
    assert (type(error), error.next_model, error.later, error.retry_after) == (ModelThrottled, True, False, seconds)


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
    assert type(error) is ModelRequestRejected
    assert error.next_model
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
    assert error.next_model
    assert KEY not in str(error)
    assert dialect.remedy in str(error)


def test_unknown_model(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    error = failure_of(server, adapter, make_call(), dialect.error(*dialect.unknown_model))
    assert type(error) is ModelNotAvailable
    assert error.next_model
    assert f"{dialect.name}-test" in str(error)


def test_out_of_credit(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    _status, code, _ = dialect.bad_request
    reply = dialect.error(400, code, "Your credit balance is too low to access the API.")
    assert type(failure_of(server, adapter, make_call(), reply)) is ModelThrottled


def test_connection_refused(dialect: Dialect, monkeypatch: pytest.MonkeyPatch, make_call: Make) -> None:
    with nobody_listens() as url, pytest.raises(ModelUnavailable, match="cannot connect") as caught:
        dialect.adapter(url, monkeypatch).complete(make_call())
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
        Reset(HEAD),
        Reset(HEAD + b'{"choices'),
        Reset(CHUNKED),
        Raw(CHUNKED),
        Raw(b""),
        Raw(HEAD + b"{"),
        Raw(b"HTTP/1.1 200"),
        Raw(b"SSH-2.0-OpenSSH\r\n"),
    ],
    ids=[
        "reset",
        "reset behind the head",
        "reset in the middle",
        "reset in a chunk",
        "closed in a chunk",
        "closed",
        "closed in the middle",
        "half a head",
        "no HTTP",
    ],
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
    [Hang(), Drip(b"HTTP/1.1 200 OK\r\nX-Slow: "), Drip(HEAD), Drip(HEAD, 60), Drip(CHUNKED)],
    ids=["nothing", "slow headers", "slow body", "body stops", "slow chunks"],
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


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_model_that_is_not_there_says_nothing_against_the_next(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, status: int
) -> None:
    error = failure_of(server, adapter, make_call(), Reply(status, b"<html>nothing here</html>"))
    assert type(error) is ModelNotAvailable
    assert (error.next_model, error.later, error.status) == (True, False, status)


def test_401_of_whoever_stands_before_the_provider(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    error = failure_of(server, adapter, make_call(), Reply(401, b"<html>Log in</html>"))
    assert type(error) is CredentialsRejected
    assert (error.next_model, error.later) == (True, False)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Rate limit reached. Please try again in 20s.", 20),
        ("Please retry in 39.5s.", 39.5),
        ("Try again in 6m0s.", 360),
        ("Please wait 250 ms", 0.25),
        ("Too many requests.", None),
    ],
)
def test_a_wait_in_the_message(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, said: str, seconds: float | None
) -> None:
    status, code, _ = dialect.throttled
    error = failure_of(server, adapter, make_call(), dialect.error(status, code, said))
    assert (type(error), error.retry_after) == (ModelThrottled, seconds)
    # What the header says counts more.
    server.requests.clear()
    told = failure_of(server, adapter, make_call(), dialect.error(status, code, said, {"retry-after": "5"}))
    assert told.retry_after == 5


def test_a_request_larger_than_the_quota(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    status, code, _ = dialect.throttled
    said = "Request too large on tokens per min (TPM): Limit 30000, Requested 31024. Try again in 2s."
    error = failure_of(server, adapter, make_call(), dialect.error(status, code, said))
    assert type(error) is ContextTooLong
    assert (error.later, error.next_model, error.retry_after) == (False, True, None)


def test_huge_header(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Huge: " + b"x" * 300_000 + b"\r\n\r\n"
    error = failure_of(server, adapter, make_call(), Raw(head))
    assert type(error) is ModelUnavailable


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, status: int
) -> None:
    # Had it been followed, the server would count a second request.
    reply = Reply(status, b"", {"location": f"{server.url}/elsewhere"})
    error = failure_of(server, adapter, make_call(), reply)
    assert isinstance(error, ModelRequestRejected)


def test_a_long_explanation_is_cut(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    status, code, _ = dialect.bad_request
    error = failure_of(server, adapter, make_call(), dialect.error(status, code, "no " * 5000))
    assert len(str(error)) < 1000
