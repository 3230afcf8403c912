"""The time, in the forms that records hold."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now_text(seconds: float | None = None) -> str:
    """ISO 8601 UTC with milliseconds, `2026-11-23T20:15:00.123Z`; of `seconds` since the epoch, or now."""
    moment = datetime.fromtimestamp(now_seconds() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def now_seconds() -> float:
    """Seconds since the epoch."""
    return now_ms() / 1000


def now() -> datetime:
    """Return the moment, aware, in UTC."""
    return datetime.fromtimestamp(now_seconds(), UTC)


def ms_between(start: str, end: str) -> int:
    """Milliseconds from one record's time to another's."""
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() * 1000)
