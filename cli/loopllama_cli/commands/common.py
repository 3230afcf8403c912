"""What several commands share: options, and reading what people type."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from loopllama.core import clock, exact_json, moments, plain_text, tags
from loopllama.errors import InvalidRequest
from loopllama_cli import completion, target
from loopllama_cli.console import output
from loopllama_cli.target import Target

MOST = 999_999_999
"""The largest number that an option takes which counts something: more than any version, and any number of tokens or
of milliseconds, that there can be."""
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV on standard output: figures as they are, USD and ms.")]
Workflow = Annotated[
    str, typer.Argument(metavar="WORKFLOW", help="The workflow's id.", autocompletion=completion.workflows)
]
OldRun = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", autocompletion=completion.runs)]
RunId = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The run's id, or `last` for the newest.", autocompletion=completion.runs),
]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run until it ends.")]
Timeout = Annotated[
    float | None,
    typer.Option(min=0.1, max=31_536_000, metavar="SECONDS", help="Stop waiting after so long; the run goes on."),
]
Key = Annotated[
    str | None, typer.Option(metavar="KEY", help="Idempotency key: the same key starts the run once and then finds it.")
]

NO_PARAMETER = (
    "there is no parameter Tools any more; put its JSON into a file and name it: --tools FILE.json, or, while the "
    "stack runs: loopllama tools push FILE.json"
)
"""What to tell those who have their tools in the template's parameter, as they were at first."""
Tools = Annotated[
    Path | None,
    typer.Option("--tools", metavar="FILE.json", help="Define the tools of this file, as `loopllama tools push` does."),
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800}
CONNECTED = "loopllama.connected"
"""Under which name a command's context has the stack that it talks to."""
MAX_INPUT_BYTES = 16 * 1024 * 1024
"""The longest input that is read at all: the longest value that a run takes."""


def connect(ctx: typer.Context) -> Target:
    """Return the stack that the command line names. Raises `TargetMissing`, `TargetUnreachable`."""
    ctx.meta[CONNECTED] = connected = target.connect(ctx.obj or target.Choice())
    return connected


def is_a_terminal() -> bool:
    """Return whether somebody is there to answer."""
    return sys.stdin.isatty()


def ask(question: str, subject: str) -> None:
    """Ask whether to go on. Raises `InvalidRequest` where nobody is there to answer, naming the `subject`, and
    `typer.Exit` for a no."""
    if not is_a_terminal():
        raise InvalidRequest(f"there is nobody to ask {subject}: add --yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)


def either(as_json: bool, as_csv: bool) -> None:
    """Raise `InvalidRequest` where both forms are asked for."""
    if as_json and as_csv:
        raise InvalidRequest("--json and --csv exclude each other: name one")


def read_input(text: str) -> Any:
    """Return a run's input: the text itself, `@FILE`, or `-` for standard input. What is typed or piped in and is a
    JSON object is handed over as such. A file named `.json` must hold an object or a text; any other file is a text.
    Raises `InvalidRequest`."""
    content = read_text(text)
    path = Path(text[1:])
    if not text.startswith("@"):
        return _object(content)
    if path.suffix.lower() != ".json":
        return content
    try:
        value = exact_json.loads(content)
    except exact_json.NotTaken as error:
        raise InvalidRequest(f"{path}: {error}") from error
    except ValueError as error:
        raise InvalidRequest(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict | str):
        raise InvalidRequest(f"{path} must hold a JSON object or a text, not {type(value).__name__}")
    return value


def _object(content: str) -> Any:
    """Return the object that a text holds as JSON, else the text."""
    if not (content.lstrip().startswith("{") and content.rstrip().endswith("}")):
        return content
    try:
        value = exact_json.loads(content)
    except ValueError as error:
        output.message(f"The input looks like JSON, but is none ({error}): it is handed over as a text.", "yellow")
        return content
    return value if isinstance(value, dict) else content


def read_text(text: str) -> str:
    """Return the text itself, or what `@FILE` or `-`, for standard input, holds. Raises `InvalidRequest`."""
    if text == "-":
        return _text(sys.stdin.buffer.read(MAX_INPUT_BYTES + 1), "standard input")
    return _text(read_bytes(Path(text[1:])), text[1:]) if text.startswith("@") else text


def read_parameters(values: Sequence[str] | None) -> dict[str, str]:
    """`NAME=VALUE` and `NAME=@FILE` options as the template's parameters. Raises `InvalidRequest`."""
    given = read_pairs(values, "--parameter", "NAME=VALUE, such as --parameter RouteCacheSeconds=0")
    if "Tools" in given:
        raise InvalidRequest(f"--parameter Tools: {NO_PARAMETER}")
    return given


def read_pairs(values: Sequence[str] | None, option: str, example: str) -> dict[str, str]:
    """`KEY=TEXT` and `KEY=@FILE` options with what the files hold. Raises `InvalidRequest`."""
    return {key: read_text(value) for key, value in pairs(values, option, example).items()}


def read_bytes(path: Path) -> bytes:
    """Return a file's content. Raises `InvalidRequest` where it cannot be read or is too long for an input."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror or error}") from error


def _text(data: bytes, name: str) -> str:
    if len(data) > MAX_INPUT_BYTES:
        raise InvalidRequest(f"{name} is longer than {MAX_INPUT_BYTES:,} bytes, the most that an input may have")
    try:
        return plain_text.decoded(data)
    except plain_text.NotText as error:
        raise InvalidRequest(f"{name} {error}") from error


def pairs(values: Sequence[str] | None, option: str, example: str) -> dict[str, str]:
    """`KEY=VALUE` options as a dict; a key with a `=` stands in double quotes. Raises `InvalidRequest` for one without
    both parts, or a key twice."""
    values_by_name: dict[str, str] = {}
    for value in values or ():
        key, rest = (part.strip() for part in tags.split(value.strip()))
        if not (key and rest):
            raise InvalidRequest(f"{option} {value!r} is not valid: write {example}")
        if key in values_by_name:
            raise InvalidRequest(f"{option} names {key!r} twice")
        values_by_name[key] = rest
    return values_by_name


def parse_time(text: str) -> float:
    """`90s`, `30m`, `2h`, `7d` or `2w` in seconds. Raises `InvalidRequest`."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw])", text.strip())
    if match is None:
        raise InvalidRequest(
            f"{text!r} is not a valid length of time: write a number and s, m, h, d or w, such as 30m or 2h"
        )
    return float(match[1]) * _UNITS[match[2]]


def read_moment(text: str | None, option: str) -> str | None:
    """Return the time that somebody wrote as records say it: so long ago (`2h`), or a time in ISO 8601. Raises
    `InvalidRequest`."""
    if text is None:
        return None
    try:
        return clock.now_text(max(0.0, clock.now_seconds() - parse_time(text)))
    except InvalidRequest:
        pass
    try:
        return moments.read(text, option)
    except InvalidRequest as error:
        right = "write how long ago, such as 2h or 3d, or a time, such as 2026-11-28 or 2026-11-28T06:00:00Z"
        raise InvalidRequest.of(option, f"{text[:40]!r} is not a time: {right}") from error
