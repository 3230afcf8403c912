"""Fifty runs started at once over the API: all complete, nothing is done twice, totals and events are right."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from support.api_client import Client, ended
from support.provider_server import ProviderServer, Reply, Text
from support.system import System
from support.whole_runs import assert_told_in_order, assert_whole, events_of

from loopllama.events.log import EventLog

RUNS = 50
NEEDS: dict[str, list[str]] = {"plan": [], "left": ["plan"], "right": ["plan"], "end": ["left", "right"]}


def test_fifty_runs_at_once_over_the_api(system: System, provider_server: ProviderServer) -> None:
    def answer(request: dict[str, Any]) -> Reply:
        place = int(mark(request).partition("-")[2])
        return Text("done", tokens_in=100 + place, tokens_out=10)

    def mark(request: dict[str, Any]) -> str:
        found = re.search(r"many-\d+", request["messages"][1]["content"])
        assert found
        return found[0]

    script = provider_server.script("many", answer)
    system.put_provider("many", script.url)
    model = system.put_model("many:one", "many")
    workflow = system.push("Many", [{"name": name, "needs": needs} for name, needs in NEEDS.items()], model=model)
    api = Client(system, "many")

    with ThreadPoolExecutor(RUNS) as pool:
        path = f"/v1/workflows/{workflow}/runs"
        started = list(pool.map(lambda place: api.post(path, {"input": f"many-{place}"}, 202), range(RUNS)))
    assert len({run["id"] for run in started}) == RUNS
    for run in started:
        system.wait_execution(run["id"], 120)

    asked = Counter((mark(request), request["messages"][0]["content"]) for request in script.requests)
    assert set(asked.values()) == {1}
    assert len(asked) == RUNS * len(NEEDS)
    log = EventLog(system.settings)
    for place, one in enumerate(started):
        shown = ended(api, one["id"])
        assert (shown["status"], shown["input"]) == ("completed", f"many-{place}")
        assert (shown["tokens_in"], shown["tokens_out"]) == (len(NEEDS) * (100 + place), len(NEEDS) * 10)
        run = system.read(one["id"])
        assert_whole(system, run)
        assert sorted(step["step"] for step in run["steps"]) == sorted(NEEDS)
        assert {len(step["attempts"]) for step in run["steps"]} == {1}
        events = events_of(system, log, one["id"])
        assert_told_in_order(run, events, NEEDS)
        assert [event["id"] for event in api.get(f"/v1/runs/{one['id']}/events")] == [event["id"] for event in events]
