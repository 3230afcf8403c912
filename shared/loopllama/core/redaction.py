"""Taking secrets out of texts that others write: servers quote the requests that they were sent, models what they read.

A secret is found as it is and as JSON, URLs, HTML and base64 write it, and so is the beginning of one where a text was
cut in the middle of it.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from loopllama.core.patterns import late

SHORTEST_SECRET = 8
"""Anything shorter is a placeholder, such as keyless servers get ("x", "none"): it would be found in words."""
PLACEHOLDERS = frozenset(
    (
        *("anything", "dummy-key", "dummy_key", "lm-studio", "no-key-required", "not-needed", "not-required"),
        *("not_needed", "not_required", "placeholder", "sk-no-key-required", "password", "no-api-key", "notneeded"),
    )
)
"""What is given as a key to servers that want none, and longer: ordinary words, which answers are full of."""
_SHORTEST_BEGINNING = 16
"""Characters of a secret's beginning that are taken out anywhere, and no less than half of it; at the end of a text,
where it may be cut, `SHORTEST_SECRET`."""
_HEADER = late(
    r"(?:^|[-_])(?:auth|authorization|(?:api)?key|token|secret|cookie|password|credentials?)(?:$|[-_])", re.IGNORECASE
)


class Scrubber:
    """Takes secrets out of texts. `instead` stands in their place."""

    def __init__(self, secrets: Iterable[str], instead: str = "***") -> None:
        kept = sorted(filter(_is_secret, set(secrets)), key=len, reverse=True)
        self._forms = tuple(form for secret in kept for form in _forms(secret))
        self._instead = instead

    def text(self, text: str) -> str:
        """Return a text without the secrets."""
        for form in self._forms:
            if form[:SHORTEST_SECRET] not in text:
                continue
            text = text.replace(form, self._instead)
            text = _without_beginnings(form, text, self._instead)
        return text

    def raw(self, text: bytes) -> bytes:
        """Return bytes without the secrets, before anything is read in them or cut off."""
        for form in self._forms:
            text = text.replace(form.encode(), self._instead.encode())
        return text

    def value(self, value: Any) -> Any:
        """Return JSON whose texts and names are without the secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.value(inner) for name, inner in value.items()}
        return [self.value(inner) for inner in value] if isinstance(value, list | tuple) else value

    def error(self, error: Exception) -> None:
        """Take the secrets out of an error's message."""
        error.args = tuple(self.text(part) if isinstance(part, str) else part for part in error.args)


def _is_secret(text: str) -> bool:
    return len(text) >= SHORTEST_SECRET and text.lower().removeprefix("bearer ") not in PLACEHOLDERS


NOTHING = Scrubber(())


def of_headers(headers: Mapping[str, str]) -> list[str]:
    """Return the secrets that headers of a request carry: values of those whose names say so, without their scheme."""
    values = [value for name, value in headers.items() if _HEADER.search(name)]
    return [*values, *(value.partition(" ")[2] for value in values if " " in value)]


def _without_beginnings(form: str, text: str, instead: str) -> str:
    """Return a text without the beginnings of a secret that were left of it."""
    least = max(_SHORTEST_BEGINNING, len(form) // 2)
    while len(form) > least and (start := text.find(form[:least])) >= 0:
        length = least
        while length < len(form) and text[start + length : start + length + 1] == form[length]:
            length += 1
        text = f"{text[:start]}{instead}{text[start + length :]}"
    for length in range(min(len(form) - 1, len(text)), SHORTEST_SECRET - 1, -1):
        if text.endswith(form[:length]):
            return text[:-length] + instead
    return text


@lru_cache(maxsize=64)
def _forms(secret: str) -> tuple[str, ...]:
    """Return how a secret may be written, the longest first."""
    as_json = json.dumps(secret)[1:-1]
    forms = {secret, as_json, as_json.replace("/", "\\/"), json.dumps(as_json)[1:-1], html.escape(secret)}
    for quoted in (quote(secret, safe=""), quote_plus(secret), quote(secret)):
        forms |= {quoted, re.sub("%..", lambda found: found[0].lower(), quoted)}
    for shift in range(3):
        # What stands before it moves it: of three letters four are made. Those that neighbours have a part in are left.
        encoded = base64.b64encode(b"\0" * shift + secret.encode()).decode().rstrip("=")
        whole = (shift + len(secret.encode())) * 8 // 6
        form = encoded[(0, 2, 3)[shift] : whole]
        if len(form) >= SHORTEST_SECRET:
            forms |= {form, form.replace("+", "-").replace("/", "_")}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))
