"""How long a provider asks to wait: in headers, in words, and in fields beside the words.

In this order: `retry-after-ms` and `retry-after`; what the message says; what stands beside it in the body; when the
quota that is used up is there again, by the headers that tell it. All in seconds, at most a day.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from loopllama.core.patterns import late
from loopllama.errors import LONGEST_WAIT_SECONDS, PATIENCE_SECONDS
from loopllama.providers import wire

_LONGEST = 24 * 3600.0
_UNIT = r"(?:ms|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hours?|days?)"
_WAIT = late(
    r"(?:try|retry|wait|available)\b.{0,40}?\b(?:in|after|for)? ?"
    rf"((?:\d{{1,9}}(?:\.\d{{1,9}})? ?{_UNIT}\b,? ?(?:and )?)+"
    r"|(?:\d{1,9}h)?(?:\d{1,9}m)?\d{1,9}(?:\.\d{1,9})?s\b)",
    re.IGNORECASE,
)
"""What messages say of how long to wait: "Please retry in 39.2s" (Gemini), "try again in 6m0s" (OpenAI, Groq),
"Expected available in 7 seconds" (Django's REST framework)."""
_RESET = late(
    r"\breset at (\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?)(?:\.\d{1,9})? ?(Z|UTC|[+-]\d\d:?\d\d)?", re.IGNORECASE
)
"""Volcano: "You have exceeded the 5-hour usage quota. It will reset at 2026-11-28 15:20:00 +0800 CST"."""
_PART = late(r"(\d+(?:\.\d+)?) ?(ms|milli|s|m|h|d)", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = late(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h|d))+")
_LONG_QUOTA = late(r"\b(?:daily|monthly)\b|(?:per|by|/|\ba)[-_ ]?(?:day|month)", re.IGNORECASE)
"""A quota of a day or longer: "Too many tokens per day" (Bedrock), "free-models-per-day" (OpenRouter), "tokens per day
(TPD)" (Groq), "GenerateRequestsPerDayPerProjectPerModel" (Gemini's `quotaId`), "1000 API calls / month" (Cohere)."""
_FIELDS = ("retry_after", "retry_after_seconds", "retryAfter")
_REMAINING = late(r"(x-ratelimit|anthropic-ratelimit)(?:-remaining(?P<behind>[a-z-]*)|(?P<before>[a-z-]+)-remaining)")
_EPOCH_MS, _EPOCH = 10**11, 10**9
"""From which on a number is no duration, but a time: in milliseconds, in seconds."""


def asked(headers: Mapping[str, str], detail: str) -> float | None:
    """Return the seconds that an error with these headers (lower case) and this message asks to wait; `None` where
    it names none."""
    for wait in (retry_after(headers), in_text(detail)):
        if wait is not None:
            return wait
    return until_reset(headers)


def is_too_long(names: Iterable[str], detail: str, wait: float | None) -> bool:
    """Return whether a provider that throttles has a quota which no step waits for: names of quotas, the message and
    the `wait` (s) say so. A quota of a day may be a moving one: where a wait is named, it is as long as it takes. Not
    so Gemini's, which ends at midnight and has the wait of a minute beside it."""
    if any(_LONG_QUOTA.search(name) for name in names):
        return True
    if _LONG_QUOTA.search(detail):
        return wait is None or wait > LONGEST_WAIT_SECONDS
    return wait is not None and wait > PATIENCE_SECONDS


def in_text(detail: str) -> float | None:
    """Return the seconds that a message asks to wait; `None` where it names none."""
    if found := _WAIT.search(detail[:2000]):
        return _seconds(found[1])
    if not (found := _RESET.search(detail[:2000])):
        return None
    zone = found[2] if found[2] and found[2][0] in "+-" else "+00:00"
    return _until(f"{found[1]}{zone}")


def beside(value: Mapping[str, Any], error: Mapping[str, Any]) -> float | None:
    """Return the seconds that the fields of an error's body ask to wait: google.rpc.RetryInfo, `retry_after` of many
    gateways, OpenRouter's `metadata` (github.com/dirge-code/dirge, pull request 719)."""
    metadata = wire.member(error, "metadata")
    for holder in (error, value, metadata):
        for name in _FIELDS:
            found = holder.get(name)
            if isinstance(found, int | Decimal) and not isinstance(found, bool) and found >= 0:
                return float(min(found, Decimal(_LONGEST)))
    for delay in _delays(error):
        return _seconds(delay)
    headers = {name.lower(): text for name, text in wire.member(metadata, "headers").items() if isinstance(text, str)}
    return asked(headers, "") if headers else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `retry-after-ms` asks to wait, or `retry-after` in seconds or as a date (RFC 9110);
    `None` where they say nothing that can be read."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) * scale
        except ValueError:
            if not text or name != "retry-after":
                continue
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if seconds == seconds:
            return min(max(seconds, 0.0), _LONGEST)
    return None


def until_reset(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until all of the quotas that are used up are there again; `None` where none is, or nobody
    says when. A quota that has something left says nothing about this request.

    https://platform.openai.com/docs/guides/rate-limits (`x-ratelimit-reset-requests: 6m0s`),
    https://docs.claude.com/en/api/rate-limits (RFC 3339), OpenRouter (`X-RateLimit-Reset`, epoch milliseconds)."""
    resets = []
    for name, left in headers.items():
        found = _REMAINING.fullmatch(name)
        if found is None or left.strip() not in ("0", "0.0"):
            continue
        quota = f"{found['before']}-reset" if found["before"] else f"-reset{found['behind']}"
        if (seconds := _until(headers.get(f"{found[1]}{quota}", "").strip())) is not None:
            resets.append(seconds)
    return max(resets, default=None)


def _until(text: str) -> float | None:
    """Return the seconds until a time, or that a duration has; `None` for what is neither, or has been."""
    if re.fullmatch(r"\d{1,15}(\.\d{1,9})?", text):
        number = float(text)
        if number >= _EPOCH:
            number = number / (1000 if number >= _EPOCH_MS else 1) - time.time()
        return min(number, _LONGEST) if number > 0 else None
    if _DURATION.fullmatch(text):
        return _seconds(text)
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return None
    seconds = then.timestamp() - time.time()
    return min(seconds, _LONGEST) if seconds > 0 else None


def _seconds(text: str) -> float:
    return min(sum(float(number) * _SECONDS[unit.lower()] for number, unit in _PART.findall(text)), _LONGEST)


def _delays(error: Mapping[str, Any]) -> Iterator[str]:
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, Mapping) else None
        if isinstance(delay, str) and re.fullmatch(r"\d{1,9}(\.\d{1,9})?s", delay):
            yield delay
