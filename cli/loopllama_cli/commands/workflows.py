"""`loopllama workflows`: definitions, from files to the table."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from loopllama.errors import InvalidRequest, WorkflowInvalid
from loopllama.settings import Settings
from loopllama_cli import completion
from loopllama_cli.commands.common import MOST, Json, Limit, Workflow, ask, connect
from loopllama_cli.console import output
from loopllama_cli.target import next_command

if TYPE_CHECKING:
    from loopllama.workflows.types import WorkflowItem, WorkflowStatus
    from loopllama_cli.workflow_files import WorkflowFile

app = typer.Typer(
    no_args_is_help=True, help="Definitions of workflows: check, push, list, show, export, pause, roll back, delete."
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A workflow file (YAML or JSON).")]


def _load(file: Path) -> WorkflowFile:
    from loopllama_cli import workflow_files

    return workflow_files.load_file(file)


@app.command()
def push(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A workflow file (YAML or JSON), or a folder of `export --all`.")
    ],
    workflow_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="The workflow's id; by default the file's, else made from its name."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Store nothing where there is anything to warn of; exit code 2.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Store a workflow file as the workflow's current version.

    An unchanged file makes no new version. Standard error tells what a new one replaces, and which routes then do
    nothing, because their step is gone. A tool that the deployment does not have is refused. Of a model that it does
    not know, or cannot use as it is, standard error warns, with what answers instead. What `workflows export` and
    `workflows show --json` gave is taken too. Of a folder that `export --all` wrote, all models, workflows and routes
    are stored; exit code 1 where one could not be.
    """
    from loopllama.routing import validation
    from loopllama.workflows.schema import workflow_id_of
    from loopllama_cli import push_report, workflow_files

    if file.is_dir():
        if workflow_id or strict:
            raise InvalidRequest("--id and --strict are for one file, not for a folder")
        _push_all(connect(ctx).settings, file, as_json)
        return
    given, settings = _load(file), connect(ctx).settings
    warnings = workflow_files.located(file, validation.warnings(settings, given.workflow.to_definition()))
    if strict and warnings:
        raise workflow_files.refused(file, warnings)
    before = push_report.current(settings, workflow_id or given.workflow_id or workflow_id_of(given.workflow.name))
    try:
        item = workflow_files.push(settings, given, workflow_id)
    except WorkflowInvalid as error:
        raise workflow_files.refused(file, workflow_files.located(file, error.details)) from None
    stored, replaced = _view(item, settings), push_report.replaced(before, item)
    idle = validation.idle_routes(settings, item["workflow_id"], item["definition"])
    if as_json:
        output.print_json({**stored, "warnings": [*warnings, *idle], "replaced": replaced})
    else:
        output.out().print(output.plain(f"{stored['id']} version {stored['version']}"))
    if replaced:
        undo = next_command("workflows rollback", stored["id"], "--to", str(replaced["version"]))
        what = "; ".join(replaced["changes"])
        output.message(f"It replaces version {replaced['version']}: {what}. Runs keep theirs. Undo: {undo}", "dim")
    elif before is not None:
        output.message("The file says what that version says already; nothing was stored.", "dim")
    _warn(file, warnings)
    for one in idle:
        output.message(f"! {one['message']}", "yellow")


def _push_all(settings: Settings, folder: Path, as_json: bool) -> None:
    from loopllama_cli.stack_files import Restore

    restored = []
    for one in Restore(settings, folder, getpass.getuser()).run():
        restored.append(one)
        if not as_json:
            version = f" version {one['version']}" if one["version"] else ""
            text = f"{one['kind']} {one['id']}{version}"
            output.out().print(output.plain(f"{text}: {one['error']}" if one["error"] else text), soft_wrap=True)
        _warn(folder / "workflows" / f"{one['id']}.yaml", one["warnings"])
    if as_json:
        output.print_json(restored)
    failed = sum(bool(one["error"]) for one in restored)
    if failed:
        again = next_command("workflows push", str(folder))
        output.message(f"{failed} of {len(restored)} were not stored. Fix why, then push again: {again}", "bold red")
        raise typer.Exit(1)


@app.command()
def export(
    ctx: typer.Context,
    workflow: Annotated[
        str | None, typer.Argument(metavar="WORKFLOW", help="The workflow's id.", autocompletion=completion.workflows)
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--all", metavar="FOLDER", file_okay=False, help="All workflows, routes and models, as files."),
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, max=MOST, help="An earlier version.")] = None,
) -> None:
    """Print a workflow as a file (YAML) that `workflows push` takes, or write files of all workflows.

    The folder is new, empty, or that of an earlier export, which is brought up to date. `workflows push FOLDER` stores
    its content in a stack. Runs, usage, keys and histories are not in it.
    """
    from loopllama.workflows.store import DefinitionStore
    from loopllama_cli import stack_files, workflow_files

    if (workflow is None) == (folder is None) or (folder and version):
        raise InvalidRequest(
            f"name a workflow or a folder: {next_command('workflows export WORKFLOW')}, or "
            f"{next_command('workflows export --all FOLDER')}"
        )
    settings = connect(ctx).settings
    if folder is None:
        sys.stdout.write(workflow_files.dump(DefinitionStore(settings).get(str(workflow), version or 0)))
        return
    for name in stack_files.export(settings, folder):
        output.out().print(output.plain(str(folder / name)), soft_wrap=True)


@app.command()
def pause(ctx: typer.Context, workflow: Workflow, as_json: Json = False) -> None:
    """Let a workflow start no runs; those that run go on."""
    _set_status(ctx, workflow, "paused", as_json)


@app.command()
def resume(ctx: typer.Context, workflow: Workflow, as_json: Json = False) -> None:
    """Undo `pause`."""
    _set_status(ctx, workflow, "active", as_json)


def _set_status(ctx: typer.Context, workflow: str, status: WorkflowStatus, as_json: bool) -> None:
    from loopllama.workflows.store import DefinitionStore

    settings = connect(ctx).settings
    item = DefinitionStore(settings).set_status(workflow, status)
    if as_json:
        output.print_json(_view(item, settings))
    else:
        output.out().print(output.plain(f"{workflow}: {status}"))


@app.command()
def delete(
    ctx: typer.Context,
    workflow: Workflow,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a workflow with its versions and routes. Its runs and usage stay.

    Refused while runs of it are active (exit code 4). `workflows export` keeps a copy.
    """
    from loopllama.engine.lifecycle import delete_workflow
    from loopllama.workflows.store import DefinitionStore

    settings = connect(ctx).settings
    item = DefinitionStore(settings).get(workflow)
    if not yes:
        ask(f"Delete {workflow} with its {item['current_version']} versions and its routes?", "whether to delete it")
    delete_workflow(settings, workflow, by=getpass.getuser())
    if as_json:
        output.print_json({"id": workflow, "deleted": True})
    else:
        output.out().print(output.plain(f"{workflow}: deleted"))


@app.command()
def rollback(
    ctx: typer.Context,
    workflow: Workflow,
    to: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST, metavar="VERSION", help="The version that comes back; the one before by default."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an earlier version of a workflow the current one, as a new version. Runs keep theirs.

    `workflows show --version N` shows what a version says.
    """
    from loopllama.engine.lifecycle import roll_back

    settings = connect(ctx).settings
    item = roll_back(settings, workflow, to)
    if as_json:
        output.print_json(_view(item, settings))
    else:
        output.out().print(output.plain(f"{workflow} version {item['current_version']}"))


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
            output.one_line(agent["systemPrompt"], output.WHOLE),
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
        workflow = _load(file).workflow
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
