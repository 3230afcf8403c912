"""What the workflows and the Routes table name: the models and tools in use, and rows of workflows or steps that do not
exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from loopllama.aws import clients, dynamo
from loopllama.settings import Settings
from loopllama_cli.doctor.findings import Check, Status
from loopllama_cli.target import next_command

_MOST = 10


class Use(NamedTuple):
    """`models` are those in use by who names them, in one line; `rows` the rows of the Routes table, workflow and step;
    `steps` the steps of each workflow; `tools` the steps that name each tool, as `workflow/step`."""

    models: dict[str, str]
    rows: list[tuple[str, str]]
    steps: dict[str, set[str]]
    tools: dict[str, list[str]]


def in_use(settings: Settings) -> Use:
    """Read what definitions and routes name, and the deployment's default."""
    from loopllama.workflows.store import DefinitionStore

    users: dict[str, set[str]] = {settings.default_model: {"DefaultModel"}}
    rows: list[tuple[str, str]] = []
    steps: dict[str, set[str]] = {}
    tools: dict[str, list[str]] = {}

    def add(part: Mapping[str, Any], user: str) -> None:
        lists = (part.get("candidates"), part.get("fallbacks"))  # in a row they may be anything
        for entry in (part.get("model"), *(entry for listed in lists if isinstance(listed, list) for entry in listed)):
            name = entry.get("model") if isinstance(entry, Mapping) else entry
            if isinstance(name, str) and name:
                users.setdefault(name, set()).add(user)

    store, cursor = DefinitionStore(settings), None
    while True:
        page, cursor = store.list(100, cursor)
        for item in page:
            steps[str(item["workflow_id"])] = {str(step["name"]) for step in item["definition"]["crew"]}
            for step in item["definition"]["crew"]:
                for tool in step.get("tools") or ():
                    tools.setdefault(tool, []).append(f"{item['workflow_id']}/{step['name']}")
            for part in (item["definition"], *item["definition"]["crew"]):
                add(part, str(item["workflow_id"]))
        if cursor is None:
            break
    pages = clients.client("dynamodb").get_paginator("scan").paginate(TableName=settings.routes_table)
    for row in (dynamo.from_item(item) for page in pages for item in page["Items"]):
        rows.append((str(row["workflow"]), str(row["step"])))
        add(row, f"the route {row['workflow']}/{row['step']}")
    models = {name: ", ".join(sorted(who)[:3]) + (" and others" if len(who) > 3 else "") for name, who in users.items()}
    return Use(models, sorted(rows), steps, tools)


def examine_rows(use: Use) -> Iterator[Check]:
    """Yield the rows of the Routes table that no step reads, because their workflow or step does not exist, and the
    command that deletes each."""
    wrong = [
        (workflow, step, "workflow" if workflow not in use.steps else "step")
        for workflow, step in use.rows
        if workflow not in use.steps or step not in {*use.steps[workflow], "*"}
    ]
    for workflow, step, missing in wrong[:_MOST]:
        todo = next_command("routes unset", workflow, step)
        yield Check(f"route {workflow}/{step}", "warn", f"there is no such {missing}: the row does nothing", todo)
    if len(wrong) > _MOST:
        yield Check("routes", "warn", f"{len(wrong) - _MOST} more rows name nothing", "delete these, and look again")
    elif not wrong:
        yield Check("routes", "ok", f"{len(use.rows)} rows, each of a step that exists")


def examine_tools(use: Use, settings: Settings) -> Iterator[Check]:
    """Yield the rows of the Tools table that are invalid, and tools that steps name and the table does not have: such
    steps fail."""
    from loopllama.errors import ToolInvalid
    from loopllama.tools.reading import KNOWN_TO_ALL, read
    from loopllama.tools.store import ToolStore

    rows = ToolStore(settings).rows()
    wrong: list[Check] = []
    for row in rows:
        try:
            read(row)
        except ToolInvalid as error:
            users = _some(use.tools.get(row["tool"], ()))
            told = f"{error.details[0]['message']}; {f'these fail: {users}' if users else 'no step uses it'}"
            status: Status = "fail" if users else "warn"
            todo = f"{next_command('tools show', row['tool'])}\n{next_command('tools push FILE.json')}"
            wrong.append(Check(f"tool {row['tool']}", status, told, todo))
    missing = sorted(use.tools.keys() - {row["tool"] for row in rows} - KNOWN_TO_ALL)
    for name in missing:
        told = f"is not defined; these fail: {_some(use.tools[name])}"
        wrong.append(Check(f"tool {name}", "fail", told, next_command("tools push FILE.json")))
    yield from wrong[:_MOST]
    if len(wrong) > _MOST:
        yield Check(
            "tools", "warn", f"{len(wrong) - _MOST} more are invalid or not defined", "fix these, and look again"
        )
    elif not wrong:
        yield Check("tools", "ok", f"{len(rows)} defined, all that steps name among them")


def _some(users: Sequence[str]) -> str:
    return ", ".join(users[:3]) + (" and others" if len(users) > 3 else "")
