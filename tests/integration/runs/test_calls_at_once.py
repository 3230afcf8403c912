"""A server that serves one call at a time, asked by many runs at once: a queue of ours, and no time-outs in its own."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from typing import Any

import pytest
from support.deployment import PRICE
from support.provider_server import Hold, Status, Text
from support.system import System

RUNS = 20


class OneAtATime:
    """Serves a call in `seconds`; who comes meanwhile hangs in its queue, or is throttled. It keeps how many calls it
    has seen at once."""

    def __init__(self, seconds: float, throttles: bool = False) -> None:
        self.seconds, self.throttles = seconds, throttles
        self.most = self.here = self.throttled = 0
        self._count, self._slot = threading.Lock(), threading.Lock()

    def answer(self, _: Any) -> Hold:
        served = Hold(Text("Served.", 100, 10))
        served.hold = self._serve  # type: ignore[method-assign]
        return served

    def _serve(self) -> Any:
        with self._count:
            self.here += 1
            self.most = max(self.most, self.here)
        try:
            if self.throttles and self._slot.locked():
                self.throttled += 1
                return Status(429, "one at a time", {"retry-after": "1"})
            with self._slot:
                time.sleep(self.seconds)
                return Text("Served.", 100, 10)
        finally:
            with self._count:
                self.here -= 1


def limit(system: System, model: str, calls: int) -> None:
    provider, _, name = model.partition(":")
    entry = {"model": model, "provider": provider, "provider_model": name, "prices": [PRICE]}
    system.put("ModelsTableName", {**entry, "max_concurrent_calls": Decimal(calls)})


@pytest.mark.parametrize("seconds", [0.2, 1.5])
def test_twenty_runs_at_once_queue_before_a_server_with_one_slot(system: System, provider: Any, seconds: float) -> None:
    server = OneAtATime(seconds)
    script, model = provider(server.answer)
    limit(system, model, 1)
    # No retries: waiting for a place uses none.
    workflow = system.push(f"One slot {model[:-4]}", [{"name": "one", "model": model, "retries": 0}])
    runs = [system.wait(run_id) for run_id in [system.start(workflow) for _ in range(RUNS)]]
    assert [run["status"] for run in runs] == ["completed"] * RUNS
    attempts = [attempt for run in runs for attempt in run["steps"][0]["attempts"]]
    assert [attempt["outcome"] for attempt in attempts] == ["ok"] * RUNS
    assert len(script.requests) == RUNS
    assert server.most == 1
    # The call itself takes no longer for it; its wait is told apart.
    assert max(attempt["latency_ms"] for attempt in attempts) < seconds * 1000 + 1500
    assert sum(bool(attempt["queued_ms"]) for attempt in attempts) > RUNS / 2
    key = {"model": {"S": f"observed##{model}"}}
    item = system.client("dynamodb").get_item(TableName=system.outputs["ModelsTableName"], Key=key)["Item"]
    assert set(item) == {"model", "delete_at"}, "every place was given back"


def test_a_fallback_answers_where_the_wait_would_be_long(system: System, provider: Any) -> None:
    server, held = OneAtATime(0.05), Hold(Text("At last."))
    _, busy = provider(lambda _: held)
    _, other = provider(server.answer)
    limit(system, busy, 1)
    workflow = system.push("Falls back when busy", [{"name": "one", "model": busy, "fallbacks": [other]}])
    first = system.start(workflow)
    held.wait_entered()
    run = system.run(workflow)
    held.release()
    step = run["steps"][0]
    assert (run["status"], step["model"], len(step["attempts"])) == ("completed", other, 1)
    [skipped] = step["ignored"]
    assert (skipped["layer"], skipped["model"]) == ("calls", busy)
    assert "1 call is under way, as many as may be at once" in skipped["reason"]
    assert system.wait(first)["steps"][0]["model"] == busy
