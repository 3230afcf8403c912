"""Every option of the command line that takes a number: what is no number, or none that is taken, is refused in a
sentence that names the option, before anything else happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from loopllama_cli.main import app

BIG = "9" * 400
NO_NUMBERS = ("", "x", "1,5", "0x10", "nan", "1e999", "-1e999", "inf", BIG, f"-{BIG}", "-1")
"""Of these no option takes any; those of whole numbers refuse `1.5` too."""


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))
    if not getattr(command, "commands", None):
        yield path, command


def _numeric(parameter: Any) -> bool:
    told = str(getattr(parameter.annotation if hasattr(parameter, "annotation") else None, "__name__", ""))
    return parameter.min is not None or parameter.max is not None or told in ("int", "float")


OPTIONS = [
    (path, command, parameter)
    for path, command in _commands(get_command(app))
    for parameter in command.params
    if parameter.opts[0].startswith("--") and _numeric(parameter)
]


def test_there_are_some() -> None:
    assert len(OPTIONS) > 15


@pytest.mark.parametrize(
    ("path", "command", "parameter"), OPTIONS, ids=[f"{' '.join(p)} {o.opts[0]}" for p, _, o in OPTIONS]
)
def test_what_is_no_number_is_refused(path: tuple[str, ...], command: Any, parameter: Any) -> None:
    needed = ["x" for one in command.params if one.required and not one.opts[0].startswith("-")]
    for text in NO_NUMBERS:
        result = CliRunner().invoke(app, [*path, *needed, f"{parameter.opts[0]}={text}"])
        assert result.exit_code == 2, (text, result.output, result.exception)
        said = " ".join(result.output.split())
        assert parameter.opts[0] in said, (text, said)
        assert "Traceback" not in said
