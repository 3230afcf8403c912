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
