"""Commands on runs: what they start, what they print, how they end."""

from decimal import Decimal

import pytest
from support.command_line import answer, invoke

from loopllama.engine import accept
from loopllama.errors import WorkflowPaused
from loopllama.queries.runs import RunReader
from loopllama_cli.console import progress

# Runs


@pytest.fixture
def accepted(monkeypatch):
    """Runs are accepted and read as these say."""
    asked = []

    def accept_run(settings, workflow, value, **options):
        asked.append((workflow, value, options))
        return "run_1"

    states = {"run_1": {"id": "run_1", "workflow_id": "w", "status": "completed", "output": "Done.", "steps": []}}
    monkeypatch.setattr(accept, "accept_run", accept_run)
    monkeypatch.setattr(RunReader, "get", lambda self, run_id: states[run_id])
    monkeypatch.setattr("time.sleep", lambda _: None)
    return asked, states


def test_a_run_is_started_as_asked(accepted, tmp_path):
    asked, _ = accepted
    (tmp_path / "t.txt").write_text("from a file", "utf-8")
    (tmp_path / "t.json").write_text('{"order": 4411, "total": 0.1}')
    result = invoke(
        "run", "w", "--input", "hello", "--model", "writer=small", "--model", "*=openai:a=b", "--tag", "team=x"
    )
    assert "Done." in result.stdout
    invoke("run", "w", "-i", f"@{tmp_path / 't.txt'}", "--key", "k1")
    invoke("run", "w", "-i", f"@{tmp_path / 't.json'}")
    invoke("run", "w", "-i", "-", input="from a pipe")
    assert asked == [
        ("w", "hello", {"models": {"writer": "small", "*": "openai:a=b"}, "tags": {"team": "x"}}),
        ("w", "from a file", {"key": "k1"}),
        ("w", {"order": 4411, "total": Decimal("0.1")}, {}),
        ("w", "from a pipe", {}),
    ]


def test_an_input_may_be_saved_by_windows(accepted, tmp_path):
    asked, _ = accepted
    files = {
        "bom.json": b'\xef\xbb\xbf{"n": 1}',
        "CAPITALS.JSON": b'{"n": 1}',
        "bom.txt": b"\xef\xbb\xbfa\r\nb\r\n",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        invoke("run", "w", "-i", f"@{tmp_path / name}")
    invoke("run", "w", "-i", "-", input=b"\xef\xbb\xbfhi")
    assert [run_input for _, run_input, _ in asked] == [{"n": 1}, {"n": 1}, "a\r\nb\r\n", "hi"]
    for name in ("wide.json", "wide.txt"):
        (tmp_path / name).write_bytes('{"n": 1}'.encode("utf-16"))
        told = invoke("run", "w", "-i", f"@{tmp_path / name}", code=2).stderr
        assert f"{name} is UTF-16, not UTF-8: save it as UTF-8" in " ".join(told.split())
    told = invoke("run", "w", "-i", "-", input="hi".encode("utf-16"), code=2).stderr
    assert "standard input is UTF-16" in " ".join(told.split())


def test_not_waiting_prints_the_id(accepted):
    assert invoke("run", "w", "-i", "x", "--no-wait").stdout == "run_1\n"
    assert answer("run", "w", "-i", "x", "--no-wait")["id"] == "run_1"


def test_a_run_that_fails_is_1(accepted):
    _, states = accepted
    states["run_1"] |= {"status": "failed", "error": "step 'writer': OutputInvalid: no", "output": None}
    assert "step 'writer': OutputInvalid: no" in invoke("run", "w", "-i", "x", code=1).stdout
    assert answer("run", "w", "-i", "x", code=1)["status"] == "failed"


def test_ctrl_c_leaves_the_run_going(accepted, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(progress, "wait", interrupt)
    assert "loopllama trace run_1" in invoke("run", "w", "-i", "x", code=130).stderr


def test_waiting_no_longer_than_asked(accepted):
    _, states = accepted
    states["run_1"]["status"] = "running"
    assert "goes on" in invoke("run", "w", "-i", "x", "--timeout", "0.1", code=7).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input", "@/does/not/exist"),
        ("--input", "x", "--model", "small"),
        ("--input", "x", "--model", "a=b", "--model", "a=c"),
        ("--input", "x", "--tag", "=v"),
    ],
)
def test_what_cannot_be_started_is_2(accepted, arguments):
    invoke("run", "w", *arguments, code=2)
    assert accepted[0] == []


def test_a_model_that_nobody_knows_starts_nothing(accepted):
    assert "gpt-nope" in invoke("run", "w", "-i", "x", "--model", "writer=gpt-nope", code=3).stderr
    assert accepted[0] == []


def test_inputs_that_are_no_text_are_refused(accepted, tmp_path):
    (tmp_path / "t.bin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "t.json").write_text("[1]")
    (tmp_path / "u.json").write_text("{")
    for name in ("t.bin", "t.json", "u.json"):
        assert name in invoke("run", "w", "-i", f"@{tmp_path / name}", code=2).stderr


def test_a_paused_workflow_is_a_conflict(accepted, monkeypatch):
    def paused(*_, **__):
        raise WorkflowPaused("w is paused")

    monkeypatch.setattr(accept, "accept_run", paused)
    assert invoke("run", "w", "-i", "x", code=4).stderr == "error: w is paused\n"


def test_trace_show_and_compare(accepted):
    _, states = accepted
    states["run_1"] |= {"cost_usd": Decimal("0.01"), "latency_ms": 1000}
    states["run_2"] = states["run_1"] | {"id": "run_2", "cost_usd": Decimal("0.004"), "latency_ms": 500}
    assert answer("trace", "run_1") == states["run_1"] == answer("runs", "show", "run_1")
    assert "run_1" in invoke("trace", "run_1").stdout
    assert "Done." in invoke("runs", "show", "run_1").stdout
    told = answer("compare", "run_1", "run_2")
    assert (told["cost_change"], told["latency_change"]) == (Decimal("-0.6"), Decimal("-0.5"))
    assert (told["a"]["id"], told["b"]["id"]) == ("run_1", "run_2")
    assert "-60.0%" in invoke("compare", "run_1", "run_2").stdout


def test_a_run_that_does_not_exist_is_3():
    assert "run_x" in invoke("trace", "run_x", code=3).stderr


def test_nothing_to_list_is_said():
    for command in ("runs", "workflows"):
        assert "There are no" in invoke(command, "list").stderr
        assert answer(command, "list") == []
