"""The shared POST over TLS and through a proxy: what the dialects' tests, which speak plain HTTP, do not touch."""

from __future__ import annotations

import datetime
import ipaddress
import json
import select
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.wire_server import Hang, Reply, WireServer, nobody_listens

from loopllama.core import transport
from loopllama.errors import ModelRequestRejected, ModelTimeout, ModelUnavailable
from loopllama.providers import http


def post(url: str, headers: dict[str, str], body: bytes, seconds: float) -> http.Reply:
    return http.post(url, headers, body, time.monotonic() + seconds, "acme")


@pytest.fixture(autouse=True)
def _fresh_pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(http, "_pools", {})
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    transport.certificates.cache_clear()
    yield
    transport.certificates.cache_clear()
    for pool in http._pools.values():
        pool.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    today = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[WireServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    made = WireServer()
    # The handshake happens in the connection's own thread, at its first read.
    made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    with made as running:
        yield running


def address(server: WireServer) -> str:
    return server.url.replace("http:", "https:") + "/v1"


def test_tls(server: WireServer, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server.script(*[Reply(200, {"ok": True})] * 2)
    for _ in range(2):
        reply = post(address(server), {"x-key": "k"}, b"{}", 5.0)
        assert json.loads(reply.body) == {"ok": True}
        assert reply.headers["content-type"] == "application/json"
    assert [request.connection for request in server.requests] == [1, 1]
    assert server.requests[0].headers["x-key"] == "k"
    assert server.requests[0].headers["host"] == server.url.removeprefix("http://")


def test_a_certificate_that_nobody_vouches_for(server: WireServer) -> None:
    with pytest.raises(ModelUnavailable, match=r"cannot connect.*certificate verify failed") as caught:
        post(address(server), {"authorization": "secret"}, b"{}", 5.0)
    assert server.requests == []
    assert not caught.value.maybe_billed
    assert "SSL_CERT_FILE" in str(caught.value)
    assert not caught.value.later  # it does not pass


def test_the_deadline_holds_inside_tls(server: WireServer, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server.script(Hang())
    started = time.monotonic()
    with pytest.raises(ModelTimeout) as caught:
        post(address(server), {}, b"{}", 0.4)
    assert time.monotonic() - started < 5
    assert caught.value.maybe_billed


def test_the_deadline_holds_in_the_handshake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(ModelTimeout) as caught:
            post(f"https://127.0.0.1:{silent.getsockname()[1]}/", {}, b"{}", 0.3)
        assert time.monotonic() - started < 5
        assert not caught.value.maybe_billed


def test_the_limit_for_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECT_SECONDS", 0.2)
    said = pytest.raises(ModelUnavailable, match=r"no connection within 0\.2 s")
    with socket.create_server(("127.0.0.1", 0)) as silent, said:
        post(f"https://127.0.0.1:{silent.getsockname()[1]}/", {}, b"{}", 30.0)


class _Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy that knows CONNECT."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.asked: list[str] = []


class _Tunnel(socketserver.StreamRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.rfile.readline()
        self.server.asked.append(head.decode())
        host, port = head.split()[1].decode().split(":")
        with socket.create_connection((host, int(port))) as other:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = {self.connection: other, other: self.connection}
            while True:
                for one in select.select(list(ends), [], [])[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    ends[one].sendall(data)


@pytest.fixture
def proxy() -> Iterator[_Proxy]:
    with _Proxy() as made:
        threading.Thread(target=made.serve_forever, args=(0.005,), daemon=True).start()
        yield made
        made.shutdown()


def test_a_proxy_sees_a_tunnel_only(
    server: WireServer, proxy: _Proxy, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.server_address[1]}")
    server.script(*[Reply(200, {"ok": True})] * 2)
    for _ in range(2):
        post(address(server), {"authorization": "Bearer sk-1"}, b"{}", 5.0)
    [head] = proxy.asked
    assert head.startswith(f"CONNECT {server.url.removeprefix('http://')} ")
    assert "sk-1" not in head
    assert "proxy-authorization: basic" in head.lower()
    assert "proxy-authorization" not in server.requests[0].headers


def test_no_proxy_for_hosts_that_are_exempt(
    server: WireServer, proxy: _Proxy, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.server_address[1]}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.script(Reply(200, {}))
    post(address(server), {}, b"{}", 5.0)
    assert proxy.asked == []


def test_a_proxy_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody_listens() as url:
        monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(ModelUnavailable, match="cannot connect"):
            post("https://api.example.com/v1", {}, b"{}", 5.0)


def test_plain_http_takes_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the clear is for the host that was allowed to have it so."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with WireServer() as plain:
        plain.script(Reply(200, {}))
        assert post(f"{plain.url}/v1", {}, b"{}", 5.0).status == 200


@pytest.mark.parametrize("headers", [{"x-key": "a\r\nHost: evil"}, {"bad name": "x"}])
def test_headers_that_http_cannot_carry(headers: dict[str, str]) -> None:
    with WireServer() as plain, pytest.raises(ModelRequestRejected, match="cannot be sent"):
        post(f"{plain.url}/v1", headers, b"{}", 5.0)


def test_a_large_request_to_a_slow_reader_ends_in_time() -> None:
    """The server reads nothing: the request fills the kernel's buffers and then waits."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(ModelTimeout) as caught:
            post(f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, b"x" * 30_000_000, 0.4)
        assert time.monotonic() - started < 5
        assert not caught.value.maybe_billed, "a request that was not sent whole was not served"


def test_all_addresses_of_a_host_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with WireServer() as plain:
        port = plain.server_address[1]
        found: list[Any] = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))]
        found += [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in (9, 1)]
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *_, **__: (
                found
                if host == "llm.example.com"
                else [(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]
            ),
        )
        plain.script(Reply(200, {"ok": 1}))
        assert post(f"http://llm.example.com:{port}/v1", {}, b"{}", 5.0).status == 200
