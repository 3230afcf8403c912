"""API keys: `ll_live_` and 40 characters. The ApiKeys table holds their SHA-256 hashes, never the keys.

An item: `key_hash`, `prefix` (the key's first 12 characters), `name`, `created_at`, `revoked_at`, and what the key may
do, each absent where nothing bounds it: `scopes`, `workflows` (ids), `max_requests_per_day`, `max_usd_per_day`. Only
people with AWS credentials write the table; functions read it, and write what a key is used for elsewhere
(`api.key_use`). The keys are random with 238 bits, so a plain hash is as good as a slow one.
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
from decimal import Decimal
from typing import Any

from loopllama.api.key_use import KeyUse, TooManyRequests
from loopllama.api.scopes import SCOPES
from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.core.money import usd
from loopllama.errors import Conflict, InvalidRequest, NotFound
from loopllama.settings import Settings
from loopllama.telemetry import logs

MARK = "ll_live_"
SHOWN = 12
"""So many characters of a key are kept and shown."""
CACHE_SECONDS = 30.0
"""How long a process believes what it read of a key: a revoked one is refused within this time."""
MAX_WORKFLOWS = 100
"""Workflows that a key may be limited to."""
MAX_REQUESTS = 10**9
ID = "key_"
"""Before a key's id in what is written of it: no person who has AWS credentials is called so."""

_ALPHABET = string.ascii_letters + string.digits
_KEY = re.compile(MARK + "[A-Za-z0-9]{40}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,60}")
_CACHED = 1000


class Unauthorized(Exception):
    """No key, or one that does not count; the message is the answer's `error`."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key a request carries, and what it may do. `id` is the beginning of the key's hash: safe to store, the same
    for good, and no other key's, as a name may be."""

    id: str
    name: str
    scopes: frozenset[str] = frozenset(SCOPES)
    workflows: frozenset[str] | None = None
    """The only workflows that it reaches; `None` for all."""
    max_requests_per_day: int | None = None
    max_usd_per_day: Decimal | None = None

    @property
    def key_id(self) -> str:
        """How records, history and the bill name the key."""
        return ID + self.id


@dataclass(frozen=True, slots=True)
class Grant:
    """What a new key may do; what is left out is not bounded. `check` raises `InvalidRequest`."""

    scopes: tuple[str, ...] = ()
    workflows: tuple[str, ...] = ()
    max_requests_per_day: int | None = None
    max_usd_per_day: Decimal | None = None

    def check(self) -> dict[str, Any]:
        """Return the attributes of the key's item."""
        if unknown := sorted(set(self.scopes) - set(SCOPES)):
            message = f"{unknown[0]!r} is none; the scopes are {', '.join(SCOPES)}"
            raise InvalidRequest.of("scope", message, subject="The scope")
        if len(self.workflows) > MAX_WORKFLOWS:
            message = f"must be at most {MAX_WORKFLOWS}; leave them out for all"
            raise InvalidRequest.of("workflow", message, subject="The workflows")
        requests = self.max_requests_per_day
        if requests is not None and not 0 < requests <= MAX_REQUESTS:
            message = f"must be 1 to {MAX_REQUESTS:,} requests a day"
            raise InvalidRequest.of("max_requests_per_day", message, subject="The limit")
        try:
            most_usd = None if self.max_usd_per_day is None else usd(self.max_usd_per_day)
        except ValueError as error:
            raise InvalidRequest.of("max_usd_per_day", str(error), subject="The limit") from None
        kept = {
            "scopes": [scope for scope in SCOPES if scope in self.scopes],
            "workflows": sorted(set(self.workflows)),
            "max_requests_per_day": requests,
            "max_usd_per_day": most_usd,
        }
        return {name: value for name, value in kept.items() if value}


EVERYTHING = Grant()


class KeyStore:
    """Makes, lists, revokes and checks keys. `monotonic` gives seconds."""

    def __init__(
        self, settings: Settings, dynamodb: Any = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._table = settings.api_keys_table
        self._given = dynamodb
        self._monotonic = monotonic
        self._known: OrderedDict[str, tuple[float, Caller]] = OrderedDict()
        self._use = KeyUse(settings, dynamodb, monotonic)

    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def create(self, name: str, grant: Grant = EVERYTHING) -> tuple[str, dict[str, Any]]:
        """Make a key that may do what it is granted; returns it, for this once, and what is kept of it. Raises
        `InvalidRequest`."""
        if not _NAME.fullmatch(name) or not name.strip():
            message = "must be one line of 1 to 60 characters"
            raise InvalidRequest.of("name", message, subject="The key's name")
        granted = grant.check()
        taken = {item["prefix"] for item in self._items()}
        while True:
            key = MARK + "".join(secrets.choice(_ALPHABET) for _ in range(40))
            if key[:SHOWN] not in taken:  # so that a prefix names one key
                break
        item = {"key_hash": _hash(key), "prefix": key[:SHOWN], "name": name, "created_at": clock.now_text(), **granted}
        dynamo.put_new(self._dynamodb(), self._table, item, "key_hash")
        return key, _shown(item)

    def all(self) -> list[dict[str, Any]]:
        """Return every key's `id`, `prefix`, `name`, `created_at`, `last_used_at`, `revoked_at`, and what it may do,
        newest first."""
        items = self._items()
        used = self._use.last_used(_id(item) for item in items)
        return [_shown({**item, "last_used_at": used.get(_id(item), item.get("last_used_at"))}) for item in items]

    def revoke(self, prefix: str) -> dict[str, Any]:
        """Revoke the key that begins with `prefix` (its shown characters, or the whole key), or has that id; revoking
        twice is harmless. Raises `NotFound`, and `Conflict` where several keys begin so."""
        items = self._items()
        matches = [item for item in items if ID + _id(item) == prefix]
        if not matches and len(prefix) > len(MARK):
            matches = [item for item in items if _begins(item, prefix)]
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
        self._use.touch(caller)
        return caller

    def count(self, caller: Caller) -> None:
        """Count a request against the key's limits a day. Raises `TooManyRequests`."""
        self._use.count(caller)

    def _caller(self, key_hash: str) -> Caller:
        now = self._monotonic()
        until, caller = self._known.get(key_hash, (0.0, None))
        if caller is not None and now < until:
            return caller
        answer = self._dynamodb().get_item(TableName=self._table, Key=dynamo.to_item({"key_hash": key_hash}))
        item = dynamo.from_item(answer.get("Item") or {})
        if not item.get("prefix") or item.get("revoked_at"):
            # Refusals are not kept: strangers must not fill the memory, and a new key acts at once.
            self._known.pop(key_hash, None)
            raise Unauthorized("Invalid API key")
        caller = _caller(item)
        self._known[key_hash] = (now + CACHE_SECONDS, caller)
        while len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return caller

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


def _id(item: dict[str, Any]) -> str:
    return str(item["key_hash"])[:16]


def _caller(item: dict[str, Any]) -> Caller:
    """Read a key's item. Raises `Unauthorized` where somebody has written limits that cannot be read: such a key must
    not be one without limits."""
    try:
        scopes, workflows = item.get("scopes"), item.get("workflows")
        requests, most_usd = item.get("max_requests_per_day"), item.get("max_usd_per_day")
        return Caller(
            _id(item),
            str(item.get("name") or item["prefix"]),
            frozenset(SCOPES) if scopes is None else frozenset(_texts(scopes)) & frozenset(SCOPES),
            None if workflows is None else frozenset(_texts(workflows)),
            None if requests is None else int(requests),
            None if most_usd is None else usd(most_usd),
        )
    except (ValueError, TypeError, ArithmeticError) as error:
        logs.logger().warning("an API key's item cannot be read", extra={"key": ID + _id(item), "error": str(error)})
        raise Unauthorized("Invalid API key") from error


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list | set) or not all(isinstance(text, str) for text in value):
        raise ValueError("scopes and workflows are lists of texts")
    return list(value)


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    shown = {name: item.get(name) for name in ("prefix", "name", "created_at", "last_used_at", "revoked_at")}
    bounds = {name: item.get(name) for name in ("scopes", "workflows", "max_requests_per_day", "max_usd_per_day")}
    return {"id": ID + _id(item), **shown, **bounds}
