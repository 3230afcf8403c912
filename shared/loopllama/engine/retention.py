"""Runs that go on for long: what they have written stays for as long as they need it.

All that belongs to a run is deleted `RetentionDays` after its start: items by their TTL `delete_at`, large values by
their age in the bucket. A run may wait for a person longer than that. So the reconciler, which looks at every
unfinished run four times an hour, gives all of it its days again once a third of them has gone, and a run that ends has
two thirds of them left. A third, not a half, so that an item which a step writes meanwhile with the old TTL is met once
more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import aws, clock, tracing
from ..runs import RUN, RunStore
from ..settings import Settings
from ..values import ValueStore

_SHARE = 3
"""One part of so many goes by before a run gets its days again."""


def extend(settings: Settings, store: RunStore, run: Mapping[str, Any]) -> bool:
    """Give an unfinished run its days again where it is time for it; whether it was."""
    now, whole = clock.now_ms() // 1000, settings.retention_days * 86_400
    until = now + whole
    if int(run.get("delete_at", until)) > until - whole // _SHARE:
        return False
    values = ValueStore(settings)
    keys = []
    for item in store.everything(run["run_id"]):
        if int(item.get("delete_at", until)) < until:
            for reference in _references(item):
                if not values.renew(reference):
                    tracing.logger().warning("a value of a long run is gone", extra={"run_id": run["run_id"]})
            keys.append(item["item"])
    # The run itself last: should this break off, it is done again.
    for key in sorted(keys, key=lambda key: key == RUN):
        aws.update(
            store.dynamodb,
            store.table,
            {"run_id": run["run_id"], "item": key},
            {"delete_at": until},
            condition="attribute_exists(run_id)",
            returning=(),
        )
    return True


def _references(value: Any) -> Iterator[Mapping[str, Any]]:
    """The values in the bucket that a record points to."""
    if isinstance(value, Mapping):
        if ValueStore.is_reference(value):
            yield value
        else:
            for inner in value.values():
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
