"""Kinds of text that the simulated model recognises, such as dates and addresses, and what schemas allow of a text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from loopllama.core import json_schema
from loopllama.core.patterns import late
from loopllama.errors import InvalidRequest
from loopllama.providers.simulated.reading import words

CURRENCY = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR"}
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905
DATE = late(
    r"\b(?P<iso>\d{4}-\d{2}-\d{2})(?:\b|(?=T\d))"
    r"|\b(?P<d>\d{1,2})(?:st|nd|rd|th)?\.? (?P<m>[A-Z][a-z]{2})[a-z]*\.?,? (?P<y>\d{4})\b"
    r"|\b(?P<M>[A-Z][a-z]{2})[a-z]*\.? (?P<D>\d{1,2})(?:st|nd|rd|th)?,? (?P<Y>\d{4})\b"
)
EMAIL = late(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
URL = late(r"https?://[^\s<>\"')\]]+[^\s<>\"')\].,;:!?]")
IDENTIFIER = late(r"\b[A-Z]{1,8}[-_]?\d[\w-]*\b|(?<=#)\d[\w-]*|\b\d{4,}(?:-\d+)*\b")
NAME = late(
    r"(?:[Mm]y name is|I am|I'm|[Tt]his is|[Rr]egards,?|[Tt]hanks,?|[Ss]incerely,?|[Cc]heers,?|Mrs?\.|Ms\.|Dr\.)\s+"
    r"([A-Z][\w'\u2019-]+(?: [A-Z][\w'\u2019-]+)?)"
)
ARITHMETIC = late(r"\(*\d[\d.,]*\)*(?:\s*[-+*/\u00d7\u00f7^%]\s*\(*\d[\d.,]*\)*)+")
KINDS: list[tuple[frozenset[str], re.Pattern[str]]] = [
    (frozenset(words("email mail e-mail")), EMAIL),
    (frozenset(words("url uri link website homepage")), URL),
    (frozenset(words("phone telephone mobile fax")), late(r"(?<![\w-])(?!\d{4}-\d\d-\d\d)\+?\d[\d ()/.-]{6,}\d")),
    (frozenset(words("date day deadline due")), DATE),
    (frozenset(words("time hour")), late(r"\b\d{1,2}:\d{2}(?::\d{2})?\b")),
    (frozenset(words("expression formula calculation")), ARITHMETIC),
    (frozenset(words("amount price total sum refund fee")), late(r"[$€£¥₹]\s?\d[\d,]*(?:\.\d+)?")),
    (frozenset(words("currency")), late(r"\b(?:USD|EUR|GBP|JPY|INR|CHF|CAD|AUD)\b|[$€£¥₹]")),
    (frozenset(words("id ids identifier number code reference ref sku invoice ticket order")), IDENTIFIER),
    (frozenset(words("name customer author person sender contact")), NAME),
]
FORMATS: dict[str, tuple[re.Pattern[str], str]] = {
    "email": (EMAIL, "nobody@example.com"),
    "uri": (URL, "https://example.com/"),
    "url": (URL, "https://example.com/"),
    "date": (DATE, "1970-01-01"),
    "date-time": (
        late(r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})\b"),
        "1970-01-01T00:00:00Z",
    ),
    "time": (late(r"\b\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})\b"), "00:00:00Z"),
    "uuid": (
        late(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"),
        "00000000-0000-0000-0000-000000000000",
    ),
    "ipv4": (late(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"), "0.0.0.0"),  # noqa: S104
    "hostname": (late(r"\b(?:[a-z0-9-]+\.)+[a-z]{2,}\b"), "example.com"),
    "duration": (late(r"\bP(?=[\dT])(?:\d+[YMWD])*(?:T(?:\d+[HMS])+)?\b"), "PT0S"),
}


def follows(value: str, schema: Mapping[str, Any]) -> bool:
    if isinstance(schema.get("pattern"), str):
        try:
            if not json_schema.matches(schema["pattern"], value):
                return False
        except InvalidRequest:
            return True
    expected = FORMATS.get(schema.get("format", ""))
    if expected is not None and not expected[0].fullmatch(value):
        return False
    if schema.get("format") == "date" and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        return False
    return int(schema.get("minLength") or 0) <= len(value) <= int(schema.get("maxLength", len(value)))


def cut(text: str, schema: Mapping[str, Any]) -> str:
    longest = schema.get("maxLength")
    if longest is None or len(text) <= int(longest):
        return text
    short = text[: int(longest)]
    return (short.rsplit(" ", 1)[0] if " " in short else short).ljust(
        min(int(schema.get("minLength") or 0), int(longest))
    )
