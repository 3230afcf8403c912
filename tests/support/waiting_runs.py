"""Many runs that wait for people, without a step of each, and what reading them takes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from loopllama.aws import dynamo
from loopllama.runs.store import RunStore

if TYPE_CHECKING:
    from loopllama.runs.records import Run


def wait_for_people(store: RunStore, like: Run, numbers: Iterable[int]) -> None:
    """Write a copy of a run that waits, `like`, for each of the numbers. They are looked at when a run is that begins
    to wait now."""
    copies = (f"{like['run_id'][:-6]}{number:06x}" for number in numbers)
    rows = [{**like, "run_id": copy, **store.waiting(copy)} for copy in copies]
    dynamo.batch_put(store.dynamodb, store.table, rows)


@contextlib.contextmanager
def counted(dynamodb: Any) -> Iterator[Counter[str]]:
    """Count a client's calls by their names, and as `items` what they have read."""
    calls: Counter[str] = Counter()

    def counting(name: str, method: Any) -> Any:
        def call(**request: Any) -> Any:
            answer = method(**request)
            calls[name] += 1
            calls["items"] += len(answer.get("Items", ())) + ("Item" in answer)
            return answer

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("query", "get_item", "update_item", "put_item", "batch_get_item"):
            patch.setattr(dynamodb, name, counting(name, getattr(dynamodb, name)))
        yield calls
