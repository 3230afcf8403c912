"""`loopllama doctor`: what is wrong with a set-up, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from loopllama_cli.commands.common import Json
from loopllama_cli.console import output
from loopllama_cli.target import Choice, complete

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    ctx: typer.Context,
    call: Annotated[
        bool, typer.Option("--call", help="Ask every model in use for one word, with your own credentials. It is paid.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check this machine, the credentials, the stack's parts, its keys and the models in use; say what to do.

    Where the account lacks access to a model on Bedrock it prints the commands that get it. Changes nothing. With
    --json a list of `{what, status, found, todo}`. Exit code 1 where something fails; a warning is none.
    """
    from loopllama_cli.doctor import examine
    from loopllama_cli.doctor.findings import Check

    console, checks = output.out(), list[Check]()
    for check in examine(ctx.obj or Choice(), call):
        check = check._replace(todo=complete(check.todo))
        checks.append(check)
        if not as_json:
            status = Text(f"{check.status:<4} ", _STYLES[check.status])
            console.print(Text.assemble(status, (f"{check.what}: ", "bold"), output.plain(check.found)), soft_wrap=True)
            if check.todo:
                for line in check.todo.splitlines():
                    console.print(Text.assemble("     → ", output.plain(line)), soft_wrap=True)
    if as_json:
        output.print_json([check._asdict() for check in checks])
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)
