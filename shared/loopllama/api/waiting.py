"""Places of readers that wait for a run's events: a few for each API key, so that nobody holds every function.

A place is an attribute of what the key has in the KeyUse table, `waiting_<number>`: until when (epoch ms) it is taken.
One conditional write takes it, another gives it back; that of a process that died is free in time. Who finds none free
is answered at once, and told to come back later than usual.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loopllama.api.key_use import use_of
from loopllama.aws import clients, dynamo
from loopllama.settings import Settings

if TYPE_CHECKING:
    from loopllama.api.auth import Caller

MARGIN_MS = 10_000
"""For how long a place is taken beyond the time of waiting: until the answer is written."""
_TRIES = 3


class WaitingPlaces:
    """The places of each key. `clock` gives epoch seconds."""

    def __init__(self, settings: Settings, dynamodb: Any = None, clock: Callable[[], float] = time.time) -> None:
        self._table, self._most = settings.key_use_table, settings.event_readers_per_key
        self._given, self._clock = dynamodb, clock

    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def take(self, caller: Caller, seconds: float) -> str | None:
        """Return a place for a wait of `seconds`, `None` where all are taken. Raises what the SDK raises."""
        name = f"waiting_{random.randrange(self._most)}"  # noqa: S311 - no secret
        for _ in range(_TRIES):
            now = int(self._clock() * 1000)
            done, item = dynamo.update(
                self._dynamodb(),
                self._table,
                use_of(caller.id),
                {name: now + int(seconds * 1000) + MARGIN_MS},
                condition="attribute_not_exists(#place) OR #place < :now",
                names={"#place": name},
                parameters={":now": now},
                returning=(),
            )
            if done:
                return name
            places = (f"waiting_{number}" for number in range(self._most))
            free = [place for place in places if place not in item or item[place] < now]
            if not free:
                return None
            name = random.choice(free)  # noqa: S311 - no secret
        return None

    def give_back(self, caller: Caller, place: str) -> None:
        """Let another reader have the place."""
        dynamo.update(
            self._dynamodb(),
            self._table,
            use_of(caller.id),
            {},
            remove=[place],
            condition="attribute_exists(#place)",
            names={"#place": place},
            returning=(),
        )
