"""`loopllama keys`: the keys of the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from loopllama.api.auth import KeyStore

from .. import show
from .common import Json, connect

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
        show.print_json({"key": key, **kept})
        return
    show.out().print(show.plain(key))
    show.message("Keep it now: only its hash is stored. Send it as `Authorization: Bearer KEY`.", "dim")


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the keys, the newest first: their first characters, and when they were last used (to the minute)."""
    found = KeyStore(connect(ctx).settings).all()
    if as_json:
        show.print_json(found)
        return
    table = show.table("Key", "Name", "Created", "Last used", "Revoked")
    for key in found:
        times = (show.local_time(key[name]) for name in ("created_at", "last_used_at", "revoked_at"))
        table.add_row(show.plain(f"{key['prefix']}…"), show.plain(key["name"]), *times)
    show.print_table(table, show.out())


@app.command()
def revoke(
    ctx: typer.Context,
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="The key's first characters, as `keys list` shows.")],
    as_json: Json = False,
) -> None:
    """Revoke a key: within a minute it is refused everywhere."""
    kept = KeyStore(connect(ctx).settings).revoke(prefix)
    if as_json:
        show.print_json(kept)
    else:
        show.out().print(show.plain(f"{kept['prefix']}… ({kept['name']}): revoked"))
