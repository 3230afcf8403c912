"""`loopllama keys`: the keys of the HTTP API."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopllama.api.auth import MAX_REQUESTS, Grant, KeyStore
from loopllama.core.money import text as digits
from loopllama.errors import InvalidRequest, NotFound, WorkflowNotFound
from loopllama_cli.commands.common import Json, connect
from loopllama_cli.console import output
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopllama.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Keys of the HTTP API: create, list, revoke.")


@app.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who uses it; lists show it beside the key's id.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="What it opens: read, run (start, answer), tune (routes, models) or admin (all of it, and workflows). "
            "Repeatable; by default all.",
        ),
    ] = None,
    workflow: Annotated[
        list[str] | None,
        typer.Option(metavar="WORKFLOW", help="The only workflow that it reaches. Repeatable; by default all."),
    ] = None,
    max_requests_per_day: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=MAX_REQUESTS, help="Requests that it may make in a day (UTC).")
    ] = None,
    max_usd_per_day: Annotated[
        str | None,
        typer.Option(metavar="USD", help="What the runs that it starts may cost in a day (UTC), all together."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it. It is shown this once: only its hash is stored."""
    grant = Grant(tuple(scope or ()), tuple(workflow or ()), max_requests_per_day, _usd(max_usd_per_day))
    grant.check()
    settings = connect(ctx).settings
    _warn_of_unknown(settings, grant.workflows)
    key, kept = KeyStore(settings).create(name, grant)
    if as_json:
        output.print_json({"key": key, **kept})
        return
    output.out().print(output.plain(key))
    output.message(f"It is {kept['id']} in the history and the bill; it opens: {_opens(kept)}.", "dim")
    output.message("Keep it now: only its hash is stored. Send it as `Authorization: Bearer KEY`.", "dim")


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the keys, the newest first: their ids and first characters, what they open, and when they were last used (to
    the minute)."""
    keys = KeyStore(connect(ctx).settings).all()
    if as_json:
        output.print_json(keys)
        return
    table = output.table("Id", "Key", "Name", "Opens", "Created", "Last used", "Revoked")
    for key in keys:
        times = (output.local_time(key[name]) for name in ("created_at", "last_used_at", "revoked_at"))
        shown = (key["id"], f"{key['prefix']}…", key["name"], _opens(key))
        table.add_row(*map(output.plain, shown), *times)
    output.print_table(table, output.out())


@app.command()
def revoke(
    ctx: typer.Context,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="The key's first characters or its id, as `keys list` shows them.")
    ],
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


def _opens(key: dict[str, Any]) -> str:
    """Return what a key opens, in a line."""
    scopes, workflows = key["scopes"], key["workflows"]
    opens = "everything" if scopes is None or "admin" in scopes else ", ".join(scopes) or "nothing"
    parts = [opens if workflows is None else f"{opens} of {', '.join(workflows)}"]
    if key["max_requests_per_day"] is not None:
        parts.append(f"{int(key['max_requests_per_day']):,} requests a day")
    if key["max_usd_per_day"] is not None:
        parts.append(f"{digits(key['max_usd_per_day'])} USD a day")
    return "; ".join(parts)


def _usd(given: str | None) -> Decimal | None:
    try:
        return None if given is None else Decimal(given)
    except InvalidOperation:
        raise InvalidRequest(f"--max-usd-per-day takes a number of USD, such as 2.50, not {given!r}") from None


def _warn_of_unknown(settings: Settings, workflows: Sequence[str]) -> None:
    """Say which workflows there are none of: a key may be made before its workflow is pushed, or by a typing error."""
    from loopllama.workflows.store import DefinitionStore

    for workflow in workflows:
        try:
            DefinitionStore(settings).get(workflow)
        except WorkflowNotFound as error:
            output.message(f"warning: {error}", "yellow")
