"""Figures that policies and limits need: what CloudWatch and the record of runs say of the steps that want to know.

A step whose policy or limits need facts says so in the Models table (`policies.step_stats`); `refresh` fills those
items in and, where there is none, reads nothing: CloudWatch bills its readings by the metric.

The rule for latency, per step and model. A sample is a model call; a failed call counts as one of `FAILURE_MS`. The
newest minutes that together hold `NEWEST` samples count, none older than `WINDOW_MINUTES`; a sample's weight falls
from 1 to 0 over that time, so that what nobody has tried lately becomes unknown again, and is tried again. Where a step
has too few samples of a model, what the model did on all steps is the prior of its figure, and weighs one sample:
another step's prompts may take ten times as long. That a model was ever called on the step is kept: from its metrics,
and from the recent runs, whichever layer named the model then. Who leads is `step_stats.lead`. So the newest minute
alone decides on a busy step, and up to a quarter of an hour on a quiet one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients, dynamo
from loopllama.errors import ModelUnknown
from loopllama.llm import usage
from loopllama.policies.step_stats import (
    ENOUGH,
    PREFIX,
    PRIOR_SAMPLES,
    WANTED_MS,
    Latency,
    expected_ms,
    lead,
    parse_facts,
)
from loopllama.routing.cache import ModelTable
from loopllama.routing.call_slots import SLOTS
from loopllama.settings import Settings
from loopllama.telemetry import metrics

if TYPE_CHECKING:
    from loopllama.queries.types import RunView

WINDOW_MINUTES = 15
NEWEST = 20
FAILURE_MS = 30_000.0
TOKENS_MS = 10 * 60 * 1000
"""How often a step's tokens are read anew."""
TOKENS_OF = 10
"""Recent runs that they are read from."""
FORGOTTEN_MS = 3 * WANTED_MS
_QUERIES = 500
"""GetMetricData takes so many.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""

Key = tuple[str, ...]
"""The values of a metric's dimensions: a model, or workflow, step and model."""
_DIMENSIONS = {1: ("model",), 3: ("workflow", "step", "model")}


@dataclass(slots=True)
class Minute:
    """The calls of one minute: how many answered, their latencies' sum (ms), and how many failed."""

    answered: float = 0.0
    ms: float = 0.0
    failed: float = 0.0


def recent(minutes: Mapping[int, Minute], now: float) -> Latency | None:
    """Return the mean of the recent samples, `None` without any. `minutes` by their beginning, `now` in epoch
    seconds."""
    taken = weight = total = 0.0
    for start in sorted(minutes, reverse=True):
        age = max(0.0, now - start - 60) / 60
        samples = minutes[start].answered + minutes[start].failed
        share = 1 - age / WINDOW_MINUTES
        if share <= 0 or taken >= NEWEST:
            break
        if samples > 0:
            taken += samples
            weight += share * samples
            total += share * (minutes[start].ms + minutes[start].failed * FAILURE_MS)
    return Latency(total / weight, weight) if weight else None


def figure(ours: Latency | None, elsewhere: Latency | None, tried_at: int) -> Latency | None:
    """Return a step's figure of a model from its own calls and those of all steps; `None` where nothing is known."""
    prior_ms = elsewhere.ms if elsewhere and (ours is None or ours.samples < ENOUGH) else None
    if ours is None and prior_ms is None and not tried_at:
        return None
    mean, samples = (ours.ms, ours.samples) if ours else (prior_ms or 0.0, 0.0)
    return Latency(mean, samples, prior_ms, tried_at)


class Observer:
    """Refreshes the facts in one process. `clock` gives epoch seconds."""

    def __init__(
        self,
        settings: Settings,
        dynamodb: Any = None,
        cloudwatch: Any = None,
        reader: Any = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._given, self._cloudwatch, self._reader = dynamodb, cloudwatch, reader
        self._clock = clock
        self._models = ModelTable(settings.models_table, self._dynamodb, 0.0)
        self._runs: dict[str, list[RunView]] = {}
        """The recent runs of the workflows whose tokens are read now."""

    def _dynamodb(self) -> Any:
        return clients.client("dynamodb") if self._given is None else self._given

    def refresh(self) -> dict[str, int]:
        """Read and write once. Returns how many steps there are, and how many of them changed."""
        now = self._clock()
        self._runs.clear()
        items, forgotten = [], 0
        for item in self._items():
            if now * 1000 - parse_facts(item).wanted_at > FORGOTTEN_MS:
                forgotten += self._forget(item)
            elif isinstance(item.get("workflow"), str) and isinstance(item.get("step"), str):
                items.append(item)
        changes: dict[str, dict[str, Any]] = {item["model"]: {} for item in items}
        self._tokens(items, changes, now)
        self._latency(items, changes, now)
        changed = [self._write(item, changes[item["model"]]) for item in items if changes[item["model"]]]
        return {"steps": len(items), "changed": sum(changed), "forgotten": forgotten}

    def _items(self) -> list[dict[str, Any]]:
        pages = (
            self._dynamodb()
            .get_paginator("scan")
            .paginate(
                TableName=self._settings.models_table,
                FilterExpression="begins_with(#model, :prefix) AND NOT begins_with(#model, :slots)",
                ExpressionAttributeNames={"#model": "model"},
                ExpressionAttributeValues=dynamo.to_item({":prefix": PREFIX, ":slots": SLOTS}),
            )
        )
        return [dynamo.from_item(item) for page in pages for item in page["Items"]]

    # Latency

    def _latency(self, items: Sequence[Mapping[str, Any]], changes: dict[str, dict[str, Any]], now: float) -> None:
        watched = {
            str(item["model"]): [(item["workflow"], item["step"], model) for model in sorted(facts.latency_of)]
            for item in items
            if (facts := parse_facts(item)).latency_of
        }
        if not watched:
            return
        measured = self._measured([key for keys in watched.values() for key in keys], now)
        lacking = {key[-1] for key, latency in measured.items() if latency is None or latency.samples < ENOUGH}
        elsewhere = self._measured([(model,) for model in sorted(lacking)], now)
        for item in items:
            keys = watched.get(item["model"])
            if keys:
                before = parse_facts(item).latency
                called = {name for run in self._runs.get(item["workflow"], ()) for name in called_by(run, item["step"])}
                known = {}
                for key in keys:
                    name, ours = key[-1], measured[key]
                    tried_at = before[name].tried_at if name in before else 0
                    if ours is not None or (not tried_at and name in called):
                        tried_at = int(now * 1000)
                    known[name] = figure(ours, elsewhere.get((name,)), tried_at)
                changes[item["model"]] |= self._figures(item, known, now)

    def _figures(self, item: Mapping[str, Any], known: Mapping[str, Latency | None], now: float) -> dict[str, Any]:
        facts = parse_facts(item)
        catalog, _ = self._models.catalog(list(known), now)
        expected: dict[str, Latency] = {}
        for name, latency in known.items():
            try:
                prior = facts.prior_ms(catalog.resolve(name))
            except ModelUnknown:
                continue
            samples = latency.samples if latency else 0.0
            expected[name] = Latency(expected_ms(latency, prior), samples + PRIOR_SAMPLES)
        figures = {
            name: {
                "ms": round(latency.ms),
                "samples": Decimal(f"{latency.samples:.1f}"),
                **({} if latency.prior_ms is None else {"prior_ms": round(latency.prior_ms)}),
                **({"tried": latency.tried_at} if latency.tried_at else {}),
            }
            for name, latency in known.items()
            if latency is not None
        }
        leader = lead(facts.leader, expected)
        if figures == item.get("latency") and leader == facts.leader:
            return {}
        return {"latency": figures, "leader": leader, "latency_at": int(now * 1000)}

    def _measured(self, keys: Sequence[Key], now: float) -> dict[Key, Latency | None]:
        """Return the recent latency of each key. Three metrics are read for each."""
        minutes: dict[Key, dict[int, Minute]] = {key: {} for key in keys}
        asked: dict[str, tuple[Key, str]] = {}
        queries = []
        for key in keys:
            for metric, statistic, field in (
                ("ModelLatency", "SampleCount", "answered"),
                ("ModelLatency", "Sum", "ms"),
                ("ModelErrors", "Sum", "failed"),
            ):
                name = f"q{len(asked)}"
                asked[name] = key, field
                queries.append(_query(name, key, metric, statistic))
        for name, when, value in self._data(queries, now):
            key, field = asked[name]
            minute = minutes[key].setdefault(int(when.timestamp()) // 60 * 60, Minute())
            setattr(minute, field, getattr(minute, field) + value)
        return {key: recent(by_minute, now) for key, by_minute in minutes.items()}

    def _data(self, queries: Sequence[Mapping[str, Any]], now: float) -> Iterable[tuple[str, datetime, float]]:
        client = clients.client("cloudwatch") if self._cloudwatch is None else self._cloudwatch
        end = (int(now) // 60 + 1) * 60
        for start in range(0, len(queries), _QUERIES):
            request: dict[str, Any] = {
                "MetricDataQueries": queries[start : start + _QUERIES],
                "StartTime": datetime.fromtimestamp(end - (WINDOW_MINUTES + 1) * 60, UTC),
                "EndTime": datetime.fromtimestamp(end, UTC),
            }
            while True:
                answer = client.get_metric_data(**request)
                for result in answer["MetricDataResults"]:
                    for when, value in zip(result["Timestamps"], result["Values"], strict=True):
                        yield result["Id"], when, float(value)
                if not answer.get("NextToken"):
                    break
                request["NextToken"] = answer["NextToken"]

    # Tokens

    def _tokens(self, items: Sequence[Mapping[str, Any]], changes: dict[str, dict[str, Any]], now: float) -> None:
        due = [item for item in items if now * 1000 - _milliseconds(item.get("tokens_at")) >= TOKENS_MS]
        for workflow in sorted({item["workflow"] for item in due}):
            runs = self._runs[workflow] = self._recent_runs(workflow)
            for item in due:
                if item["workflow"] == workflow:
                    changes[item["model"]] |= {"tokens_at": int(now * 1000), **tokens_of(runs, item["step"])}

    def _recent_runs(self, workflow: str) -> list[RunView]:
        from loopllama.queries import whatif
        from loopllama.queries.runs import RunReader

        if self._reader is None:
            self._reader = RunReader(self._settings)
        return whatif.recent_runs(self._reader, workflow, limit=TOKENS_OF)

    # The table

    def _write(self, item: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
        done, _ = dynamo.update(
            self._dynamodb(),
            self._settings.models_table,
            {"model": item["model"]},
            values,
            condition="attribute_exists(#model)",
            names={"#model": "model"},
        )
        return done

    def _forget(self, item: Mapping[str, Any]) -> int:
        """Delete what nobody has wanted for days, unless somebody wants it just now."""
        wanted_at = item.get("wanted_at")
        done = dynamo.delete(
            self._dynamodb(),
            self._settings.models_table,
            {"model": item["model"]},
            condition="attribute_not_exists(wanted_at)" if wanted_at is None else "wanted_at = :seen",
            parameters=None if wanted_at is None else {":seen": wanted_at},
        )
        return int(done)


def called_by(run: Mapping[str, Any], step: str) -> set[str]:
    """Return the models that a step has called in a run."""
    return {call["model"] for record in run["steps"] if record["step"] == step for call in record["attempts"]}


def tokens_of(runs: Sequence[Mapping[str, Any]], step: str) -> dict[str, Any]:
    """Mean tokens of the step's answered calls and calls a turn, as `Facts` has them; nothing without any."""
    turns = [
        [call for call in record["attempts"] if call["outcome"] == "ok"]
        for run in runs
        for record in run["steps"]
        if record["step"] == step
    ]
    turns = [calls for calls in turns if calls]
    calls = [call for turn in turns for call in turn]
    if not calls:
        return {}
    used = [usage.of_shown(call) for call in calls]
    means = {
        name: round(sum(getattr(call_usage, name) for call_usage in used) / len(calls))
        for name in ("input_tokens", "output_tokens", "cached_tokens")
    }
    return {**means, "calls": Decimal(f"{len(calls) / len(turns):.2f}")}


def _query(name: str, key: Key, metric: str, statistic: str) -> dict[str, Any]:
    dimensions = [
        {"Name": dimension, "Value": value} for dimension, value in zip(_DIMENSIONS[len(key)], key, strict=True)
    ]
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {"Namespace": metrics.NAMESPACE, "MetricName": metric, "Dimensions": dimensions},
            "Period": 60,
            "Stat": statistic,
        },
        "ReturnData": True,
    }


def _milliseconds(value: object) -> float:
    return float(value) if isinstance(value, (int, Decimal)) and not isinstance(value, bool) else 0.0
