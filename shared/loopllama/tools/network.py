"""HTTP for tools, to public addresses only.

A model may choose what a tool is asked for, and a tool's server may answer with a redirect; neither may reach the
function's own surroundings (server-side request forgery). So a host name is resolved once for each connection, every
address it has is judged, and the connection goes to a judged address; the name stays in `Host`, in TLS's SNI and in
the certificate check. A DNS answer that changes afterwards changes nothing, and each redirect starts from the
beginning. Proxies of the environment are not used.

Addresses are judged by the IANA special-purpose registries (https://www.iana.org/assignments/iana-ipv4-special-registry,
.../iana-ipv6-special-registry) as `ipaddress` knows them.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin

import httpcore

from loopllama.core.transport import Deadline, Stream, certificates, connect
from loopllama.errors import ToolFailed
from loopllama.tools.definitions import Resolve
from loopllama.tools.urls import Url, parse_url

MAX_TEXT_BYTES = 200_000
"""Bytes of an answer that are read and handed on."""
MAX_REDIRECTS = 5
_METADATA = ipaddress.ip_network("fd00:ec2::/32")
"""Instance metadata, DNS and time over IPv6
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html)."""
_NAT64, _LOCAL_NAT64 = ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48")
_UNICAST = ipaddress.ip_network("2000::/3")
"""All that is handed out of IPv6 for public use (https://www.iana.org/assignments/ipv6-address-space)."""
_RESERVED = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")))
"""Special-purpose networks that `ipaddress` counts as global, in whole or in some versions of Python."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def forbidden(address: str, *, allow_private: bool) -> str | None:
    """Return why a tool may not connect to this IP address; `None` where it may. `allow_private` opens private and
    loopback networks, never link-local (instance metadata), multicast and unspecified addresses."""
    try:
        ip: Address = ipaddress.ip_address(address)
    except ValueError:
        return "is not an IP address"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return forbidden(str(ip.ipv4_mapped), allow_private=allow_private)
        if ip in _NAT64:
            return forbidden(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)), allow_private=allow_private)
        compatible = int(ip) >> 32 == 0 and not ip.is_loopback and not ip.is_unspecified
        if compatible or ip.sixtofour or ip.teredo or ip in _LOCAL_NAT64:
            return "wraps an IPv4 address"
    if ip.is_unspecified:
        return "is unspecified"
    if ip.is_multicast:
        return "is multicast"
    if ip.is_link_local or ip in _METADATA:
        return "is link-local or an instance's metadata"
    if allow_private:
        return None
    if ip.is_loopback:
        return "is loopback"
    public = ip.is_global and (ip.version == 4 or ip in _UNICAST) and not any(ip in network for network in _RESERVED)
    return None if public else "is private or reserved"


def _is_runtime(address: str, port: int) -> bool:
    """Return whether there is what hands the function its events, to whoever asks on loopback
    (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html)."""
    runtime_api = os.environ.get("AWS_LAMBDA_RUNTIME_API", "")
    return runtime_api.endswith(f":{port}") and forbidden(address, allow_private=False) == "is loopback"


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, as the system resolves it. Raises `OSError`."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in addresses))


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a tool. `deadline` is on `time.monotonic()` and holds for redirects too."""

    method: str
    url: Url
    headers: Mapping[str, str]
    body: bytes | None
    allow_private: bool
    deadline: float
    resolve: Resolve


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of which at most `MAX_TEXT_BYTES` were read; `cut` where there was more. Header names are in lower
    case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool


def fetch(request: Request, may_follow: Callable[[Url], bool]) -> Reply:
    """Send a request and follow redirects to URLs that `may_follow` accepts. Raises `ToolFailed`."""
    method, url, body = request.method, request.url, request.body
    for _ in range(MAX_REDIRECTS + 1):
        reply = _send(request, method, url, body)
        location = reply.headers.get("location")
        if reply.status not in (301, 302, 303, 307, 308) or location is None:
            return reply
        try:
            url_next = parse_url(urljoin(str(url), location))
        except ValueError as error:
            raise ToolFailed(f"{url.host} redirects to what is no URL: {error}") from error
        if not may_follow(url_next):
            raise ToolFailed(f"{url.host} redirects to {url_next.scheme}://{url_next.netloc}, which is not allowed")
        # RFC 9110, section 15.4: 303 asks for a GET; after a POST 301 and 302 are taken so too, as browsers do.
        if reply.status == 303 or (reply.status in (301, 302) and method == "POST"):
            method, body = "GET", None
        url = url_next
    raise ToolFailed(f"{url.host} redirects more than {MAX_REDIRECTS} times")


def _send(request: Request, method: str, url: Url, body: bytes | None) -> Reply:
    headers: dict[bytes | str, bytes | str] = {
        "host": url.netloc,
        "user-agent": "loopllama",
        "accept-encoding": "identity",
        **{name.lower(): value for name, value in request.headers.items()},
    }
    if body is None:
        headers.pop("content-type", None)
    else:
        headers["content-length"] = str(len(body))
    connection = httpcore.HTTPConnection(
        httpcore.Origin(url.scheme.encode(), url.host.encode(), url.port),
        ssl_context=certificates() if url.scheme == "https" else None,
        network_backend=_Backend(request),
    )
    try:
        with (
            connection,
            connection.stream(
                method,
                httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
                headers=headers,
                content=body,
            ) as response,
        ):
            names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            content, cut = _read(response.iter_stream(), names.get("content-encoding", "identity"))
            return Reply(response.status, names, content, cut)
    except httpcore.TimeoutException as error:
        raise ToolFailed(f"{url.host} gave no whole answer in time") from error
    except httpcore.LocalProtocolError as error:
        # Without its text, which quotes the header.
        raise ToolFailed(f"the request to {url.host} cannot be sent: a header of it is not valid") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, zlib.error) as error:
        if isinstance(error.__cause__, ssl.SSLError):
            reason = error.__cause__.reason or type(error.__cause__).__name__
            raise ToolFailed(f"{url.host} offers no valid TLS: {reason}") from error
        raise ToolFailed(f"the connection to {url.host} failed: {error or type(error).__name__}") from error


def _read(chunks: Iterable[bytes], encoding: str) -> tuple[bytes, bool]:
    decoder = None
    if encoding.lower() in ("gzip", "x-gzip", "deflate"):
        # Asked for identity, some servers send what they have stored. 32 more bits: gzip or zlib by its header.
        decoder = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    elif encoding.lower() not in ("identity", ""):
        raise ToolFailed(f"the answer is encoded as {encoding[:40]!r}, which cannot be read")
    content = bytearray()
    for chunk in chunks:
        room = MAX_TEXT_BYTES + 1 - len(content)
        content += decoder.decompress(chunk, room) if decoder else chunk[:room]
        if len(content) > MAX_TEXT_BYTES:
            return bytes(content[:MAX_TEXT_BYTES]), True
    return bytes(content), False


class _Backend(httpcore.NetworkBackend):
    """Connects to addresses that were judged, and to nothing else."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._deadline = Deadline()
        self._deadline.until = request.deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  the deadline decides
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        failure: Exception | None = None
        addresses = self._addresses(host, port)
        for place, address in enumerate(addresses):
            # An address that does not answer leaves the others their share of the time.
            share = self._deadline.left(httpcore.ConnectTimeout) / (len(addresses) - place)
            try:
                return Stream(connect(address, port, share), self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"host {host!r} has no address")

    def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = self._request.resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise ToolFailed(f"the host {host} is not found") from error
        for address in addresses:
            reason = forbidden(address, allow_private=self._request.allow_private)
            if reason or _is_runtime(address, port):
                raise ToolFailed(f"the host {host} may not be called: its address {reason or 'is the function itself'}")
        return addresses
