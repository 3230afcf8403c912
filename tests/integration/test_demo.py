"""The demonstration: a fresh stack, two runs, and savings that are what tokens and prices say."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support import own_servers
from support.loopback import serving

from loopllama.catalog import pricing
from loopllama.catalog.catalog import bundled
from loopllama.core import exact_json
from loopllama.llm.types import Usage

ROOT = Path(__file__).parents[2]
ROUTINE = {"triage", "extract", "lookup", "check"}


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "shared"), str(ROOT / "cli")])
    return subprocess.run(
        [sys.executable, "-m", "loopllama_cli", "demo", "--speed", "40", *arguments],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "100", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def shown() -> Any:
    """What it printed and what it found."""
    done = demo("--json")
    assert done.returncode == 0, done.stderr
    return done.stderr, exact_json.loads(done.stdout)


def test_both_runs_complete_on_the_same_version(shown: Any) -> None:
    _, result = shown
    assert {result[run]["status"] for run in "ab"} == {"completed"}
    assert result["a"]["workflow_version"] == result["b"]["workflow_version"] == 1


def test_the_rows_moved_four_steps_and_no_other(shown: Any) -> None:
    _, result = shown
    frontier, small = (bundled().resolve(name).id for name in ("frontier", "small"))
    for before, after in zip(result["a"]["steps"], result["b"]["steps"], strict=True):
        moved = after["step"] in ROUTINE
        assert (before["model"], before["source"]) == (frontier, "workflow-default")
        assert (after["model"], after["source"]) == (
            (small, "step-override") if moved else (frontier, "workflow-default")
        )


def test_the_saving_is_what_tokens_and_prices_say(shown: Any) -> None:
    _, result = shown
    today = datetime.now(UTC)
    for run in (result["a"], result["b"]):
        for step in run["steps"]:
            usage = Usage(step["tokens_in"], step["tokens_out"])
            assert step["cost_usd"] == pricing.cost(bundled().resolve(step["model"]), usage, today)
        assert run["cost_usd"] == sum(Decimal(step["cost_usd"]) for step in run["steps"])
    a, b = result["a"]["cost_usd"], result["b"]["cost_usd"]
    assert result["cost_change"] == (b - a) / a < Decimal("-0.5")


def test_a_person_sees_two_traces_and_a_comparison_that_say_simulated(shown: Any) -> None:
    text, result = shown
    assert text.count(" SIMULATED ") == 3
    assert "a stand-in answered for models whose provider" in text
    assert "no function and no state machine changed" in text
    percent = round(result["cost_change"] * 100, 1)
    assert f"{percent:+}%" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_real_model_without_its_key_is_refused_at_once() -> None:
    done = demo("--model", "openai:gpt-5-mini")
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in done.stderr


def test_a_server_of_ones_own_just_works_without_a_key() -> None:
    with serving(own_servers.Ollama, seen=[]) as url:
        done = demo("--json", "--model", "ollama:llama3.2:latest", OLLAMA_BASE_URL=f"{url}/v1")
    assert done.returncode == 0, done.stderr
    assert "can: structured_output, tools; 4,096 tokens" in done.stderr
    steps = exact_json.loads(done.stdout)["a"]["steps"]
    assert {step["model"] for step in steps} == {"ollama:llama3.2:latest"}
    assert not any(step["simulated"] for step in steps)


def test_a_server_that_is_not_there_or_lacks_the_model_is_told_at_once() -> None:
    done = demo("--model", "ollama:llama3.2", OLLAMA_BASE_URL="http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert "Start it with: ollama serve" in " ".join(done.stderr.split())
    with serving(own_servers.Ollama, seen=[]) as url:
        done = demo("--model", "ollama:qwen3", OLLAMA_BASE_URL=f"{url}/v1")
    assert done.returncode == 3
    assert "it has llama3.2:latest. Get it with: ollama pull qwen3" in " ".join(done.stderr.split())
