"""`loopllama run`: start a run and follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from loopllama.core import exact_json
from loopllama.errors import RunNotFound
from loopllama.settings import Settings
from loopllama_cli import completion
from loopllama_cli.commands.common import Json, Key, Timeout, Wait, Workflow, connect, pairs, read_input
from loopllama_cli.commands.models.show import check_models
from loopllama_cli.console import event_stream, progress, questions
from loopllama_cli.console import output as show
from loopllama_cli.console.trace import print_trace
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.queries.types import RunView

LAST = "last"
"""What stands for the newest run."""
WAITS, TIMED_OUT = 6, 7
"""Exit codes of a run that waits for a person, and of one that was not waited for any longer."""


def run(
    ctx: typer.Context,
    workflow: Workflow,
    input_: Annotated[
        str,
        typer.Option(
            "--input",
            "-i",
            metavar="TEXT|@FILE|-",
            help="The run's input: a text or a JSON object, a file (JSON if named .json), or - for standard input.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEP=MODEL",
            help="The model of a step in this run only; `*` for all. Repeatable.",
            autocompletion=completion.step_models,
        ),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = None,
    key: Key = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag of the run. Repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Start a run of a workflow on an input, follow it step by step, and print its trace.

    Exit code 1 where the run fails or is cancelled, 6 where it waits for a person, 7 where --timeout ended the waiting.
    """
    models = pairs(model, "--model", "STEP=MODEL, such as --model writer=small or --model '*=small'")
    tags = pairs(tag, "--tag", "KEY=VALUE")
    value = read_input(input_)
    settings = connect(ctx).settings
    if models:
        check_models(settings, models.values())
    run_id = start(settings, workflow, value, models=models, key=key, tags=tags)
    finish(settings, run_id, wait=wait, timeout=timeout, as_json=as_json)


def finish(settings: Settings, run_id: str, *, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Follow a run that was started and print it; without `wait` print only its id. Exit code 1 where it fails, 6 where
    it waits for a person, 7 where the time is over, 130 where a person stops waiting."""
    if not wait:
        if as_json:
            show.print_json(read(settings, run_id))
        else:
            show.out().print(show.plain(run_id))
        return
    hint = f"Run {run_id} goes on. Follow it with: {next_command('trace', run_id)}"
    try:
        ended = follow(settings, run_id, timeout=timeout)
    except KeyboardInterrupt as interrupt:
        show.message(hint, "yellow")
        raise typer.Exit(130) from interrupt
    except TimeoutError as error:
        show.message(f"{error}. {hint}", "yellow")
        raise typer.Exit(TIMED_OUT) from error
    if as_json:
        show.print_json(ended)
    else:
        print_trace(ended)
        print_output(ended)
    if ended["status"] != "completed":
        raise typer.Exit(WAITS if ended["status"] == progress.WAITING else 1)


def start(settings: Settings, workflow: str, value: Any, **options: Any) -> str:
    """Start a run through the one way in; returns its id."""
    from loopllama.engine.accept import accept_run

    return str(accept_run(settings, workflow, value, **{name: given for name, given in options.items() if given}))


def read(settings: Settings, run_id: str) -> RunView:
    """Return the run object with its steps; `last` is the newest run. Raises `RunNotFound`."""
    from loopllama.queries.runs import RunReader

    return RunReader(settings).get(meant_run(settings, run_id))


def meant_run(settings: Settings, run_id: str) -> str:
    """Return a run's id: the one given, or that of the newest run for `last`. Raises `RunNotFound` where there is
    none."""
    from loopllama.queries.runs import RunReader

    if run_id != LAST:
        return run_id
    runs, _ = RunReader(settings).list(limit=1)
    if not runs:
        raise RunNotFound(f"There is no run yet; start one with: {next_command('run WORKFLOW --input TEXT')}")
    return str(runs[0]["id"])


def follow(settings: Settings, run_id: str, *, quiet: bool = False, timeout: float | None = None) -> RunView:
    """Show the run's progress until it ends or waits for a person; returns the run object. Raises `TimeoutError`."""
    ended = progress.wait(lambda: read(settings, run_id), quiet, timeout, event_stream.News(settings, run_id).wait)
    if ended["status"] == progress.WAITING:
        show.message(f"Run {run_id} waits for a person.", "yellow")
        questions.print_questions(ended, show.err())
    return ended


def print_output(run: RunView, console: Console | None = None) -> None:
    """Print what the run came to. Its error stands in its trace."""
    result = console is None
    console = console or show.out()
    if run.get("output") is not None:
        output = run["output"]
        console.rule("output", style="dim", align="left")
        text = output if isinstance(output, str) else exact_json.dumps(output, indent=2)
        # A result goes into a file or a pipe as it is: broken lines would be other text, and no JSON.
        console.print(show.plain(text), soft_wrap=result and not console.is_terminal)
