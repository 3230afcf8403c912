"""Cursors of pages: of which list one was, and where it ended, as text that its reader hands back."""

from __future__ import annotations

import base64
import hashlib
import re

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.errors import InvalidRequest

TIME = late(r"[0-9TZ:.-]{20,30}")


def bound(*what: str | None) -> str:
    """Return what a cursor says of the list that it belongs to, its name and its filters, so that another list refuses
    it."""
    return hashlib.sha256(exact_json.dumps(list(what)).encode()).hexdigest()[:16]


def write(binding: str, *place: str) -> str:
    """Return the cursor of a place in the list of that `binding`: texts that name it."""
    return base64.urlsafe_b64encode(exact_json.dumps([binding, *place]).encode()).decode().rstrip("=")


def read(cursor: str, binding: str | None, *patterns: re.Pattern[str]) -> tuple[str, ...]:
    """Return the place that `write` was given; each text must match its pattern. Raises `InvalidRequest` for a cursor
    that is not ours, or not of the list of that `binding`; `None` stands for any."""
    try:
        whose, *place = exact_json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if binding not in (None, whose) or len(place) != len(patterns):
            raise ValueError
        if not all(pattern.fullmatch(text) for pattern, text in zip(patterns, place, strict=True)):
            raise ValueError
    except (ValueError, TypeError):  # of Base64 and JSON, too
        message = "must be the next_cursor of an earlier answer to the same request"
        raise InvalidRequest.of("cursor", message, subject="The cursor") from None
    return tuple(place)
