"""What routing knows of steps, kept by the consumer of the Runs table's stream.

The consumer sees each model call as it settles, and remembers the newest samples of the steps that it has seen lately
(`policies.samples`). A step whose policy needs facts has an item in the Models table (`policies.step_stats`); there the
samples are put together with those that others have written. So a step costs a small read where nobody wants facts
about it, and nothing where nobody runs it.

Several consumers: DynamoDB Streams gives each shard of the table one at a time, and an on-demand table has four shards
from its first day, so one step's calls come to several processes. Each puts its samples to those in the item, on the
condition that the item is still as it was read. A sample that is there already changes nothing, so a batch that is
delivered again, to whomever, is harmless.
https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html

How often: an item is written with the batch that brought the call, but by one process once in `WRITE_SECONDS`, and
after a quiet time up to `BURST` times at once (a token bucket). What comes sooner waits in memory, bounded like all
else here, for the next batch of any run; a process that dies forgets it. Figures serve the steps to come, so what fails
here is logged, and stops no event.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import clients, dynamo, errors
from loopllama.catalog.model import SIMULATED, measured_as
from loopllama.core.numbers import natural
from loopllama.errors import ModelUnknown
from loopllama.policies import samples
from loopllama.policies.samples import Group, Sample
from loopllama.policies.step_stats import (
    ENOUGH,
    MAX_NAMES,
    PRIOR_SAMPLES,
    Facts,
    Latency,
    expected_ms,
    key_of,
    lead,
    parse_facts,
    summary,
)
from loopllama.routing.cache import ModelTable
from loopllama.runs.totals import ATTEMPT
from loopllama.telemetry import logs

if TYPE_CHECKING:
    from loopllama.catalog.model import Model
    from loopllama.runs.records import Attempt
    from loopllama.settings import Settings

WRITE_SECONDS, BURST = 3.0, 4
"""One write each three seconds where a step is busy; four at once where it was not."""
STEPS = 300
"""Steps that a process remembers."""
_CATALOG_SECONDS = 60.0
_TRIES = 8


class StepFigures:
    """Keeps the figures of steps, for one process. `clock` gives epoch seconds."""

    def __init__(self, settings: Settings, dynamodb: Any = None, clock: Callable[[], float] = time.time) -> None:
        self._table, self._simulated = settings.models_table, settings.simulated_providers
        self._given, self._clock = dynamodb, clock
        self._models = ModelTable(settings.models_table, self._dynamodb, _CATALOG_SECONDS)
        self._seen: OrderedDict[str, dict[str, Group]] = OrderedDict()
        """Samples by the key of their step's item and the name under which their model is measured."""
        self._allowance: dict[str, tuple[float, float]] = {}
        """How many writes an item of a remembered step had left, and when: looking for it counts as one."""
        self._due: dict[str, None] = {}
        """Steps with samples that no item was given yet."""

    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def take(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Remember the calls that settled in these records of the stream, and write what is due. Never raises: what is
        not written is logged, and written with the next batch."""
        if not self._table:
            return
        now = self._clock()
        try:
            for record in records:
                self._remember(record)
            keys = [key for key in self._due if self._left(key, now) >= 1]
            if keys:
                self._write(keys, now)
        except Exception as error:
            about = {"error": logs.safe_text(error)}
            if errors.trouble(error) is None:
                logs.logger().error("figures of steps were not kept", extra=about)
            else:
                logs.logger().warning("figures of steps were not written", extra=about)

    def _remember(self, record: Mapping[str, Any]) -> None:
        for key, name, sample in settled_calls(record):
            seen = self._seen.setdefault(key, {})
            self._seen.move_to_end(key)
            group = samples.merged(seen.get(name, ()), (sample,))
            if group != seen.get(name):
                self._due[key] = None
            seen[name] = group
            while len(seen) > MAX_NAMES:
                del seen[_oldest(seen)]
        while len(self._seen) > STEPS:
            gone, _ = self._seen.popitem(last=False)
            self._due.pop(gone, None)
            self._allowance.pop(gone, None)

    def _left(self, key: str, now: float) -> float:
        left, at = self._allowance.get(key, (BURST, now))
        return min(BURST, left + (now - at) / WRITE_SECONDS)

    def _write(self, keys: list[str], now: float) -> None:
        items = dynamo.batch_get(self._dynamodb(), self._table, [{"model": key} for key in keys], by="model")
        for key in keys:
            self._allowance[key] = self._left(key, now) - 1, now
            if key not in items or self._put_together(key, items[key], now):
                self._due.pop(key, None)

    def _put_together(self, key: str, item: dict[str, Any], now: float) -> bool:
        """Write a step's samples into its item, beside those that are there; whether nothing is left to do."""
        for _ in range(_TRIES):
            changes = self._changes(key, item, now)
            if not changes:
                return True
            conditions, names, parameters = dynamo.as_read(item, ["revision"])
            values = {**changes, "revision": (natural(item.get("revision")) or 0) + 1}
            done, item = dynamo.update(
                self._dynamodb(),
                self._table,
                {"model": key},
                values,
                condition=" AND ".join([*conditions, "attribute_exists(wanted_at)"]),
                names=names,
                parameters=parameters,
            )
            if done or "wanted_at" not in item:
                return True
        return False

    def _changes(self, key: str, item: Mapping[str, Any], now: float) -> dict[str, Any]:
        """Return the attributes of a step's item that change by what this process has seen; none where none does."""
        before, mine = samples.read(item.get("samples"), MAX_NAMES), self._seen[key]
        here = {name: samples.merged(before.get(name, ()), mine.get(name, ())) for name in {**before, **mine}}
        while len(here) > MAX_NAMES:
            del here[_oldest(here)]
        if here == before:
            return {}
        models = self._wanted(item, now)
        facts = self._facts(here, {}, item, now)
        lacking = [name for name in models if name not in facts.latency or facts.latency[name].samples < ENOUGH]
        known = samples.read(item.get("elsewhere"), MAX_NAMES)
        elsewhere = {name: samples.merged(known.get(name, ()), self._on_others(key, name)) for name in lacking}
        elsewhere = {name: group[: int(ENOUGH)] for name, group in elsewhere.items() if group}
        facts = self._facts(here, elsewhere, item, now)
        expected = {
            name: Latency(
                expected_ms(facts.latency.get(name), facts.prior_ms(model)),
                PRIOR_SAMPLES + (facts.latency[name].samples if name in facts.latency else 0),
            )
            for name, model in models.items()
        }
        return {
            "samples": samples.written(here),
            "elsewhere": samples.written(elsewhere),
            "leader": lead(facts.leader, expected),
            **self._summary(here, elsewhere, now),
        }

    def _summary(self, here: Mapping[str, Group], elsewhere: Mapping[str, Group], now: float) -> dict[str, Any]:
        counted = {name: group for name, group in here.items() if self._simulated or not name.endswith(SIMULATED)}
        return summary(counted, elsewhere, now)

    def _facts(
        self, here: Mapping[str, Group], elsewhere: Mapping[str, Group], item: Mapping[str, Any], now: float
    ) -> Facts:
        said = {"leader": item.get("leader"), **self._summary(here, elsewhere, now)}
        return parse_facts(said, now, self._simulated)

    def _wanted(self, item: Mapping[str, Any], now: float) -> dict[str, Model]:
        """Return the models whose latency a step needs, by the name under which they are measured."""
        facts = parse_facts(item, now, self._simulated)
        catalog, _ = self._models.catalog(sorted(facts.latency_of), now)
        models = {}
        for model_id in sorted(facts.latency_of):
            with contextlib.suppress(ModelUnknown):
                model = catalog.resolve(model_id)
                models[facts.name_of(model)] = model
        return models

    def _on_others(self, key: str, name: str) -> Group:
        """Return what this process has seen of a model on other steps, without its tokens."""
        groups = [seen[name] for other, seen in self._seen.items() if other != key and name in seen]
        return samples.merged(
            Sample(one.at, one.ms, one.failed, 0, 0, 0, one.turn, one.attempt) for group in groups for one in group
        )


def _oldest(groups: Mapping[str, Group]) -> str:
    """Return the name whose last call is the longest ago."""
    return min(groups, key=lambda name: (groups[name][0].at, name))


def settled_calls(record: Mapping[str, Any]) -> Iterator[tuple[str, str, Sample]]:
    """Yield the model calls that a record of the Runs table's stream has settled: the key of their step's item, the
    name under which their model is measured, and the sample. Items and rounds of a step are the step's; what a replay
    kept was called in another run. What somebody has edited into what no step looks like is passed over."""
    change = record["dynamodb"]
    new, old = change.get("NewImage") or {}, change.get("OldImage") or {}
    item = change["Keys"]["item"]["S"]
    if not item.startswith("STEP#") or "replayed_from" in new or "workflow_id" not in new or "step" not in new:
        return
    for attribute, value in new.items():
        if attribute.startswith(ATTEMPT) and _is_settled(value) and not _is_settled(old.get(attribute)):
            try:
                attempt = cast("Attempt", dynamo.from_item(value["M"]))
                sample = Sample(
                    at=int(change["ApproximateCreationDateTime"]),
                    ms=int(attempt["latency_ms"]),
                    failed=attempt["outcome"] != "ok",
                    input_tokens=int(attempt.get("input_tokens") or 0),
                    output_tokens=int(attempt.get("output_tokens") or 0),
                    cached_tokens=int(attempt.get("cached_tokens") or 0),
                    turn=samples.turn_id(change["Keys"]["run_id"]["S"], item),
                    attempt=attribute.removeprefix(ATTEMPT),
                )
                name = measured_as(attempt["model"], attempt.get("simulated"))
                key = key_of(new["workflow_id"]["S"], new["step"]["S"])
            except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
                continue
            if samples.parse(sample.text()) == sample:
                yield key, name, sample


def _is_settled(attribute: Any) -> bool:
    entry = attribute.get("M") if isinstance(attribute, Mapping) else None
    return entry is not None and entry.get("outcome", {}).get("S") not in (None, "open")
