"""What API keys are used for, in a table of its own: functions write it, and never the table of the keys.

Its items are a key's, by its id: `USE` (`last_used_at`, to the minute; the places of `waiting`), and for each day (UTC)
in which its requests count `DAY#2026-11-28` (`requests`), which goes after some days (`delete_at`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.settings import Settings
from loopllama.telemetry import logs

if TYPE_CHECKING:
    from loopllama.api.auth import Caller

TOUCH_SECONDS = 60
"""How often at most a key's `last_used_at` is written."""
DAYS_KEPT = 7
_DAY_SECONDS = 86_400
_USE = "USE"
_TOUCHED = 1000


class TooManyRequests(Exception):
    """The key's share is used up for `retry_after` seconds."""

    def __init__(self, retry_after: int, message: str = "Too many requests with this API key") -> None:
        super().__init__(f"{message}; try again in {retry_after} s")
        self.retry_after = retry_after


def use_of(key_id: str) -> dict[str, str]:
    """Return the key of the item that says how an API key is used."""
    return {"key_id": key_id, "item": _USE}


class KeyUse:
    """Notes and counts requests. `monotonic` gives seconds."""

    def __init__(
        self, settings: Settings, dynamodb: Any = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._table, self._given, self._monotonic = settings.key_use_table, dynamodb, monotonic
        self._touched: dict[str, float] = {}

    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def touch(self, caller: Caller) -> None:
        """Note that a key was used now, unless that was noted within the minute."""
        now = self._monotonic()
        if not self._table or now - self._touched.get(caller.id, float("-inf")) < TOUCH_SECONDS:
            return
        if len(self._touched) > _TOUCHED:
            self._touched.clear()
        self._touched[caller.id] = now
        from botocore.exceptions import BotoCoreError, ClientError

        before = clock.now_text(clock.now_ms() / 1000 - TOUCH_SECONDS)
        try:
            dynamo.update(
                self._dynamodb(),
                self._table,
                use_of(caller.id),
                {"last_used_at": clock.now_text()},
                condition="attribute_not_exists(last_used_at) OR last_used_at < :before",
                parameters={":before": before},
                returning=(),
            )
        except (BotoCoreError, ClientError) as error:
            # What somebody asked for must not fail for want of a note about it.
            logs.logger().warning("last_used_at was not written", extra={"error": type(error).__name__})

    def count(self, caller: Caller) -> None:
        """Count a request of a key whose requests a day are limited. Raises `TooManyRequests`."""
        most = caller.max_requests_per_day
        if most is None:
            return
        now = clock.now_seconds()
        day = clock.now_text(now)[:10]
        done, _ = dynamo.update(
            self._dynamodb(),
            self._table,
            {"key_id": caller.id, "item": f"DAY#{day}"},
            {"delete_at": int(now) + DAYS_KEPT * _DAY_SECONDS},
            add={"requests": Decimal(1)},
            condition="attribute_not_exists(requests) OR requests < :most",
            parameters={":most": most},
            returning=(),
        )
        if not done:
            raise TooManyRequests(
                _DAY_SECONDS - int(now) % _DAY_SECONDS,
                f"This API key may be used for {most:,} requests a day (UTC), and has been",
            )

    def last_used(self, key_ids: Iterable[str]) -> dict[str, str]:
        """Return when keys were last used, by their ids, as far as that is known here."""
        keys = [use_of(key_id) for key_id in key_ids]
        if not self._table or not keys:
            return {}
        items = dynamo.batch_get(self._dynamodb(), self._table, keys, by="key_id")
        return {key: str(item["last_used_at"]) for key, item in items.items() if "last_used_at" in item}
