"""What both servers of the local stack ask of a request before they read it: that it was meant for this machine.

A page that the user's browser shows can send requests to loopback ports too. What tells them is what pages cannot
choose: the `Host` that the browser writes, which stays the page's own where its name was made to mean this machine (DNS
rebinding), and `Origin` and `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/).
"""

from __future__ import annotations

import contextlib
import socket
from email.message import Message

NAMES = ("127.0.0.1", "localhost")
_UNREAD_BYTES = 40 * 1024 * 1024


def wrong_host(headers: Message, port: int) -> str | None:
    """Return what is wrong with a request's `Host` for a server on this port, in a sentence; `None` if nothing is."""
    own_names = [f"{name}:{port}" for name in NAMES] + (list(NAMES) if port == 80 else [])
    named = headers.get_all("Host", [])
    if len(named) == 1 and named[0].strip().lower() in own_names:
        return None
    given = ", ".join(named)[:200] or "no host"
    return f"The local stack answers here to {' and '.join(own_names)} only, not to {given}."


def from_a_page(headers: Message) -> str | None:
    """Return why a request is taken for one that a web page made, in a sentence; `None` for any other."""
    for name, harmless in (("Origin", ()), ("Sec-Fetch-Site", ("none",))):
        for value in headers.get_all(name, []):
            if value.strip().lower() not in harmless:
                return f"The local stack answers no web page: this request says {name}: {value[:200]}."
    return None


def close_unread(connection: socket.socket) -> None:
    """End a connection whose request was answered before it was read whole. Closing it before the client has sent
    everything resets it, and the answer with it (https://www.rfc-editor.org/rfc/rfc9112#section-9.6)."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1)
        remaining = _UNREAD_BYTES
        while remaining > 0 and (taken := len(connection.recv(64 * 1024))):
            remaining -= taken
