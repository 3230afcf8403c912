"""`loopllama tools`: what agents may call, from a file to the table."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from loopllama.core.names import meant
from loopllama.errors import NotFound
from loopllama.settings import Settings
from loopllama_cli import completion
from loopllama_cli.commands.common import Json, ask, connect
from loopllama_cli.console import output
from loopllama_cli.target import next_command

app = typer.Typer(no_args_is_help=True, help="Tools that agents call: define, list, show, delete, who changed them.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The tool's name.", autocompletion=completion.tools)]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the history.")]


@app.command()
def push(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.json", help="A JSON object, name to definition.")],
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Define the tools of a file, anew or for the first time. Others stay as they are.

    Nothing is written where one of the definitions is invalid. It needs AWS credentials that may write the stack's
    table; an API key cannot define tools.
    """
    from loopllama.tools.store import ToolStore
    from loopllama_cli import tool_files

    definitions = tool_files.load(file)
    settings = connect(ctx).settings
    written = ToolStore(settings).write(definitions, updated_by=getpass.getuser(), reason=reason)
    if as_json:
        output.print_json(written)
        return
    for one in written:
        output.out().print(output.plain(f"{one['tool']} version {one['version']}: {one['change']}"))
    if any(one["change"] != "unchanged" for one in written):
        output.message(f"It acts within {settings.route_cache_seconds:g} s on every step that starts.", "dim")


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List the tools that a crew may name, those that every deployment has among them."""
    from loopllama.tools.presenter import built_in, view
    from loopllama.tools.store import ToolStore

    rows = ToolStore(connect(ctx).settings).rows()
    tools = sorted([*built_in(), *map(view, rows)], key=lambda tool: tool["name"])
    if as_json:
        output.print_json(tools)
        return
    table = output.table("Tool", "Type", "Version", "Updated", "By", "Description", right=("Version",))
    for tool in tools:
        table.add_row(
            output.plain(tool["name"]),
            output.plain(tool["type"] or "invalid"),
            str(tool["version"] or "-"),
            output.local_time(tool["updated_at"]),
            output.one_line(tool["updated_by"] or "-", output.WHOLE),
            output.one_line(tool["problem"] or tool["description"], output.WHOLE),
        )
    output.print_table(table, output.out())


@app.command()
def show(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show a tool's whole definition, in the form that `push` takes; standard error says who wrote it, and what is
    wrong with it."""
    from loopllama.tools.presenter import view
    from loopllama.tools.store import ToolStore
    from loopllama_cli import tool_files

    settings = connect(ctx).settings
    row = ToolStore(settings).named([name]).get(name)
    if row is None:
        raise _not_found(settings, name)
    shown, definition = view(row), tool_files.definition(row)
    if as_json:
        about = ("version", "updated_by", "reason", "updated_at", "problem")
        output.print_json({"name": name, "definition": definition, **{key: shown[key] for key in about}})  # type: ignore[literal-required]
        return
    text = definition if isinstance(definition, str) else tool_files.dump({name: definition})
    output.out().print(output.plain(text), soft_wrap=True)
    by = f"version {shown['version'] or '-'}, {output.local_time(shown['updated_at'])}, by {shown['updated_by'] or '-'}"
    output.message(f"{by}: {shown['reason']}" if shown["reason"] else by, "dim")
    if shown["problem"]:
        output.message(f"! {shown['problem']}", "yellow")


@app.command()
def delete(
    ctx: typer.Context,
    name: Name,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a tool. Says first which steps name it: they fail from then on."""
    from loopllama.tools.store import ToolStore
    from loopllama_cli.doctor.use import in_use

    settings = connect(ctx).settings
    store = ToolStore(settings)
    if name not in store.named([name]):
        raise _not_found(settings, name)
    users = in_use(settings).tools.get(name, [])
    for user in users:
        output.message(f"! {user} uses it, and will fail", "yellow")
    if not yes:
        ask(f"Delete the tool {name}?", "whether to delete it")
    store.remove(name, updated_by=getpass.getuser(), reason=reason)
    if as_json:
        output.print_json({"name": name, "deleted": True, "used_by": users})
    else:
        output.out().print(output.plain(f"{name}: deleted"))


@app.command()
def history(
    ctx: typer.Context,
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """Show who changed a tool, when, why, and from what to what; edits by hand in DynamoDB are there too."""
    from loopllama.routing.change_log import History, shown, tool_route
    from loopllama_cli.commands.routes.history import print_history

    settings = connect(ctx).settings
    entries = [shown(entry) for entry in History(settings).entries(tool_route(name), limit)]
    if not entries:
        raise _not_found(settings, name)
    if as_json:
        output.print_json(entries)
    else:
        print_history(entries, "tool")


def _not_found(settings: Settings, name: str) -> NotFound:
    from loopllama.tools.presenter import built_in
    from loopllama.tools.store import ToolStore

    there = [tool["name"] for tool in built_in()]
    hint = meant(name, [*there, *(row["tool"] for row in ToolStore(settings).rows())])
    return NotFound(f"tool {name!r} not found; what there is: {next_command('tools list')}{hint}")
