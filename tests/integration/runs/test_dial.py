"""The dial on running functions: when a change acts, what is recorded of it, what is set aside, what is quick."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from typing import Any

import pytest
from support.provider_server import Status, Text
from support.system import System

from loopllama.aws import dynamo
from loopllama.policies.step_stats import parse_facts
from loopllama.routing.change_log import History, route_of
from loopllama.routing.store import RouteStore
from loopllama.routing.types import Change
from loopllama.tools.store import ToolStore

ONE_STEP = [{"name": "writer"}]
CACHE_SECONDS = 1.0


@pytest.fixture(scope="module")
def events(system: System) -> Any:
    """The events on the bus so far, by detail type and detail."""
    queue = system.client("sqs").create_queue(QueueName="dial-events")["QueueUrl"]
    arn = system.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    bus = system.outputs["EventBusName"]
    kinds = ["RouteChanged", "InvalidOverride", "ModelChanged", "ToolChanged"]
    system.client("events").put_rule(
        Name="dial", EventBusName=bus, EventPattern=json.dumps({"source": ["loopllama"], "detail-type": kinds})
    )
    system.client("events").put_targets(Rule="dial", EventBusName=bus, Targets=[{"Id": "q", "Arn": arn}])
    seen: list[tuple[str, dict[str, Any]]] = []

    def received() -> list[tuple[str, dict[str, Any]]]:
        for message in system.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            event = json.loads(message["Body"])
            seen.append((event["detail-type"], event["detail"]))
            system.client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return seen

    return received


def test_a_changed_row_acts_on_every_step_that_starts_after_the_cache_time(system: System) -> None:
    workflow = system.push("Turning", [{"name": "a"}, {"name": "b"}, {"name": "c"}], model="sim:base")
    store, stop = RouteStore(system.settings), threading.Event()
    run_ids: list[str] = []
    version = system.run(workflow)["workflow_version"]

    def go_on() -> None:
        while not stop.is_set():
            run_ids.append(system.start(workflow))
            system.wait_execution(run_ids[-1])

    changes: list[tuple[float, float, str]] = []
    with system.configured("RunStep", ROUTE_CACHE_SECONDS=str(CACHE_SECONDS)):
        threads = [threading.Thread(target=go_on) for _ in range(2)]
        for thread in threads:
            thread.start()
        for model in ("sim:tenth", "sim:base", "sim:tenth"):
            begun = time.time()
            store.set(workflow, "*", {"policy": "weighted", "candidates": [model]}, updated_by="test", reason="turn")
            for step in ("a", "b", "c"):
                store.set(workflow, step, {"model": model}, updated_by="test", reason="turn")
            changes.append((begun, time.time(), model))
            time.sleep(3 * CACHE_SECONDS)
        stop.set()
        for thread in threads:
            thread.join()

    runs = [system.wait(run_id) for run_id in run_ids]
    assert {run["status"] for run in runs} == {"completed"}
    assert {run["workflow_version"] for run in runs} == {version}
    checked: Counter[str] = Counter()
    for step in (step for run in runs for step in run["steps"]):
        (attempt,) = step["attempts"]
        assert attempt["model"] == step["model"]
        began, ended = _epoch(step["started_at"]), _epoch(step["finished_at"])
        for place, (_, written, model) in enumerate(changes):
            following = changes[place + 1][0] if place + 1 < len(changes) else float("inf")
            if written + CACHE_SECONDS < began and ended < following:
                assert (step["model"], step["source"]) == (model, "step-override")
                checked[model] += 1
    assert min(checked["sim:tenth"], checked["sim:base"]) >= 3


def test_every_hand_on_the_dial_is_recorded(system: System, events: Any) -> None:
    workflow = system.push("Recorded", ONE_STEP, model="sim:base")
    store, history, route = RouteStore(system.settings), History(system.settings), route_of(workflow, "writer")

    def recorded(count: int) -> list[Change]:
        system.until(lambda: len(history.entries(route)) >= count)
        return history.entries(route)

    store.set(workflow, "writer", {"model": "sim:tenth"}, updated_by="ann", reason="cheaper")
    recorded(1)
    system.put("RoutesTableName", {"workflow": workflow, "step": "writer", "model": "sim:base"})
    recorded(2)
    system.put("RoutesTableName", {"workflow": workflow, "step": "writer", "model": "smalll", "fallbacks": "x"})
    recorded(3)
    assert system.run(workflow)["status"] == "completed"
    row = store.rollback(workflow, "writer", updated_by="bob", reason="typo")
    assert row is not None
    assert row["model"] == "sim:base"
    recorded(4)
    store.unset(workflow, "writer", updated_by="ann", reason="done")
    told = [
        (entry["change"], entry["updated_by"], (entry.get("after") or {}).get("model"), bool(entry.get("problems")))
        for entry in reversed(recorded(5))
    ]
    assert told == [
        ("set", "ann", "sim:tenth", False),
        ("set", "unknown", "sim:base", False),
        ("set", "unknown", "smalll", True),
        ("set", "bob", "sim:base", False),
        ("removed", "ann", None, False),
    ]

    def kinds() -> list[str]:
        return [kind for kind, detail in events() if detail.get("workflow") == workflow]

    system.until(lambda: len(kinds()) >= 6)
    assert Counter(kinds()) == {"RouteChanged": 5, "InvalidOverride": 1}
    (problem,) = [d for kind, d in events() if kind == "InvalidOverride" and d["workflow"] == workflow]
    assert "fallbacks: must be a list" in problem["problems"][0]
    system.put("ModelsTableName", {"model": "sim:retired", "provider": "sim", "enabled": False})
    system.until(lambda: any(d.get("model") == "sim:retired" for kind, d in events() if kind == "ModelChanged"))
    assert history.entries("model:sim:retired")[0]["updated_by"] == "unknown"

    # Tools are told too, whoever changes them.
    pages = {"type": "http_get", "hosts": ["example.com"]}
    tools = ToolStore(system.settings)
    tools.write({"dial_pages": pages}, updated_by="ann", reason="new")
    tools.write({"dial_pages": {**pages, "hosts": ["a.example"]}}, updated_by="bob", reason="moved")
    system.put("ToolsTableName", {"tool": "dial_pages", "definition": "{", "version": 2, "updated_by": "bob"})
    tools.remove("dial_pages", updated_by="ann", reason="unused")
    system.until(lambda: len(history.entries("tool:dial_pages")) >= 4)
    changes = [
        (entry["change"], entry["updated_by"], entry.get("reason")) for entry in history.entries("tool:dial_pages")
    ]
    assert changes == [
        ("removed", "ann", "unused"),
        ("set", "unknown", None),
        ("set", "bob", "moved"),
        ("set", "ann", "new"),
    ]
    system.until(lambda: [d.get("tool") for kind, d in events() if kind == "ToolChanged"] == ["dial_pages"] * 4)


def test_a_pinned_run_keeps_its_chains(system: System, provider: Any) -> None:
    """The first step turns the dial; the second one does not follow."""
    workflow = ""

    def turn(_: Any) -> Text:
        system.put("RoutesTableName", {"workflow": workflow, "step": "second", "model": "sim:tenth"})
        return Text("turned")

    _, model = provider(turn)
    crew = [{"name": "first", "model": model}, {"name": "second", "model": "sim:base"}]
    for pin, expected in ((None, "sim:tenth"), ("run", "sim:base")):
        workflow = system.push(f"Pinned {pin}", crew, pin=pin)
        run = system.run(workflow)
        assert run["status"] == "completed"
        assert run["steps"][1]["model"] == expected


def test_a_failing_model_is_set_aside_for_everybody_and_probed(system: System, provider: Any) -> None:
    down = True
    script, model = provider(lambda _: Status(503) if down else Text("back"))
    workflow = system.push("Aside", [{"name": "writer", "model": model, "fallbacks": ["sim:base"]}])
    for _ in range(3):
        assert system.run(workflow)["steps"][0]["model"] == "sim:base"
    called = len(script.requests)
    step = system.run(workflow)["steps"][0]
    assert len(script.requests) == called
    assert "its circuit breaker is open" in step["ignored"][0]["reason"]
    # Its time is over: one probe, which succeeds, and the model is back.
    down = False
    health = system.client("dynamodb").get_item(
        TableName=system.outputs["ModelsTableName"], Key={"model": {"S": "health#"}}
    )
    item = dynamo.from_item(health["Item"])
    item[f"m:{model}"]["open_until"] = 1
    system.put("ModelsTableName", item)
    for _ in range(2):
        assert system.run(workflow)["steps"][0]["model"] == model


def after(delay: dict[str, float], name: str) -> Any:
    """A model that says its name after as long (s) as `delay` says at that moment."""

    def answer(_: Any) -> Text:
        time.sleep(delay[name])
        return Text(name)

    return answer


def figures(system: System, workflow: str) -> dict[str, Any]:
    """What is known of the workflow's step, as it is stored."""
    key = {"model": {"S": f"observed#{workflow}#writer"}}
    item = system.client("dynamodb").get_item(TableName=system.outputs["ModelsTableName"], Key=key).get("Item")
    return dynamo.from_item(item) if item else {}


def test_fastest_leaves_a_model_that_turns_slow_within_seconds(system: System, provider: Any) -> None:
    delay = {"one": 0.02, "two": 0.3}  # a busy machine adds what it likes to both
    _, one = provider(after(delay, "one"))
    _, two = provider(after(delay, "two"))
    workflow = system.push("Quick", ONE_STEP)
    row = {"workflow": workflow, "step": "writer", "policy": "fastest", "candidates": [two, one]}
    system.put("RoutesTableName", row)

    def models(runs: int, **options: Any) -> Counter[str]:
        ids = [system.start(workflow, **options) for _ in range(runs)]
        return Counter(system.wait(run_id)["steps"][0]["model"] for run_id in ids)

    # Runs that name a model are calls of the step like others.
    models(1)
    for model in (one, two):
        assert models(12, models={"writer": model}) == {model: 12}

    def leads() -> bool:
        for model in (one, two):
            models(4, models={"writer": model})
        return bool(figures(system, workflow).get("leader") == one)

    system.until(leads)
    assert parse_facts(figures(system, workflow), time.time()).output_tokens == 10
    assert models(10)[one] >= 6

    # Nothing but runs: the figures come by themselves, from what these record.
    delay["one"] = 3.0
    assert models(12)[one] >= 1
    ended = time.time()
    system.until(lambda: models(1) == {two: 1} and figures(system, workflow)["leader"] == two, seconds=15)
    assert time.time() - ended < 15
    assert models(10)[two] >= 6


def test_fastest_finds_a_quick_model_that_the_step_has_never_called(system: System, provider: Any) -> None:
    delay = {"slow": 0.4, "quick": 0.4}
    _, slow = provider(after(delay, "slow"))
    _, quick = provider(after(delay, "quick"))
    # On other steps both are known well, and alike: what they did there is no knowledge of this one.
    elsewhere = system.push("Elsewhere", ONE_STEP)
    for model in (slow, quick):
        for run_id in [system.start(elsewhere, models={"writer": model}) for _ in range(12)]:
            assert system.wait(run_id)["status"] == "completed"
    delay["quick"] = 0.05
    workflow = system.push("Finds the quick one", ONE_STEP)
    row = {"workflow": workflow, "step": "writer", "policy": "fastest", "candidates": [slow, quick]}
    system.put("RoutesTableName", row)
    item = {"model": f"observed#{workflow}#writer", "workflow": workflow, "step": "writer", "leader": slow}
    item |= {"wanted_at": int(time.time() * 1000), "latency_of": [slow, quick]}
    system.put("ModelsTableName", item)

    def run() -> str:
        return str(system.run(workflow)["steps"][0]["model"])

    used = [run()]
    # Within few runs: 0.75 ** 32 is one in ten thousand.
    while used[-1] != quick:
        used.append(run())
        assert len(used) <= 32

    def leads() -> bool:
        # Until it leads, one run in ten tries it: many at a time, because ten samples are wanted.
        for run_id in [system.start(workflow) for _ in range(16)]:
            assert system.wait(run_id)["status"] == "completed"
        return bool(figures(system, workflow).get("leader") == quick)

    system.until(leads, seconds=180)
    used_then = Counter(run() for _ in range(20))
    assert used_then[quick] >= 14


def _epoch(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
