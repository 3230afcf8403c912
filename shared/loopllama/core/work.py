"""An end to the work that one small text of others may ask for."""

from __future__ import annotations

from loopllama.errors import InvalidRequest


class Work:
    """What may still be done for `what`: `most` units, each of them about a microsecond on a laptop.

    Units are counted, not measured: the same text is refused or taken wherever and whenever it is read, so that a step
    that is repeated comes to the same end.
    """

    def __init__(self, most: int, what: str) -> None:
        self._left, self._what = most, what

    def spend(self, units: int, on: str) -> None:
        """Count work that is done for a part, `on`. Raises `InvalidRequest`, which names both, where it is too much."""
        self._left -= units
        if self._left < 0:
            raise InvalidRequest(f"{self._what} takes too much work, at {on}")

    def weigh(self, value: object, on: str) -> None:
        """Count what a value consists of, a part that it holds twice counted twice: as it would be written."""
        pending = [value]
        while pending:
            part = pending.pop()
            self.spend(size(part), on)
            if isinstance(part, dict):
                pending += part.values()
            elif isinstance(part, list):
                pending += part


def size(value: object) -> int:
    """Return the units of going through a list, an object or a text once, without what it holds."""
    if isinstance(value, list | dict):
        return 1 + len(value)
    return 1 + len(value) // 20 if isinstance(value, str) else 1
