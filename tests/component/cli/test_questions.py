"""`runs show`, `runs watch` and `runs respond` of a run that asks several people at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.deployment import Deployment, deployment
from typer.testing import CliRunner, Result

from loopllama.core import exact_json
from loopllama.engine import human_input
from loopllama.events.derive import events_of
from loopllama.llm.types import ModelRequest, ModelResponse, ToolCall, Usage
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
        assert (answered.exit_code, asked["prompt"] in answered.stderr, answered.stderr.splitlines()[-1]) == (
            *(0, True),
            "Approved.",
        )
    assert "asks" not in runs("show", asking).stdout


def test_an_answer_to_none_of_them_names_their_ids(made: Deployment, asking: str) -> None:
    refused = runs("respond", asking, "--approve")
    assert refused.exit_code == 4
    for asked in made.read(asking)["questions"]:
        assert f"{asked['id']} ({asked['step']}: approval" in refused.stderr
    first, second = (asked["id"] for asked in made.read(asking)["questions"])
    assert runs("respond", asking, "--question", first, "--reject").exit_code == 0
    assert f"--question {second}" in runs("show", asking).stdout, "a command that is pasted answers no later question"
    assert runs("respond", asking, "--approve").exit_code == 0


def test_what_is_approved_is_shown_whole_first_and_nothing_else_is(
    made: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool's arguments are printed to the last character, those that cannot be seen escaped, before the answer is
    written; what is asked behind it is another question."""
    arguments = {"to": "x" * 5000, "text": "pay \u202e001 to Bob\u200b", "": [1]}

    def script(call: ModelRequest) -> ModelResponse:
        made_calls = len([message for message in call.messages if message.role == "tool"])
        given = arguments if not made_calls else {"to": "the next one"}
        return ModelResponse("", Usage(1, 1), "tool_calls", (ToolCall(f"t{made_calls}", "mail", given),))

    made.provider.script = script
    made.define_tools(mail={"type": "lambda", "function": "f", "description": "d", "parameters": {"type": "object"}})
    run_id = made.accept(made.push([{"name": "a", "tools": ["mail"], "approval": {"tools": ["mail"]}}]))
    work = made.map(made.start(run_id))[0]
    made.step(work)
    [asked] = made.read(run_id)["questions"]
    seen: list[str] = []
    respond = human_input.respond

    def somebody_was_faster(*given: Any) -> Any:
        seen.append(given[-1])
        respond(made.runs, run_id, {"approved": False})
        made.step(work)
        return respond(*given)

    monkeypatch.setattr(human_input, "respond", somebody_was_faster)
    refused = runs("respond", run_id, "--approve")
    assert seen == [asked["id"]]
    shown = refused.stderr[refused.stderr.index("{") : refused.stderr.rindex("}") + 1]
    assert exact_json.loads(shown) == arguments
    assert "pay \\u202e001 to Bob\\u200b" in shown
    assert f"asks {asked['id']}  a approval mail" in refused.stderr
    assert refused.exit_code == 4
    [following] = made.read(run_id)["questions"]
    assert following["tool_input"] == {"to": "the next one"}, "nobody has approved it"


def test_a_terminal_asks_for_the_decision(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loopllama_cli.commands.runs.is_a_terminal", lambda: True)
    run_id = made.accept(made.push([{"name": "a", "approval": True}]))
    made.step(made.map(made.start(run_id))[0])
    answered = CliRunner().invoke(app, ["runs", "respond", run_id], input="n\n")
    assert answered.stderr.index("Approve step a") < answered.stderr.index("Approve?")
    assert "Rejected." in answered.stderr


def test_the_newest_run_is_not_asked_about_where_an_id_is_needed(
    made: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`last` may be another run by the time that somebody answers: it is refused before anybody is asked."""
    monkeypatch.setattr("loopllama_cli.commands.runs.is_a_terminal", lambda: True)
    made.step(made.map(made.start(made.accept(made.push([{"name": "a", "approval": True}]))))[0])
    refused = CliRunner().invoke(app, ["runs", "respond", "last"], input="y\n")
    assert (refused.exit_code, "Approve" in refused.stderr) == (3, False)


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
