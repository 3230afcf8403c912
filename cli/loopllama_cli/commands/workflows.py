"""`loopllama workflows`: definitions, from files to the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from loopllama.errors import InvalidRequest, WorkflowInvalid
from loopllama.settings import Settings
from loopllama_cli.commands.common import MOST, Json, Limit, Workflow, connect
from loopllama_cli.console import output
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.workflows.types import WorkflowItem

app = typer.Typer(no_args_is_help=True, help="Definitions of workflows: check, push, list, show.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="A workflow file (YAML or JSON).")]


def _load(file: Path) -> Any:
    from loopllama_cli import workflow_files

    return workflow_files.load(file)


@app.command()
def push(
    ctx: typer.Context,
    file: File,
    workflow_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The workflow's id; made from its name by default.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Store nothing where there is anything to warn of; exit code 2.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Store a workflow file as the workflow's current version.

    An unchanged file makes no new version. A tool that the deployment does not have is refused. Of a model that it does
    not know, or cannot use as it is, standard error warns, with what answers instead.
    """
    from loopllama.routing import validation
    from loopllama.workflows.store import DefinitionStore
    from loopllama_cli import workflow_files

    workflow, settings = _load(file), connect(ctx).settings
    store = DefinitionStore(settings)
    warnings = workflow_files.located(file, validation.warnings(settings, workflow.to_definition()))
    if strict and warnings:
        raise workflow_files.refused(file, warnings)
    try:
        stored = _view(store.push(workflow, workflow_id), settings)
    except WorkflowInvalid as error:
        raise workflow_files.refused(file, workflow_files.located(file, error.details)) from None
    if as_json:
        output.print_json({**stored, "warnings": warnings})
    else:
        output.out().print(output.plain(f"{stored['id']} version {stored['version']}"))
    _warn(file, warnings)


def _warn(file: Path, warnings: Sequence[Mapping[str, object]]) -> None:
    """Print warnings to standard error, and how to see what there is in the stack that was chosen."""
    for warning in warnings:
        output.message(f"! {file}, line {warning['line']}: {warning['field']}: {warning['message']}", "yellow")
    if warnings:
        output.message(f"Fix the file and push it again; what there is: {next_command('models list')}", "dim")


@app.command("list")
def list_(ctx: typer.Context, limit: Limit = 50, as_json: Json = False) -> None:
    """List the workflows, the most recently changed first."""
    from loopllama.workflows.store import DefinitionStore

    settings = connect(ctx).settings
    items, cursor = DefinitionStore(settings).list(limit=limit)
    views = [_view(item, settings) for item in items]
    if as_json:
        output.print_json(views)
        return
    if not views:
        output.message(f"There are no workflows; make one with: {next_command('workflows push FILE')}", "dim")
        return
    table = output.table("Workflow", "Name", "Version", "Agents", "Model", "Updated", right=("Version", "Agents"))
    for workflow in views:
        table.add_row(
            output.plain(workflow["id"]),
            output.plain(workflow["name"]),
            str(workflow["version"]),
            str(len(workflow["crew"])),
            output.plain(workflow["model"]),
            output.local_time(workflow["updated_at"]),
        )
    output.print_table(table, output.out())
    if cursor:
        output.message("There are more: raise --limit.", "dim")


@app.command("show")
def show_(
    ctx: typer.Context,
    workflow: Workflow,
    version: Annotated[int | None, typer.Option(min=1, max=MOST, help="An earlier version.")] = None,
    as_json: Json = False,
) -> None:
    """Show a workflow and its crew."""
    from loopllama.workflows.store import DefinitionStore

    settings = connect(ctx).settings
    view = _view(DefinitionStore(settings).get(workflow, version or 0), settings)
    if as_json:
        output.print_json(view)
        return
    console = output.out()
    title = Text.assemble((output.clean(view["id"]), "bold"), f"  version {view['version']}  {view['status'] or ''}")
    console.print(title)
    if view.get("description"):
        console.print(output.plain(view["description"]))
    console.print(Text(f"default model: {output.clean(view['model'])}", "dim"))
    table = output.table("Step", "Role", "Model", "Needs", "System prompt")
    for agent in view["crew"]:
        table.add_row(
            output.plain(agent["name"]),
            output.plain(agent["role"]),
            output.plain(agent.get("model") or "-"),
            output.plain(", ".join(agent.get("needs", [])) or "-"),
            output.one_line(agent["systemPrompt"], 60),
        )
    output.print_table(table, console)


@app.command()
def validate(file: File, as_json: Json = False) -> None:
    """Check a workflow file without storing it; needs no stack.

    Exit code 2 and a line for each mistake where it cannot run. Standard error warns of models that the bundled catalog
    does not know; `push` asks the stack, which may have models and tools of its own.
    """
    from loopllama.routing import validation
    from loopllama_cli import workflow_files

    try:
        workflow = _load(file)
    except InvalidRequest as error:
        if not as_json:
            raise
        output.print_json({"valid": False, "error": str(error), "details": error.details})
        raise typer.Exit(2) from error
    definition = workflow.to_definition()
    warnings = workflow_files.located(file, validation.warnings(Settings(), definition))
    if as_json:
        from loopllama.workflows.presenter import definition_view

        shown = definition_view(definition)
        output.print_json({"valid": True, "name": workflow.name, "definition": shown, "warnings": warnings})
        _warn(file, warnings)
        return
    steps = ", ".join(step["name"] for step in definition["crew"])
    output.out().print(output.plain(f"{file}: {workflow.name} is valid; its steps: {steps}"), soft_wrap=True)
    _warn(file, warnings)


@app.command()
def schema() -> None:
    """Print the JSON Schema of workflow files, for editors."""
    from loopllama.workflows.schema import json_schema

    output.print_json(json_schema())


def _view(item: WorkflowItem, settings: Settings) -> dict[str, Any]:
    from loopllama.workflows.presenter import view

    return view(item, settings.default_model)
