"""The program `loopllama`: its commands, the options that all of them take, and what its exit codes mean."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from loopllama import __version__
from loopllama.core.names import near
from loopllama.errors import (
    Conflict,
    InvalidRequest,
    LoopLlamaError,
    ModelUnknown,
    NotFound,
    RunNotFound,
    WorkflowNotFound,
)
from loopllama_cli import examples
from loopllama_cli.commands import (
    advise,
    demo,
    deploy,
    destroy,
    doctor,
    init,
    keys,
    local,
    providers,
    run,
    runs,
    tools,
    trace,
    usage,
    whatif,
    workflows,
)
from loopllama_cli.commands.common import CONNECTED
from loopllama_cli.commands.models import probe
from loopllama_cli.commands.routes import history
from loopllama_cli.commands.run import TIMED_OUT, WAITS
from loopllama_cli.console import output
from loopllama_cli.target import Choice, TargetMissing, TargetUnreachable, next_command, remember

EXIT_CODES = {
    0: "done",
    1: "the thing itself failed: the run failed, or an error that is none of those below",
    2: "usage or bad input: an unknown option, a wrong file, a model that cannot do what the step needs",
    3: "not found: no such workflow, run or model",
    4: "conflict: somebody was faster, or the workflow is paused",
    5: "AWS or the stack cannot be reached, or does not let us in",
    WAITS: "waiting: the run waits for a person, `runs show` says for what",
    TIMED_OUT: "timed out: --timeout ended the waiting, the run goes on",
    130: "interrupted (Ctrl-C); a run that was being waited for goes on",
}
NEWEST_WORKFLOWS = 200
"""So many workflows are looked through for one that may be meant."""
_TAKE_A_VALUE = ("--stack", "--region", "--profile")
_FOLLOWING = {
    WorkflowNotFound: ("The workflows", "workflows list"),
    RunNotFound: ("The newest runs", "runs list"),
    ModelUnknown: ("The models", "models list"),
    TargetUnreachable: ("Look closer", "doctor"),
}
"""What to type after an error, and what it shows."""


def hoist(arguments: list[str]) -> list[str]:
    """Move the options of every command to the front, where the parser wants them, and give `--local` its value.

    So `loopllama runs list --local` and `loopllama --local runs list` are the same; what follows `--` stays.
    """
    front: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        following = arguments[position + 1] if position + 1 < len(arguments) else None
        position += 1
        if argument == "--":
            return [*front, *rest, *arguments[position - 1 :]]
        if argument == "--local":
            # The address is optional: only what looks like one is taken, so that a command may follow.
            url = following if following is not None and following.startswith(("http://", "https://")) else ""
            position += bool(url)
            front += ["--local", url]
        elif argument in _TAKE_A_VALUE and following is not None:
            front += [argument, following]
            position += 1
        elif argument == "--debug" or argument.startswith((*(f"{name}=" for name in _TAKE_A_VALUE), "--local=")):
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


def exit_code(error: BaseException) -> int:
    """Return the exit code that an error ends the program with."""
    if isinstance(error, InvalidRequest | TargetMissing):
        return 2
    if isinstance(error, NotFound | ModelUnknown):
        return 3
    if isinstance(error, Conflict):
        return 4
    if isinstance(error, TargetUnreachable) or type(error).__module__.startswith("botocore."):
        return 5
    return 1


class Program(TyperGroup):
    """The root of the commands: common options anywhere on the line, errors as one sentence and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, hoist(list(args)))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            foreign = type(error).__module__
            if not isinstance(error, LoopLlamaError) and not foreign.startswith("botocore."):
                raise
            if ctx.params.get("debug"):
                traceback.print_exc(file=sys.stderr)
            output.error(error)
            _say_near_workflow(ctx, error)
            for kind, (shows, words) in _FOLLOWING.items():
                if isinstance(error, kind) and ctx.invoked_subcommand != "demo":  # no stack outlives a demo
                    output.message(f"{shows}: {next_command(words)}", "dim")
            raise typer.Exit(exit_code(error)) from error


def _say_near_workflow(ctx: Any, error: Exception) -> None:
    """Name the workflow that may be meant, where the command has reached the stack that would have it."""
    from loopllama.workflows.store import DefinitionStore

    connected = ctx.meta.get(CONNECTED)
    if not isinstance(error, WorkflowNotFound) or not error.workflow_id or connected is None:
        return
    items, _ = DefinitionStore(connected.settings).list(limit=NEWEST_WORKFLOWS)
    for name in near(error.workflow_id, [item["workflow_id"] for item in items]):
        output.message(f"Did you mean {name}?")


app = typer.Typer(
    name="loopllama",
    cls=Program,
    no_args_is_help=True,
    # Tracebacks of bugs stay plain: the pretty ones print local variables, keys and prompts among them.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\n\n".join(
        [
            examples.shown([examples.EXAMPLES[name][0] for name in examples.ROOT]),
            "Exit codes: " + "; ".join(f"{code} {meaning.split(':')[0]}" for code, meaning in EXIT_CODES.items()),
        ]
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"loopllama {__version__}")
        raise typer.Exit


@app.callback()
def program(
    ctx: typer.Context,
    stack: Annotated[
        str | None, typer.Option(metavar="NAME", help="The deployed stack to talk to. Default: $LOOPLLAMA_STACK.")
    ] = None,
    local: Annotated[
        str | None,
        typer.Option(
            metavar="[URL]",
            help="Talk to a local stack. The address may be left out: $LOOPLLAMA_LOCAL or http://127.0.0.1:4599.",
        ),
    ] = None,
    region: Annotated[str | None, typer.Option(metavar="NAME", help="AWS region of the stack.")] = None,
    profile: Annotated[str | None, typer.Option(metavar="NAME", help="AWS profile with access to it.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,  # noqa: ARG001
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run crews of LLM agents on your own AWS account, each step on the model it deserves.

    The options below may stand anywhere on the line.
    """
    ctx.obj = Choice(stack=stack, local=local, region=region, profile=profile)
    ctx.call_on_close(remember(ctx.obj))


app.command("demo")(demo.demo)
app.command("init")(init.init)
app.command("local")(local.local)
app.command("deploy")(deploy.deploy)
app.command("destroy")(destroy.destroy)
app.command("doctor")(doctor.doctor)
app.command("run")(run.run)
app.command("trace")(trace.trace)
app.command("compare")(trace.compare)
app.command("usage")(usage.usage)
app.command("advise")(advise.advise)
app.command("whatif")(whatif.whatif)
app.add_typer(workflows.app, name="workflows")
app.add_typer(runs.app, name="runs")
app.add_typer(history.app, name="routes")
app.add_typer(probe.app, name="models")
app.add_typer(tools.app, name="tools")
app.add_typer(providers.app, name="providers")
app.add_typer(keys.app, name="keys")
examples.add(app)
