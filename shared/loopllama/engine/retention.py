"""Runs that go on for long: what they have written stays for as long as they need it.

All that belongs to a run is deleted `RetentionDays` after its start: items by their TTL `delete_at`, large values by
their age in the bucket. A run may wait for a person longer than that. So the reconciler, which looks at every
unfinished run, gives all of it its days again once a third of them has gone, and a run that ends has more than half of
them left: it looks at runs under way four times an hour, at those that wait for people once a day, or eight times
within `RetentionDays` where these are few. A third, not a half, so that an item which a step writes meanwhile with the
old TTL is met once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from loopllama.aws import dynamo
from loopllama.core import clock
from loopllama.runs.store import RUN, RunStore
from loopllama.runs.value_store import ValueStore
from loopllama.settings import Settings
from loopllama.telemetry import logs

if TYPE_CHECKING:
    from loopllama.runs.records import Run

_SHARE = 3
"""One part of so many goes by before a run gets its days again."""


def extend(settings: Settings, store: RunStore, run: Run) -> bool:
    """Give an unfinished run its days again where it is time for it; whether it was."""
    now, retention = clock.now_ms() // 1000, settings.retention_days * 86_400
    until = now + retention
    if int(run.get("delete_at", until)) > until - retention // _SHARE:
        return False
    values, run_item = ValueStore(settings), None
    for item in store.everything(run["run_id"]):
        if int(item.get("delete_at", until)) <= until - retention // _SHARE:
            for reference in _references(item):
                if not values.renew(reference):
                    logs.logger().warning("a value of a long run is gone", extra={"run_id": run["run_id"]})
            if item["item"] == RUN:
                run_item = item
            else:
                _keep(store, item, until)
    # The run itself last: should this break off, what is left is done at the next look. A run of a thousand items may
    # have more values than one invocation has time for.
    if run_item is not None:
        _keep(store, run_item, until)
    return True


def _keep(store: RunStore, item: Mapping[str, Any], until: int) -> None:
    dynamo.update(
        store.dynamodb,
        store.table,
        {name: item[name] for name in ("run_id", "item")},
        {"delete_at": until},
        condition="attribute_exists(run_id)",
        returning=(),
    )


def _references(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the values in the bucket that a record points to."""
    if isinstance(value, Mapping):
        if ValueStore.is_reference(value):
            yield value
        else:
            for inner in value.values():
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
