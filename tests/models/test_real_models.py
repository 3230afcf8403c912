"""Whole runs on two real models: what they used, what it cost, how long it took, and what becomes of them when a server
is killed or has one slot. The models are small, so nothing is asked of what they say."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from support.llama_server import LlamaServer
from support.real_models import GEMMA, PRICES, SLOTS, SMOL, Figures, loopllama
from support.system import ROOT, System
from support.whole_runs import assert_whole

from loopllama.engine.human_input import respond
from loopllama.runs.store import RunStore
from loopllama_cli import workflow_files
from loopllama_cli.commands.common import read_input

EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/workflow.yaml"))
RUN_SECONDS = 1800.0
MILLION = Decimal(1_000_000)
RAMBLE = "Write a very long story about a lighthouse, a storm and a ship. Do not stop. Tell every detail of every day."
FACTS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["mood", "score"],
    "properties": {"mood": {"enum": ["good", "bad"]}, "score": {"type": "integer", "minimum": 0, "maximum": 10}},
}


def ended(system: System, run_id: str) -> dict[str, Any]:
    """The run object, once the run has ended."""
    system.wait_execution(run_id, RUN_SECONDS)
    return system.wait(run_id)


def attempts(run: dict[str, Any]) -> list[dict[str, Any]]:
    """All model calls of a run."""
    return [attempt for step in run["steps"] for attempt in step["attempts"]]


def assert_priced(calls: Sequence[dict[str, Any]]) -> None:
    """Each call costs what its tokens cost at its entry's price; cached tokens have no price of their own."""
    for call in calls:
        if call["cost_basis"] != "unknown":
            given, taken = map(Decimal, PRICES[call["model"]])
            assert call["cost_usd"] == (call["tokens_in"] * given + call["tokens_out"] * taken) / MILLION, call


@pytest.fixture
def counted(smol: LlamaServer, gemma: LlamaServer) -> Callable[[list[dict[str, Any]]], None]:
    """Compare the tokens of calls with what the servers themselves have counted since the test began."""
    servers = {SMOL: smol, GEMMA: gemma}
    before = {model: server.counted() for model, server in servers.items()}

    def compare(calls: list[dict[str, Any]]) -> None:
        for model, server in servers.items():
            mine = [call for call in calls if call["model"] == model]
            fresh = sum(call["tokens_in"] - call["tokens_cached"] for call in mine)
            written = sum(call["tokens_out"] for call in mine)
            now = server.counted()
            assert (fresh, written) == tuple(n - b for n, b in zip(now, before[model], strict=True)), model

    return compare


def test_what_the_servers_tell_is_in_the_entries(system: System, probed: dict[str, Any], figures: Figures) -> None:
    for model, found in probed.items():
        shown = loopllama(system, "models", "show", model)
        assert found["context_window"] == shown["context_window"] == 4096
        assert found["max_concurrent_calls"] == SLOTS
        assert "structured_output" in found["capabilities"]
        assert shown["capabilities"] == found["capabilities"]
        figures.add(f"{model}: calls a tool when it is asked to", "tools" in found["capabilities"])
    again = loopllama(system, "models", "probe", "llamacpp")
    assert again["entries"] == [], "a second probe finds nothing to write, and leaves the price"


@pytest.mark.parametrize("model", [SMOL, GEMMA])
def test_the_examples(
    system: System, model: str, counted: Callable[[list[dict[str, Any]]], None], figures: Figures
) -> None:
    """Small models may fail at what the examples ask. Whatever becomes of a run, its bill is the server's."""
    loopllama(system, "models", "set", model, "--capability", "tools", "--capability", "structured_output")
    began, completed, calls = time.monotonic(), 0, []
    for folder in EXAMPLES:
        workflow = workflow_files.load(folder / "workflow.yaml").to_definition()
        loopllama(system, "workflows", "push", folder / "workflow.yaml")
        for agent in workflow["crew"]:
            row = {"workflow": folder.name, "step": agent["name"], "max_tokens": 150}
            system.put("RoutesTableName", row)
        (given,) = folder.glob("input.*")
        run_id = system.start(folder.name, read_input(f"@{given}"), models={"*": model})
        run = over(system, run_id)
        completed += run["status"] == "completed"
        assert run["status"] == "completed" or run["error"], run["id"]
        calls += attempts(run)
        assert {call["outcome"] for call in attempts(run)} <= {"ok", "InvalidModelResponse", "ContextTooLong"}
    counted(calls)
    assert_priced(calls)
    assert {call["cost_basis"] for call in calls} == {"measured"}
    figures.add(f"{model}: examples completed, of {len(EXAMPLES)}", completed)
    figures.add(f"{model}: calls of the examples", len(calls))
    figures.add(f"{model}: tokens read by the examples", sum(call["tokens_in"] for call in calls))
    figures.add(f"{model}: tokens written by the examples", sum(call["tokens_out"] for call in calls))
    figures.add(f"{model}: the examples took", time.monotonic() - began, "s")


def over(system: System, run_id: str) -> dict[str, Any]:
    """The run object once the run has ended; what it asks a person is approved."""
    deadline = time.monotonic() + RUN_SECONDS
    while (run := system.read(run_id))["status"] not in ("completed", "failed", "cancelled"):
        assert time.monotonic() < deadline, run_id
        if run["status"] == "waiting_input":
            respond(RunStore(system.settings), run_id, {"approved": True})
        time.sleep(0.5)
    return ended(system, run_id)


def crew() -> list[dict[str, Any]]:
    """A crew that uses the language: output by schema, a tool, items, a loop, a fallback, every policy."""
    short = {"maxTokens": 60}
    both = {"candidates": [SMOL, GEMMA], **short}
    return [
        {"name": "facts", "needs": [], "outputSchema": FACTS, "model": SMOL, **short},
        {"name": "reckon", "needs": [], "tools": ["calculator"], "model": SMOL, "maxTurns": 3, **short},
        {"name": "each", "needs": ["facts"], "forEach": "input.items", "outputSchema": FACTS, "model": GEMMA, **short},
        {"name": "write", "needs": ["each"], "model": "dead:one", "fallbacks": [SMOL], **short},
        {
            "name": "judge",
            "needs": ["write"],
            "outputSchema": FACTS,
            "model": SMOL,
            "repeat": {"backTo": "write", "until": "steps.judge.output.score > `10`", "max": 2},
            **short,
        },
        {"name": "cheap", "needs": ["judge"], "policy": "cheapest", **both},
        {"name": "quick", "needs": ["judge"], "policy": "fastest", **both},
        {
            "name": "mixed",
            "needs": ["judge"],
            "policy": "weighted",
            "candidates": [{"model": SMOL, "weight": 1}, {"model": GEMMA, "weight": 1}],
            **short,
        },
    ]


def test_a_crew_that_uses_the_whole_language(
    system: System, counted: Callable[[list[dict[str, Any]]], None], figures: Figures
) -> None:
    for model in (SMOL, GEMMA):
        loopllama(system, "models", "set", model, "--capability", "tools", "--capability", "structured_output")
    system.put_provider("dead", "http://127.0.0.1:9/v1")
    system.put_model("dead:one", "dead")
    workflow = system.push("Whole language", crew())
    run = ended(system, system.start(workflow, {"items": ["sun", "rain", "snow"]}))
    assert_whole(system, run)
    calls = attempts(run)
    served = [call for call in calls if call["model"] != "dead:one"]
    counted(served)
    assert_priced(served)
    by_step: dict[str, list[dict[str, Any]]] = {}
    for step in run["steps"]:
        if step["attempts"]:
            by_step.setdefault(step["step"], []).append(step)
    for name in ("facts", "each", "judge"):
        for step in by_step[name]:
            assert step["output"]["mood"] in ("good", "bad")
            assert 0 <= step["output"]["score"] <= 10
    assert len(by_step["each"]) == 3
    assert len(by_step["judge"]) == 2
    assert {step["model"] for step in by_step["write"]} == {SMOL}
    assert by_step["cheap"][0]["model"] == SMOL
    shaped = [call for name in ("facts", "each", "judge") for step in by_step[name] for call in step["attempts"]]
    figures.add("answers by schema that followed it at the first try", sum(call["outcome"] == "ok" for call in shaped))
    figures.add("answers by schema asked for", len(shaped))


def long_answers(model: str) -> list[dict[str, Any]]:
    """A crew of two steps; both write until their limit, so both models write as much."""
    return [
        {"name": "first", "needs": [], "model": SMOL, "maxTokens": 100, "prompt": f"{RAMBLE} {{{{ input }}}}"},
        {"name": "second", "needs": ["first"], "model": model, "maxTokens": 100, "prompt": f"{RAMBLE} {{{{ input }}}}"},
    ]


def test_whatif_against_what_then_happens(system: System, figures: Figures) -> None:
    """`second` has run on Gemma in some runs, so its latency there is known. Then it is moved there for good."""
    workflow = system.push("What if", long_answers(SMOL))
    for number in range(4):
        ended(system, system.start(workflow, f"a{number}", models={"second": GEMMA}))
        ended(system, system.start(workflow, f"b{number}"))
    foreseen = loopllama(system, "whatif", workflow, "--set", f"second={GEMMA}")
    then = [ended(system, system.start(workflow, f"c{number}", models={"second": GEMMA})) for number in range(4)]
    written = {(step["step"], step["tokens_out"]) for run in then for step in run["steps"]}
    assert written <= {("first", 100), ("second", 100)}, "the lengths are not alike: nothing can be compared"
    cost = statistics.mean(float(run["cost_usd"]) for run in then)
    latency = statistics.median(sum(step["latency_ms"] for step in run["steps"]) for run in then)
    cost_off = abs(float(foreseen["cost_usd"]["after"]) / cost - 1)
    latency_off = abs(float(foreseen["latency_ms"]["after"]) / latency - 1)
    figures.add("whatif: cost, foreseen against measured", cost_off * 100, "%", aim=5)
    figures.add("whatif: latency, foreseen against measured", latency_off * 100, "%", aim=25)
    assert cost_off <= 0.05, (foreseen["cost_usd"], cost)
    assert latency_off <= 0.25, (foreseen["latency_ms"], latency)


def test_a_server_that_is_killed_amid_calls_and_comes_back(
    system: System, make_server: Callable[..., LlamaServer], figures: Figures
) -> None:
    with make_server(0, "mortal", slots=2) as server:
        system.put_provider("mortal", f"{server.url}/v1")
        system.put_model("mortal:mortal", "mortal", *map(Decimal, PRICES[SMOL]))
        each = {"name": "each", "needs": [], "forEach": "input.items", "maxConcurrency": 4, "maxTokens": 150}
        workflow = system.push("Mortal", [each | {"model": "mortal:mortal", "prompt": f"{RAMBLE} {{{{ item }}}}"}])
        run_id = system.start(workflow, {"items": [f"day {number}" for number in range(6)]})
        system.until(lambda: server.busy() == 2, 60)
        server.kill()
        time.sleep(3)
        server.start()
        run = ended(system, run_id)
    assert run["status"] == "completed", run["error"]
    calls = attempts(run)
    broken = [call for call in calls if call["outcome"] != "ok"]
    assert {call["outcome"] for call in broken} == {"ModelUnavailable"}
    assert sum(call["outcome"] == "ok" for call in calls) == 6
    assert {call["cost_basis"] for call in calls if call["outcome"] == "ok"} == {"measured"}
    assert any(call["cost_basis"] == "unknown" for call in broken), "what was being written is paid or not: unknown"
    figures.add("server killed and restarted: calls that broke", len(broken))


def test_twenty_runs_on_a_server_that_takes_one_call_at_a_time(
    system: System, make_server: Callable[..., LlamaServer], figures: Figures
) -> None:
    with make_server(0, "single", slots=1) as server:
        system.put_provider("single", f"{server.url}/v1")
        system.put_model("single:single", "single", *map(Decimal, PRICES[SMOL]))
        one = {
            "name": "one",
            "needs": [],
            "model": "single:single",
            "maxTokens": 40,
            "prompt": f"{RAMBLE} {{{{ input }}}}",
        }
        workflow, began = system.push("Single", [one]), time.monotonic()
        ids = [system.start(workflow, f"number {number}") for number in range(20)]
        most = watched(server, lambda: [ended(system, run_id) for run_id in ids], runs := [])
        took = time.monotonic() - began
        read, written = server.counted()
    assert {run["status"] for run in runs} == {"completed"}
    calls = [call for run in runs for call in attempts(run)]
    good = [call for call in calls if call["outcome"] == "ok"]
    assert len(good) == 20
    assert most == 1
    assert (read, written) == (
        sum(call["tokens_in"] - call["tokens_cached"] for call in good),
        sum(call["tokens_out"] for call in good),
    )
    figures.add("one slot, 20 runs at once: took", took, "s")
    figures.add("one slot, 20 runs at once: calls made", len(calls))
    figures.add(
        "one slot, 20 runs at once: longest step", max(s["latency_ms"] for r in runs for s in r["steps"]) / 1000, "s"
    )


def watched(server: LlamaServer, work: Callable[[], list[Any]], into: list[Any]) -> int:
    """Do the work, its results into a list; returns the most calls at once that the server was seen with."""
    most, done = 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.2):
            most = max(most, server.busy())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        into += work()
    finally:
        done.set()
        thread.join()
    return most
