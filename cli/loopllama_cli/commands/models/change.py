"""`loopllama models set|alias|disable|enable|remove|history`: the catalog at run time."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopllama.catalog.model import MAX_CALLS
from loopllama.errors import InvalidRequest, NotFound
from loopllama.settings import Settings
from loopllama_cli import completion
from loopllama_cli.commands.common import MOST, Json, connect
from loopllama_cli.commands.models.show import app
from loopllama_cli.commands.routes.history import print_history
from loopllama_cli.commands.routes.overrides import Reason
from loopllama_cli.console import output
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.catalog.store import CatalogStore
    from loopllama.routing.types import MovedStep

ModelId = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A catalog id, an alias or provider:model.", autocompletion=completion.models),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

__all__ = ["app"]


@app.command("set")
def set_(
    ctx: typer.Context,
    model: ModelId,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Needed for a model that is not bundled.")
    ] = None,
    provider_model: Annotated[str | None, typer.Option(metavar="ID", help="The provider's own id of it.")] = None,
    context_window: Annotated[
        int | None, typer.Option(min=1, max=MOST, metavar="TOKENS", help="Longest prompt.")
    ] = None,
    max_output: Annotated[int | None, typer.Option(min=1, max=MOST, metavar="TOKENS", help="Longest answer.")] = None,
    capability: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="tools, structured_output, images, prompt_cache or reasoning. Repeatable."),
    ] = None,
    same_as: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What it is, where its own name does not say it.")
    ] = None,
    max_concurrent_calls: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_CALLS, metavar="CALLS", help="Most calls at once, everywhere; 0 is no limit."),
    ] = None,
    effort: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What MODEL@EFFORT may say: none, minimal, low … max. Repeatable."),
    ] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Add a model to the Models table, or replace fields of a bundled one. What is not named stays."""
    fields = {
        "provider": provider,
        "provider_model": provider_model,
        "context_window": context_window,
        "max_output": max_output,
        "capabilities": list(capability) if capability else None,
        "same_as": same_as,
        "efforts": list(effort) if effort else None,
    }
    changes: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    if max_concurrent_calls is not None:
        changes["max_concurrent_calls"] = max_concurrent_calls or None
    if not changes:
        raise InvalidRequest(
            f"nothing to set: add --provider, --context-window, --capability …; what {model} has: "
            f"{next_command('models show', model)}"
        )
    store, settings = open_store(ctx)
    model = store.own_id(model)
    print_change(store.write(model, changes, updated_by=getpass.getuser(), reason=reason), settings, as_json)


@app.command()
def alias(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="Its name, such as small.")],
    target: Annotated[
        str, typer.Argument(metavar="MODEL", help="What it stands for from now on.", autocompletion=completion.models)
    ],
    reason: Reason = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Let an alias stand for a model; every step that uses the alias moves with it. Shows those steps first."""
    store, settings = open_store(ctx)
    store.catalog().resolve(target)
    changes = {"alias_of": target}
    _change(store, settings, name, changes, reason, yes, as_json)


@app.command()
def disable(
    ctx: typer.Context,
    model: ModelId,
    use: Annotated[str | None, typer.Option(metavar="OTHER", help="What is used instead, everywhere.")] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the history.")] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Disable a model for every step of every workflow (the kill switch). Shows first which steps it moves.

    Without --use, steps go on with their fallbacks, and with the next layer where they have none.
    """
    if not reason:
        disable_it = next_command("models disable", model, "--reason", "TEXT")
        raise InvalidRequest(f"say why, it stays in the history: {disable_it}")
    store, settings = open_store(ctx)
    name = known(store, model)
    if use is not None:
        other = store.catalog().resolve(use)
        if other.entry == name:
            raise InvalidRequest(f"--use {use!r} is not a valid replacement: it is {model} itself; name another model")
        if not other.enabled:
            enable_it = next_command("models enable", use)
            raise InvalidRequest(f"--use {use!r} is disabled itself; name another model, or: {enable_it}")
    _change(store, settings, name, {"enabled": False, "replaced_by": use}, reason, yes, as_json)


@app.command()
def enable(ctx: typer.Context, model: ModelId, reason: Reason = "", yes: Yes = False, as_json: Json = False) -> None:
    """Undo `disable`. Shows first which steps it moves back."""
    store, settings = open_store(ctx)
    _change(store, settings, known(store, model), {"enabled": None, "replaced_by": None}, reason, yes, as_json)


@app.command()
def remove(ctx: typer.Context, model: ModelId, reason: Reason = "", yes: Yes = False, as_json: Json = False) -> None:
    """Delete an entry of the Models table; what is bundled counts again. Shows first which steps it moves."""
    store, settings = open_store(ctx)
    items = store.items()
    if all(item["model"] != model for item in items):
        disable_it = next_command("models disable", model, "--reason", "TEXT")
        raise NotFound(
            f"entry {model!r} not found in the Models table; what is bundled is disabled, not removed: {disable_it}"
        )
    moved = _moved(settings, items, [item for item in items if item["model"] != model])
    if not _agreed(moved, yes, as_json):
        return
    store.remove(model, updated_by=getpass.getuser(), reason=reason)
    if as_json:
        output.print_json({"model": model, "removed": True, "moved": moved})


@app.command()
def history(
    ctx: typer.Context,
    model: ModelId,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """Show who changed a model's entry, when, why, and from what to what."""
    from loopllama.routing.change_log import History, model_route, shown

    store, settings = open_store(ctx)
    entries = [shown(entry) for entry in History(settings).entries(model_route(model), limit)]
    if not entries:
        store.catalog().resolve(model)  # says so where nobody knows it
    if as_json:
        output.print_json(entries)
    else:
        print_history(entries, "model")


def open_store(ctx: typer.Context) -> tuple[CatalogStore, Settings]:
    """Return the Models table of the stack that the command line names, and that stack's settings."""
    from loopllama.catalog.store import CatalogStore

    settings = connect(ctx).settings
    return CatalogStore(settings), settings


def known(store: CatalogStore, model: str) -> str:
    """Return the id of a known model's entry. Raises `ModelUnknown`."""
    store.catalog().resolve(model)
    return store.own_id(model)


def _change(
    store: CatalogStore,
    settings: Settings,
    model: str,
    changes: Mapping[str, Any],
    reason: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Write changes of an entry after showing which steps they move."""
    items = store.items()
    mine = next((item for item in items if item["model"] == model), {"model": model})
    merged = {name: value for name, value in {**mine, **changes}.items() if value is not None}
    moved = _moved(settings, items, [*(item for item in items if item["model"] != model), merged])
    if not _agreed(moved, yes, as_json):
        return
    _, item = store.write(model, changes, updated_by=getpass.getuser(), reason=reason)
    if as_json:
        output.print_json({"entry": item, "moved": moved})
    else:
        output.message(f"Written; it acts within {settings.route_cache_seconds:g} s on every step that starts.", "dim")


def _moved(settings: Settings, before: Iterable[Any], after: Iterable[Any]) -> list[MovedStep]:
    from loopllama.catalog.catalog import bundled
    from loopllama.routing.impact import moved

    old, new = (bundled().allowing(*settings.allowed).with_entries(items) for items in (before, after))
    return moved(settings, old, new)


def _agreed(moved: Sequence[MovedStep], yes: bool, as_json: bool) -> bool:
    """Show which steps move, and ask."""
    if as_json:
        return True
    table = output.table("Workflow", "Step", "From", "To")
    for step in moved:
        old, new = (
            output.one_line(", ".join(step[name]) or "none: the step will fail", output.WHOLE)
            for name in ("from", "to")
        )
        table.add_row(output.plain(step["workflow"]), output.plain(step["step"]), old, new)
    if moved:
        output.print_table(table, output.out())
    output.message(f"{len(moved)} steps of {len({step['workflow'] for step in moved})} workflows move.")
    return confirmed(yes)


def confirmed(yes: bool) -> bool:
    """Ask whether to go on, unless the command line said so."""
    return yes or typer.confirm("Go on?", err=True)


def print_change(written: tuple[Any, dict[str, Any]], settings: Settings, as_json: bool, *, acts: bool = True) -> None:
    """Print what a write of an entry changed; `acts` says whether it does so at once."""
    from loopllama.catalog.entries import parse_item
    from loopllama.routing.change_log import differences, plain

    before, item = written
    if as_json:
        output.print_json(item)
        return
    changed = [difference for difference in differences(before, item) if difference["field"] != "model"]
    for difference in changed:
        old, new = (
            output.one_line(plain(difference[name]), 200) if difference[name] is not None else "nothing"
            for name in ("from", "to")
        )
        output.out().print(output.plain(f"{item['model']}  {difference['field']}: {old} -> {new}"))
    for name, reason in parse_item(item)[2].items():
        output.message(f"! {name}, as before, is skipped: it {reason}", "yellow")
    if acts:
        output.message(f"It acts within {settings.route_cache_seconds:g} s on every step that starts.", "dim")
