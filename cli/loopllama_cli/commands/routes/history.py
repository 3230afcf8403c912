"""`loopllama routes history|diff|rollback|export|import`: the past of overrides, and overrides as a file."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from loopllama.errors import NotFound
from loopllama_cli import completion
from loopllama_cli.commands.common import MOST, Json, Workflow, connect
from loopllama_cli.commands.routes.overrides import Reason, Step, app, check_step, definition_of
from loopllama_cli.console import output
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.routing.types import Difference, ShownChange
    from loopllama.settings import Settings

__all__ = ["app"]


@app.command()
def history(
    ctx: typer.Context,
    workflow: Workflow,
    step: Annotated[
        str | None,
        typer.Argument(
            metavar="STEP",
            help="The step's name, or `*`; every one of them by default.",
            autocompletion=completion.steps,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many of each.")] = 20,
    as_json: Json = False,
) -> None:
    """Show who changed a route, when, why, and from what to what; edits by hand in DynamoDB are there too."""
    settings = connect(ctx).settings
    steps = [step] if step else ["*", *(agent["name"] for agent in definition_of(settings, workflow)["crew"])]
    entries = [entry for name in steps for entry in _entries(settings, workflow, name, limit)]
    if step and not entries:
        check_step(settings, workflow, step)
    entries.sort(key=lambda entry: str(entry["at"]), reverse=True)
    if as_json:
        output.print_json(entries)
        return
    print_history(entries, "step")


def print_history(entries: list[ShownChange], of: Literal["step", "model", "tool"]) -> None:
    """Entries of the history as a table; the field `of` says what an entry is about."""
    table = output.table("When", "Of", "Version", "By", "Changed", "Reason", right=("Version",))
    for entry in entries:
        parts = (
            [_difference(difference) for difference in entry["differences"]] if entry["after"] else [entry["change"]]
        )
        who, why = (output.one_line(entry[field] or "", output.WHOLE) for field in ("updated_by", "reason"))
        change_text = "; ".join(parts) or "nothing but notes"
        version = str(entry["version"] or "-")
        table.add_row(
            output.local_time(entry["at"]),
            output.plain(entry[of]),
            version,
            who,
            output.one_line(change_text, output.WHOLE),
            why,
        )
    output.print_table(table, output.out())
    for entry in entries:
        for problem in entry["problems"]:
            output.message(f"! {entry[of]}, {output.local_time(entry['at'])}: {problem}", "yellow")


@app.command()
def diff(
    ctx: typer.Context,
    workflow: Workflow,
    step: Step,
    version: Annotated[int | None, typer.Option("--from", min=1, max=MOST, help="The version to start from.")] = None,
    to: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="The version to end at; the row as it is by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what differs between two versions of a route; by default what the last change changed."""
    from loopllama.routing.change_log import History, differences, route_of
    from loopllama.routing.store import RouteStore

    settings = connect(ctx).settings
    past, route = History(settings), route_of(workflow, step)
    if version is None and to is None:
        entries = past.entries(route, 1)
        if not entries:
            set_it = next_command("routes set", workflow, step, "MODEL")
            raise NotFound(f"the history of {route!r} is empty; set the route with: {set_it}")
        before, after = entries[0].get("before"), entries[0].get("after")
    else:
        before = past.at_version(route, version).get("after") if version else None
        after = past.at_version(route, to).get("after") if to else RouteStore(settings).get(workflow, step)
    changed = differences(before, after)
    if as_json:
        output.print_json(changed)
        return
    for difference in changed:
        output.out().print(output.plain(_difference(difference)))
    if not changed:
        output.message("No difference.", "dim")


@app.command()
def rollback(
    ctx: typer.Context,
    workflow: Workflow,
    step: Step,
    to: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST, metavar="VERSION", help="The version to go back to; before the last change by default."
        ),
    ] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Make a route say again what it said before, as a new version. Checked like any other write."""
    from loopllama.routing.store import RouteStore

    settings = connect(ctx).settings
    row = RouteStore(settings).rollback(workflow, step, to, updated_by=getpass.getuser(), reason=reason)
    if as_json:
        output.print_json({"workflow": workflow, "step": step, "row": row})
    elif row is None:
        output.out().print(output.plain(f"{workflow}/{step}: removed, as there was no override then"))
    else:
        output.out().print(output.plain(f"{workflow}/{step}: {_row_text(row)} (version {row['version']})"))


@app.command("export")
def export(ctx: typer.Context, workflow: Workflow) -> None:
    """Write the workflow's routes as YAML, for those who review changes in git. `routes import` reads it."""
    from loopllama_cli import route_files

    settings = connect(ctx).settings
    definition_of(settings, workflow)
    sys.stdout.write(route_files.dump(workflow, route_files.present(settings, workflow)))


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML, as `routes export` writes it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Also remove routes that the file does not have.")] = False,
    reason: Reason = "",
    force: Annotated[bool, typer.Option("--force", help="Also models without a price.")] = False,
    as_json: Json = False,
) -> None:
    """Make the workflow's routes what a file says; rows that are the same already are left alone.

    All rows are checked before the first one is written.
    """
    from loopllama_cli import route_files

    wanted = route_files.read(file)
    workflow, settings = wanted.workflow, connect(ctx).settings
    definition_of(settings, workflow)
    changes = wanted.changes(settings, prune=prune, force=force)
    kept = [name for name in route_files.present(settings, workflow) if name not in wanted.routes]
    if not dry_run:
        wanted.apply(settings, changes, getpass.getuser(), reason or f"from {file.name}", force=force)
    if as_json:
        output.print_json({"workflow": workflow, "applied": not dry_run, "changes": changes})
        return
    for change in changes:
        lines = "; ".join(_difference(difference) for difference in change["differences"])
        output.out().print(output.plain(f"{change['step']}  {change['change']}  {lines}"))
    if kept and not prune:
        output.message(f"Not in the file, and kept (--prune removes them): {', '.join(kept)}", "dim")
    done = "would change" if dry_run else "changed"
    output.message(f"{len(changes)} of {len(wanted.routes)} routes of {workflow} {done}.", "dim")


def _entries(settings: Settings, workflow: str, step: str, limit: int) -> list[ShownChange]:
    from loopllama.routing.change_log import History, route_of, shown

    return [shown(entry) for entry in History(settings).entries(route_of(workflow, step), limit)]


def _row_text(row: Mapping[str, Any]) -> str:
    from loopllama.routing.store import VALUES

    return ", ".join(f"{name} {output.one_line(row[name], 80)}" for name in VALUES if row.get(name) is not None)


_EPOCHS = ("expires_at",)
"""Fields in seconds since 1970, which people read as times."""


def _difference(difference: Difference) -> str:
    def shown(value: Any) -> str:
        from loopllama.routing.change_log import plain

        if difference["field"] in _EPOCHS and isinstance(value, int | Decimal):
            return output.epoch_time(value)
        return "nothing" if value is None else output.one_line(plain(value), 80)

    return f"{difference['field']}: {shown(difference['from'])} -> {shown(difference['to'])}"
