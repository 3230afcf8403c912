"""Times as people write them: any form of ISO 8601, read into the form that records hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from loopllama.core import clock
from loopllama.core.patterns import late
from loopllama.errors import InvalidRequest

_LONGEST = 40
_DATE = late(r"(\d{4})(?:-(\d{2}))?|(\d{4})-?(\d{3})")
"""The dates of ISO 8601 that Python does not read: a year, a month, a day of the year."""
_PLUS = late(r"(T[\d:.,]+) (\d{2}:?(?:\d{2})?)")
"""A zone whose `+` was read as a space: what it means in an address, where nobody wrote it as %2B."""


def read(text: str, field: str) -> str:
    """Return the time as a record says it, `2026-11-23T20:15:00.123Z`. Without a zone it is UTC; a date is its first
    moment. Raises `InvalidRequest`, naming the field."""
    try:
        moment = _moment(text.strip()[: _LONGEST + 1])
        return clock.now_text((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1))
    except (ValueError, OverflowError):
        message = f"must be a time in ISO 8601, such as 2026-11-28T06:00:00Z or 2026-11-28, not {text[:_LONGEST]!r}"
        raise InvalidRequest.of(field, message) from None


def before(moment: str) -> str:
    """Return the last moment before one, both as records say them: a millisecond earlier."""
    earlier = datetime.fromisoformat(moment) - timedelta(milliseconds=1)
    return earlier.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    if len(text) > _LONGEST or not text.isascii():
        raise ValueError
    text = text.upper()
    date = re.split("[T ]", text, maxsplit=1)[0]
    time = text[len(date) :]
    if match := _DATE.fullmatch(date):
        year, month, other_year, day = match.groups()
        if day:
            first = datetime(int(other_year), 1, 1, tzinfo=UTC) + timedelta(days=int(day) - 1)
            if first.year != int(other_year):
                raise ValueError
            date = first.strftime("%Y-%m-%d")
        else:
            date = f"{year}-{month or '01'}-01"
    moment = datetime.fromisoformat(date + _PLUS.sub(r"\1+\2", time))
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
