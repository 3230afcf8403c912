"""`loopllama destroy`: the stack and everything that outlives it, for good."""

from __future__ import annotations

from typing import Annotated

import typer

from loopllama.errors import InvalidRequest
from loopllama_cli.commands.common import is_a_terminal
from loopllama_cli.console import output
from loopllama_cli.target import TargetMissing, next_command, use_account


def destroy(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a stack for good, with all that deleting the stack alone would keep: tables, buckets, secrets.

    Also what a stack that is gone has left. It shows what it found, which is exactly this stack's, and asks for the
    stack's name. What could not be deleted is told with the reason (exit code 1); then run it again. Secrets can be
    restored for 30 days, nothing else can. `sam delete` deletes the stack and keeps the data.
    """
    from loopllama_cli import removal

    choice = ctx.obj
    if not choice.stack:
        raise TargetMissing(
            "Say which stack is to be deleted: loopllama --stack NAME destroy. A local one ends with `loopllama local`."
        )
    use_account(choice)
    found = removal.find(choice.stack)
    things = list(found)
    if not things:
        output.message(f"There is nothing of a stack {choice.stack} in this account and region.")
        return
    for kind, name in things:
        output.out().print(output.plain(f"{kind:<14} {name}"))
    if dry_run:
        return
    if not yes:
        _ask(choice.stack)
    failures = list(removal.remove(found, lambda kind, name: output.message(f"deleting {kind} {name}", "dim")))
    for failure in failures:
        output.message(f"not deleted: {failure}", "bold red")
    if failures:
        raise typer.Exit(1)


def _ask(stack: str) -> None:
    if not is_a_terminal():
        raise InvalidRequest(
            f"there is nobody to ask whether all of this is to be deleted: add --yes: {next_command('destroy --yes')}"
        )
    if typer.prompt("Type the stack's name to delete all of this for good", err=True, default="") != stack:
        raise InvalidRequest("that is not the stack's name; nothing was deleted")
