"""URLs of HTTP tools, taken apart strictly."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from loopllama.core.patterns import late

_MAX_URL = 8192
_HOST = late(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Url:
    """An http(s) URL taken apart; what is sent is put together from these parts, never from the text they came from."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    @property
    def origin(self) -> tuple[str, str, int]:
        """What must be the same for two URLs to belong to one server."""
        return self.scheme, self.host, self.port

    @property
    def netloc(self) -> str:
        """Host, in brackets where it is an IPv6 address, and the port where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"https": 443, "http": 80}[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.target}"

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path


def parse_url(text: str) -> Url:
    """Return an absolute http or https URL; a fragment is dropped. Raises `ValueError` saying what is wrong."""
    if len(text) > _MAX_URL:
        raise ValueError(f"the URL is longer than {_MAX_URL:,} characters")
    if any(ord(character) <= 32 or ord(character) == 127 or character == "\\" for character in text):
        raise ValueError("the URL has spaces, control characters or backslashes; percent-encode them")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https"):
        raise ValueError("the URL must start with https://")
    if "@" in parts.netloc:
        raise ValueError("the URL must not hold a user name or password")
    host = parts.hostname or ""
    if "%" in host:
        raise ValueError("the URL must not hold percent-encoding or a zone in its host")
    if ":" in host:
        host = str(ipaddress.IPv6Address(host))
    elif not _HOST.fullmatch(host) or ".." in host:
        raise ValueError(f"{host[:80]!r} is not a host name (international names in their xn-- form)")
    port = parts.port
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    if not 0 < port < 65536:
        raise ValueError("the port must be 1 to 65535")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    return Url(parts.scheme, host, port, path, quote(parts.query, safe="/%:@!$&'()*+,;=-._~?"))
