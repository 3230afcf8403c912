"""The AWS endpoint: moto's server for its user alone, with connections kept open and one request at a time for each
service's state.

moto asks nobody who they are, lets every web page read its answers and takes orders of its own under `/moto-api`. What
reaches it here was sent to this machine by no web page and is signed with the stack's credentials.
"""

from __future__ import annotations

import io
import logging
import re
import socket
import threading
import traceback
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.exceptions import BadRequest, InternalServerError
from werkzeug.serving import BaseWSGIServer, ThreadedWSGIServer
from werkzeug.test import run_wsgi_app

from loopllama_cli.local import loopback, refusals, signatures
from loopllama_cli.local.credentials import Credentials
from loopllama_cli.local.kept_keys import KeptKeys
from loopllama_cli.local.moto_patches import direct
from loopllama_cli.local.refusals import Refused
from loopllama_cli.local.signatures import Asked, Claim

UNLOCKED = {"lambda", "awslambda", "sqs", "stepfunctions"}
"""Services whose requests may wait: an invocation for its function, a long poll for a message or an activity."""
NOT_AWS = {"moto_api", "instance_metadata"}
"""What moto answers beside AWS's services: orders to itself, and what a virtual machine is told of itself."""
_CLAIM = "loopllama.claim"


class Application(DomainDispatcherApplication):
    """moto checks a condition and writes in two steps, so that of two conditional writes at once both may succeed. On
    AWS one fails, and the engine's joins rest on it: requests to a service are served one after another."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._backends: dict[str | None, Any] = {}

    def infer_service_region_host(self, environ: dict[str, Any], path: str) -> str | None:
        # moto guesses where it finds no header Authorization; the service is the one that was signed for.
        signed: Claim = environ[_CLAIM]
        host = super().infer_service_region_host({**environ, "HTTP_AUTHORIZATION": signed.authorization}, path)
        return str(host) if host else None

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._backends:  # moto looks through its folders each time
            self._backends[host] = super().get_backend_for_host(host)
        backend = self._backends[host]
        if backend in NOT_AWS:
            raise refusals.denied("This is no service of AWS, and the local stack has nothing else.")
        return backend

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        app = self.get_application(environ)
        service = app.service  # type: ignore[attr-defined]
        if service in UNLOCKED:
            return app(environ, start_response)
        with self._locks[service]:
            return app(environ, start_response)

    def dynamodb(self, headers: Any, body: bytes, region: str) -> direct.Answer | None:
        """Answer a request to DynamoDB; `None` where it is to go moto's own way."""
        with self._locks["dynamodb"]:
            return direct.answer(headers.get("X-Amz-Target") or "", headers, body, region)


class _Handler(MotoRequestHandler):
    """werkzeug closes the connection after each answer, which costs the client a connection and this process a thread
    for each request: an eighth of a run's time. A body that is read whole leaves nothing that the next request could be
    taken for, and no lock waits for its sender."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    server: _Server
    _unread = False

    def run_wsgi(self) -> None:
        self.wfile.flush()  # a "100 Continue"
        self.close_connection, close = True, self.close_connection  # What is left unread is no next request.
        self._unread = True
        asked = Asked(self.command, self.path, self.headers)
        try:
            claim = self._admitted(asked)
            self.environ = environ = self.make_environ()
            asked = Asked(self.command, self.path, self.headers, self._body(environ))
            self.close_connection, self._unread = close, False
            signatures.check(asked, claim, self._known(asked), datetime.now(UTC))
            if claim.service == "bedrock" and self.path.startswith("/model/"):
                raise refusals.no_account()
            status, headers, body = self._ask_moto({**environ, _CLAIM: claim}, asked.body, claim)
        except Refused as refused:
            code, given, body = refusals.answer(refused, self.path, self.headers)
            status, headers = f"{code} Forbidden", list(given.items())
        except BadRequest:
            status, headers, body = "400 Bad Request", [], b""
        self._send(status, headers, body)

    def _admitted(self, asked: Asked) -> Claim:
        """Return who asks, by what can be told before the body is read. Raises `Refused`."""
        wrong = loopback.wrong_host(self.headers, self.server.port) or loopback.from_a_page(self.headers)
        if wrong:
            raise refusals.denied(wrong)
        if not self.path.startswith("/"):
            raise refusals.denied("The local stack is no proxy: the request's target is a path.")
        return signatures.claim(asked, self._known(asked))

    def _known(self, asked: Asked) -> Credentials:
        """Return the credentials that a request says it is signed with, where they are the functions'; else the user's,
        which it is then held to."""
        own = self.server.of_functions
        said = f"{asked.headers.get('Authorization', '')} {asked.target}"
        return own if own.aws_access_key_id in said else self.server.credentials

    def _body(self, environ: dict[str, Any]) -> bytes:
        if "wsgi.input_terminated" in environ:
            try:
                return bytes(environ["wsgi.input"].read())
            except OSError as error:  # a chunk that is none
                raise BadRequest from error
        length = environ.get("CONTENT_LENGTH") or "0"
        if not re.fullmatch(r"[0-9]{1,18}", length):
            raise BadRequest
        return bytes(environ["wsgi.input"].read(int(length)))

    def _ask_moto(
        self, environ: dict[str, Any], body: bytes, claim: Claim
    ) -> tuple[str, Iterable[tuple[str, str]], bytes]:
        operation = (self.headers.get("X-Amz-Target") or "").rpartition(".")[2]
        if claim.service == "secretsmanager":
            body = self.server.keys.taken(operation, body)
            environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = io.BytesIO(body)
        try:
            if (claim.service, self.command, self.path) == (
                "dynamodb",
                "POST",
                "/",
            ) and "Content-Encoding" not in self.headers:
                answer = self.server.app.dynamodb(self.headers, body, claim.region)  # type: ignore[attr-defined]
                if answer is not None:
                    status, given, found = answer
                    return f"{status} {HTTPStatus(status).phrase}", given.items(), found
            parts, status, headers = run_wsgi_app(self.server.app, environ, buffered=True)
        except Refused:
            raise
        except Exception:
            self.server.log("error", traceback.format_exc())
            parts, status, headers = run_wsgi_app(InternalServerError(), environ, buffered=True)
        # moto lets every page read, and buckets may say who else.
        kept = [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]
        content = b"".join(parts)
        if claim.service == "secretsmanager" and claim.key == self.server.of_functions.aws_access_key_id:
            content = self.server.keys.given(operation, content)
            kept = [(name, value) for name, value in kept if name.lower() != "content-length"]
        return status, kept, content

    def _send(self, status: str, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        measured = False
        for name, value in headers:
            measured |= name.lower() == "content-length"
            self.send_header(name, value)
        if not measured and int(code) not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        if self._unread:
            self.send_header("Connection", "close")  # or the client sends its next request here
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def finish(self) -> None:
        super().finish()
        if self._unread:
            loopback.close_unread(self.connection)

    def log_request(self, *_: Any) -> None:
        return


class _Server(ThreadedWSGIServer):
    credentials: Credentials
    of_functions: Credentials
    keys: KeptKeys


def serve(port: int, credentials: Credentials, of_functions: Credentials) -> BaseWSGIServer:
    """Listen on 127.0.0.1 (port 0: any free one) and serve who has these credentials, or those of the functions, in
    threads until `shutdown()`. Raises `OSError`."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Bound here, as werkzeug ends the whole program where a port is taken.
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        server = _Server("127.0.0.1", port, Application(), _Handler, fd=listener.fileno())
    server.credentials, server.of_functions, server.keys = credentials, of_functions, KeptKeys()
    threading.Thread(target=server.serve_forever, daemon=True, name="aws-endpoint").start()
    return server
