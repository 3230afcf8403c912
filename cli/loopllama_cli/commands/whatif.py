"""`loopllama whatif`: what a change of models would have cost, by recorded runs and without calling anything."""

from __future__ import annotations

import getpass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from loopllama.core.names import plural
from loopllama.errors import InvalidRequest
from loopllama_cli import completion
from loopllama_cli.commands.common import Csv, Json, Workflow, connect, either, pairs, read_moment
from loopllama_cli.commands.models.show import check_models
from loopllama_cli.commands.routes.overrides import definition_of
from loopllama_cli.console import figures as costs
from loopllama_cli.console import output

if TYPE_CHECKING:
    from loopllama.queries.types import Forecast
    from loopllama.routing.store import RouteStore
    from loopllama.routing.types import RouteRow


def whatif(
    ctx: typer.Context,
    workflow: Workflow,
    change: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="STEP=MODEL",
            help="A change; `*=MODEL` for all other steps. Repeatable.",
            autocompletion=completion.step_models,
        ),
    ],
    runs: Annotated[int, typer.Option(min=1, max=200, help="By the newest so many completed runs.")] = 20,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="By all runs that are not older: 12h, 7d.")] = None,
    prices: Annotated[
        str, typer.Option(metavar="today|then", help="Prices of today, or of each run's date.")
    ] = "today",
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the changes as overrides, checked like `routes set`.")
    ] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, with --apply; kept with the rows.")] = "",
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Reprice recorded runs under other models: cost, latency along the critical path, spread, and what is unknown."""
    from loopllama.queries import recorded
    from loopllama.queries import whatif as predictions
    from loopllama.queries.runs import RunReader
    from loopllama.queries.types import ForecastStep
    from loopllama.routing.router import Router
    from loopllama.routing.store import RouteStore

    either(as_json, as_csv)
    if as_csv and apply:
        raise InvalidRequest("--csv and --apply exclude each other: --json prints the rows that were written")
    if prices not in ("today", "then"):
        raise InvalidRequest(f"--prices {prices!r} is not valid: write today or then")
    settings = connect(ctx).settings
    crew = definition_of(settings, workflow)["crew"]
    router = Router(settings)
    wanted = pairs(change, "--set", "STEP=MODEL")
    check_models(settings, wanted.values())
    changes = {step: router.priced_model(name) for step, name in wanted.items()}
    moment = read_moment(since, "--since")
    oldest = None if moment is None else datetime.fromisoformat(moment)
    limit = recorded.MAX_RUNS if since is not None else runs
    recent = recorded.recent_runs(RunReader(settings), workflow, limit=limit, since=oldest)
    needs = {agent["name"]: agent["needs"] for agent in crew}
    forecast = predictions.predict(
        recent, needs, changes, router.priced_model, prices="today" if prices == "today" else "then"
    )
    if as_json:
        applied = _apply(RouteStore(settings), workflow, change, reason) if apply else []
        output.print_json({"workflow": workflow, **forecast, **({"rows": applied} if apply else {})})
        return
    if as_csv:
        output.print_csv([*ForecastStep.__annotations__], forecast["steps"])
        return
    _print(forecast)
    if apply:
        for row in _apply(RouteStore(settings), workflow, change, reason):
            output.out().print(
                output.plain(f"{row['workflow']}/{row['step']}: model {row['model']} (version {row['version']})")
            )
        output.message(f"They act within {settings.route_cache_seconds:g} s on every step that starts.", "dim")


def _apply(store: RouteStore, workflow: str, change: list[str], reason: str) -> list[RouteRow]:
    """Write the rows, all of them checked before the first is written."""
    wanted = pairs(change, "--set", "STEP=MODEL")
    for step, name in wanted.items():
        store.check(workflow, step, {"model": name})
    return [
        store.set(workflow, step, {"model": name}, updated_by=getpass.getuser(), reason=reason or "whatif")
        for step, name in wanted.items()
    ]


def _mean(usd: Decimal | None, runs: int) -> Decimal | None:
    return None if usd is None else usd / runs


def _print(forecast: Forecast) -> None:
    runs = forecast["runs"]
    figures = ("Cost before", "Cost after", "Latency before", "Latency after")
    table = output.table("Step", "From", "To", *figures, "Latency from", right=figures)
    places = output.cost_decimals(
        [
            mean
            for step in forecast["steps"]
            for usd in (step["cost_usd_before"], step["cost_usd_after"])
            if (mean := _mean(usd, runs)) is not None
        ]
    )
    for step in forecast["steps"]:
        table.add_row(
            output.plain(step["step"]),
            output.plain(", ".join(step["models_before"])),
            output.plain(step["model_after"] or "unchanged"),
            costs.cost({**step, "cost_usd": _mean(step["cost_usd_before"], runs)}, places),
            costs.cost({**step, "cost_usd": _mean(step["cost_usd_after"], runs)}, places),
            output.duration(step["latency_ms_before"]),
            output.duration(step["latency_ms_after"]),
            step["latency_from"],
        )
    console = output.out()
    if forecast["simulated"]:
        console.print(Text(" SIMULATED ", "bold black on yellow"))
    output.print_table(table, console)
    console.print()

    def cost(value: Any) -> Text:
        return costs.cost({"cost_usd": value, "cost_basis": forecast["cost_basis"]}, places)

    total = output.table(
        "A run", "Before", "After", "Change", "Spread (p10 to p90)", right=("Before", "After", "Change")
    )
    for label, values, shown, spread in (
        ("cost", forecast["cost_usd"], cost, forecast["spread"]["cost"]),
        ("latency", forecast["latency_ms"], output.duration, forecast["spread"]["latency"]),
    ):
        wide = f"{spread['p10']:+.1%} to {spread['p90']:+.1%}" if spread else "-"
        total.add_row(label, shown(values["before"]), shown(values["after"]), output.change(values["change"]), wide)
    output.print_table(total, console)
    simulated = " Some of them are simulated." if forecast["simulated"] else ""
    dates = f"{output.local_time(forecast['from'])} to {output.local_time(forecast['to'])}"
    by = f"{plural(forecast['runs'], 'completed run')}, {dates}, at prices of {forecast['prices']}"
    output.message(f"Means a run, by {by}.{simulated}", "dim")
    if meaning := costs.legend([{"cost_usd": 0, **step} for step in forecast["steps"]]):
        output.message(f"{meaning}.", "dim")
    for unknown in forecast["unknown"]:
        output.message(f"Not known: {unknown}.", "yellow")
