"""`runs show`, `runs watch` and `runs respond` of a run that asks several people at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.deployment import Deployment, deployment
from typer.testing import CliRunner, Result

from loopllama.events.derive import events_of
from loopllama_cli import target
from loopllama_cli.console import event_stream, output
from loopllama_cli.main import app
from loopllama_cli.target import Target


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        monkeypatch.setattr(target, "connect", lambda _: Target("test", running.settings, {}, False))
        yield running


def runs(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["runs", *arguments])


@pytest.fixture
def asking(made: Deployment) -> str:
    crew = [{"name": name, "needs": [], "approval": True} for name in ("legal", "money")]
    run_id = made.accept(made.push(crew))
    for work in made.map(made.start(run_id)):
        assert made.step(work)["outcome"] == "waiting"
    return run_id


def test_all_questions_are_shown_with_the_command_that_answers_each(made: Deployment, asking: str) -> None:
    shown = runs("show", asking).stdout
    for asked in made.read(asking)["questions"]:
        assert f"asks {asked['id']}  {asked['step']} approval  until " in shown
        assert asked["prompt"] in shown
        command = f"loopllama runs respond {asking} --question {asked['id']} --approve (or --reject)"
        assert command in shown
        answered = runs("respond", asking, "--question", asked["id"], "--approve")
        assert (answered.exit_code, asked["prompt"] in answered.stderr) == (0, True)
    assert "asks" not in runs("show", asking).stdout


def test_an_answer_to_none_of_them_names_their_ids(made: Deployment, asking: str) -> None:
    refused = runs("respond", asking, "--approve")
    assert refused.exit_code == 4
    for asked in made.read(asking)["questions"]:
        assert f"{asked['id']} ({asked['step']}: approval" in refused.stderr
    first, second = (asked["id"] for asked in made.read(asking)["questions"])
    assert runs("respond", asking, "--question", first, "--reject").exit_code == 0
    assert f"--question {second}" not in runs("show", asking).stdout, "one question needs no id"
    assert runs("respond", asking, "--approve").exit_code == 0


def test_events_of_questions_name_their_ids(capsys: pytest.CaptureFixture[str]) -> None:
    from support.stream_records import moment, record, run_item

    started = run_item("r", "running", started_at=moment(1))
    question = {"key": "start", "kind": "approval", "step": "pay", "asked_at": moment(2), "expires_at": moment(90)}
    told = {**question, "expiring_since": moment(80)}
    events = events_of(record(started, {**started, "pending": {"STEP#pay#0#0": told}}))
    for number, event in enumerate(events, 1):
        shown = {"id": str(number), "type": event.type, "at": event.at, "run_id": "r", **event.detail}
        event_stream.print_event(shown, output.out(), False)  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2:5] for line in lines] == [
        [kind, "pay", "approval"] for kind in ("RunWaiting", "QuestionExpiring")
    ]
    assert all(line.endswith(str(events[0].detail["question"])) for line in lines)
