"""What the program says when something is not as it should be: each error once, with what may be meant and a command
that can be pasted."""

import pytest
from support.command_line import answer, invoke

from loopllama.catalog.catalog import bundled
from loopllama.core.names import plural
from loopllama.engine import accept
from loopllama.errors import InvalidRequest
from loopllama.queries.runs import RunReader
from loopllama_cli.console import output
from loopllama_cli.main import app
from loopllama_cli.target import AFTER_CONNECTING, Choice, complete, remember

RUN = {"id": "run_2", "workflow_id": "support_reply", "status": "completed", "output": "Done.", "steps": []}


@pytest.fixture
def runs(monkeypatch):
    """Runs as they are read, the newest first."""
    there = {"run_2": dict(RUN), "run_1": {**RUN, "id": "run_1", "output": "Old."}}
    monkeypatch.setattr(RunReader, "get", lambda _, run_id: there[run_id])
    monkeypatch.setattr(RunReader, "list", lambda *_, **__: (list(there.values())[:1], None))
    monkeypatch.setattr("time.sleep", lambda _: None)
    return there


@pytest.mark.parametrize(
    ("arguments", "code", "meant"),
    [
        (("workflows", "show", "suport_reply"), 3, "Did you mean support_reply?"),
        (("run", "suport_reply", "-i", "x"), 3, "Did you mean support_reply?"),
        (("routes", "list", "suport_reply"), 3, "Did you mean support_reply?"),
        (("run", "support_reply", "-i", "x", "--model", "writr=small"), 2, "did you mean writer?"),
        (("routes", "set", "support_reply", "writr", "small"), 2, "did you mean writer?"),
        (("routes", "unset", "support_reply", "writr"), 2, "did you mean writer?"),
        (("routes", "history", "support_reply", "writr"), 2, "did you mean writer?"),
        (("whatif", "support_reply", "--set", "writr=small"), 2, "did you mean writer?"),
        (("run", "support_reply", "-i", "x", "--model", "writer=smal"), 3, "did you mean small"),
        (("models", "show", "opnai:gpt-5"), 3, "did you mean openai:gpt-5"),
        (("models", "list", "--provider", "opnai"), 3, "did you mean openai?"),
        (("providers", "set", "opnai"), 2, "did you mean openai?"),
        (("tools", "show", "calculater"), 3, "did you mean calculator?"),
        (("tools", "delete", "calculater"), 3, "did you mean calculator?"),
        (("routes", "set", "support_reply", "writer", "--policy", "cheepest"), 2, "did you mean cheapest?"),
        (("runs", "list", "--status", "complted"), 2, "did you mean completed?"),
        (("usage", "--by", "stp"), 2, "did you mean step?"),
        (("workflow", "list"), 2, "Did you mean 'workflows'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_may_be_meant_is_named_once(pushed, arguments, code, meant):
    said = " ".join(invoke(*arguments, code=code, input="").stderr.split())
    assert said.lower().count(meant.lower()) == 1
    assert "?;" not in said
    assert "?." not in said


def test_aliases_are_suggested_first():
    entries = [{"model": "smallish", "alias_of": "small"}, {"model": "house-smaller", "provider": "openai"}]
    assert bundled().with_entries(entries).near("smalle")[:2] == ["small", "smallish"]


@pytest.mark.parametrize(
    ("problem", "lines"),
    [
        (InvalidRequest.of("status", "must be one of a, b"), ["error: status: must be one of a, b"]),
        (
            InvalidRequest.of("models.x", "no such step", sentence="there is no step 'x'"),
            ["error: there is no step 'x'"],
        ),
        (
            InvalidRequest.of("input", "give a text", sentence="the run's input is empty"),
            ["error: the run's input is empty"],
        ),
        (
            InvalidRequest.of_all([{"field": "a", "message": "is wrong"}, {"field": "b", "message": "is too long"}]),
            ["error: a: is wrong", "  b: is too long"],
        ),
        (
            InvalidRequest("2 mistakes", [{"line": 3, "field": "a", "message": "is wrong"}]),
            ["error: 2 mistakes", "  line 3: a: is wrong"],
        ),
    ],
)
def test_an_error_is_said_once(capsys, problem, lines):
    output.error(problem)
    assert capsys.readouterr().err.splitlines() == lines


def test_commands_in_texts_can_be_pasted(monkeypatch, pushed):
    told = "set it with: loopllama providers set openai (see `loopllama doctor --stack NAME`), or loopllama local"
    forget = remember(Choice(local="http://127.0.0.1:1"))
    assert complete(complete(told)) == (
        "set it with: loopllama --local http://127.0.0.1:1 providers set openai "
        "(see `loopllama --local http://127.0.0.1:1 doctor`), or loopllama local"
    )
    forget()
    said = invoke("routes", "set", pushed, "writer", "gpt-5", "--stack", "prod", code=2).stderr
    assert "loopllama --stack prod providers set openai" in said
    price = invoke("routes", "set", pushed, "writer", "openai:nobody-knows", "--stack", "prod", code=2).stderr
    assert "loopllama --stack prod models price openai:nobody-knows --input USD --output USD" in price


def test_the_commands_that_are_completed_are_there():
    names = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    assert set(AFTER_CONNECTING) <= names


def test_last_is_the_newest_run(runs):
    assert answer("trace", "last")["id"] == answer("runs", "show", "last")["id"] == "run_2"
    assert answer("runs", "wait", "last")["id"] == "run_2"
    assert "Old." in invoke("runs", "show", "run_1").stdout
    runs.clear()
    said = invoke("trace", "last", "--stack", "prod", code=3).stderr
    assert "There is no run yet; start one with: loopllama --stack prod run WORKFLOW" in said


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1), ("waiting_input", 6), ("running", 7)]
)
def test_how_a_run_ends_is_an_exit_code(runs, monkeypatch, status, code):
    runs["run_2"]["status"] = status
    monkeypatch.setattr(accept, "accept_run", lambda *_, **__: "run_2")
    monkeypatch.setattr("loopllama_cli.console.event_stream.News.wait", lambda *_: None)
    for command in (("runs", "wait", "run_2"), ("run", "support_reply", "-i", "x")):
        result = invoke(*command, "--timeout", "0.1", code=code)
    if code == 7:
        assert "loopllama trace run_2" in result.stderr


@pytest.mark.parametrize(
    ("typed", "piped", "taken"),
    [
        ('{"order": 4411}', None, {"order": 4411}),
        ("-", ' {"order": 4411}\n', {"order": 4411}),
        ("{not JSON}", None, "{not JSON}"),
        ('["a"]', None, '["a"]'),
        ("-", "hello", "hello"),
    ],
)
def test_json_may_be_typed_or_piped_in(runs, monkeypatch, typed, piped, taken):
    asked = []
    monkeypatch.setattr(accept, "accept_run", lambda *given, **_: asked.append(given[2]) or "run_2")
    said = invoke("run", "support_reply", "--input", typed, "--no-wait", input=piped).stderr
    assert asked == [taken]
    assert ("looks like JSON, but is none" in said) == (typed == "{not JSON}")


def test_counts_are_words():
    assert (plural(1, "run"), plural(2, "run"), plural(0, "run")) == ("1 run", "2 runs", "0 runs")
