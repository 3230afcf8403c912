"""One HTTP POST to a provider, bounded in time and size; shared by every adapter.

It stands on httpcore, the connection pool beneath httpx, without httpx's client: that halves the time to load it and
leaves the network stream to us, which is what a real deadline needs (`core.transport`).

Policy
- Idle connections are kept 300 s, below the 350 s after which AWS's NAT gateways forget a connection
  (https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html), with TCP keep-alive probes.
- Nothing is sent twice. The pool notices a connection that the server closed while idle and opens another one; should
  the server close it just as the request goes out, the call fails as `ModelUnavailable` with `maybe_billed`, because
  whether a POST was served cannot be known from here. The next fallback or a later retry is the engine's decision.
- Redirects are not followed: a key goes to the host it was meant for, and no other.
- HTTP/1.1 only, no cookies. No compression is asked for; what comes compressed nevertheless is read. HTTPS_PROXY and
  NO_PROXY are honoured for https URLs (the proxy sees a tunnel), SSL_CERT_FILE replaces the bundled certificates;
  nothing else is taken from the environment.
- Resolving the host's name is left to the system and is not bounded by the deadline.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import httpcore

from loopllama.core.patterns import late
from loopllama.core.transport import Deadline, Stream, certificates, connect
from loopllama.errors import InvalidModelResponse, ModelRequestRejected, ModelTimeout, ModelUnavailable

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 300.0
MAX_ANSWER_BYTES = 20 * 1024 * 1024
_SURROGATES = late(
    rb"""\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>\\u[dD][89a-fA-F]..|\xed[\xa0-\xbf][\x80-\xbf])"""
)
"""In JSON: an escaped backslash, a pair, or half of one, which is no character and can be neither stored nor sent."""

_NEEDED = late(r"content-(?:type|encoding)|location|retry-after(?:-ms)?|x-amzn?-.*|.*ratelimit.*")

_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, whole. Of its headers those that somebody reads; their names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def post(url: str, headers: Mapping[str, str], body: bytes, until: float, who: str) -> Reply:
    """POST `body` and read the whole answer before `until`, by `time.monotonic()`.

    `who` names the provider in messages. Raises `ModelUnavailable` (no connection, or it broke), `ModelTimeout`,
    `InvalidModelResponse` (more than 20 MB) and `ModelRequestRejected` (a request that HTTP cannot carry);
    `maybe_billed` is set where the request had gone out."""
    started = time.monotonic()
    if until <= started:
        raise ModelTimeout(f"{who}: no time was left for the call", against=False)
    _call.until, _call.sent, _call.connect_seconds = until, 0, CONNECT_SECONDS
    target, host = _parsed(url)
    sent: dict[bytes | str, bytes | str] = {
        "host": host,
        "user-agent": "loopllama",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-length": str(len(body)),
        **{name.lower(): value for name, value in headers.items()},
    }
    timeouts = {"timeout": {"pool": until - started}}
    request = httpcore.Request("POST", target, headers=sent, content=body, extensions=timeouts)
    try:
        response = _pool(url).handle_request(request)
        try:
            content = _read(response.iter_stream(), who)
        finally:
            response.close()
    except _FAILURES as error:
        _fail(error, who, started, _call.sent >= len(body))
    names = ((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers)
    headers = {name: value for name, value in names if _NEEDED.fullmatch(name)}
    return Reply(response.status, headers, _whole_characters(_plain(content, headers.get("content-encoding", ""), who)))


@functools.lru_cache(maxsize=64)
def _parsed(url: str) -> tuple[httpcore.URL, str]:
    return httpcore.URL(url), urlsplit(url).netloc


def _read(chunks: Iterable[bytes], who: str) -> bytes:
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            message = f"{who}: the answer is larger than {MAX_ANSWER_BYTES >> 20} MB"
            raise InvalidModelResponse(message, maybe_billed=True, against=True)
        parts.append(chunk)
    return b"".join(parts)


def _plain(content: bytes, encoding: str, who: str) -> bytes:
    """Return an answer's body without the compression that proxies apply unasked. Raises `InvalidModelResponse` for
    one that cannot be undone, or is larger than an answer may be."""
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return content
    import zlib

    opened = zlib.decompressobj(47)  # gzip or zlib, by its first bytes
    try:
        plain = opened.decompress(content, MAX_ANSWER_BYTES + 1)
    except zlib.error as error:
        message = f"{who}: the answer says that it is {encoding}, and is not ({error})"
        raise InvalidModelResponse(message, maybe_billed=True, against=True) from error
    if len(plain) > MAX_ANSWER_BYTES or not opened.eof:
        message = f"{who}: the answer is larger than {MAX_ANSWER_BYTES >> 20} MB, or cut off, where it is unpacked"
        raise InvalidModelResponse(message, maybe_billed=True, against=True)
    return plain


def _whole_characters(body: bytes) -> bytes:
    """Return the answer with U+FFFD for each half of a surrogate pair, and for bytes that are no UTF-8: servers that
    end an answer at its limit may do so within a character, and what is paid must not be lost for it."""
    if b"\\ud" in body or b"\\uD" in body or b"\xed" in body:
        body = _SURROGATES.sub(lambda match: "\ufffd".encode() if match["half"] else match[0], body)
    if body.lstrip()[:1] == b"{" and b"\0" not in body[:4] and not body.isascii():
        return body.decode("utf-8", "replace").encode()
    return body


def _fail(error: Exception, who: str, started: float, sent: bool) -> NoReturn:
    now = time.monotonic()
    if isinstance(error, httpcore.LocalProtocolError | httpcore.UnsupportedProtocol):
        raise ModelRequestRejected(f"{who}: the request cannot be sent: {error}") from error
    if isinstance(error, httpcore.TimeoutException) and now >= _call.until:
        missing = "no whole answer" if sent else "the request was not taken"
        raise ModelTimeout(f"{who}: {missing} within {now - started:.1f} s", maybe_billed=sent) from error
    if isinstance(error, httpcore.TimeoutException) and not sent:
        raise ModelUnavailable(f"{who}: no connection within {CONNECT_SECONDS:g} s") from error
    if not sent and "CERTIFICATE_VERIFY_FAILED" in _text(error):
        unknown = ModelUnavailable(
            f"{who}: cannot connect: {_text(error)}. The server's certificate comes from nobody who is believed here: "
            "name the file of the authority that has issued it in the environment variable SSL_CERT_FILE, or give the "
            "server a certificate of a public one"
        )
        unknown.later = False  # somebody has to put it right
        raise unknown from error
    if not sent:
        raise ModelUnavailable(f"{who}: cannot connect: {_text(error)}") from error
    raise ModelUnavailable(f"{who}: the connection broke: {_text(error)}", maybe_billed=True) from error


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


_lock = threading.Lock()
_pools: dict[tuple[bool, str | None], httpcore.ConnectionPool] = {}


def _pool(url: str) -> httpcore.ConnectionPool:
    secure = url.startswith("https:")
    key = (secure, _proxy(url) if secure else None)
    with _lock:
        if key not in _pools:
            _pools[key] = httpcore.ConnectionPool(
                # Made only for https: loading the certificates takes tens of milliseconds.
                ssl_context=certificates() if secure else None,
                proxy=_proxy_of(key[1]) if key[1] else None,
                max_keepalive_connections=20,
                keepalive_expiry=IDLE_SECONDS,
                network_backend=_Backend(),
                socket_options=_keep_alive(),
            )
        return _pools[key]


def _proxy(url: str) -> str | None:
    proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    if not proxy:
        return None
    from urllib.request import proxy_bypass

    if proxy_bypass(urlsplit(url).hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _proxy_of(url: str) -> httpcore.Proxy:
    parts = urlsplit(url)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return httpcore.Proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", auth=auth)


def _keep_alive() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    if hasattr(socket, "TCP_KEEPIDLE"):
        options.append((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60))
    return options


class _Call(threading.local, Deadline):
    """The call that this thread is making: connections outlive it, so the next one gives them its own deadline."""


_call = _Call()


class _Backend(httpcore.NetworkBackend):
    """Connects to a host's addresses in turn, all of them within one limit."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"host {host!r} is not found: {error}") from error
        until = time.monotonic() + CONNECT_SECONDS
        failure: Exception = httpcore.ConnectError(f"host {host!r} has no address")
        for *_, address in addresses:
            limit = _call.left(httpcore.ConnectTimeout, until - time.monotonic())
            if limit <= 0:
                break
            try:
                return Stream(connect(str(address[0]), port, limit, socket_options), _call)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure
