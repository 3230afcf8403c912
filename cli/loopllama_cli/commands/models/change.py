"""`loopllama models set|price|alias|disable|enable|remove|sync|history`: the catalog at run time."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopllama.catalog.model import MAX_CALLS, PRICES
from loopllama.errors import InvalidRequest, NotFound
from loopllama.settings import Settings
from loopllama_cli.commands.common import Json, connect
from loopllama_cli.commands.models.show import app
from loopllama_cli.commands.routes.history import print_history
from loopllama_cli.commands.routes.overrides import Reason, number
from loopllama_cli.console import output
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.catalog.store import CatalogStore
    from loopllama.routing.types import MovedStep

ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="A catalog id, an alias or provider:model.")]
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
    context_window: Annotated[int | None, typer.Option(min=1, metavar="TOKENS", help="Longest prompt.")] = None,
    max_output: Annotated[int | None, typer.Option(min=1, metavar="TOKENS", help="Longest answer.")] = None,
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
    _print_change(store.write(model, changes, updated_by=getpass.getuser(), reason=reason), settings, as_json)


@app.command()
def price(
    ctx: typer.Context,
    model: ModelId,
    given: Annotated[str, typer.Option("--input", metavar="USD", help="Per million tokens of prompt.")],
    taken: Annotated[str, typer.Option("--output", metavar="USD", help="Per million tokens of answer.")],
    cache_read: Annotated[str | None, typer.Option(metavar="USD", help="Per million cached tokens.")] = None,
    cache_write: Annotated[str | None, typer.Option(metavar="USD", help="Per million tokens put in a cache.")] = None,
    cache_write_1h: Annotated[str | None, typer.Option(metavar="USD", help="Of what is kept there an hour.")] = None,
    service_tier: Annotated[
        str | None, typer.Option(metavar="NAME", help="flex, priority or batch: beside the price of that date.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="DATE", help="The first day; today (UTC).")] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Give a model a price from a date on. Earlier prices stay, so what has been charged stays explained."""
    from loopllama.catalog.store import price_of

    try:
        day = date.fromisoformat(since) if since else datetime.now(UTC).date()
    except ValueError as error:
        raise InvalidRequest(f"--from {since!r} is not a valid date: write it like 2026-11-23") from error
    amounts = (_money(given), _money(taken), number(cache_read), number(cache_write), number(cache_write_1h))
    store, settings = open_store(ctx)
    model = _known(store, model)
    dated_price = (
        price_of(day, *amounts) if service_tier is None else store.with_tier(model, day, service_tier, amounts)
    )
    _print_change(store.add_price(model, dated_price, updated_by=getpass.getuser(), reason=reason), settings, as_json)


@app.command()
def alias(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="Its name, such as small.")],
    target: Annotated[str, typer.Argument(metavar="MODEL", help="What it stands for from now on.")],
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
    name = _known(store, model)
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
    _change(store, settings, _known(store, model), {"enabled": None, "replaced_by": None}, reason, yes, as_json)


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
def sync(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Bring the prices of the installed genai-prices into the Models table, as dated prices; shows each change first.

    A price that changed is in force from today (UTC), or from its own date where genai-prices knows one to come.
    """
    from loopllama.catalog.pricing import price_at
    from loopllama.catalog.store import stored
    from loopllama_cli.catalog import build

    store, settings = open_store(ctx)
    catalog, today = store.catalog(), datetime.now(UTC).date()
    changes: list[dict[str, Any]] = []
    built = build.build(today)
    for name, entry in built["models"].items():
        if any("between" in dated_price for dated_price in entry["prices"]):
            continue  # the Models table holds no prices by the hour; those come with a release
        newest = _newest(entry["prices"], today)
        model = catalog.resolve(name)
        present = price_at(model, today)
        if newest is not None and (present is None or not _same(present, newest)):
            changes.append({"model": name, "from": None if present is None else stored(present), "to": newest})
    if as_json:
        output.print_json({"source": built["source"], "applied": bool(changes) and not dry_run, "changes": changes})
    else:
        table = output.table("Model", "From", "To")
        for change in changes:
            table.add_row(output.plain(change["model"]), _line(change["from"]), _line(change["to"]))
        if changes:
            output.print_table(table, output.out())
        output.message(f"{len(changes)} prices differ from {built['source']}.", "dim")
    if dry_run or not changes or not confirmed(yes or as_json):
        return
    for change in changes:
        dated_price = {"effective_from": today.isoformat(), **change["to"]}
        store.add_price(change["model"], dated_price, updated_by=getpass.getuser(), reason=built["source"][:200])
    if not as_json:
        output.message(f"Written; they count within {settings.route_cache_seconds:g} s.", "dim")


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


def _known(store: CatalogStore, model: str) -> str:
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

    return moved(settings, bundled().with_entries(before), bundled().with_entries(after))


def _agreed(moved: Sequence[MovedStep], yes: bool, as_json: bool) -> bool:
    """Show which steps move, and ask."""
    if as_json:
        return True
    table = output.table("Workflow", "Step", "From", "To")
    for step in moved:
        old, new = (output.one_line(", ".join(step[name]) or "none: the step will fail", 80) for name in ("from", "to"))
        table.add_row(output.plain(step["workflow"]), output.plain(step["step"]), old, new)
    if moved:
        output.print_table(table, output.out())
    output.message(f"{len(moved)} steps of {len({step['workflow'] for step in moved})} workflows move.")
    return confirmed(yes)


def confirmed(yes: bool) -> bool:
    """Ask whether to go on, unless the command line said so."""
    return yes or typer.confirm("Go on?", err=True)


def _print_change(written: tuple[Any, dict[str, Any]], settings: Settings, as_json: bool) -> None:
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
    output.message(f"It acts within {settings.route_cache_seconds:g} s on every step that starts.", "dim")


def _money(text: str) -> Decimal:
    value = number(text)
    if value is None or value < 0:
        raise InvalidRequest(f"{text!r} is not a valid price: USD per million tokens, 0 or more")
    return value


def _newest(prices: Sequence[Mapping[str, Any]], today: date) -> dict[str, Any] | None:
    """Return the price in force today of a bundled entry, as the table holds one."""
    in_force = [dated for dated in prices if dated.get("effective_from", "") <= today.isoformat()]
    if not in_force:
        return None
    return _of_entry(max(in_force, key=lambda dated: dated.get("effective_from", "")))


def _of_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    amounts: dict[str, Any] = {name: Decimal(entry[name]) for name in PRICES if entry.get(name) is not None}
    if entry.get("tiers"):
        amounts["tiers"] = [
            {"above": tier["above"], **{name: Decimal(tier[name]) for name in PRICES if tier.get(name) is not None}}
            for tier in entry["tiers"]
        ]
    if entry.get("service_tiers"):
        amounts["service_tiers"] = {tier: _of_entry(price) for tier, price in entry["service_tiers"].items()}
    return amounts


def _same(price: Any, other: Mapping[str, Any]) -> bool:
    from loopllama.catalog.store import stored

    return stored(price) == other


def _line(amounts: Mapping[str, Any] | None) -> str:
    if amounts is None:
        return "unpriced"
    tiers = f", {len(amounts['tiers'])} tiers" if amounts.get("tiers") else ""
    tiers += f", {', '.join(amounts['service_tiers'])}" if amounts.get("service_tiers") else ""
    return ", ".join(f"{name} {amounts[name].normalize():f}" for name in PRICES if name in amounts) + tiers
