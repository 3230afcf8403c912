"""Cursors of pages: where in an index a page ended, as text that its reader hands back."""

from __future__ import annotations

import base64
import hashlib
import re

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.errors import InvalidRequest

TIME = late(r"[0-9TZ:.-]{20,30}")


def write(*place: str) -> str:
    """Return the cursor of a place in an index: texts that name it."""
    return base64.urlsafe_b64encode(exact_json.dumps(list(place)).encode()).decode().rstrip("=")


def read(cursor: str, *patterns: re.Pattern[str]) -> tuple[str, ...]:
    """Return what `write` was given; each text must match its pattern. Raises `InvalidRequest` for a cursor that is not
    ours, or is another list's."""
    try:
        place = exact_json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not (isinstance(place, list) and len(place) == len(patterns)):
            raise ValueError
        if not all(pattern.fullmatch(text) for pattern, text in zip(patterns, place, strict=True)):
            raise ValueError
    except (ValueError, TypeError):  # of Base64 and JSON, too
        message = "must be the next_cursor of an earlier answer to the same request"
        raise InvalidRequest.of("cursor", message, subject="The cursor") from None
    return tuple(place)


def bound(*what: str | None) -> str:
    """Return what a cursor says of the list that it belongs to, so that another list refuses it."""
    return hashlib.sha256(exact_json.dumps(list(what)).encode()).hexdigest()[:16]
