"""A model provider on loopback that speaks OpenAI's Chat Completions and answers as a test says.

Each test gets a script of its own under a path of its own, so that tests do not see one another's calls.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_SECONDS = 60.0
"""How long a test, or a held call, waits for the other side."""


@dataclass(frozen=True)
class Text:
    """An answer, and the usage that comes with it."""

    text: str
    tokens_in: int = 100
    tokens_out: int = 10


@dataclass(frozen=True)
class Calls:
    """An answer that calls a tool."""

    tool: str
    arguments: dict[str, Any]
    tokens_in: int = 100
    tokens_out: int = 10


@dataclass(frozen=True)
class Status:
    """An error: HTTP status, message, headers."""

    status: int
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


class Drop:
    """The connection is closed without an answer."""


class Hold:
    """The call stays in progress: `entered` tells the test, `release` lets it be answered with `then`."""

    def __init__(self, then: Text | Calls | Status | Drop) -> None:
        self.then = then
        self.entered = threading.Event()
        self._released = threading.Event()

    def wait_entered(self) -> None:
        """Wait until the call has come."""
        assert self.entered.wait(WAIT_SECONDS), "the provider was not called"

    def release(self) -> None:
        """Let the call be answered."""
        self._released.set()

    def hold(self) -> Text | Calls | Status | Drop:
        """The provider's side."""
        self.entered.set()
        self._released.wait(WAIT_SECONDS)
        return self.then


Reply = Text | Calls | Status | Drop | Hold


class Script:
    """What one test's provider answers, and the requests that came: bodies as parsed JSON."""

    def __init__(self, url: str, answer: Callable[[dict[str, Any]], Reply]) -> None:
        self.url = url
        self._answer = answer
        self._lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []

    def reply(self, request: dict[str, Any]) -> Reply:
        """The provider's side."""
        with self._lock:
            self.requests.append(request)
            return self._answer(request)

    def models(self) -> list[str]:
        """The models that were called, in order."""
        return [request["model"] for request in self.requests]


class ProviderServer:
    """The server. Use as a context manager."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._scripts))
        self._server.daemon_threads = True

    def __enter__(self) -> ProviderServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def script(self, name: str, answer: Callable[[dict[str, Any]], Reply]) -> Script:
        """Answer calls to this provider by a function of the request's body; it is called for one at a time."""
        url = f"http://127.0.0.1:{self._server.server_port}/{name}"
        self._scripts[name] = Script(url, answer)
        return self._scripts[name]


def in_turn(*replies: Reply) -> Callable[[dict[str, Any]], Reply]:
    """One reply after another; the last one from then on."""
    left: Iterator[Reply] = iter(replies)
    last = replies[-1]
    return lambda _: next(left, last)


def _handler(scripts: dict[str, Script]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            _, name, rest = self.path.split("/", 2)
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            reply = scripts[name].reply(request) if rest == "chat/completions" else Status(404)
            if isinstance(reply, Hold):
                reply = reply.hold()
            if isinstance(reply, Drop):
                self.close_connection = True
            elif isinstance(reply, Status):
                self._send(reply.status, {"error": {"message": reply.message}}, reply.headers)
            else:
                self._send(200, _completion(request, reply), {})

        def _send(self, status: int, value: Any, headers: dict[str, str]) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                return  # the caller was killed

        def log_message(self, *_: Any) -> None:
            return

    return Handler


def _completion(request: dict[str, Any], reply: Text | Calls) -> dict[str, Any]:
    if isinstance(reply, Calls):
        function = {"name": reply.tool, "arguments": json.dumps(reply.arguments)}
        call = {"id": f"call_{len(request['messages'])}", "type": "function", "function": function}
        choice: dict[str, Any] = {"message": {"role": "assistant", "tool_calls": [call]}, "finish_reason": "tool_calls"}
    else:
        choice = {"message": {"role": "assistant", "content": reply.text}, "finish_reason": "stop"}
    return {
        "model": request["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": reply.tokens_in, "completion_tokens": reply.tokens_out},
    }
