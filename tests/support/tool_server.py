"""Servers on loopback that tools call, and what stands for names and secrets."""

from __future__ import annotations

import ipaddress
import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from botocore.exceptions import ClientError

from loopllama.llm.types import ToolCall
from loopllama.tools.toolbox import Toolbox
from support.tool_rows import rows

PUBLIC, OTHER_PUBLIC = "93.184.215.14", "2606:2800:21f:cb07::1"
KEY = "run-1/answer/tool_0000_00"


@dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """A scripted server: `answers` maps a path to status, headers and body; it remembers what it was asked."""

    port: int
    answers: dict = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(context=None):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.seen.append(Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status, headers, content = seen.answers.get(self.path.partition("?")[0], (200, {}, b"hello"))
            content = content.encode() if isinstance(content, str) else content
            self.send_response(status)
            for name, value in {"Content-Type": "text/plain", "Content-Length": len(content), **headers}.items():
                if value is not None:
                    self.send_header(name, str(value))
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:
                self.close_connection = True  # the client has read enough

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, *arguments):
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *arguments):
            pass  # a refused handshake is a test's intent

    server = Quiet(("127.0.0.1", 0), Handler)
    seen = Server(server.server_port)
    if context is not None:
        context.sni_callback = lambda _, name, __: seen.names.append(name)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def raw_server(script):
    """A server whose connections are handled by `script(connection, stop)`; `stop` is set at the end."""
    listener, stop, handlers = socket.create_server(("127.0.0.1", 0)), threading.Event(), []

    def handle(connection):
        with connection, suppress(OSError):
            connection.recv(65536)
            script(connection, stop)

    def accept():
        with suppress(OSError):  # the listener was closed
            while True:
                connection, _ = listener.accept()
                if stop.is_set():
                    connection.close()
                    return
                handlers.append(threading.Thread(target=handle, args=(connection,)))
                handlers[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        socket.create_connection(listener.getsockname()).close()  # wakes the acceptor
        listener.close()
        for thread in (acceptor, *handlers):
            thread.join(10)


def no_dns(host, port):
    """Addresses written out; any name is unknown."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        raise socket.gaierror(f"{host} in a test") from None


class Dns:
    """Answers with the given lists in turn, the last one again and again; counts the questions."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, host, port):
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class FakeSecrets:
    """Stands for Secrets Manager; a name without a slash is that of one of the stack `s`'s tools."""

    def __init__(self, **values):
        self.values = {name if "/" in name else f"s/tools/{name}": value for name, value in values.items()}
        self.reads = []

    def client(self, service, **options):
        assert service == "secretsmanager"
        return self

    def get_secret_value(self, *, SecretId):  # noqa: N803  boto3's name
        self.reads.append(SecretId)
        if SecretId not in self.values:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "m"}}, "GetSecretValue")
        return {"SecretString": self.values[SecretId]}


def run(definition, arguments=None, *, resolve=no_dns, aws=None, timeout=10.0):
    """Call a tool of this definition; properties are inferred from `arguments` where it has no parameters."""
    if definition["type"] == "http" and "parameters" not in definition:
        names = list(arguments or {})
        schema = {"type": "object", "properties": {name: {} for name in names}, "required": names}
        definition = {**definition, "parameters": schema}
    toolbox = Toolbox(rows({"t": {"description": "d", **definition}}), ["t"], resolve=resolve, aws=aws or FakeSecrets())
    return toolbox.call(ToolCall("c", "t", arguments or {}), idempotency_key=KEY, timeout=timeout)


def http(url, **more):
    return {"type": "http", "url": url, "allow_private": True, **more}
