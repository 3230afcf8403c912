"""A provider on loopback that says what a test tells it to, once for each request it gets."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An HTTP answer; a body that is no bytes is written as JSON."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """These bytes, and then the connection is closed."""

    content: bytes


@dataclass(frozen=True)
class Reset:
    """These bytes, and then the connection is reset (RST)."""

    content: bytes = b""


@dataclass(frozen=True)
class Drip:
    """These bytes at once, and then one letter every `seconds` until the client leaves."""

    content: bytes = b""
    seconds: float = 0.05


@dataclass(frozen=True)
class Hang:
    """Nothing at all until the client leaves."""


Step = Reply | Raw | Reset | Drip | Hang


@dataclass(frozen=True)
class Request:
    """What came in. Header names are lower-case; `connection` numbers the TCP connections."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextlib.contextmanager
def nobody_listens() -> Iterator[str]:
    """Yield the address of a port that refuses connections, and hold it: one that is let go would be given to the next
    server that starts, of another test too, which would then be called in nobody's place."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


class WireServer(socketserver.ThreadingTCPServer):
    """Answers requests in order with the steps of `script`; one more than those is answered with 599, and noted in
    `surplus`. What `refuses` has an answer for is refused with that, whatever the script says, and counted."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Request] = []
        self.surplus = 0
        self.refuses: Callable[[Request], Reply | None] = lambda _: None
        self.refused = 0
        self.connections = 0
        self.leaving = threading.Event()
        self._steps: list[Step] = []
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def check(self) -> None:
        """Fail where more requests came than there were answers for, and say which came."""
        came = "\n".join(f"{r.connection}: {r.path} {r.headers} {r.body[:300]!r}" for r in self.requests)
        assert self.surplus == 0, f"more requests came than the test has answers for:\n{came}"

    def script(self, *steps: Step) -> None:
        self._steps += steps

    def next_step(self, request: Request) -> Step:
        with self._lock:
            self.requests.append(request)
            if (refusal := self.refuses(request)) is not None:
                self.refused += 1
                return refusal
            if self._steps:
                return self._steps.pop(0)
            self.surplus += 1
            return Reply(599, {"error": {"message": "the test's script has no such request"}})

    def connected(self, connection: socket.socket) -> int:
        with self._lock:
            self._sockets.add(connection)
            self.connections += 1
            return self.connections

    def drop_connections(self) -> None:
        """Close every connection that is open, as a server does with those that are idle too long."""
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._sockets.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no error here."""

    def __enter__(self) -> WireServer:
        threading.Thread(target=self.serve_forever, args=(0.005,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.leaving.set()
        self.drop_connections()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: WireServer

    def setup(self) -> None:
        super().setup()
        self._number = self.server.connected(self.connection)

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        step = self.server.next_step(Request(self.path, headers, body, self._number))
        if isinstance(step, Reply):
            self._reply(step)
            return
        self.close_connection = True
        if isinstance(step, Raw | Reset | Drip):
            self.wfile.write(step.content)
        if isinstance(step, Reset):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif isinstance(step, Drip):
            while not self.server.leaving.wait(step.seconds):
                self.wfile.write(b"x")
        elif isinstance(step, Hang):
            self.connection.settimeout(10)
            with contextlib.suppress(OSError):
                self.connection.recv(1)

    do_GET = do_POST  # noqa: N815

    def _reply(self, reply: Reply) -> None:
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
