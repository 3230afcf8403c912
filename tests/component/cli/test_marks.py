"""Figures that are simulated, estimated or not known are marked wherever they are shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.deployment import Deployment, deployment
from typer.testing import CliRunner

from loopllama.core import exact_json
from loopllama.errors import ModelTimeout, RunFailed
from loopllama.llm.types import ModelRequest, ModelResponse, Usage
from loopllama_cli import target
from loopllama_cli.main import app
from loopllama_cli.target import Target

CASES: dict[str, tuple[ModelResponse | ModelTimeout, str]] = {
    "measured": (ModelResponse("x", Usage(100, 10)), r"\$0\.00045"),
    "simulated": (ModelResponse("x", Usage(100, 10), simulated=True), r"\$0\.00045\*"),
    "estimated": (ModelResponse("x", Usage(100, 10, estimated=True)), r"~\$0\.00045"),
    "lost": (ModelTimeout("silent", maybe_billed=True), r"unknown"),
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        monkeypatch.setattr(target, "connect", lambda _: Target("test", running.settings, {}, False))
        monkeypatch.setenv("COLUMNS", "160")
        yield running


def play(made: Deployment, name: str) -> str:
    answer, _ = CASES[name]

    def script(call: ModelRequest) -> ModelResponse:
        if isinstance(answer, Exception):
            raise answer
        return answer

    made.provider.script = script
    run_id = made.accept(made.push([{"name": "a", "retries": 0}], name=name))
    if isinstance(answer, Exception):
        with pytest.raises(RunFailed):
            made.play(run_id)
    else:
        made.play(run_id)
    return run_id


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code in (0, 1), result.output
    return result.output


@pytest.mark.parametrize("name", CASES)
def test_a_cost_says_how_certain_it_is(made: Deployment, name: str) -> None:
    run_id = play(made, name)
    pattern = CASES[name][1]
    for output in (shown("usage"), shown("usage", "--by", "model"), shown("runs", "list"), shown("trace", run_id)):
        line = next(
            line
            for line in output.splitlines()
            if re.search(rf"{name}|test:base", line) and re.search(r"\$|unknown", line)
        )
        expected = pattern if "share" not in output.lower() else pattern.replace(r"\*", "")
        assert re.search(rf"(?<![~≥]){expected}( |$)", line), output
    if name == "simulated":
        assert all("* simulated" in output for output in (shown("usage"), shown("runs", "list")))
        assert "SIMULATED" in shown("trace", run_id)
    if name == "estimated":
        assert all("~ estimated" in output for output in (shown("usage"), shown("runs", "list")))


def test_usage_tells_programs_what_is_simulated(made: Deployment) -> None:
    for name in ("measured", "simulated"):
        play(made, name)
    told = exact_json.loads(shown("usage", "--json"))
    assert {group["workflow"]: group["simulated"] for group in told["groups"]} == {"measured": False, "simulated": True}
    assert told["total"]["simulated"] is True


@pytest.mark.parametrize(("name", "marks"), [("measured", ""), ("estimated", "~"), ("simulated", "SIMULATED")])
def test_a_forecast_says_what_it_is_made_from(made: Deployment, name: str, marks: str) -> None:
    for _ in range(2):
        play(made, name)
    made.put_model("dear", "test", "dear")
    forecast, line = shown("whatif", name, "--set", "a=dear"), shown("routes", "set", name, "a", "dear")
    rows = [row for row in forecast.splitlines() if row.split()[:1] in (["a"], ["cost"])]
    assert [re.findall(r"~?\$[\d.]+", row) for row in rows] == [["~"[: marks == "~"] + "$0.00045"] * 2] * 2
    assert ("SIMULATED" in forecast, "simulated" in line) == (name == "simulated",) * 2
    assert ("~$" in line) is (name == "estimated")
    assert "Means a run, by 2 completed runs" in forecast
