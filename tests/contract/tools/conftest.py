"""Fixtures of the tools' tests: a server with and without TLS."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from support.tool_server import OTHER_PUBLIC, PUBLIC, serving

from loopllama.core import transport
from loopllama.tools import network, secrets


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
        connect = network.connect  # type: ignore[attr-defined]  # as it is found there

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
