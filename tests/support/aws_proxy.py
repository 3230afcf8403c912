"""A proxy between a function and the AWS endpoint: it stops the function at a given request, or loses answers.

A function is pointed at it by `AWS_ENDPOINT_URL_DYNAMODB`, a variable of the SDK's own, so that nothing in the
product knows of it. Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from loopllama_cli.local.handle import LocalStack

WAIT_SECONDS = 60.0

Matches = Callable[[str, dict[str, Any]], bool]
"""Of an operation's name (`UpdateItem`) and its request's body."""


class Held:
    """A request whose write has been made and whose answer is kept back."""

    def __init__(self, matches: Matches) -> None:
        self.matches = matches
        self._entered = threading.Event()
        self._released = threading.Event()

    def wait_entered(self) -> None:
        """Wait until the request has been made and carried out."""
        assert self._entered.wait(WAIT_SECONDS), "the request was not made"

    def release(self) -> None:
        """Let the answer through."""
        self._released.set()

    def hold(self) -> None:
        """The proxy's side."""
        self._entered.set()
        self._released.wait(WAIT_SECONDS)


class AwsProxy:
    """Forwards to a stack, signing anew what was signed for the proxy's address. Use as a context manager."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._upstream = urlsplit(stack.aws_endpoint_url).netloc
        self._held: list[Held] = []
        self._losing: list[tuple[Matches, set[bytes]]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.lost = 0

    def __enter__(self) -> AwsProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for held in self._held:
            held.release()
        self._server.shutdown()
        self._server.server_close()

    def hold(self, matches: Matches) -> Held:
        """Carry out the first request that matches and keep its answer back."""
        held = Held(matches)
        with self._lock:
            self._held.append(held)
        return held

    @contextlib.contextmanager
    def losing(self, matches: Matches) -> Iterator[None]:
        """Carry out requests that match, and close the connection instead of answering, once for each request."""
        entry: tuple[Matches, set[bytes]] = (matches, set())
        self._losing.append(entry)
        try:
            yield
        finally:
            self._losing.remove(entry)

    def after(self, operation: str, body: bytes) -> bool:
        """What happens once a request has been carried out; whether it is answered."""
        value = json.loads(body or b"{}")
        with self._lock:
            held = next((one for one in self._held if one.matches(operation, value)), None)
            if held is not None:
                self._held.remove(held)
            for matches, seen in self._losing:
                if body not in seen and matches(operation, value):
                    seen.add(body)
                    self.lost += 1
                    return False
        if held is not None:
            held.hold()
        return True

    def _signed(self, path: str, body: bytes, headers: Any) -> dict[str, str]:
        """The headers with which the stack takes a request that was made to the proxy."""
        kept = {name: value for name, value in headers.items() if name.lower() not in ("host", "content-length")}
        request = AWSRequest("POST", self._stack.aws_endpoint_url + path, headers=kept, data=body)
        keys = self._stack.credentials
        signer: Any = SigV4Auth(
            Credentials(keys.aws_access_key_id, keys.aws_secret_access_key), "dynamodb", self._stack.region
        )
        signer.add_auth(request)
        return dict(request.headers.items())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                self.upstream = http.client.HTTPConnection(proxy._upstream, timeout=WAIT_SECONDS)

            def finish(self) -> None:
                self.upstream.close()
                super().finish()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                self.upstream.request("POST", self.path, body, proxy._signed(self.path, body, self.headers))
                answer = self.upstream.getresponse()
                content = answer.read()
                if not proxy.after(self.headers.get("x-amz-target", "").rpartition(".")[2], body):
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, text in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                        self.send_header(name, text)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    return  # the function was killed

            def log_message(self, *_: Any) -> None:
                return

        return Handler
