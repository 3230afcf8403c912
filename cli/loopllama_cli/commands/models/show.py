"""`loopllama models`: the catalog, bundled and in the table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from loopllama.catalog.model import PRICES
from loopllama.core import exact_json
from loopllama.core.names import closest
from loopllama.errors import InvalidRequest, ModelUnknown, NotFound
from loopllama_cli import completion
from loopllama_cli.commands.common import Csv, Json, connect, either
from loopllama_cli.console import output
from loopllama_cli.target import TargetMissing

if TYPE_CHECKING:
    from loopllama.catalog.catalog import Catalog
    from loopllama.catalog.model import Model
    from loopllama.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The catalog of models: what there is, what it costs, the kill switch.")
_SHOWN = (
    *(
        "provider",
        "provider_model",
        "context_window",
        "max_output",
        "capabilities",
        "efforts",
        "service_tiers",
        "enabled",
        "replaced_by",
    ),
    *("same_as", "options", "max_concurrent_calls"),
)


@app.command("list")
def list_(
    ctx: typer.Context,
    provider: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only this provider's models.", autocompletion=completion.providers),
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """List the models with today's prices (USD per million tokens).

    With a stack, its Models table over the bundled catalog; without one, the bundled catalog.
    """
    either(as_json, as_csv)
    catalog = _catalog(ctx)
    models = [model for model in catalog.models() if provider in (None, model.provider)]
    if not models:
        there = sorted({model.provider for model in catalog.models()})
        raise NotFound(f"provider {provider!r} has no models in the catalog{closest(str(provider), there)}")
    if as_json:
        output.print_json([_record(model) for model in models])
        return
    if as_csv:
        records = [{**_record(model), **(_record(model)["price"] or {})} for model in models]
        output.print_csv(("model", "provider", *PRICES, "context_window", "capabilities", "enabled"), records)
        return
    names: dict[str, list[str]] = {}
    for alias in catalog.aliases():
        with contextlib.suppress(ModelUnknown):
            names.setdefault(catalog.resolve(alias).id, []).append(alias)
    right = ("Input", "Output", "Cached", "Context")
    table = output.table("Model", "Provider", "Alias", *right, "Can", right=right)
    for model in models:
        price = _record(model)["price"] or {}
        table.add_row(
            Text(output.clean(model.id), "" if model.enabled else "dim strike"),
            output.plain(model.provider),
            output.plain(", ".join(names.get(model.id, ()))),
            *(_price(price.get(name)) if price else Text("unpriced", "yellow") for name in PRICES[:3]),
            output.tokens(model.context_window),
            output.plain(", ".join(sorted(model.capabilities or ()))),
        )
    console = output.out()
    output.print_table(table, console)
    _say_source(catalog)


@app.command("show")
def show_(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A catalog id, an alias or provider:model.", autocompletion=completion.models
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show what the catalog knows of a model, and where each value comes from."""
    catalog = _catalog(ctx)
    resolved = catalog.resolve(model)
    record = _record(resolved)
    if as_json:
        output.print_json(record)
        return
    console = output.out()
    console.print(Text(output.clean(resolved.id), "bold"))
    if model != resolved.id:
        console.print(Text(f"{output.clean(model)} stands for it", "dim"))
    table = output.table("Field", "Value", "From")
    for name in _SHOWN:
        value = record[name]
        text = ", ".join(value) if isinstance(value, list) else "unknown" if value is None else str(value)
        text = exact_json.dumps(value) if isinstance(value, dict) else text
        if name in ("replaced_by", "same_as", "options", "max_concurrent_calls") and not value:
            continue
        table.add_row(name, output.plain(text), output.plain(record["origin"].get(name, "-")))
    for price in record["prices"]:
        since = price["effective_from"] or "always"
        table.add_row(f"price from {since}", _amounts(price), output.plain(record["origin"].get("prices", "-")))
        for name, rates in (("", price), *price["service_tiers"].items()):
            if name:
                table.add_row(f"  {name}", _amounts(rates), "")
            for tier in rates["tiers"]:
                table.add_row(f"  {name + ', ' if name else ''}above {tier['above']:,} tokens", _amounts(tier), "")
    if not record["prices"]:
        table.add_row("price", Text("unpriced", "yellow"), "-")
    output.print_table(table, console)
    _say_source(catalog)


def _amounts(rates: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_price(rates[name])}" for name in PRICES if rates.get(name) is not None)


def check_models(settings: Settings, names: Iterable[str]) -> None:
    """Raise `ModelUnknown` for a model that nobody knows, and `InvalidRequest` for one that the deployment does not
    allow, before anything is made of it."""
    from loopllama.catalog.allowed import not_allowed
    from loopllama.catalog.store import CatalogStore

    catalog = CatalogStore(settings).catalog()
    for name in names:
        if catalog.resolve(name).barred:
            raise InvalidRequest(f"model {name!r} {not_allowed(settings.allowed_models)}")


def _catalog(ctx: typer.Context) -> Catalog:
    from loopllama.catalog.catalog import bundled
    from loopllama.catalog.store import CatalogStore

    try:
        return CatalogStore(connect(ctx).settings).catalog()
    except TargetMissing:
        output.message("No stack named: this is the bundled catalog.", "dim")
        return bundled()


def _say_source(catalog: Catalog) -> None:
    output.message(f"USD per million tokens. Bundled prices: {catalog.source}", "dim")
    for problem in catalog.problems:
        output.message(f"Models table, {problem['model']}: skipped: {problem['reason']}", "yellow")
    for name, way in catalog.replacement_circles().items():
        output.message(f"Models table, {name}: its `replaced_by` goes round in a circle: {way}", "yellow")


def _record(model: Model) -> dict[str, Any]:
    from loopllama.catalog.presenter import view

    return view(model, datetime.now(UTC))


def _price(value: Decimal | None) -> str:
    return "-" if value is None else f"{value.normalize():f}" if value % 1 else f"{value:.0f}"
