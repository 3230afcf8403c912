"""The program against the local stack: from a file to a comparison, what a person sees, how it fails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from loopllama.catalog.catalog import bundled
from loopllama.core import exact_json

from .conftest import Program

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "support_reply"
IMPOSSIBLE = """\
name: Impossible
crew:
  - role: Writer
    systemPrompt: Answer.
    retries: 0
    outputSchema: {type: object, required: [x], properties: {x: {type: string, enum: [a], minLength: 5}}}
"""


@pytest.fixture
def example(answer: Callable[..., Any]) -> str:
    pushed = answer("workflows", "push", EXAMPLE / "workflow.yaml", "--id", "cli_support_reply")
    return str(pushed["id"])


def test_from_a_file_to_a_comparison(loopllama: Program, answer: Callable[..., Any], example: str) -> None:
    moved = ("triage", "extract", "lookup", "check")
    frontier, small = (bundled().resolve(name).id for name in ("frontier", "small"))
    first = answer("run", example, "--input", f"@{EXAMPLE / 'input.txt'}", "--tag", "team=cli")
    assert [step["source"] for step in first["steps"]] == ["workflow-default"] * 6

    for step in moved:
        loopllama("routes", "set", example, step, "small", "--reason", "test")
    told = {one["step"]: (one["model"], one["source"]) for one in answer("routes", "list", example)}
    assert told == {
        step["step"]: (small, "step-override") if step["step"] in moved else (frontier, "workflow-default")
        for step in first["steps"]
    }
    second = answer("run", example, "--input", "-", text=(EXAMPLE / "input.txt").read_text())
    for step in moved:
        loopllama("routes", "unset", example, step)

    for run in (first, second):
        assert run["status"] == "completed"
        assert run["simulated"] is True
        assert run == answer("trace", run["id"])
        assert run["cost_usd"] == sum(step["cost_usd"] for step in run["steps"])
    assert {step["step"]: (step["model"], step["source"]) for step in second["steps"]} == told
    assert first["input"] == second["input"] == (EXAMPLE / "input.txt").read_text()
    assert first["tags"] == {"team": "cli"}

    result = answer("compare", first["id"], second["id"])
    assert (result["a"], result["b"]) == (first, second)
    assert result["cost_change"] == (second["cost_usd"] - first["cost_usd"]) / first["cost_usd"] < Decimal("-0.5")
    assert result["latency_change"] == pytest.approx(
        Decimal(second["latency_ms"] - first["latency_ms"]) / first["latency_ms"]
    )
    listed = {run["id"]: run for run in answer("runs", "list", example)}
    assert listed[first["id"]]["cost_usd"] == first["cost_usd"]


def test_what_a_person_sees(loopllama: Program, answer: Callable[..., Any], example: str) -> None:
    shown = loopllama("run", example, "--input", "Where is my order BH-1?", "--model", "*=small")
    steps = ("triage", "extract", "lookup", "draft", "check", "review")
    assert sorted(line.split(":")[0] for line in shown.stderr.splitlines()) == sorted(steps)
    run_id = next(word for word in shown.stdout.split() if word.startswith("run_"))
    trace = loopllama("trace", run_id).stdout
    assert trace in shown.stdout
    assert "SIMULATED" in trace
    assert "━" in trace
    trace_lines, output = shown.stdout.split("output ─", 1)[0].splitlines(), answer("trace", run_id)["output"]
    assert max(map(len, trace_lines)) <= 100
    assert shown.stdout.endswith(f"─\n{output}\n")  # no line of it is broken for a file
    assert all(step in trace for step in steps)
    assert run_id in loopllama("runs", "list").stdout
    assert "same" in loopllama("compare", run_id, run_id).stdout


def test_a_person_answers_or_cancels(loopllama: Program, answer: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "asks.yaml"
    file.write_text("name: Asks first\ncrew: [{role: Payer, systemPrompt: Pay., approval: true}]\n")
    loopllama("workflows", "push", file)
    approved, cancelled = (answer("run", "asks_first", "-i", "Pay the baker.", code=6) for _ in range(2))
    assert {approved["status"], cancelled["status"]} == {"waiting_input"}
    loopllama("runs", "respond", approved["id"], code=2)
    loopllama("runs", "respond", approved["id"], "--text", "no decision", code=2)
    asked = loopllama("runs", "respond", approved["id"], "--approve", "--text", "go on").stderr
    assert re.fullmatch(r"asks [0-9a-f]{16}  payer approval .*\nApprove step payer .*\nApproved\.\n", asked)
    loopllama("runs", "watch", approved["id"])
    assert answer("trace", approved["id"])["status"] == "completed"
    loopllama("runs", "respond", approved["id"], "--approve", code=4)
    assert answer("runs", "cancel", cancelled["id"])["status"] == "cancelled"


def test_a_replay_redoes_the_rest(loopllama: Program, answer: Callable[..., Any], tmp_path: Path) -> None:
    file, words = tmp_path / "two.yaml", tmp_path / "words.txt"
    file.write_text("name: Two\ncrew: [{role: First, systemPrompt: a}, {role: Second, systemPrompt: b}]\n")
    words.write_text("Answer in French.")
    loopllama("workflows", "push", file)
    first = answer("run", "two", "-i", "Where is my order?")
    small = bundled().resolve("small").id
    options = ("--model", "second=small", "--system-prompt", f"second=@{words}", "-i", "Where is my parcel?")
    second = answer("runs", "replay", first["id"], "--from-step", "second", *options)
    kept, redone = second["steps"]
    assert second["status"] == "completed"
    assert second["replayed_from"] == {"run_id": first["id"], "from_step": "second"}
    assert (kept["replayed_from"], kept["attempts"], kept["output"]) == (first["id"], [], first["steps"][0]["output"])
    assert (redone["model"], redone["source"]) == (small, "run")
    assert second["input"] == "Where is my parcel?"

    keyed = [loopllama("runs", "replay", first["id"], "--from-step", "first", "--key", "k-2", "--no-wait").stdout
             for _ in range(2)]  # fmt: skip
    assert keyed[0] == keyed[1] != f"{first['id']}\n"
    shown = loopllama("runs", "replay", first["id"], "--from-step", "second").stdout
    assert f"replayed from {first['id']} at second" in " ".join(shown.split())
    assert "kept" in shown
    for wrong, code in [
        (("--from-step", "third"), 2),
        (("--from-step", "second", "--system-prompt", "first=x"), 2),
        (("--from-step", "second", "--model", "second=gpt-nope"), 3),
    ]:
        assert loopllama("runs", "replay", first["id"], *wrong, code=code).stderr.startswith("error: ")


def test_a_run_that_fails(loopllama: Program, answer: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "impossible.yaml"
    file.write_text(IMPOSSIBLE)
    loopllama("workflows", "push", file)
    failed = answer("run", "impossible", "--input", "x", code=1)
    assert failed["status"] == "failed"
    assert "writer" in failed["error"]
    assert "OutputInvalid" in loopllama("trace", failed["id"]).stdout


def test_the_same_key_is_the_same_run(loopllama: Program, example: str) -> None:
    ids = [loopllama("run", example, "-i", "x", "--key", "k-1", "--no-wait").stdout for _ in range(2)]
    assert ids[0] == ids[1]
    assert ids[0].strip() in loopllama("run", example, "-i", "another", "--key", "k-1", code=4).stderr


def test_errors_are_a_line_and_a_code(loopllama: Program, example: str) -> None:
    for arguments, code in [
        (("run", "no_such_workflow", "-i", "x"), 3),
        (("run", example, "-i", "x", "--model", "triage=gpt-nope"), 3),
        (("run", example, "-i", "x", "--model", "nobody=small"), 2),
        (("run", example, "-i", ""), 2),
        (("trace", "run_nope"), 3),
        (("routes", "list", "no_such_workflow"), 3),
        (("routes", "set", example, "triage", "small", "--expected-version", "9"), 4),
    ]:
        done = loopllama(*arguments, code=code)
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_ctrl_c_leaves_the_run_going(product: Any, answer: Callable[..., Any], example: str) -> None:
    program = [sys.executable, "-m", "loopllama_cli", "run", example, "--input", "Where is my order?"]
    waiting = subprocess.Popen(
        [*program, "--local", product.stack.aws_endpoint_url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "shared"), str(ROOT / "cli")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    first = waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=60)
    assert first.split(":")[0] in ("triage", "extract")
    if waiting.returncode == 130:  # else the run had ended before the signal came
        assert f"loopllama --local {product.stack.aws_endpoint_url} trace run_" in err
        assert out == ""
        run_id = err.split()[-1]
    else:
        run_id = next(word for word in out.split() if word.startswith("run_"))
    for _ in range(100):
        found = answer("trace", run_id)
        if found["status"] != "running":
            break
    assert found["status"] == "completed"


def test_providers_are_stored_where_functions_look(loopllama: Program, product: Any) -> None:
    loopllama("providers", "set", "cli-house", "--base-url", "http://127.0.0.1:9/v1", text="house-key\n")
    name = product.outputs["ProviderSecretsPrefix"] + "cli-house"
    secret = product.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"]
    fields = exact_json.loads(secret)
    assert fields["base_url"] == "http://127.0.0.1:9/v1"
    assert fields["api_key"].startswith("kept-by-the-local-stack-")  # which functions are given another thing for
