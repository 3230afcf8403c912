"""`loopllama keys`: the keys of the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from loopllama.api.auth import KeyStore
from loopllama.errors import NotFound
from loopllama_cli.commands.common import Json, connect
from loopllama_cli.console import output
from loopllama_cli.target import next_command

app = typer.Typer(no_args_is_help=True, help="Keys of the HTTP API: create, list, revoke.")


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who uses it: shown in usage and with what it changes.")],
    as_json: Json = False,
) -> None:
    """Make a key and print it. It is shown this once: only its hash is stored."""
    key, kept = KeyStore(connect(ctx).settings).create(name)
    if as_json:
        output.print_json({"key": key, **kept})
        return
    output.out().print(output.plain(key))
    output.message("Keep it now: only its hash is stored. Send it as `Authorization: Bearer KEY`.", "dim")


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the keys, the newest first: their first characters, and when they were last used (to the minute)."""
    keys = KeyStore(connect(ctx).settings).all()
    if as_json:
        output.print_json(keys)
        return
    table = output.table("Key", "Name", "Created", "Last used", "Revoked")
    for key in keys:
        times = (output.local_time(key[name]) for name in ("created_at", "last_used_at", "revoked_at"))
        table.add_row(output.plain(f"{key['prefix']}…"), output.plain(key["name"]), *times)
    output.print_table(table, output.out())


@app.command()
def revoke(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="The key's first characters, as `keys list` shows.")],
    as_json: Json = False,
) -> None:
    """Revoke a key: within a minute it is refused everywhere."""
    store = KeyStore(connect(ctx).settings)
    try:
        kept = store.revoke(prefix)
    except NotFound as error:
        raise NotFound(f"{error} What there is: {next_command('keys list')}") from error
    if as_json:
        output.print_json(kept)
    else:
        output.out().print(output.plain(f"{kept['prefix']}… ({kept['name']}): revoked"))
