"""API keys: `ll_live_` and 40 characters. The ApiKeys table holds their SHA-256 hashes, never the keys.

An item: `key_hash`, `prefix` (the key's first 12 characters), `name`, `created_at`, `last_used_at` (to the minute),
`revoked_at`. The keys are random with 238 bits, so a plain hash is as good as a slow one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.errors import Conflict, InvalidRequest, NotFound
from loopllama.settings import Settings
from loopllama.telemetry import logs

MARK = "ll_live_"
SHOWN = 12
"""So many characters of a key are kept and shown."""
CACHE_SECONDS = 30.0
"""How long a process believes what it read of a key: a revoked one is refused within this time."""
TOUCH_SECONDS = 60
"""How often at most a key's `last_used_at` is written."""

_ALPHABET = string.ascii_letters + string.digits
_KEY = re.compile(MARK + "[A-Za-z0-9]{40}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,60}")
_CACHED = 1000


class Unauthorized(Exception):
    """No key, or one that does not count; the message is the answer's `error`."""


class TooManyRequests(Exception):
    """The key's share is used up for `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many requests with this API key; try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key a request carries. `id` is the beginning of the key's hash: safe to store, the same for good."""

    id: str
    name: str
    key_hash: str = ""


class KeyStore:
    """Makes, lists, revokes and checks keys. `monotonic` gives seconds."""

    def __init__(
        self, settings: Settings, dynamodb: Any = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._table = settings.api_keys_table
        self._given = dynamodb
        self._monotonic = monotonic
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()
        self._touched: dict[str, float] = {}

    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def create(self, name: str) -> tuple[str, dict[str, Any]]:
        """Make a key; returns it, for this once, and what is kept of it. Raises `InvalidRequest`."""
        if not _NAME.fullmatch(name) or not name.strip():
            message = "must be one line of 1 to 60 characters"
            raise InvalidRequest.of("name", message, subject="The key's name")
        taken = {item["prefix"] for item in self.all()}
        while True:
            key = MARK + "".join(secrets.choice(_ALPHABET) for _ in range(40))
            if key[:SHOWN] not in taken:  # so that a prefix names one key
                break
        kept = {"prefix": key[:SHOWN], "name": name, "created_at": clock.now_text()}
        dynamo.put_new(self._dynamodb(), self._table, {"key_hash": _hash(key), **kept}, "key_hash")
        return key, _shown(kept)

    def all(self) -> list[dict[str, Any]]:
        """Return every key's `prefix`, `name`, `created_at`, `last_used_at`, `revoked_at`, newest first."""
        return [_shown(item) for item in self._items()]

    def revoke(self, prefix: str) -> dict[str, Any]:
        """Revoke the key that begins with `prefix` (its shown characters, or the whole key); revoking twice is
        harmless. Raises `NotFound`, and `Conflict` where several keys begin so."""
        matches = [item for item in self._items() if len(prefix) > len(MARK) and _begins(item, prefix)]
        if not matches:
            raise NotFound(f"There is no API key that begins with {prefix[:SHOWN]!r}.")
        if len(matches) > 1:
            raise Conflict(f"{len(matches)} API keys begin with {prefix[:SHOWN]!r}; give more of its characters.")
        _, item = dynamo.update(
            self._dynamodb(),
            self._table,
            {"key_hash": matches[0]["key_hash"]},
            {"revoked_at": matches[0].get("revoked_at") or clock.now_text()},
            condition="attribute_exists(key_hash)",
        )
        self._known.pop(matches[0]["key_hash"], None)
        return _shown(item)

    def authenticate(self, authorization: str | None) -> Caller:
        """Whose key the `Authorization` header carries. Raises `Unauthorized`."""
        scheme, _, key = (authorization or "").strip().partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise Unauthorized("Missing Bearer token")
        if not key.startswith(MARK):
            raise Unauthorized("Invalid token format")
        if not _KEY.fullmatch(key):
            raise Unauthorized("Invalid API key")
        # The table is asked for the hash: how long that takes says nothing of a key that nearly fits.
        key_hash = _hash(key)
        caller = self._caller(key_hash)
        self._touch(key_hash)
        return caller

    def _caller(self, key_hash: str) -> Caller:
        now = self._monotonic()
        until, caller = self._known.get(key_hash, (0.0, None))
        if caller is not None and now < until:
            return caller
        answer = self._dynamodb().get_item(TableName=self._table, Key=dynamo.to_item({"key_hash": key_hash}))
        item = dynamo.from_item(answer.get("Item") or {})
        if not item or item.get("revoked_at"):
            # Refusals are not kept: strangers must not fill the memory, and a new key acts at once.
            self._known.pop(key_hash, None)
            raise Unauthorized("Invalid API key")
        caller = Caller(key_hash[:16], str(item.get("name") or item.get("prefix") or "unnamed"), key_hash)
        self._known[key_hash] = (now + CACHE_SECONDS, caller)
        while len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return caller

    def _touch(self, key_hash: str) -> None:
        now = self._monotonic()
        if now - self._touched.get(key_hash, float("-inf")) < TOUCH_SECONDS:
            return
        if len(self._touched) > _CACHED:
            self._touched.clear()
        self._touched[key_hash] = now
        from botocore.exceptions import BotoCoreError, ClientError

        before = clock.now_text(clock.now_ms() / 1000 - TOUCH_SECONDS)
        try:
            dynamo.update(
                self._dynamodb(),
                self._table,
                {"key_hash": key_hash},
                {"last_used_at": clock.now_text()},
                condition="attribute_exists(key_hash)"
                " AND (attribute_not_exists(last_used_at) OR last_used_at < :before)",
                parameters={":before": before},
            )
        except (BotoCoreError, ClientError) as error:
            # What somebody asked for must not fail for want of a note about it.
            logs.logger().warning("last_used_at was not written", extra={"error": type(error).__name__})

    def _items(self) -> list[dict[str, Any]]:
        pages = self._dynamodb().get_paginator("scan").paginate(TableName=self._table)
        items = [dynamo.from_item(item) for page in pages for item in page["Items"]]
        return sorted(items, key=lambda item: str(item.get("created_at")), reverse=True)


class RateLimit:
    """A token bucket for each key: `per_second` requests, and at once as many as two seconds bring. It lives in one
    process; API Gateway's throttling bounds all of them together."""

    def __init__(self, per_second: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most = per_second, max(1.0, 2 * per_second)
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: Caller) -> None:
        """Count a request. Raises `TooManyRequests`."""
        with self._lock:
            now = self._monotonic()
            tokens, seen = self._buckets.get(caller.id, (self._most, now))
            tokens = min(self._most, tokens + (now - seen) * self._rate)
            if tokens < 1:
                raise TooManyRequests(max(1, round((1 - tokens) / self._rate)))
            self._buckets[caller.id] = (tokens - 1, now)
            self._buckets.move_to_end(caller.id)
            while len(self._buckets) > _CACHED:
                self._buckets.popitem(last=False)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _begins(item: dict[str, Any], prefix: str) -> bool:
    if _KEY.fullmatch(prefix):
        return secrets.compare_digest(str(item["key_hash"]), _hash(prefix))
    return str(item.get("prefix", "")).startswith(prefix[:SHOWN])


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    return {name: item.get(name) for name in ("prefix", "name", "created_at", "last_used_at", "revoked_at")}
