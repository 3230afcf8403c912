"""Whose metrics a step's are: its stack's, and a real model's or a simulated one's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from loopllama.engine import metrics
from loopllama.telemetry import metrics as written


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    """The namespace is read from the environment once."""
    _clear()
    yield
    _clear()


def told(capsys: pytest.CaptureFixture[str], *attempts: dict[str, Any], **record: Any) -> dict[tuple[str, str], Any]:
    """What a step's end writes: the figure by the metric's name and the model that it is said of; `""` where it is
    said of all models together."""
    entries = {f"attempt_{number:04}": attempt for number, attempt in enumerate(attempts, 1)}
    kept: Any = {"step": "s", "model": "a", "latency_ms": 9, **entries, **record}
    capsys.readouterr()
    metrics.step_ended("w", "r", kept)
    found = {}
    for line in map(json.loads, capsys.readouterr().out.splitlines()):
        for directive in line["_aws"]["CloudWatchMetrics"]:
            (dimensions,) = directive["Dimensions"]
            for metric in directive["Metrics"]:
                of = line["model"] if "model" in dimensions else ""
                assert (metric["Name"], of) not in found
                found[metric["Name"], of] = line[metric["Name"]]
    return found


def call(ms: int, outcome: str = "ok", model: str = "a", **more: Any) -> dict[str, Any]:
    return {"model": model, "outcome": outcome, "latency_ms": ms, "input_tokens": 1, "output_tokens": 2, **more}


def test_a_simulated_call_is_in_no_figure_of_the_real_model(capsys: pytest.CaptureFixture[str]) -> None:
    real = told(capsys, call(700))
    assert (real["ModelLatency", "a"], real["ModelCalls", "a"], real["StepLatency", "a"]) == ([700], 1, 9)
    only = told(capsys, call(3, simulated=True), call(4, "ModelTimeout", simulated=True))
    assert {of for _, of in only} == {"a (simulated)"}
    assert (only["ModelLatency", "a (simulated)"], only["ModelErrors", "a (simulated)"]) == ([3], 1)
    # One of both, because the deployment was changed while the step waited.
    both = told(capsys, call(3, simulated=True), call(700))
    assert (both["ModelLatency", "a"], both["ModelLatency", "a (simulated)"]) == ([700], [3])
    assert ("StepLatency", "a (simulated)") not in both, "the step's own figures are told once"
    assert both["InputTokens", "a"] == 2
    assert ("Fallbacks", "") not in both, "it is one model"


def test_a_call_lost_in_a_crash_counts_as_the_others_of_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    lost = {"model": "a", "outcome": "open"}
    assert told(capsys, lost, call(3, simulated=True))["ModelCalls", "a (simulated)"] == 2
    assert told(capsys, lost, call(3))["ModelCalls", "a"] == 2


def test_a_fallback_is_told_and_each_model_has_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, call(1, "ModelUnavailable", "b"), call(700))
    assert (found["ModelErrors", "b"], found["ModelLatency", "a"], found["Fallbacks", ""]) == (1, [700], 1)
    assert ("StepLatency", "b") not in found


def test_metrics_are_by_stack(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = set()
    for stack in ("one", "two-b"):
        monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", f"LoopLlama/{stack}")
        _clear()
        metrics.step_ended("w", "r", {"step": "s", "model": "a", "attempt_0001": call(1)})  # type: ignore[typeddict-unknown-key]
        line = json.loads(capsys.readouterr().out)
        spaces.add(tuple({one["Namespace"] for one in line["_aws"]["CloudWatchMetrics"]}))
    assert spaces == {("LoopLlama/one",), ("LoopLlama/two-b",)}


def _clear() -> None:
    written.namespace.cache_clear()
    written._directive.cache_clear()


def of_run(capsys: pytest.CaptureFixture[str], **sums: Any) -> dict[tuple[str, str], Any]:
    """What a run's end writes: the figure by the metric's name and the workflow that it is said of; `""` where it is
    said of all workflows together."""
    run: Any = {"workflow_id": "w", "run_id": "r", "created_at": "2026-11-23T20:15:00.000Z"}
    totals: Any = {"cost_usd": 1, "cost_basis": "estimated", "unpriced": False, "simulated": False, **sums}
    capsys.readouterr()
    metrics.run_ended(run, totals, completed=True, waited_ms=0)
    found = {}
    for line in map(json.loads, capsys.readouterr().out.splitlines()):
        assert (line["cost_basis"], line.get("simulated")) == ("estimated", sums.get("simulated"))
        for directive in line["_aws"]["CloudWatchMetrics"]:
            of = line["workflow"] if directive["Dimensions"] == [["workflow"]] else ""
            found |= {(metric["Name"], of): line[metric["Name"]] for metric in directive["Metrics"]}
    return found


def test_a_simulated_run_s_figures_have_a_name_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert {*of_run(capsys)} == {("RunCost", "w"), ("RunLatency", "w"), ("RunsCompleted", "w")}
    simulated = of_run(capsys, simulated=True)
    name = "w (simulated)"
    assert {*simulated} == {("RunCost", name), ("RunLatency", name), ("RunsCompleted", "w")}


def test_what_the_deployment_costs_is_money(capsys: pytest.CaptureFixture[str]) -> None:
    """The alarm of a day's cost counts by it."""
    paid, simulated = (call(700, cost_usd=2), call(3, cost_usd=5, simulated=True))
    assert told(capsys, paid)["Cost", ""] == 2
    assert told(capsys, paid, simulated)["Cost", ""] == 2
    assert ("Cost", "") not in told(capsys, simulated)
