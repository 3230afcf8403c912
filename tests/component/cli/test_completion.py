"""What a shell completes, asked as zsh asks: names of the stack that the line names, and nothing where it is away."""

import os
import re

import pytest
from support.command_line import CREW, SETTINGS, TABLES, invoke
from support.moto_account import account, create_tables
from typer.testing import CliRunner

from loopllama.queries.runs import RunReader
from loopllama_cli import target
from loopllama_cli.main import app
from loopllama_cli.target import Target


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """A stack in memory with a crew; which targets were asked for."""
    choices = []
    for name in [*os.environ]:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with account(monkeypatch):
        create_tables(TABLES, "eu-west-1")
        monkeypatch.setattr(
            target, "connect", lambda choice: choices.append(choice) or Target("test", SETTINGS, {}, False)
        )
        monkeypatch.setattr(RunReader, "list", lambda *_, **__: ([{"id": "run_1"}], None))
        monkeypatch.setattr(RunReader, "get", lambda *_: {"workflow_id": "support_reply"})
        (tmp_path / "crew.yaml").write_text(CREW)
        invoke("workflows", "push", tmp_path / "crew.yaml")
        choices.clear()
        yield choices


def completed(line):
    environment = {"_LOOPLLAMA_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"loopllama {line}"}
    result = CliRunner().invoke(app, [], env=environment, prog_name="loopllama")
    assert result.stderr == ""
    return re.findall(r'"([^"]+)"', result.stdout)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("workflows show ", ["support_reply"]),
        ("run sup", ["support_reply"]),
        ("run other", []),
        ("trace ", ["last", "run_1"]),
        ("runs wait run", ["run_1"]),
        ("runs cancel ", ["last", "run_1"]),
        ("routes set support_reply ", ["triage", "writer", "*"]),
        ("routes set support_reply wri", ["writer"]),
        ("routes set support_reply writer smal", ["small"]),
        ("run support_reply --model wr", ["writer="]),
        ("whatif support_reply --set writer=smal", ["writer=small"]),
        ("runs replay run_1 --from-step tri", ["triage"]),
        ("models disable balan", ["balanced"]),
        ("providers set anth", ["anthropic"]),
    ],
)
def test_names_of_the_stack(asked, line, offered):
    assert completed(line) == offered


def test_the_stack_is_the_one_that_the_line_names(asked):
    assert completed("--stack prod --region eu-west-1 trace ") == completed("trace --stack prod --region eu-west-1 ")
    assert {(choice.stack, choice.region) for choice in asked} == {("prod", "eu-west-1")}


def test_nothing_is_said_where_the_stack_is_away(monkeypatch):
    def away(_):
        raise target.TargetUnreachable("no")

    monkeypatch.setattr(target, "connect", away)
    assert completed("trace ") == []
