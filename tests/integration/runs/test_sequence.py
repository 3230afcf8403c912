"""A crew of six that work one after another: what the run leaves behind."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import pytest
from support.system import System

from loopllama.llm.usage import shown

NAMES = ["reader", "sorter", "finder", "writer", "checker", "closer"]
MARKER = "zanzibar"
"""A word that is in the prompts, the input and so in the outputs, and nowhere else."""


@pytest.fixture(scope="module")
def run(system: System) -> dict[str, Any]:
    crew = [{"name": name, "systemPrompt": f"Say what the text says about {MARKER}."} for name in NAMES]
    workflow = system.push("Six in sequence", crew)
    return system.run(workflow, f"The ship to {MARKER} leaves on Monday. It carries tea.")


@pytest.mark.aws
def test_every_step_ran_once_and_in_order(run: dict[str, Any]) -> None:
    assert run["status"] == "completed"
    assert [step["step"] for step in run["steps"]] == NAMES
    assert all(step["status"] == "completed" and len(step["attempts"]) == 1 for step in run["steps"])
    for before, after in itertools.pairwise(run["steps"]):
        assert before["finished_at"] <= after["started_at"]
    assert run["output"] == run["steps"][-1]["output"]
    assert MARKER in run["output"]


@pytest.mark.aws
def test_totals_are_the_sum_of_the_attempts(system: System, run: dict[str, Any]) -> None:
    attempts = [attempt for step in run["steps"] for attempt in step["attempts"]]
    stored = shown(system.item(run["id"], "RUN"))
    for name in ("tokens_in", "tokens_out", "cost_usd"):
        total = sum(attempt[name] for attempt in attempts)
        assert total > 0
        assert run[name] == stored[name] == total
        assert sum(shown(row)[name] for row in system.usage(run["id"])) == total
    for attempt in attempts:
        exact = (3 * Decimal(attempt["tokens_in"]) + 15 * Decimal(attempt["tokens_out"])) / 1_000_000
        assert attempt["cost_usd"] == exact
    assert sum(row["steps"] for row in system.usage(run["id"])) == len(NAMES)
    assert run["simulated"] is True


def test_metrics_say_what_the_record_says(system: System, run: dict[str, Any]) -> None:
    workflow = run["workflow_id"]
    for step in run["steps"]:
        dimensions = {"workflow": workflow, "step": step["step"], "model": f"{step['model']} (simulated)"}
        assert system.metric("Cost", **dimensions) == (pytest.approx(float(step["cost_usd"])), 1)
        assert system.metric("InputTokens", **dimensions) == (step["tokens_in"], 1)
        assert system.metric("OutputTokens", **dimensions) == (step["tokens_out"], 1)
        assert system.metric("StepLatency", **dimensions) == (step["latency_ms"], 1)
    assert system.metric("RunCost", workflow=f"{workflow} (simulated)") == (pytest.approx(float(run["cost_usd"])), 1)
    assert system.metric("RunsCompleted", workflow=workflow) == (1, 1)
    assert system.metric("RunsFailed", workflow=workflow) == (0, 0)
    calls, _ = system.metric("ModelCalls", model="sim:base (simulated)")
    assert calls >= len(NAMES)
    # Nobody has called the model itself.
    assert system.metric("ModelCalls", model="sim:base") == (0, 0)
    assert system.metric("ModelLatency", model="sim:base") == (0, 0)


@pytest.mark.aws
def test_logs_hold_ids_and_figures_and_no_text(system: System, run: dict[str, Any]) -> None:
    lines: list[str] = []

    def arrived() -> bool:
        lines[:] = system.log_lines()
        return any(run["id"] in line for line in lines)

    system.until(arrived)
    assert not [line for line in lines if MARKER in line]


@pytest.mark.aws
def test_a_step_of_a_line_costs_one_transition_and_its_run_three(system: System, run: dict[str, Any]) -> None:
    workflow = system.push("One alone", [{"name": "alone"}])
    one = system.states_entered(system.run(workflow)["id"])
    six = system.states_entered(run["id"])
    assert (len(one), len(six)) == (3 + 1, 3 + len(NAMES))
    assert six.count("LineRunStep") == len(NAMES)
