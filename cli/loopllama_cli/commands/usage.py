"""`loopllama usage`: what was used and paid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from loopllama.llm.usage import TITLED
from loopllama.queries.usage import BY, DEFAULT_DAYS, summarise
from loopllama_cli.commands.common import Csv, Json, connect, either
from loopllama_cli.console import figures as costs
from loopllama_cli.console import output

if TYPE_CHECKING:
    from loopllama.settings import Settings


def usage(
    ctx: typer.Context,
    by: Annotated[
        str, typer.Option(metavar="NAMES", help=f"What to group by: one or several, by comma, of {', '.join(BY)}.")
    ] = "workflow",
    first: Annotated[
        str | None,
        typer.Option("--from", metavar="DATE", help=f"First day (UTC); by default {DEFAULT_DAYS} days back."),
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day (UTC); by default today.")] = None,
    workflow: Annotated[str | None, typer.Option(metavar="WORKFLOW", help="Only this workflow's.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show steps, tokens and cost by workflow, step, model, key, tag or day.

    Steps are completed turns of agents: tool calls, retries and waiting are not counted. A run with several tags counts
    in the group of each.
    """
    either(as_json, as_csv)
    names = [name.strip() for name in by.split(",") if name.strip()]
    settings = connect(ctx).settings
    summary = summarise(settings, names, first, last, workflow)
    if as_json:
        output.print_json(summary)
        return
    fields = [name for name in summary["groups"][0] if name in BY] if summary["groups"] else []
    if as_csv:
        sums = ("steps", *(figure.shown for figure in TITLED), "cost_usd", "cost_basis", "unpriced", "simulated")
        output.print_csv((*(fields or names), *sums), summary["groups"])
        return
    figures = ("Steps", *(figure.title for figure in TITLED), "Cost")
    table = output.table(*(name.capitalize() for name in fields), *figures, right=figures)
    decimals = output.cost_decimals(group["cost_usd"] for group in summary["groups"])
    names_of_keys = _names_of_keys(settings) if "key" in fields else {}
    for group in summary["groups"]:
        shown = ({**group, "key": names_of_keys.get(group.get("key"), group.get("key"))}[name] for name in fields)
        table.add_row(*map(_name, shown), *_figures(group, decimals))
    if fields:
        table.add_section()
        table.add_row(Text("total", "bold"), *[""] * (len(fields) - 1), *_figures(summary["total"], decimals))
        output.print_table(table, output.out())
    else:
        output.message(f"Nothing was used from {summary['from']} to {summary['to']}.")
        return
    meaning = costs.legend([*summary["groups"], summary["total"]])
    output.message(f"{summary['from']} to {summary['to']} (UTC), USD. {meaning}".rstrip(), "dim")


def _names_of_keys(settings: Settings) -> dict[str | None, str]:
    """Return the ids of API keys, each with the key's name beside it."""
    from loopllama.api.auth import KeyStore

    return {key["id"]: f"{key['id']} {key['name']}" for key in KeyStore(settings).all()}


def _name(value: str | None) -> Text:
    return Text("-", "dim") if value is None else output.plain(value)


def _figures(sums: Mapping[str, Any], decimals: int) -> list[str | Text]:
    counts = [output.tokens(sums[name]) for name in ("steps", *(figure.shown for figure in TITLED))]
    return [*counts, costs.cost(sums, decimals, starred=True)]
