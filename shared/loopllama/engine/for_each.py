"""A `forEach` step: one turn for each item of a list, in a fork of its own, gathered into one list of outputs.

The step's own record (item 0) says how many items there are; item n of the list, from 1, has a record of its own. The
Map of the fork is the barrier: when it has ended, RunStep is invoked for the step again and gathers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loopllama.core import clock
from loopllama.engine import history
from loopllama.engine.step_context import View
from loopllama.engine.transitions import MAX_CONCURRENCY, fork
from loopllama.errors import BudgetExceeded, InvalidRequest, ItemsFailed
from loopllama.runs import bill, step_writer, waits
from loopllama.runs.step_writer import StepWriter
from loopllama.runs.store import RunStore
from loopllama.runs.value_store import MAX_BYTES

if TYPE_CHECKING:
    from loopllama.runs.records import ChainEnd, StepOutcome, StepRecord

MAX_ITEMS = 1000


def begin(store: RunStore, view: View, writer: StepWriter, at_once: Callable[[], int]) -> StepOutcome | None:
    """Fork into the items that are not finished, where the deployment has room for `at_once` at a time; `None` when
    there is nothing left to run."""
    count = view.record.get("item_count")
    if count is None:
        items = view.items()
        if not isinstance(items, list):
            raise InvalidRequest(
                f"forEach takes a list; {view.step['for_each']!r} gave {_kind(items)}: change the expression or the "
                "earlier step's outputSchema"
            )
        if len(items) > MAX_ITEMS:
            raise InvalidRequest(f"forEach takes at most {MAX_ITEMS:,} items, not {len(items):,}; split the list")
        count = len(items)
    records = _records(store, view, int(count))
    # Somebody redrives the run: what failed is tried again. Not so where the list goes on in another execution.
    set_aside = bool(view.record.get("set_aside"))
    failed = [record["item"] for record in records.values() if record.get("status") == "failed" and not set_aside]
    for record in store.items(view.work.run_id, failed).values():
        step_writer.reopen(store, record)
    over = ("completed", "failed") if set_aside else ("completed",)
    unfinished = [n for n in range(1, int(count) + 1) if records.get(n, {}).get("status") not in over]
    # A redriven step that died before it gathered still says that its items shall stop.
    writer.write({"item_count": int(count)}, release=True, remove=["stopping"])
    if not unfinished:
        return None
    branches = [replace(view.work, item=number, depth=1) for number in unfinished]
    most = min(at_once(), int(view.step.get("max_concurrency", MAX_CONCURRENCY)))
    forked = fork(view.work, branches, join=True, max_concurrency=most)
    # What was set aside before is put off often, or asks people: it gets more of the history.
    return {**forked, "least": history.ENOUGH} if set_aside else forked


def is_set_aside(store: RunStore, view: View, ended: Sequence[ChainEnd], left_out: int) -> bool:
    """Return whether items of the list go on in the run's next execution: `left_out` of the fork, or set aside by it.
    Not where more have failed than may."""
    if not left_out and not any(end["outcome"] == "set_aside" for end in ended):
        return False
    records = _records(store, view, int(view.record["item_count"]))
    failed = {number for number, record in records.items() if record.get("status") == "failed"}
    failed |= {end["item"] for end in ended if end["outcome"] == "crashed"}
    return len(failed) <= int(view.step.get("max_failures", 0))


def gather(store: RunStore, view: View, writer: StepWriter, crashed: Sequence[ChainEnd]) -> list[Any]:
    """Let the step's end say how long its items waited for people, and return the outputs of all items in their order,
    `null` for those that failed and are tolerated. Raises `ItemsFailed` where more failed than `maxFailures`,
    `BudgetExceeded` where one of them did for that."""
    count = int(view.record["item_count"])
    records = _records(store, view, count)
    writer.decide({"waited_ms": _waited_ms(store, view, records, writer.record["started_at"]) or None})
    outputs: list[Any] = []
    failures: list[str] = []
    over_budget = False
    stored = [item_record.get("output") for item_record in records.values()]
    size = sum(int(output.get("bytes", 0)) for output in stored if isinstance(output, dict))
    if size > MAX_BYTES:
        raise InvalidRequest(
            f"the items' outputs have {size:,} bytes together, at most {MAX_BYTES:,} are taken; let the agent answer "
            "shorter, or split the list"
        )
    for number in range(1, count + 1):
        record = records.get(number, {})
        if record.get("status") == "completed":
            outputs.append(view.values.load(record.get("output")))
            continue
        if record.get("status") == "running":
            # Its function died, and has told the bill nothing yet.
            key = replace(view.work, item=number).key
            bill.add_usage(store, replace(view.work, item=number), store.items(view.work.run_id, [key])[key])
        outputs.append(None)
        error = record.get("error")
        if error is None:
            died = next((end for end in crashed if end.get("item") == number), None)
            error = {"type": died["error"], "message": "its function died"} if died else None
        over_budget = over_budget or bool(error and error["type"] == BudgetExceeded.__name__)
        failures.append(f"item {number}: {error['type']}: {error['message']}" if error else f"item {number}: not run")
    most = int(view.step.get("max_failures", 0))
    if len(failures) > most:
        shown = "; ".join(text[:300] for text in failures[:3])
        kind = BudgetExceeded if over_budget else ItemsFailed
        raise kind(f"{len(failures)} of {count} items failed, at most {most} may: {shown}")
    return outputs


def _waited_ms(store: RunStore, view: View, records: Mapping[int, StepRecord], since: str) -> int:
    """Return for how many milliseconds the step waited for people in its items, `since` it began, while none of them
    was at work."""
    asked = [record["item"] for record in records.values() if record.get("waited_ms")]
    if not asked:
        return 0
    whole = store.items(view.work.run_id, asked)
    items = (whole.get(record["item"], record) for record in records.values())
    return waits.of_steps(items, clock.now_text(), since)


def _records(store: RunStore, view: View, count: int) -> dict[int, StepRecord]:
    keys = {replace(view.work, item=number).key: number for number in range(1, count + 1)}
    # Without attempts and what tools gave: there may be a thousand of them.
    wanted = ("item", "status", "output", "error", "started_at", "finished_at", "waited_ms")
    records = store.items(view.work.run_id, keys, wanted)
    return {keys[key]: record for key, record in records.items()}


def _kind(value: Any) -> str:
    names = {str: "a text", dict: "an object", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
