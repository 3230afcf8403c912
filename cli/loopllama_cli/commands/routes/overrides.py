"""`loopllama routes`: model overrides. What each step uses now, and rows that change it while the system runs."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from loopllama.core.names import closest, plural
from loopllama.errors import InvalidRequest, LoopLlamaError
from loopllama.settings import Settings
from loopllama_cli import completion
from loopllama_cli.commands.common import MOST, Json, Workflow, connect, parse_time
from loopllama_cli.commands.models.show import check_models
from loopllama_cli.console import figures as costs
from loopllama_cli.console import output
from loopllama_cli.console.notes import ignored_text
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.queries.types import Forecast
    from loopllama.routing.store import RouteStore
    from loopllama.routing.types import Explained, RouteRow
    from loopllama.workflows.types import Definition

app = typer.Typer(no_args_is_help=True, help="Model overrides: which model each step uses, and overrides of it.")

Step = Annotated[
    str,
    typer.Argument(
        metavar="STEP", help="The step's name; `*` for every step of the workflow.", autocompletion=completion.steps
    ),
]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the row.")]
Expected = Annotated[
    int | None,
    typer.Option(
        min=0, max=MOST, metavar="N", help="Only if the row is at this version (0: there is none); else exit code 4."
    ),
]


@app.command("list")
def list_(ctx: typer.Context, workflow: Workflow, as_json: Json = False) -> None:
    """List what each step uses now and which layer says so (`source`)."""
    settings = connect(ctx).settings
    explained = _explain(settings, workflow)
    rows = {row["step"]: row for row in _rows(settings, workflow)}
    if as_json:
        output.print_json(
            [{**route, "row": rows.get(route["step"]), "workflow_row": rows.get("*")} for route in explained]
        )
        return
    console = output.out()
    table = output.table("Step", "Model", "Source", "Fallbacks")
    for route in explained:
        model = route.get("model")
        shown = output.plain(model) if model else Text("none: " + output.one_line(route.get("error", "")), "red")
        by_row = route.get("source") in ("step-override", "workflow-override")
        source = Text(str(route.get("source") or "-"), "bold cyan" if by_row else "")
        table.add_row(output.plain(route["step"]), shown, source, output.plain(", ".join(route.get("fallbacks") or ())))
    output.print_table(table, console)
    if rows:
        console.print()
        output.print_table(_overrides(rows), console)
    for route in explained:
        for ignored in route.get("ignored") or ():
            output.message(f"! {route['step']}  {ignored_text(ignored)}", "yellow")
    unused = sorted(rows.keys() - {route["step"] for route in explained} - {"*"})
    for name in unused:
        output.message(f"! the row of {name!r} does nothing: the workflow has no such step", "yellow")


@app.command("set")
def set_(
    ctx: typer.Context,
    workflow: Workflow,
    step: Step,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help="A catalog id, an alias or provider:model.", autocompletion=completion.models
        ),
    ] = None,
    policy: Annotated[str | None, typer.Option(metavar="NAME", help="How to choose among the candidates.")] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL[=WEIGHT]",
            help="A model that the policy chooses among. Repeatable.",
            autocompletion=completion.models,
        ),
    ] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="Tried in order when the model fails. Repeatable.", autocompletion=completion.models
        ),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, max=MOST, help="Instead of the agent's.")] = None,
    temperature: Annotated[str | None, typer.Option(metavar="NUMBER", help="Instead of the agent's, 0 to 2.")] = None,
    max_expected_cost: Annotated[
        str | None,
        typer.Option(
            metavar="USD",
            help="Skip models whose turn is expected to cost more. No cap on what a turn does cost: a budget is one.",
        ),
    ] = None,
    max_cost: Annotated[str | None, typer.Option(hidden=True, help="What --max-expected-cost was called.")] = None,
    max_latency: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, metavar="MS", help="Leave out models whose turn is expected to take longer."),
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="A run keeps what the row says when it starts.")] = False,
    expires_in: Annotated[
        str | None, typer.Option(metavar="TIME", help="The row stops counting after so long: 90s, 30m, 2h, 7d.")
    ] = None,
    reason: Reason = "",
    expected_version: Expected = None,
    force: Annotated[bool, typer.Option("--force", help="Also a model without a price.")] = False,
    as_json: Json = False,
) -> None:
    """Write the override of a step (or of `*`); it acts on every step that starts a few seconds later.

    The row is replaced as a whole. Nothing is deployed, and the workflow's definition stays as it is.
    """
    from loopllama.routing.store import RouteStore

    values: RouteRow = {
        "model": model,
        "policy": policy,
        "candidates": [_candidate(text) for text in candidate or ()] or None,
        "fallbacks": list(fallback or ()) or None,
        "max_tokens": max_tokens,
        "temperature": number(temperature),
        "max_cost": number(max_expected_cost or max_cost),
        "max_latency": max_latency,
        "pin": "run" if pin else None,
    }
    seconds = None if expires_in is None else parse_time(expires_in)
    settings = connect(ctx).settings
    check_step(settings, workflow, step)
    check_models(settings, _named(values))
    store = RouteStore(settings)
    change = None if as_json else _expected(store, workflow, step, values)
    row = store.set(
        workflow,
        step,
        values,
        expected_version=expected_version,
        updated_by=getpass.getuser(),
        reason=reason,
        expires_in=seconds,
        force=force,
    )
    if as_json:
        output.print_json(row)
        return
    output.print_table(_overrides({step: row}), output.out())
    if change is not None:
        output.message(f"Expected a run: {change}.")
    output.message(f"Acts within {settings.route_cache_seconds:g} s on every step that starts.", "dim")


@app.command()
def unset(
    ctx: typer.Context,
    workflow: Workflow,
    step: Step,
    reason: Reason = "",
    expected_version: Expected = None,
    as_json: Json = False,
) -> None:
    """Delete the override of a step; the next layer decides again. Harmless where there is none.

    It also deletes the row of a workflow or step that does not exist any more; `loopllama doctor` names those.
    """
    from loopllama.routing.store import RouteStore

    settings = connect(ctx).settings
    removed = RouteStore(settings).unset(
        workflow, step, expected_version=expected_version, updated_by=getpass.getuser(), reason=reason
    )
    if not removed:
        check_step(settings, workflow, step)  # says so where nobody knows the workflow or the step
    if as_json:
        output.print_json({"workflow": workflow, "step": step, "removed": removed})
    else:
        text = "removed" if removed else "there was no override"
        output.out().print(output.plain(f"{workflow}/{step}: {text}"))


def _named(values: RouteRow) -> list[str]:
    """Return the models that a row names."""
    candidates = [
        candidate["model"] if isinstance(candidate, dict) else candidate for candidate in values["candidates"] or ()
    ]
    return [*([values["model"]] if values["model"] else []), *candidates, *(values["fallbacks"] or ())]


def _expected(store: RouteStore, workflow: str, step: str, values: RouteRow) -> str | None:
    """Return what the row is expected to change for a run, in one line; nothing where no run has been made yet."""
    try:
        forecast = store.expected_change(workflow, step, values)
    except LoopLlamaError:
        return None  # what is wrong with the row, `set` says better
    return None if forecast is None else change_line(forecast)


def change_line(forecast: Forecast) -> str:
    """Return a prediction (`whatif.predict`) in one line."""
    cost, latency = forecast["cost_usd"], forecast["latency_ms"]
    before, after = (
        costs.cost({"cost_usd": cost[when], "cost_basis": forecast["cost_basis"]}).plain for when in ("before", "after")
    )
    parts = [
        f"{before} -> {after}{_percent(cost['change'])}",
        f"{output.duration(latency['before'])} -> {output.duration(latency['after'])}{_percent(latency['change'])}",
    ]
    simulated = ", simulated" if forecast["simulated"] else ""
    return f"{'; '.join(parts)} (by {plural(forecast['runs'], 'recent run')}{simulated})"


def _percent(fraction: Decimal | None) -> str:
    return "" if fraction is None else f" ({output.change(fraction).plain})"


def _explain(settings: Settings, workflow: str) -> list[Explained]:
    from loopllama.routing.router import Router

    return Router(settings).explain(workflow, definition_of(settings, workflow))


def _rows(settings: Settings, workflow: str) -> list[RouteRow]:
    from loopllama.routing.store import RouteStore

    return RouteStore(settings).rows(workflow)


def definition_of(settings: Settings, workflow: str) -> Definition:
    from loopllama.workflows.store import DefinitionStore

    return DefinitionStore(settings).get(workflow)["definition"]


def check_step(settings: Settings, workflow: str, step: str) -> None:
    names = [agent["name"] for agent in definition_of(settings, workflow)["crew"]]
    if step != "*" and step not in names:
        raise InvalidRequest(
            f"step {step!r} not found in workflow {workflow!r}, whose steps are shown by "
            f"{next_command('routes list', workflow)}{closest(step, [*names, '*'])}"
        )


def _candidate(text: str) -> dict[str, Any] | str:
    name, equals, weight = text.rpartition("=")
    if not equals:
        return text
    return {"model": name, "weight": number(weight)}


def number(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise InvalidRequest(f"{text!r} is not a valid number") from error
    if not value.is_finite():
        raise InvalidRequest(f"{text!r} is not a valid number")
    return value


def _overrides(rows: Mapping[str, RouteRow]) -> Table:
    table = output.table("Override of", "Says", "Version", "Until", "By", "Reason", right=("Version",))
    for step, row in rows.items():
        who, why = (output.one_line(row.get(name) or "", output.WHOLE) for name in ("updated_by", "reason"))
        table.add_row(output.plain(step), _says(row), str(row.get("version") or "-"), _until(row), who, why)
    return table


_SAID = {"max_cost": "expected cost at most", "max_latency": "expected ms at most"}


def _says(row: RouteRow) -> str:
    """Return what a row sets."""
    parts = [output.one_line(row["model"], output.WHOLE)] if row.get("model") is not None else []
    for name in ("policy", "candidates", "fallbacks", "max_cost", "max_latency", "max_tokens", "temperature", "pin"):
        if row.get(name) is not None:
            value = f"${row[name]}" if name == "max_cost" else output.one_line(_listed(row[name]), output.WHOLE)
            parts.append(f"{_SAID.get(name, name)} {value}")
    return ", ".join(parts)


def _listed(value: Any) -> Any:
    """Return a row's list of models as they are typed, `MODEL` and `MODEL=WEIGHT`; anything else as it is."""
    if not isinstance(value, list):
        return value
    typed = [f"{one.get('model')}={one.get('weight')}" if isinstance(one, dict) else str(one) for one in value]
    return " ".join(typed)


def _until(row: RouteRow) -> Text:
    expires = row.get("expires_at")
    if not isinstance(expires, int | Decimal) or not 0 <= expires < 10**11:
        return Text(output.one_line("" if expires is None else expires, 20))
    over = datetime.fromtimestamp(int(expires), UTC) <= datetime.now(UTC)
    return Text(output.epoch_time(expires), "dim strike" if over else "")
