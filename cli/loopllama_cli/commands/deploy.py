"""`loopllama deploy`: the SAM CLI's build and deploy, of the template that this version carries."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from loopllama.core import exact_json
from loopllama.errors import LoopLlamaError
from loopllama_cli.commands.common import Tools, read_parameters
from loopllama_cli.console import output
from loopllama_cli.target import Choice, TargetMissing, use_account


class SamMissing(LoopLlamaError):
    """The SAM CLI is not on this machine."""


def deploy(
    ctx: typer.Context,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="A parameter of the template; `@FILE` for a file's content. Repeatable."
        ),
    ] = None,
    tools: Tools = None,
    guided: Annotated[bool, typer.Option("--guided", help="Be asked for everything; the answers can be kept.")] = False,
    confirm: Annotated[bool, typer.Option("--confirm/--no-confirm", help="Show the changes and ask.")] = True,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Take over the tables and buckets that a deleted stack of this name has left."),
    ] = False,
) -> None:
    """Deploy this version of LoopLlama to your AWS account, with AWS's SAM CLI.

    It is `sam build` and `sam deploy` of the template that came with this program, by the samconfig.toml of the folder
    that you are in. `--stack` names the stack where that says nothing, or another one. Running it again upgrades, or
    changes parameters; those not named keep their values. Exit code 1 where SAM fails, or where the tools of --tools
    could not be written afterwards.

    Before, it says where the region has no Bedrock. Afterwards it says which better models this account can call, and
    offers to point the aliases frontier, balanced and small at them; without a terminal, or with --no-confirm, it
    prints the commands.

    A stack that was deleted has left its tables and buckets, and a new one of its name makes its own. With --adopt it
    takes over those of the last stack of that name: workflows, routes, models, keys, runs and usage are there again.
    """
    from loopllama_cli import tool_files
    from loopllama_cli.doctor import deployment
    from loopllama_cli.project import project_root

    choice = ctx.obj
    parameters = read_parameters(parameter)
    deployment.check_config()
    definitions = tool_files.load(tools) if tools else {}
    sam = find_sam()
    account = [f"--{name}={value}" for name in ("region", "profile") if (value := getattr(choice, name))]
    options = [*account, *([f"--stack-name={choice.stack}"] if choice.stack else [])]
    if guided:
        options.append("--guided")
    else:
        options.append("--confirm-changeset" if confirm else "--no-confirm-changeset")
        options.append("--no-fail-on-empty-changeset")
        if not Path(deployment.CONFIG).exists():
            options += ["--capabilities=CAPABILITY_IAM", "--resolve-s3"]
            options += [f"--s3-prefix={choice.stack}"] if choice.stack else []
    ask = _ask if confirm and _is_somebody_there() else None
    if not deployment.before(deployment.completed(choice), ask):
        raise typer.Exit(1)
    if adopt:
        _adopt(deployment.completed(choice), ask)
    template = project_root() / "template.yaml"
    with tempfile.TemporaryDirectory() as folder:
        if parameters:
            file = Path(folder, "parameters.yaml")
            overrides = {name: as_sam_takes_it(value) for name, value in parameters.items()}
            file.write_text(json.dumps(overrides, ensure_ascii=False), encoding="utf-8")  # which YAML is, too
            options.append(f"--parameter-overrides=file://{file}")
        _run(sam, "build", f"--template={template}", *account)
        _run(sam, "deploy", *options)
    choice = deployment.completed(choice)  # --guided may have written the file
    defined = deployment.define_tools(choice, definitions, str(tools))
    deployment.after(choice, ask)
    if not defined:
        raise typer.Exit(1)


def _adopt(choice: Choice, ask: Callable[[str], bool] | None) -> None:
    """Make the stack of what a deleted one has left, if the person says yes."""
    from loopllama_cli import adoption, removal

    if not choice.stack:
        raise TargetMissing("Say whose tables are to be taken over: loopllama --stack NAME deploy --adopt")
    use_account(choice)
    left = adoption.find(choice.stack)
    if left is None:
        output.message(f"{choice.stack} has taken over what was left already, and is deployed now.")
        return
    output.message(f"Left by the deleted stack {choice.stack} of {left.created_at:%Y-%m-%d %H:%M} (UTC):")
    for kind, name in left.resources.values():
        output.message(f"{removal.KINDS_OF[kind]:<14} {name}")
    if ask is not None and not ask("Take them over into a new stack?"):
        raise typer.Exit(1)
    adoption.adopt(choice.stack, left)


def _is_somebody_there() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask(question: str) -> bool:
    return typer.confirm(question, err=True)


def find_sam() -> str:
    """Return the SAM CLI on the path, or beside this Python. Raises `SamMissing`."""
    sam = shutil.which("sam") or shutil.which("sam", path=str(Path(sys.executable).parent))
    if sam is None:
        raise SamMissing(
            "deploying needs AWS's SAM CLI, which is not here: pipx install aws-sam-cli, or see "
            "https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/install-sam-cli.html"
        )
    return sam


def as_sam_takes_it(value: str) -> str:
    """Return a parameter's value that the SAM CLI leaves as it is. It takes a pair of quotes around a value, and a
    backslash before a quote, for its own (`samcli.cli.types`): JSON can be written without either at these places."""
    try:
        exact_json.loads_around(value)
    except ValueError:
        return value
    plain = re.sub(r'\\(["\\])', lambda escaped: f"\\u{ord(escaped[1]):04x}", value)
    return f" {plain}" if plain.startswith('"') else plain


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False)  # noqa: S603 - the SAM CLI, with options that are one word each
    if done.returncode:
        output.message(f"{Path(command[0]).name} {command[1]} failed (exit code {done.returncode})", "bold red")
        raise typer.Exit(1)
