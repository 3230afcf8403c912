"""Every command's help ends with examples, and each of them is a line that the program takes."""

import shlex

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from loopllama_cli.docgen.commands import commands
from loopllama_cli.examples import EXAMPLES
from loopllama_cli.main import app, hoist

PROGRAM = get_command(app)
COMMANDS = dict(commands(PROGRAM, "loopllama"))


def test_every_command_has_some():
    assert {f"loopllama {name}" for name in EXAMPLES} == set(COMMANDS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_shows_them(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = CliRunner().invoke(app, [*name.split(), "--help"]).stdout
    for line in EXAMPLES[name]:
        assert f"loopllama {line}" in shown


@pytest.mark.parametrize(
    ("name", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines], ids=str
)
def test_they_are_taken(name, line):
    assert line.startswith(name)
    words = hoist(shlex.split(line))
    while words and words[0] in ("--stack", "--local"):
        words = words[2:]
    words = words[len(name.split()) :]
    COMMANDS[f"loopllama {name}"].make_context(name, words)
    assert len(f"loopllama {line}") <= 90
