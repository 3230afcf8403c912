"""Connections whose every operation ends at one deadline: what the calls of providers and of tools stand on.

They go below httpcore, the connection pool beneath httpx. A client's read timeout bounds the silence between two bytes;
a server that sends one byte now and then would outlive it. Here every connect, handshake, write and read is given what
is left of the call's own time.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import httpcore

_WRITE_BYTES = 64 * 1024


class Deadline:
    """Until when a call must be over, by `time.monotonic()`, and how many bytes of it have been sent. `connect_seconds`
    bounds each connect and handshake beside."""

    until = 0.0
    connect_seconds: float | None = None
    sent = 0

    def left(self, late: type[httpcore.TimeoutException], limit: float | None = None) -> float:
        """Seconds left, at most `limit`. Raises `late` where there are none."""
        seconds = self.until - time.monotonic()
        if seconds <= 0:
            raise late("deadline")
        return seconds if limit is None else min(seconds, limit)


class Stream(httpcore.NetworkStream):
    """A network stream that takes its time limits from the deadline, and sends a request's head and body in one piece:
    httpcore writes them one by one, which costs a packet and wakes the server for half a request."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline
        self._held = b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the deadline decides
        if self._held:
            # What httpcore does where a write fails: a server may have answered before it had read everything.
            with contextlib.suppress(httpcore.WriteError):
                self._flush()
        return self._stream.read(max_bytes, self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - the deadline decides
        self._held += buffer
        if len(self._held) >= _WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        buffer, self._held = self._held, b""
        for start in range(0, len(buffer), _WRITE_BYTES):
            piece = buffer[start : start + _WRITE_BYTES]
            self._stream.write(piece, self._deadline.left(httpcore.WriteTimeout))
            self._deadline.sent += len(piece)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - the deadline decides
    ) -> httpcore.NetworkStream:
        limit = self._deadline.left(httpcore.ConnectTimeout, self._deadline.connect_seconds)
        return Stream(self._stream.start_tls(ssl_context, server_hostname, limit), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def connect(
    address: str, port: int, seconds: float, options: Iterable[httpcore.SOCKET_OPTION] | None = None
) -> httpcore.NetworkStream:
    """Return a TCP connection to an IP address. Raises `httpcore.ConnectError` and `httpcore.ConnectTimeout`."""
    return httpcore.SyncBackend().connect_tcp(address, port, seconds, socket_options=options)


@lru_cache(maxsize=1)
def certificates() -> ssl.SSLContext:
    """Whom servers are believed to be: by the bundled authorities, or those of SSL_CERT_FILE. Takes tens of ms."""
    import certifi

    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
