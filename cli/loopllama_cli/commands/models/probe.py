"""`loopllama models probe`: what a server of one's own has and can, as entries of the Models table."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopllama.errors import InvalidRequest
from loopllama_cli.commands.common import Json
from loopllama_cli.commands.models.change import Yes, confirmed, open_store
from loopllama_cli.commands.models.prices import app
from loopllama_cli.commands.routes.overrides import Reason
from loopllama_cli.console import output
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.catalog.store import CatalogStore
    from loopllama.settings import Settings
    from loopllama_cli.catalog.own_servers import Found, OwnServer

__all__ = ["app"]


@app.command()
def probe(
    ctx: typer.Context,
    provider: Annotated[
        str, typer.Argument(metavar="PROVIDER", help="ollama, vllm, llamacpp, lmstudio, or your name for a server.")
    ],
    model: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this model of the server. Repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    reason: Reason = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Ask a server of your own what models it has and what they can, and write it into the Models table.

    Shows everything first. The server is asked from this machine, at the address that the stack has for it. Each model
    gets two short questions: one with a tool, one that is held to a JSON Schema. Prices are never touched.
    """
    store, settings = open_store(ctx)
    server = server_of(provider, settings)
    found = look(server, settings, model or ())
    changes = planned(store, provider, found)
    if as_json:
        applied = bool(changes) and not dry_run
        shown = [{"model": name, "changes": fields} for name, fields in changes.items()]
        output.print_json(
            {"provider": provider, "models": [_shown(one) for one in found], "applied": applied, "entries": shown}
        )
    else:
        _print(store, found, changes)
    if dry_run or not changes or not confirmed(yes or as_json):
        return
    write(store, changes, reason or f"told by {provider}")
    if as_json:
        return
    output.message(f"Written; it acts within {settings.route_cache_seconds:g} s on every step that starts.", "dim")
    unpriced = [name for name in changes if not store.catalog().resolve(name).prices]
    if unpriced:
        price = next_command("models price", unpriced[0], "--input", "0", "--output", "0")
        output.message(f"{len(unpriced)} of them have no price, so their cost is unknown. Give one: {price}", "dim")


def server_of(provider: str, settings: Settings) -> OwnServer:
    """Return the server behind a provider's name, at the address that the stack has for it. Raises `InvalidRequest` for
    a provider that is no server of one's own, and what `credentials_for` raises."""
    from loopllama.catalog.providers import KNOWN, is_own_server
    from loopllama.providers import is_simulated
    from loopllama.providers.credentials import credentials_for
    from loopllama_cli.catalog.own_servers import OwnServer

    if not is_own_server(provider):
        own = ", ".join(name for name in KNOWN if KNOWN[name].local_server)
        raise InvalidRequest(
            f"{provider} is no server of your own: its models are in the catalog already "
            f"({next_command('models list --provider', provider)}). Probe {own}, or a name that you gave a server"
        )
    if is_simulated(provider, settings):
        raise InvalidRequest(
            f"{provider} is answered by the simulated stand-in here, which can tell nothing of it; "
            "take it out of SimulatedProviders"
        )
    return OwnServer(credentials_for(provider, settings))


def look(server: OwnServer, settings: Settings, names: Any) -> list[Found]:
    """Return what the named models of a server (all, without a name) are and can. Raises what
    `OwnServer.chosen` and `OwnServer.tried` raise."""
    from loopllama.providers import provider_for
    from loopllama_cli.catalog.own_servers import as_model

    return [server.tried(one, provider_for(as_model(server.provider, one), settings)) for one in server.chosen(names)]


def planned(store: CatalogStore, provider: str, found: list[Found]) -> dict[str, dict[str, Any]]:
    """Return which fields of which entries have to change, by the entry's id. A model that has an entry under another
    name keeps that."""
    present = {item["model"]: item for item in store.items()}
    changes: dict[str, dict[str, Any]] = {}
    for one in found:
        name = store.own_id(f"{provider}:{one.model}")
        item = present.get(name, {})
        fields = {key: value for key, value in one.entry(provider).items() if _plain(item.get(key)) != _plain(value)}
        if fields:
            changes[name] = fields
    return changes


def write(store: CatalogStore, changes: dict[str, dict[str, Any]], reason: str) -> None:
    """Write the planned changes. Raises as `CatalogStore.write` does."""
    for name, fields in changes.items():
        store.write(name, fields, updated_by=getpass.getuser(), reason=reason)


def _plain(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, list | set | tuple | frozenset) else value


def _shown(one: Found) -> dict[str, Any]:
    return {name: value for name, value in one.entry("").items() if name != "provider"}


def _print(store: CatalogStore, found: list[Found], changes: dict[str, dict[str, Any]]) -> None:
    right = ("Context", "At once")
    table = output.table("Model", *right, "Can", right=right)
    for one in found:
        slots = "-" if one.slots is None else str(one.slots)
        can = ", ".join(one.entry("")["capabilities"]) or "text only"
        table.add_row(output.plain(one.model), output.tokens(one.context_window), slots, output.plain(can))
    console = output.out()
    output.print_table(table, console)
    items = {item["model"]: item for item in store.items()}
    for name, fields in changes.items():
        for field, value in fields.items():
            old = items.get(name, {}).get(field)
            before = "nothing" if old is None else output.one_line(str(_plain(old)), 100)
            console.print(output.plain(f"{name}  {field}: {before} -> {output.one_line(str(_plain(value)), 100)}"))
    if not changes:
        output.message("The Models table says all of this already.", "dim")
