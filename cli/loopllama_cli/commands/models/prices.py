"""`loopllama models price|sync`: what models cost, at run time."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopllama.catalog.model import PRICES
from loopllama.errors import InvalidRequest
from loopllama_cli.commands.common import Json
from loopllama_cli.commands.models.change import ModelId, Yes, confirmed, known, open_store, print_change
from loopllama_cli.commands.models.show import app
from loopllama_cli.commands.routes.overrides import Reason, number
from loopllama_cli.console import output

if TYPE_CHECKING:
    from loopllama.catalog.model import Model

__all__ = ["app"]


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
    """Give a model a price from a date on. Earlier prices stay, so what has been charged stays explained.

    Prices of cached tokens that are not named stay as they are then. Standard error says from when it counts.
    """
    from loopllama.catalog.pricing import price_at
    from loopllama.catalog.store import price_of

    try:
        day = date.fromisoformat(since) if since else datetime.now(UTC).date()
    except ValueError as error:
        raise InvalidRequest(f"--from {since!r} is not a valid date: write it like 2026-11-23") from error
    store, settings = open_store(ctx)
    resolved = store.catalog().resolve(model)
    present, model = price_at(_at_tier(resolved, service_tier), day), known(store, model)
    cached: list[Decimal | None] = []
    kept: list[str] = []
    for name, text in zip(PRICES[2:], (cache_read, cache_write, cache_write_1h), strict=True):
        amount = number(text)
        if amount is None and present is not None and (amount := getattr(present, name)) is not None:
            kept.append(f"{name} ${amount:f}")
        cached.append(amount)
    amounts = (_money(given), _money(taken))
    dated_price = (
        price_of(day, *amounts, *cached)
        if service_tier is None
        else store.with_tier(model, day, service_tier, (*amounts, *cached))
    )
    written = store.add_price(model, dated_price, updated_by=getpass.getuser(), reason=reason)
    today = datetime.now(UTC).date()
    print_change(written, settings, as_json, acts=day <= today)
    if as_json:
        return
    when = "from today on" if day == today else f"from {day}, 00:00 UTC, on"
    rates = f"${amounts[0]:f} and ${amounts[1]:f} a million tokens of prompt and answer"
    output.message(f"{model} costs {rates} {when}.")
    if kept:
        output.message(f"Kept: {', '.join(kept)}; --cache-read and --cache-write give others.", "dim")


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


def _at_tier(model: Model, tier: str | None) -> Model:
    """Return a model whose price is that of a service tier."""
    return model if tier is None else replace(model, service_tier=tier)


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
