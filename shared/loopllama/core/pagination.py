"""Cursors of pages: where in an index a page ended, as text that its reader hands back."""

from __future__ import annotations

import base64
import re

from loopllama.core import exact_json
from loopllama.errors import InvalidRequest

_TIME = re.compile(r"[0-9TZ:.-]{20,30}")


def write(name: str, moment: str) -> str:
    """Return the cursor of the place behind the item called `name`, ordered by the time `moment`."""
    return base64.urlsafe_b64encode(exact_json.dumps([name, moment]).encode()).decode().rstrip("=")


def read(cursor: str, names: re.Pattern[str]) -> tuple[str, str]:
    """Return what `write` was given; a name must match `names`. Raises `InvalidRequest` for a cursor that is not
    ours."""
    try:
        name, moment = exact_json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not (names.fullmatch(name) and _TIME.fullmatch(moment)):
            raise ValueError
    except (ValueError, TypeError):  # of Base64 and JSON, too
        message = "must be the next_cursor of an earlier answer"
        raise InvalidRequest.of("cursor", message, subject="The cursor") from None
    return name, moment
