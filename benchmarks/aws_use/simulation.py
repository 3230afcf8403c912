"""Which DynamoDB keys real runs touch, and how much: the engine on moto's tables under the meter."""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
from moto.dynamodb.models import dynamodb_backends

from .figures import SHORT, TEXT, crew
from .meter import ACCOUNT, REGION, Access, Meter, item_size

_RUN = re.compile(r"run_[0-9a-f]{24}")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def simulate(workflows: int, runs: int, open_calls: int = 12) -> dict[str, Any]:
    """Runs of `workflows` workflows with budgets a day, `runs` of each: units by kind of key, and a run's."""
    import pytest
    from support.deployment import deployment

    from loopllama.engine.step import StepRunner
    from loopllama.jobs.publish_events import Publisher
    from loopllama.llm.types import ModelResponse, Usage

    accesses: list[Access] = []
    with pytest.MonkeyPatch.context() as patch, deployment(patch) as live, _silent():
        live.provider.script = lambda _: ModelResponse(TEXT, Usage(1500, 500))
        # Caches as in a process that has just read them: what they cost is counted apart.
        settings = replace(live.settings, route_cache_seconds=3600, event_bus_name="default")
        runner, publisher, stream = StepRunner(settings), Publisher(settings), _Stream()
        live.step = lambda work, owner="invocation", remaining_ms=60_000: runner.run_step(work, owner, remaining_ms)
        budget = {"maxSteps": 50, "daily": {"maxSteps": 1_000_000}}
        pushed = [live.push(crew(SHORT), f"Line {number}", budget=budget) for number in range(workflows)]
        for workflow in pushed:  # each process's first run fills its caches
            live.play(live.accept(workflow, TEXT))
        publisher.handle(stream.new())
        meter = Meter()
        for _ in range(runs):
            for workflow in pushed:
                with meter.on():
                    live.play(live.accept(workflow, TEXT))
                    publisher.handle(stream.new())
        for call in meter.take():
            accesses += call.accesses
        cold = _cold(live, settings, pushed[0])
        outage = _outage(live, settings, open_calls)
        budget_bytes = _open_reservations(live, pushed[0], open_calls)
    steps = workflows * runs * SHORT
    return {
        "steps": steps,
        "workflows": workflows,
        "keys": _by_kind(accesses, steps),
        "cold": cold,
        **outage,
        **budget_bytes,
    }


class _Stream:
    """The Runs table's stream in moto."""

    def __init__(self) -> None:
        view = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        boto3.client("dynamodb").update_table(TableName="RunsTable", StreamSpecification=view)
        self._shard: Any = dynamodb_backends[ACCOUNT][REGION].tables["RunsTable"].stream_shard
        self._seen = 0

    def new(self) -> list[dict[str, Any]]:
        """The records since the last time."""
        records = [item.to_json() for item in self._shard.items[self._seen :]]
        self._seen = len(self._shard.items)
        return records


def _cold(live: Any, settings: Any, workflow: str) -> dict[str, float]:
    """Read units by key of a step in a process that knows nothing yet, and of one that chooses the fastest model."""
    from loopllama.engine.step import StepRunner

    choosing = [{"name": "s0", "policy": "fastest", "candidates": ["test:a", "test:b"]}]
    meter = Meter()
    for name in (workflow, live.push(choosing, "Line 1000")):
        work = live.map(live.start(live.accept(name, TEXT)))[0]
        with meter.on():
            StepRunner(settings).run_step(work, "invocation", 60_000)
    tables = ("RoutesTable", "ModelsTable", "WorkflowsTable")
    units: dict[str, float] = defaultdict(float)
    for access in (access for call in meter.take() for access in call.accesses if access.place in tables):
        units[_kind(access)] = max(units[_kind(access)], access.reads)
    return dict(units)


def _outage(live: Any, settings: Any, processes: int) -> dict[str, float]:
    """Writes of the item that says which models are failing, for each process at work when one begins to fail, and for
    each once it is to be tried again."""
    from loopllama.engine.step import StepRunner
    from loopllama.errors import ModelUnavailable
    from loopllama.llm.types import ModelResponse, Usage
    from loopllama.routing.circuit_breaker import FIRST_MS

    agent = {"name": "s0", "model": "test:a", "fallbacks": ["test:b"]}
    workflow = live.push([agent], "Line 2000")
    runners = [StepRunner(replace(settings, route_cache_seconds=20)) for _ in range(processes)]
    failing = False

    def answer(call: Any) -> ModelResponse:
        if failing and call.model == "a":
            raise ModelUnavailable("down")
        return ModelResponse(TEXT, Usage(1500, 500))

    def everybody() -> float:
        meter = Meter()
        with meter.on():
            for number, runner in enumerate(runners):
                work = live.map(live.start(live.accept(workflow, TEXT)))[0]
                runner.run_step(work, f"invocation-{number}", 60_000)
        accesses = [access for call in meter.take() for access in call.accesses if access.partition == "health#"]
        return sum(access.writes for access in accesses) / processes

    live.provider.script = answer
    everybody()
    failing = True
    began = everybody()
    live.wait(FIRST_MS // 1000 + 1)
    return {"outage_writes": began, "probe_writes": everybody()}


def _open_reservations(live: Any, workflow: str, calls: int) -> dict[str, float]:
    """How large a day's budget is, and how much a call that is under way adds: each call of the provider starts
    another run, whose step calls it in turn."""
    from loopllama.aws import clients, dynamo
    from loopllama.core import clock
    from loopllama.llm.types import ModelResponse, Usage

    key = dynamo.to_item({"run_id": f"budget#{workflow}#{clock.now_text()[:10]}", "item": "BUDGET"})
    sizes: list[int] = []

    def nested(_: Any) -> ModelResponse:
        item = clients.client("dynamodb").get_item(TableName="RunsTable", Key=key)["Item"]
        sizes.append(item_size(item))
        if len(sizes) < calls:
            live.step(live.map(live.start(live.accept(workflow, TEXT)))[0])
        return ModelResponse(TEXT, Usage(1500, 500))

    live.provider.script = nested
    live.step(live.map(live.start(live.accept(workflow, TEXT)))[0])
    reservation_size = (sizes[-1] - sizes[0]) / (len(sizes) - 1)
    return {"budget_bytes": sizes[0] - reservation_size, "reservation_bytes": reservation_size}


def _kind(access: Access) -> str:
    """What a key stands for: its place, with what differs from run to run and day to day left out."""
    name = _DATE.sub("DAY", _RUN.sub("RUN", access.partition))
    name = re.sub(r"\bline_\d+\b", "WORKFLOW", name)
    name = re.sub(r"^((start|wait)-)?\d+$", "SHARD", name)
    return f"{access.place} {name}"


def _by_kind(accesses: list[Access], steps: int) -> dict[str, dict[str, float]]:
    """By kind of key: how many keys, units a step, and the largest share of them that one key took."""
    keys: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    for access in accesses:
        counts = keys[_kind(access)][access.partition]
        counts[0] += access.reads
        counts[1] += access.writes
    return {kind: _summed(list(by_key.values()), steps) for kind, by_key in sorted(keys.items())}


def _summed(counts: list[list[float]], steps: int) -> dict[str, float]:
    reads, writes = (sum(pair[place] for pair in counts) for place in (0, 1))
    largest = max(sum(pair) for pair in counts) / (reads + writes)
    return {
        "keys": len(counts),
        "reads": round(reads / steps, 3),
        "writes": round(writes / steps, 3),
        "largest_share": round(largest, 3),
    }


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The engine prints metrics."""
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        yield
