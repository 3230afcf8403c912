"""The AWS endpoint: moto's server with connections kept open and one request at a time for each service's state."""

from __future__ import annotations

import io
import logging
import socket
import threading
import traceback
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.exceptions import InternalServerError
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.test import run_wsgi_app

UNLOCKED = {"lambda", "awslambda", "sqs", "stepfunctions"}
"""Services whose requests may wait: an invocation for its function, a long poll for a message or an activity."""


class Application(DomainDispatcherApplication):
    """moto checks a condition and writes in two steps, so that of two conditional writes at once both may succeed. On
    AWS one fails, and the engine's joins rest on it: requests to a service are served one after another."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        app = self.get_application(environ)
        service = app.service  # type: ignore[attr-defined]
        if service in UNLOCKED:
            return app(environ, start_response)
        with self._locks[service]:
            return app(environ, start_response)


class _Handler(MotoRequestHandler):
    """werkzeug closes the connection after each answer, which costs the client a connection and this process a thread
    for each request: an eighth of a run's time. A body that is read whole leaves nothing that the next request could be
    taken for, and no lock waits for its sender."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    def run_wsgi(self) -> None:
        self.wfile.flush()  # a "100 Continue"
        self.environ = environ = self.make_environ()
        chunked = "wsgi.input_terminated" in environ
        length = -1 if chunked else int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        try:
            parts, status, headers = run_wsgi_app(self.server.app, environ, buffered=True)
        except Exception:
            self.server.log("error", traceback.format_exc())
            parts, status, headers = run_wsgi_app(InternalServerError(), environ, buffered=True)
        body = b"".join(parts)
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        if "content-length" not in headers and int(code) not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: Any) -> None:
        return


def serve(port: int) -> BaseWSGIServer:
    """Listen on 127.0.0.1 (port 0: any free one) and serve in threads until `shutdown()`. Raises `OSError`."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Bound here, as werkzeug ends the whole program where a port is taken.
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        server = make_server(
            "127.0.0.1", port, Application(), threaded=True, request_handler=_Handler, fd=listener.fileno()
        )
    server.daemon_threads = True  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True, name="aws-endpoint").start()
    return server
