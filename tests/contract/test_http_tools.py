"""HTTP tools against real servers on loopback: what is sent, what comes back, and what is never reached."""

from __future__ import annotations

import gzip
import ipaddress
import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore
import pytest
from botocore.exceptions import ClientError

from loopllama.aws import clients
from loopllama.core import transport
from loopllama.errors import ToolFailed
from loopllama.llm.types import ToolCall
from loopllama.settings import Settings
from loopllama.tools import network, secrets
from loopllama.tools.toolbox import Toolbox

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


@pytest.fixture
def server():
    with serving() as started:
        yield started


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A certificate authority of the tests', and a server certificate for names under tools.example."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder, now = tmp_path_factory.mktemp("tls"), datetime.now(UTC)

    def certificate(name, key, issuer, issuer_key, *extensions):
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
            key.public_key(),
            x509.random_serial_number(),
            now - timedelta(days=1),
            now + timedelta(days=1),
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    (folder / "root.pem").write_bytes(
        certificate("root", root_key, "root", root_key, x509.BasicConstraints(True, None), identifier)
    )
    names = x509.SubjectAlternativeName([x509.DNSName("tools.example"), x509.DNSName("*.tools.example")])
    chain = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(certificate("server", key, "root", root_key, names, chain) + private)
    return folder


@pytest.fixture
def tls(authority, monkeypatch):
    """A server with TLS that stands at the public addresses: connections to those end there, all others fail."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "root.pem"))
    transport.certificates.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.pem")
    with serving(context) as started:
        started.reached = []
        connect = transport.connect

        def reach(address, port, seconds):
            started.reached.append((address, port))
            assert address in (PUBLIC, OTHER_PUBLIC)
            return connect("127.0.0.1", started.port, seconds)

        monkeypatch.setattr(network, "connect", reach)
        yield started
    transport.certificates.cache_clear()


@pytest.fixture(autouse=True)
def fresh_secrets():
    secrets._kept.clear()


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
    """Stands for Secrets Manager."""

    def __init__(self, **values):
        self.values, self.reads = values, []

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
    settings = Settings(tools={"t": {"description": "d", **definition}})
    toolbox = Toolbox(settings, ["t"], resolve=resolve, aws=aws or FakeSecrets())
    return toolbox.call(ToolCall("c", "t", arguments or {}), idempotency_key=KEY, timeout=timeout)


def http(url, **more):
    return {"type": "http", "url": url, "allow_private": True, **more}


class TestRequests:
    def test_placeholders_are_percent_encoded_and_stay_in_their_place(self, server):
        url = f"{server.url}/v1/orders/{{id}}/items?fixed=a%26b&q={{q}}&limit={{limit}}&all={{all}}"
        arguments = {"id": "A/1?x=y#z ü", "q": "a&b=c%", "limit": 5.0, "all": True}
        assert run(http(url), arguments) == "hello"
        assert server.seen[0].method == "GET"
        assert server.seen[0].path == (
            "/v1/orders/A%2F1%3Fx%3Dy%23z%20%C3%BC/items?fixed=a%26b&q=a%26b%3Dc%25&limit=5&all=true"
        )
        assert server.seen[0].headers["host"] == f"127.0.0.1:{server.port}"
        assert server.seen[0].headers["idempotency-key"] == KEY
        assert server.seen[0].body == b""

    def test_query_parameters_that_are_not_given_are_left_out(self, server):
        parameters = {"type": "object", "properties": {"q": {}, "limit": {}}}
        run(http(f"{server.url}/s?q={{q}}&limit={{limit}}", parameters=parameters), {"q": Decimal("1.50")})
        assert server.seen[0].path == "/s?q=1.5"

    @pytest.mark.parametrize(
        "value", ["..", ".", "../../admin", "a/../b", "..\\x", "%2e%2e", "%252e%252e/x", "%" + "25" * 900 + "2e", ""]
    )
    def test_a_path_does_not_climb(self, server, value):
        with pytest.raises(ToolFailed, match="must not"):
            run(http(f"{server.url}/orders/{{id}}"), {"id": value})
        assert server.seen == []

    def test_a_url_has_a_longest_length(self, server):
        with pytest.raises(ToolFailed, match="longer than 8,192"):
            run(http(f"{server.url}/orders/{{id}}"), {"id": "x" * 9000})

    def test_a_dot_from_the_template_does_not_climb(self, server):
        with pytest.raises(ToolFailed, match="must not"):
            run(http(f"{server.url}/orders/.{{id}}/x"), {"id": "."})
        assert server.seen == []

    @pytest.mark.parametrize("value", [["a"], {"a": 1}, None])
    def test_only_scalars_go_into_a_path(self, server, value):
        with pytest.raises(ToolFailed, match="must be a text, a number or a boolean"):
            run(http(f"{server.url}/orders/{{id}}"), {"id": value})

    def test_the_rest_of_the_arguments_is_the_json_body(self, server):
        tool = http(f"{server.url}/orders/{{id}}", method="POST", body="json", headers={"X-Team": "support"})
        run(tool, {"id": 7, "note": "grüß", "amount": Decimal("0.10"), "lines": [{"sku": "a"}]})
        seen = server.seen[0]
        assert (seen.method, seen.path) == ("POST", "/orders/7")
        assert json.loads(seen.body) == {"note": "grüß", "amount": 0.1, "lines": [{"sku": "a"}]}
        assert seen.headers["content-type"] == "application/json"
        assert seen.headers["x-team"] == "support"

    def test_arguments_without_a_place_are_refused(self, server):
        parameters = {"type": "object", "properties": {"q": {}}}
        with pytest.raises(ToolFailed, match="takes no 'page'; its arguments are: q"):
            run(http(f"{server.url}/s?q={{q}}", parameters=parameters), {"q": "a", "page": 2})
        assert server.seen == []

    def test_any_idempotency_key_fits_a_header(self, server):
        settings = Settings(tools={"t": http(f"{server.url}/", description="d")})
        toolbox = Toolbox(settings, ["t"], resolve=no_dns)
        toolbox.call(ToolCall("c", "t", {}), idempotency_key="läuft\r\nX: y", timeout=5)
        assert server.seen[0].headers["idempotency-key"] == "l%C3%A4uft%0D%0AX:%20y"


class TestAnswers:
    def test_long_answers_are_cut_and_say_so(self, server):
        server.answers["/"] = (200, {}, b"x" * 5_000_000)
        text = run(http(f"{server.url}/"))
        assert text == "x" * 200_000 + "\n[cut: only the first 200,000 bytes are shown]"

    def test_an_answer_of_exactly_the_limit_is_whole(self, server):
        server.answers["/"] = (200, {}, b"x" * 200_000)
        assert run(http(f"{server.url}/")) == "x" * 200_000

    def test_empty(self, server):
        server.answers["/"] = (204, {"Content-Length": None}, b"")
        assert run(http(f"{server.url}/", method="DELETE")) == "HTTP 204, an empty answer"

    def test_character_sets(self, server):
        server.answers["/"] = (200, {"Content-Type": "text/plain; charset=iso-8859-1"}, "grüß".encode("latin-1"))
        server.answers["/unknown"] = (200, {"Content-Type": "text/plain; charset=klingon"}, "grüß".encode())
        assert run(http(f"{server.url}/")) == "grüß"
        assert run(http(f"{server.url}/unknown")) == "grüß"

    def test_compressed_although_not_asked_for(self, server):
        server.answers["/"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(b"hello" * 10))
        assert run(http(f"{server.url}/")) == "hello" * 10
        assert server.seen[0].headers["accept-encoding"] == "identity"

    def test_a_compression_bomb_is_cut(self, server):
        bomb = gzip.compress(b"\x20" * 100_000_000)
        server.answers["/"] = (200, {"Content-Encoding": "gzip"}, bomb)
        assert run(http(f"{server.url}/")).endswith("[cut: only the first 200,000 bytes are shown]")

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ((404, {}, "no such order"), "HTTP 404: no such order$"),
            ((500, {}, "x" * 9000), "HTTP 500: x{1000}$"),
            ((429, {"Retry-After": "30"}, ""), "HTTP 429, try again after 30$"),
            ((304, {}, b""), "HTTP 304$"),
            ((200, {"Content-Type": "image/png"}, b"\x89PNG\0\0"), r"no text \(image/png\)"),
            ((500, {}, b"\0\0"), "HTTP 500$"),
            ((200, {"Content-Encoding": "br"}, b"abc"), "encoded as 'br'"),
            ((200, {"Content-Encoding": "gzip"}, b"no gzip"), "connection to 127.0.0.1 failed"),
            ((200, {"Content-Length": 100}, b"short"), "connection to 127.0.0.1 failed|in time"),
        ],
    )
    def test_failures(self, server, answer, reason):
        server.answers["/"] = answer
        if answer[1].get("Content-Length"):
            answer[1]["Connection"] = "close"
        with pytest.raises(ToolFailed, match=reason):
            run(http(f"{server.url}/"), timeout=2)

    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(ToolFailed, match=r"connection to 127.0.0.1 failed"):
            run(http(f"http://127.0.0.1:{port}/"))

    def test_no_http(self):
        with (
            raw_server(lambda connection, _: connection.sendall(b"SSH-2.0-x\r\n\r\n")) as url,
            pytest.raises(ToolFailed, match=r"connection to 127.0.0.1 failed"),
        ):
            run(http(url))

    @pytest.mark.parametrize("headers", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
    def test_silence_ends_in_time(self, headers):
        def script(connection, stop):
            connection.sendall(headers)
            stop.wait(20)

        started = time.monotonic()
        with raw_server(script) as url, pytest.raises(ToolFailed, match="no whole answer in time"):
            run(http(url), timeout=0.3)
        assert time.monotonic() - started < 10

    def test_a_trickle_ends_in_time(self):
        def script(connection, stop):
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not stop.wait(0.05):
                connection.sendall(b"x")

        started = time.monotonic()
        with raw_server(script) as url, pytest.raises(ToolFailed, match="no whole answer in time"):
            run(http(url), timeout=0.5)
        assert time.monotonic() - started < 10

    def test_the_definitions_own_limit(self):
        with raw_server(lambda _, stop: stop.wait(20)) as url, pytest.raises(ToolFailed, match="in time"):
            run(http(url, timeout_seconds=0.2), timeout=60)


class TestRedirects:
    def test_followed_on_the_same_server(self, server):
        server.answers["/old"] = (301, {"Location": "/new?x=1"}, "")
        assert run(http(f"{server.url}/old")) == "hello"
        assert [seen.path for seen in server.seen] == ["/old", "/new?x=1"]
        assert server.seen[1].headers["idempotency-key"] == KEY

    @pytest.mark.parametrize(
        ("status", "method", "then", "body"),
        [
            (301, "POST", "GET", b""),
            (302, "POST", "GET", b""),
            (303, "PUT", "GET", b""),
            (302, "PUT", "PUT", b'{"a":1}'),
            (307, "POST", "POST", b'{"a":1}'),
            (308, "PATCH", "PATCH", b'{"a":1}'),
        ],
    )
    def test_methods(self, server, status, method, then, body):
        server.answers["/old"] = (status, {"Location": f"{server.url}/new"}, "")
        run(http(f"{server.url}/old", method=method, body="json"), {"a": 1})
        assert (server.seen[1].method, server.seen[1].path, server.seen[1].body) == (then, "/new", body)
        assert ("content-type" in server.seen[1].headers) == (then != "GET")

    def test_loops_end(self, server):
        server.answers["/"] = (302, {"Location": "/"}, "")
        with pytest.raises(ToolFailed, match="redirects more than 5 times"):
            run(http(f"{server.url}/"))
        assert len(server.seen) == 6

    @pytest.mark.parametrize(
        "location",
        [
            "http://localhost:{port}/",  # the same server by another name is another host
            "http://127.0.0.1:{other}/",
            "http://169.254.169.254/latest/meta-data/",
            "https://127.0.0.1:{port}/",
            "//127.0.0.2/",
            "file:///etc/passwd",
            "http://user@127.0.0.1:{port}/",
            "http://[/",
        ],
    )
    def test_to_elsewhere_are_refused(self, server, location):
        with serving() as other:
            server.answers["/"] = (302, {"Location": location.format(port=server.port, other=other.port)}, "")
            tool = http(f"{server.url}/", secret={"name": "s"})
            with pytest.raises(ToolFailed, match="redirects to"):
                run(tool, aws=FakeSecrets(s="sk-12345678"), resolve=lambda host, port: ["127.0.0.1"])
            assert len(server.seen) == 1
            assert other.seen == []


ORDERS_KEY = {"name": "stack/tools/orders", "header": "X-Api-Key"}


class TestSecrets:
    def test_sent_read_once_and_never_shown(self, server):
        aws = FakeSecrets(**{"stack/tools/orders": "sk-12345678\n"})
        tool = http(f"{server.url}/", secret=ORDERS_KEY)
        server.answers["/"] = (200, {}, "your key is sk-12345678, again: sk-12345678")
        for _ in range(2):
            assert run(tool, aws=aws) == "your key is [secret], again: [secret]"
        assert [seen.headers["x-api-key"] for seen in server.seen] == ["sk-12345678"] * 2
        assert aws.reads == ["stack/tools/orders"]

    def test_in_errors_neither(self, server):
        server.answers["/"] = (500, {}, "bad key sk-12345678")
        with pytest.raises(ToolFailed, match=r"HTTP 500: bad key \[secret\]"):
            run(http(f"{server.url}/", secret=ORDERS_KEY), aws=FakeSecrets(**{"stack/tools/orders": "sk-12345678"}))

    def test_a_field_and_a_prefix(self, server):
        aws = FakeSecrets(s='{"api_key": "abc"}')
        run(http(f"{server.url}/", secret={"name": "s", "prefix": "Bearer ", "field": "api_key"}), aws=aws)
        assert server.seen[0].headers["authorization"] == "Bearer abc"

    def test_read_again_once_it_is_refused(self, server):
        aws = FakeSecrets(s="old")
        tool = http(f"{server.url}/", secret={"name": "s", "header": "X-Key"})
        server.answers["/"] = (401, {}, "")
        with pytest.raises(ToolFailed, match="HTTP 401"):
            run(tool, aws=aws)
        server.answers.clear()
        aws.values["s"] = "new"
        run(tool, aws=aws)
        assert [seen.headers["x-key"] for seen in server.seen] == ["old", "new"]

    def test_read_again_after_a_while_and_kept_where_it_cannot_be(self, server, monkeypatch):
        aws = FakeSecrets(s="old")
        tool = http(f"{server.url}/", secret={"name": "s", "header": "X-Key"})
        run(tool, aws=aws)
        monkeypatch.setattr(secrets, "REREAD_SECONDS", -1)
        del aws.values["s"]
        run(tool, aws=aws)
        aws.values["s"] = "new"
        run(tool, aws=aws)
        assert [seen.headers["x-key"] for seen in server.seen] == ["old", "old", "new"]

    @pytest.mark.parametrize(
        ("values", "secret", "reason"),
        [
            ({}, {"name": "s"}, r"'s' cannot be read \(ResourceNotFoundException\).*create-secret --name s"),
            ({"s": ""}, {"name": "s"}, "not a line of printable ASCII"),
            ({"s": "a\nb"}, {"name": "s"}, "not a line of printable ASCII"),
            ({"s": "plain"}, {"name": "s", "field": "key"}, "no JSON object with the field 'key'"),
            ({"s": '{"other": "topsecret"}'}, {"name": "s", "field": "key"}, "no JSON object with the field 'key'"),
            ({"s": '{"key": 5}'}, {"name": "s", "field": "key"}, "not a line of printable ASCII"),
        ],
    )
    def test_unusable(self, server, values, secret, reason):
        with pytest.raises(ToolFailed, match=reason) as caught:
            run(http(f"{server.url}/", secret=secret), aws=FakeSecrets(**values))
        assert "topsecret" not in str(caught.value)
        assert server.seen == []


class TestAddresses:
    """Without `allow_private` nothing but public addresses is reached, whatever names, redirects and DNS say."""

    INNER = ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:127.0.0.1", "0.0.0.0")  # noqa: S104

    @pytest.mark.parametrize("address", INNER)
    def test_inner_addresses_are_refused(self, tls, address):
        for url in ("https://tools.example/", f"https://[{address}]/" if ":" in address else f"https://{address}/"):
            with pytest.raises(ToolFailed, match="may not be called: its address"):
                run({"type": "http", "url": url}, resolve=lambda host, port: [address])
        assert tls.reached == []
        assert tls.seen == []

    def test_loopback_for_real(self, server):
        """With the system's own resolver and a server that would answer."""
        spelled = ("127.1", "0", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001")
        for host in ("localhost", "127.0.0.1", *spelled):
            with pytest.raises(ToolFailed, match=r"may not be called|is not found"):
                run(
                    {"type": "http_get", "hosts": [f"{host}:{server.port}"]},
                    {"url": f"https://{host}:{server.port}/"},
                    resolve=network.resolve,
                )
        assert server.seen == []

    def test_metadata_is_refused_inside_a_vpc_too(self):
        for address in ("169.254.169.254", "fd00:ec2::254", "169.254.170.2"):
            with pytest.raises(ToolFailed, match="link-local or an instance's metadata"):
                run(http("http://inner.example/"), resolve=lambda host, port, found=address: [found])

    def test_the_functions_own_runtime_is_refused_too(self, server, monkeypatch):
        assert run(http(f"http://127.0.0.1:{server.port}/"), resolve=network.resolve) == "hello"
        monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", f"127.0.0.1:{server.port}")
        for address in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"):
            with pytest.raises(ToolFailed, match="its address is the function itself"):
                run(http(f"http://inner.example:{server.port}/"), resolve=lambda host, port, found=address: [found])
        assert len(server.seen) == 1
        with pytest.raises(ToolFailed, match="failed: "):
            run(http(f"http://127.0.0.1:{server.port + 1}/"), resolve=network.resolve)

    def test_one_inner_address_among_public_ones_is_enough(self, tls):
        with pytest.raises(ToolFailed, match="its address is private"):
            run({"type": "http", "url": "https://tools.example/"}, resolve=Dns([PUBLIC, "10.0.0.1"]))
        assert tls.reached == []

    def test_host_and_tls_name_stay(self, tls):
        dns = Dns([PUBLIC])
        assert run({"type": "http", "url": "https://api.tools.example/x"}, resolve=dns) == "hello"
        assert tls.names == ["api.tools.example"]
        assert tls.seen[0].headers["host"] == "api.tools.example"
        assert tls.reached == [(PUBLIC, 443)]

    def test_the_certificate_must_be_the_names(self, tls):
        with pytest.raises(ToolFailed, match="offers no valid TLS: CERTIFICATE_VERIFY_FAILED"):
            run({"type": "http", "url": "https://other.example/"}, resolve=Dns([PUBLIC]))
        assert tls.seen == []

    def test_the_next_address_is_tried(self, tls, monkeypatch):
        reach = transport.connect

        def first_is_down(address, port, seconds):
            if address == OTHER_PUBLIC:
                raise httpcore.ConnectError
            return reach(address, port, seconds)

        monkeypatch.setattr(network, "connect", first_is_down)
        dns = Dns([OTHER_PUBLIC, PUBLIC])
        assert run({"type": "http", "url": "https://tools.example/"}, resolve=dns) == "hello"

    def test_a_name_is_resolved_once_for_a_connection(self, tls):
        """The classic rebinding: public when it is checked, inner when it is used."""
        dns = Dns([PUBLIC], ["127.0.0.1"])
        assert run({"type": "http", "url": "https://tools.example/"}, resolve=dns) == "hello"
        assert dns.asked == ["tools.example"]
        assert tls.reached == [(PUBLIC, 443)]

    def test_and_judged_again_for_a_redirect(self, tls):
        tls.answers["/"] = (302, {"Location": "/next"}, "")
        dns = Dns([PUBLIC], ["127.0.0.1"])
        with pytest.raises(ToolFailed, match="its address is loopback"):
            run({"type": "http", "url": "https://tools.example/"}, resolve=dns)
        assert dns.asked == ["tools.example"] * 2
        assert [seen.path for seen in tls.seen] == ["/"]

    def test_unknown_names(self):
        with pytest.raises(ToolFailed, match=r"the host tools.example is not found"):
            run({"type": "http", "url": "https://tools.example/"})

    def test_proxies_of_the_environment_are_not_used(self, server, monkeypatch):
        with serving() as proxy:
            for name in ("http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            assert run(http(f"{server.url}/")) == "hello"
            assert proxy.seen == []


HTTP_GET = {"type": "http_get", "hosts": ["tools.example", "*.tools.example", "tools.example:8443"]}


class TestHttpGet:
    def get(self, url, resolve=None):
        return run(HTTP_GET, {"url": url}, resolve=resolve or Dns([PUBLIC]))

    @pytest.mark.parametrize(
        ("url", "host", "port"),
        [
            ("https://tools.example/a?b=c#d", "tools.example", 443),
            ("https://TOOLS.example:443/a?b=c", "tools.example", 443),
            ("https://tools.example:8443/a?b=c", "tools.example:8443", 8443),
            ("https://docs.tools.example/a?b=c", "docs.tools.example", 443),
        ],
    )
    def test_listed_hosts(self, tls, url, host, port):
        assert self.get(url) == "hello"
        assert tls.seen[0].path == "/a?b=c"
        assert tls.seen[0].headers["host"] == host
        assert "idempotency-key" not in tls.seen[0].headers
        assert tls.reached == [(PUBLIC, port)]

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com/",
            "https://tools.example.evil.example/",
            "https://eviltools.example/",
            "https://evil.example#.tools.example/",
            "https://evil.example?.tools.example/",
            "https://tools.example@evil.example/",
            "https://evil.example\\.tools.example/",
            "https://tools.example:9443/",
            "https://docs.tools.example:8443/",
            "http://tools.example/",
            "file://tools.example/etc/passwd",
            "https://127.0.0.1/",
            "tools.example",
            "",
        ],
    )
    def test_others_are_refused(self, tls, url):
        with pytest.raises(ToolFailed, match=r"may not read|the URL|not a host name"):
            self.get(url)
        assert tls.reached == []

    def test_redirects_to_listed_hosts_are_followed(self, tls):
        tls.answers["/a"] = (302, {"Location": "https://docs.tools.example/b"}, "")
        assert self.get("https://tools.example/a") == "hello"
        assert tls.names == ["tools.example", "docs.tools.example"]

    @pytest.mark.parametrize(
        "location",
        ["https://example.com/", "http://tools.example/", "https://169.254.169.254/", "https://tools.example:22/"],
    )
    def test_redirects_to_others_are_not(self, tls, location):
        tls.answers["/"] = (302, {"Location": location}, "")
        with pytest.raises(ToolFailed, match="which is not allowed"):
            self.get("https://tools.example/")
        assert len(tls.reached) == 1

    def test_a_listed_host_with_an_inner_address_is_not_reached(self, tls):
        with pytest.raises(ToolFailed, match="its address is loopback"):
            self.get("https://tools.example/", resolve=Dns(["127.0.0.1"]))
        tls.answers["/"] = (302, {"Location": "https://inner.tools.example/"}, "")
        with pytest.raises(ToolFailed, match="link-local"):
            self.get("https://tools.example/", resolve=Dns([PUBLIC], ["169.254.169.254"]))

    def test_inside_a_vpc(self, server):
        tool = {"type": "http_get", "hosts": [f"127.0.0.1:{server.port}"], "allow_private": True}
        assert run(tool, {"url": f"{server.url}/page"}) == "hello"
        with pytest.raises(ToolFailed, match="may not read"):
            run(tool, {"url": "http://127.0.0.1:1/"})


def test_many_calls_side_by_side(server):
    settings = Settings(
        tools={
            "t": http(
                f"{server.url}/{{n}}",
                description="d",
                secret={"name": "s"},
                parameters={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            )
        }
    )
    aws = FakeSecrets(s="key-1")
    toolbox, results = Toolbox(settings, ["t"], resolve=no_dns, aws=aws), []

    def one(number):
        results.append(toolbox.call(ToolCall("c", "t", {"n": number}), idempotency_key=f"k{number}", timeout=10))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["hello"] * 16
    assert sorted(seen.headers["idempotency-key"] for seen in server.seen) == sorted(f"k{n}" for n in range(16))
    assert aws.reads == ["s"]


ORDER = {
    "type": "lambda",
    "function": "lookup-order",
    "description": "Finds an order.",
    "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
}
INVOKE = "/2015-03-31/functions/lookup-order/invocations"
"""https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html"""


class TestFunctions:
    """Lambda tools through boto3 to a server that speaks the Invoke API."""

    @pytest.fixture
    def invoke(self, monkeypatch):
        def call(url, timeout=10.0):
            monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", url)
            clients.client.cache_clear()
            toolbox = Toolbox(Settings(tools={"lookup_order": ORDER}), ["lookup_order"])
            tool_call = ToolCall("c", "lookup_order", {"order_id": "A-1"})
            return toolbox.call(tool_call, idempotency_key=KEY, timeout=timeout)

        yield call
        clients.client.cache_clear()

    def test_event_and_answer(self, server, invoke):
        server.answers[INVOKE] = (200, {}, b'{"status": "sent"}')
        assert invoke(server.url) == '{"status":"sent"}'
        event = {"tool": "lookup_order", "arguments": {"order_id": "A-1"}, "idempotency_key": KEY}
        assert json.loads(server.seen[0].body) == event

    def test_the_function_fails(self, server, invoke):
        payload = b'{"errorType": "KeyError", "errorMessage": "no such order"}'
        server.answers[INVOKE] = (200, {"X-Amz-Function-Error": "Unhandled"}, payload)
        with pytest.raises(ToolFailed, match=r"lookup_order failed: KeyError: no such order"):
            invoke(server.url)

    @pytest.mark.parametrize(
        ("status", "code"), [(429, "TooManyRequestsException"), (404, "ResourceNotFoundException")]
    )
    def test_lambda_refuses(self, server, invoke, status, code):
        server.answers[INVOKE] = (status, {"x-amzn-ErrorType": code}, b'{"Message": "m"}')
        with pytest.raises(ToolFailed, match=f"AWS Lambda says {code}"):
            invoke(server.url)
        assert len(server.seen) == 1

    def test_silence_ends_in_time_and_is_not_asked_again(self, invoke):
        asked = []

        def script(connection, stop):
            asked.append(connection)
            stop.wait(20)

        with raw_server(script) as url, pytest.raises(ToolFailed, match=r"no answer within 1 s"):
            invoke(url, timeout=1.5)
        assert len(asked) == 1
