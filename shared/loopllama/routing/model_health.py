"""The item of the Models table in which all functions say how models fare, and the one way in which they change it.

Key `health#`. Each model has an attribute with the prefix of what is said: `m:<model id>` is its circuit breaker
(`routing.circuit_breaker`), `c:<model id>` the limit of calls at once that throttling has lowered
(`routing.call_slots`). It is one item, so that a decision over many candidates reads one key more and not twice as
many. What says nothing any more is removed with the next write, because the item must not grow for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

from loopllama.aws import dynamo, errors
from loopllama.telemetry import logs

KEY = "health#"
UNCHANGED: Final[Mapping[str, int]] = {}
"""What is decided where there is nothing to write."""
_PREFIX_LENGTH = 2
_ATTEMPTS = 8
_REMOVED_AT_ONCE = 10


class ModelHealth:
    """The item, read and written. `read` gives it as this process has it, `keep` takes it as it is now."""

    def __init__(
        self,
        table: str,
        dynamodb: Callable[[], Any],
        read: Callable[[], Mapping[str, Any] | None],
        keep: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.table, self.dynamodb = table, dynamodb
        self._read, self._keep = read, keep

    def read(self) -> Mapping[str, Any]:
        """Return the item as this process has read it."""
        return self._read() or {}

    def change(
        self, name: str, decide: Callable[[object], Mapping[str, int] | None], is_spent: Callable[[object], bool]
    ) -> bool:
        """Write what `decide` makes of an attribute's value, `None` to remove it; whether the attribute is as decided.

        It is written only where it is still the value that the decision was made from; where others write too it is
        decided again. What `is_spent` of the same prefix goes with it. A write that fails is logged and no more: the
        item serves the steps to come, and must not fail the one that has its answer.
        """
        try:
            return self._compare_and_set(name, decide, is_spent)
        except Exception as error:
            return logged(error, f"{name} of the item {KEY} in the Models table was not written")

    def _compare_and_set(
        self, name: str, decide: Callable[[object], Mapping[str, int] | None], is_spent: Callable[[object], bool]
    ) -> bool:
        item = self.read()
        for _ in range(_ATTEMPTS):
            value = decide(item.get(name))
            if value is UNCHANGED:
                return True
            prefix = name[:_PREFIX_LENGTH]
            others = (key for key, said in item.items() if key.startswith(prefix) and key != name and is_spent(said))
            spent = list(islice(others, _REMOVED_AT_ONCE))
            conditions, names, parameters = dynamo.as_read(item, [name, *spent])
            done, item = dynamo.update(
                self.dynamodb(),
                self.table,
                {"model": KEY},
                {} if value is None else {name: value},
                remove=[name, *spent] if value is None else spent,
                condition=" AND ".join(conditions),
                names=names,
                parameters=parameters,
            )
            self._keep(item or {"model": KEY})
            if done:
                return True
        return False  # Others write the same at the same moment; what they say is as good.


def logged(error: Exception, message: str) -> bool:
    """Log a write that AWS's trouble has stopped; returns `False`. Any other error is raised."""
    if (trouble := errors.trouble(error)) is None:
        raise error
    logs.logger().warning(message, extra={"error": str(trouble)})
    return False
