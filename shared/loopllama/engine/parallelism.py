"""How many branches of a fork run at once: as many as the deployment allows, fewer while Lambda has no room for them.

An account runs so many functions at once, a new one ten. What Lambda turns away the state machine tries again for an
hour, so nothing fails; but steps then take the places of the API and of what reads the streams. RunStep is told how
often the state machine had to repeat its invocation. That lowers the number as a provider's throttling lowers a
model's calls (`routing.call_slots`), and time raises it again. It is the attribute `f:steps` of the item in
`routing.model_health`; a fork that begins reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from loopllama.routing.call_slots import allowed, learned_from, lowered
from loopllama.routing.model_health import UNCHANGED, ModelHealth

_NAME = "f:steps"


class Parallelism:
    """The number, read and lowered. `most` is the deployment's, `clock` gives epoch seconds."""

    def __init__(self, health: ModelHealth, most: int, clock: Callable[[], float]) -> None:
        self._health, self._most, self._clock = health, most, clock

    def allowed(self) -> int:
        """Return how many branches of a fork may run at once now, as far as this process knows."""
        return max(1, allowed(self._most, learned_from(self._health.read().get(_NAME)), self._now()) or 1)

    def repeated(self, times: int) -> None:
        """Note that the state machine had to repeat an invocation, the first time of so many some seconds ago."""
        if not self._health.table:
            return
        began = self._now() - 1000 * 2 ** min(times, 6)

        def decide(value: object) -> Mapping[str, int] | None:
            before = learned_from(value)
            after = lowered(self._most, before, self._now(), began)
            return UNCHANGED if after == before else {"limit": after.limit, "at": after.at}

        self._health.change(_NAME, decide, lambda _: False)

    def _now(self) -> int:
        return int(self._clock() * 1000)
