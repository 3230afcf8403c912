"""`trace RUN --step NAME` and `--outputs`, of runs that the engine made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.deployment import Deployment, deployment
from typer.testing import CliRunner

from loopllama.core import exact_json
from loopllama.engine.replay import replay_run
from loopllama.llm.types import ModelRequest, ModelResponse, ToolCall, Usage
from loopllama.workflows.store import DefinitionStore
from loopllama_cli import target
from loopllama_cli.main import app
from loopllama_cli.target import Target

CREW = [
    {"name": "plan", "systemPrompt": "Plan it."},
    {"name": "pay", "systemPrompt": "Pay it.", "tools": ["calculator"]},
]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        monkeypatch.setattr(target, "connect", lambda _: Target("test", running.settings, {}, False))
        running.provider.script = answer
        yield running


def answer(call: ModelRequest) -> ModelResponse | str:
    """Plan, then call the tool twice, once in vain."""
    if call.system != "Pay it." or any(message.role == "tool" for message in call.messages):
        return f"{call.system} Done."
    asked = [("good", {"expression": "6 * 7"}), ("bad", {"expression": "6 / 0"})]
    calls = tuple(ToolCall(name, "calculator", given, exact_json.dumps(given)) for name, given in asked)
    return ModelResponse("", Usage(100, 10), "tool_calls", calls)


def trace(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["trace", *arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def played(made: Deployment) -> str:
    run_id = made.accept(made.push(CREW), "Order A-12")
    made.play(run_id)
    return run_id


def test_a_step_shows_what_it_received_called_and_gave(made: Deployment, played: str) -> None:
    shown = trace(played, "--step", "pay")
    prompt = next(step["input"] for step in made.read(played)["steps"] if step["step"] == "pay")
    assert prompt.replace("\n", "\n    ") in shown
    assert "  system prompt\n    Pay it.\n" in shown
    assert "✓ tool calculator" in shown
    assert '"expression": "6 * 7"' in shown
    assert "\n    42\n" in shown
    assert "✗ tool calculator failed" in shown
    assert shown.endswith("  output\n    Pay it. Done.\n\n")
    assert "plan  " not in shown
    (record,) = exact_json.loads(trace(played, "--step", "pay", "--json"))
    assert (record["step"], record["input"]) == ("pay", prompt)


def test_the_trace_tells_the_call_that_failed(played: str) -> None:
    shown = trace(played)
    assert "· pay  1 tool call: calculator" in shown
    assert "✗ pay  tool calculator failed" in shown
    assert "Plan it. Done." not in shown
    assert "plan  output\n    Plan it. Done.\n" in trace(played, "--outputs")


def test_a_replay_shows_the_prompts_that_it_tried(made: Deployment, played: str) -> None:
    again = replay_run(made.settings, played, "pay", system_prompts={"pay": "Pay it now."})
    made.play(again)
    assert "  system prompt\n    Pay it now.\n" in trace(again, "--step", "pay")


def test_a_workflow_that_was_deleted_takes_only_its_own_words_along(made: Deployment, played: str) -> None:
    DefinitionStore(made.settings).delete(made.read(played)["workflow_id"])
    shown = trace(played, "--step", "pay")
    assert "system prompt" not in shown
    assert "  prompt\n    # Input\n" in shown


def test_a_step_that_is_not_there_is_2(played: str) -> None:
    assert "has no step 'pya'; it has: plan, pay" in " ".join(trace(played, "--step", "pya", code=2).split())
