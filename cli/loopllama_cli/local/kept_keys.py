"""Keys of providers and tools, kept out of what the local Secrets Manager lists and shows.

What somebody stores below `<stack>/providers/` or `<stack>/tools/` is stored with a word in each key's place.
Functions, which sign with credentials of their own, get the key; whoever else asks gets the word, as on AWS a person
may have no permission to read what a function reads.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable
from typing import Any

_NAMES = re.compile(r"(?:^|:)[^/:]+/(?:providers|tools)/")
_WRITES = ("CreateSecret", "PutSecretValue", "UpdateSecret")
_PLAIN = ("base_url", "dialect", "api_version")
"""What of a provider's secret is no key."""
WORD = "kept-by-the-local-stack-"


class KeptKeys:
    """The keys of one stack, in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._lock = threading.Lock()

    def taken(self, operation: str, body: bytes) -> bytes:
        """Return a request to Secrets Manager with a word in the place of each key that it stores."""
        if operation not in _WRITES:
            return body
        try:
            asked = json.loads(body)
            named = _NAMES.search(asked.get("Name") or asked.get("SecretId") or "")
        except (ValueError, AttributeError, TypeError):
            return body  # moto says what is wrong with it
        if named and isinstance(asked.get("SecretString"), str):
            asked["SecretString"] = _changed(asked["SecretString"], self._hidden)
            return json.dumps(asked).encode()
        return body

    def given(self, operation: str, answer: bytes) -> bytes:
        """Return an answer of Secrets Manager with the keys themselves, for a function."""
        if operation != "GetSecretValue" or WORD.encode() not in answer:
            return answer
        found = json.loads(answer)
        found["SecretString"] = _changed(found["SecretString"], lambda text: self._keys.get(text, text))
        return json.dumps(found).encode()

    def _hidden(self, text: str) -> str:
        if text.startswith(WORD):  # somebody stores again what was read
            return text
        with self._lock:
            word = WORD + secrets.token_hex(8)
            self._keys[word] = text
            return word


def _changed(text: str, change: Callable[[str], str]) -> str:
    """Return a secret with each key in it changed: all of a text that is no JSON object."""
    try:
        fields: Any = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return change(text)

    def inside(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: inner if name in _PLAIN else inside(inner) for name, inner in value.items()}
        return change(value) if isinstance(value, str) and value else value

    return json.dumps(inside(fields))
