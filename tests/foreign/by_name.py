"""What leads `https://NAME.DOMAIN` to a server on this machine: a certificate for it, and a proxy that passes on what
is meant for hosts of the domain, and nothing else."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_MOST = 65536


@contextlib.contextmanager
def proxy(domain: str, port: int) -> Iterator[str]:
    """Serve CONNECT on loopback: hosts one label below `domain` are led to `port` of this machine. Yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, domain, port), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket, domain: str, port: int) -> None:
    with contextlib.suppress(OSError):  # it has been shut
        while True:
            client, _ = server.accept()
            threading.Thread(target=_lead, args=(client, domain, port), daemon=True).start()


def _lead(client: socket.socket, domain: str, port: int) -> None:
    """Serve one client's connection, from its CONNECT to its end."""
    with client, contextlib.suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _MOST:
            if not (more := client.recv(_MOST)):
                return
            head += more
        method, target, _ = head.split(None, 2)
        if method != b"CONNECT" or not target.endswith(f".{domain}:443".encode()):
            client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", port)) as to:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(to, client), daemon=True)
            back.start()
            _pass_on(client, to)
            back.join()


def _pass_on(source: socket.socket, to: socket.socket) -> None:
    """Pass on what comes until nothing more does, and say so."""
    with contextlib.suppress(OSError):
        while data := source.recv(_MOST):
            to.sendall(data)
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_WR)


def certificate(file: Path, domain: str) -> None:
    """Write a key, and a certificate that vouches for itself, of this machine and of the hosts below `domain`."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "LoopLlama's tests")])
    now = datetime.datetime.now(datetime.UTC)
    hosts = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(f"*.{domain}")]
    uses = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    made = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, **uses), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(private + made.public_bytes(serialization.Encoding.PEM))
