"""`loopllama advise`: where a workflow's money goes, and what would make it less. Calls no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loopllama.core.names import plural
from loopllama.errors import InvalidRequest
from loopllama_cli import completion
from loopllama_cli.commands.common import Json, connect
from loopllama_cli.commands.models.show import check_models
from loopllama_cli.console import output
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.queries.advice.types import Advice, Interval, Line
    from loopllama.settings import Settings

_COMMANDS = ("command", "try_command", "apply_command")
_MOVES = {
    "model": "to {to}",
    "repair": "to {to}, no repairs",
    "effort": "less effort",
    "tier": "cheaper tier",
    "cached_prompt": "cache its prompt",
    "unread_output": "nobody reads it",
    "cap": "limit answers",
}


def advise(
    ctx: typer.Context,
    workflow: Annotated[
        str | None,
        typer.Argument(
            metavar="WORKFLOW",
            help="The workflow's id; the only one where there is one.",
            autocompletion=completion.workflows,
        ),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, max=100, help="By the newest so many completed runs.")] = 20,
    runs_month: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e11, metavar="N", help="Runs in 30 days, instead of what the record says."),
    ] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A model to reckon with, instead of those of the catalog. Repeatable.",
            autocompletion=completion.models,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Show at most so many lines.")] = 10,
    as_json: Json = False,
) -> None:
    """Name the steps that could cost less, by recorded runs: savings with their spread, latency, and what proves them.

    The largest saving that can be expected comes first: savings of steps that look routine count more.
    """
    from loopllama.routing.advising import advice

    settings = connect(ctx).settings
    check_models(settings, candidate or ())
    told = advice(settings, workflow or _only(settings), runs=runs, runs_month=runs_month, candidates=candidate or ())
    if as_json:
        output.print_json(_with_target(told))
        return
    _print(told, limit)


def _only(settings: Settings) -> str:
    """Return the deployment's only workflow. Raises `InvalidRequest` where there are several, or none."""
    from loopllama.workflows.store import DefinitionStore

    items, _ = DefinitionStore(settings).list(2)
    if len(items) == 1:
        return items[0]["workflow_id"]
    if not items:
        raise InvalidRequest(f"there are no workflows; make one with: {next_command('workflows push FILE')}")
    raise InvalidRequest(f"there are several workflows; name one of them: {next_command('workflows list')}")


def _with_target(value: Any) -> Any:
    """Return the advice with commands that name the stack that this one was asked of."""
    if isinstance(value, Mapping):
        return {
            name: _typed(inner) if name in _COMMANDS and inner is not None else _with_target(inner)
            for name, inner in value.items()
        }
    return [_with_target(inner) for inner in value] if isinstance(value, list) else value


def _typed(command: str) -> str:
    return next_command(command.removeprefix("loopllama "))


def _print(told: Advice, limit: int) -> None:
    lines = [line for line in told["advice"] if line["basis"] != "none"][:limit]
    if lines:
        _print_lines(told, lines)
    more = len(told["advice"]) - len(lines)
    for step in told["steps"]:
        if step["more_runs"] or not any(line["step"] == step["step"] for line in lines):
            output.message(f"{step['step']}: {step['says']}.", "dim")
    if not told["enough"]:
        needed = f"{told['more_runs']} more {'is' if told['more_runs'] == 1 else 'are'} needed"
        output.message(f"Not enough data: completed runs: {told['runs']}; {needed}.", "yellow")
    if more:
        output.message(f"{plural(more, 'more line')}: --json shows all.", "dim")
    if told["runs"]:
        output.message(_basis(told), "dim")
    for unknown in told["unknown"]:
        output.message(f"Not known: {unknown}.", "yellow")


def _print_lines(told: Advice, lines: list[Line]) -> None:
    is_monthly = told["rate"] is not None
    period = "a month" if is_monthly else "a run"
    saves = f"Saves {period}"
    table = output.table("#", "Step", "Move", saves, "90 % range", "Run's latency", "Routine", right=("#", saves))
    places = output.cost_decimals([abs(_saving(line, is_monthly)["estimate"]) for line in lines])
    for number, line in enumerate(lines, start=1):
        saving, latency = _saving(line, is_monthly), line["latency_ms"]
        after = latency["after"]
        change = "not known" if after is None else _seconds(after - latency["before"])
        table.add_row(
            str(number),
            output.plain(line["step"]),
            output.plain(_MOVES[line["move"]].format(to=line["alias"] or line["to"])),
            output.money(saving["estimate"], places),
            f"{output.money(saving['low'], places)} to {output.money(saving['high'], places)}",
            change,
            _routine(line),
        )
    output.print_table(table, output.out())
    for number, line in enumerate(lines, start=1):
        output.message(f"{number}. {_about(line)}")
        output.message(f"   {_typed(line['command'])}", "bold")
    together = told["together"]
    if together is not None and len(together["steps"]) > 1:
        saving = together["saving_usd_month"] or together["saving_usd_run"]
        output.message(
            f"The routine steps together save {output.money(saving['estimate'], places)} "
            f"({output.money(saving['low'], places)} to {output.money(saving['high'], places)}) {period}:"
        )
        output.message(f"   {_typed(together['command'])}", "bold")


_ROUTINE = ("model", "repair", "effort")
"""Moves that change what answers, so that it matters how routine the step looks."""


def _routine(line: Line) -> str:
    """Return how many signals speak against a move's being harmless."""
    if line["move"] not in _ROUTINE:
        return "-"
    against = len(line["speaks_against"])
    return f"{against} against" if against else "yes"


def _saving(line: Line, is_monthly: bool) -> Interval:
    month = line["saving_usd_month"]
    return month if is_monthly and month is not None else line["saving_usd_run"]


def _about(line: Line) -> str:
    """Return what a line rests on, in one sentence or two."""
    marks = [word for word, is_so in (("estimated", line["estimated"]), ("simulated", line["simulated"])) if is_so]
    parts = [f"{line['step']}: {line['says']}", f"rests on {', '.join(line['rests_on'])}"]
    if line["speaks_against"]:
        parts.append(f"against it: {', '.join(line['speaks_against'])}")
    if line["once_usd"]:
        parts.append(f"once {output.money(line['once_usd'])} for caches that are written anew")
    if line["latency_ms"]["source"] in ("other steps", "the catalog", "several"):
        parts.append(f"latency by {line['latency_ms']['source']}")
    if line["more_runs"]:
        parts.append(f"{plural(line['more_runs'], 'more run')} would tell it from nothing")
    if marks:
        parts.append(f"figures are {' and '.join(marks)}")
    return f"{'; '.join(parts)}."


def _seconds(change: int) -> str:
    if not change:
        return "same"
    return f"{'+' if change > 0 else '-'}{output.duration(abs(change))}"


def _basis(told: Advice) -> str:
    dates = f"{output.local_time(told['from'])} to {output.local_time(told['to'])}"
    rate, spent = told["rate"], told["usd_month"] or told["usd_run"]
    often = f", {rate['runs_month']:,.0f} runs a month" if rate else ""
    bill = ""
    if spent is not None:
        period = "month" if told["usd_month"] else "run"
        bill = (
            f" A {period} costs {output.money(spent['estimate'])} "
            f"({output.money(spent['low'])} to {output.money(spent['high'])})."
        )
    simulated = " Some of them are simulated." if told["simulated"] else ""
    return f"By {plural(told['runs'], 'completed run')}, {dates}{often}, at today's prices.{bill}{simulated}"
