"""`loopllama demo`: a crew runs, four of its steps switch to a small model by rows of a table, it runs again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from loopllama.aws import clients
from loopllama.errors import InvalidRequest
from loopllama.settings import Settings
from loopllama_cli.commands.common import Json
from loopllama_cli.commands.run import follow, print_output, start
from loopllama_cli.console import output
from loopllama_cli.console.comparison import compare_runs, print_comparison
from loopllama_cli.console.trace import print_trace
from loopllama_cli.target import connect_local

if TYPE_CHECKING:
    from loopllama.queries.types import RunView
    from loopllama_cli.catalog.own_servers import OwnServer

EXAMPLE = Path("examples/support_reply")
ROUTINE_STEPS = ("triage", "extract", "lookup", "check")
SMALL = "small"
_CONFIGURATION = (
    "CodeSha256",
    "RevisionId",
    "LastModified",
    "Environment",
    "Layers",
    "Timeout",
    "MemorySize",
    "Handler",
)


def demo(
    model: Annotated[
        str | None,
        typer.Option(metavar="PROVIDER:MODEL", help="A real model for every step that does not switch."),
    ] = None,
    small: Annotated[str, typer.Option(metavar="MODEL", help="What the routine steps switch to.")] = SMALL,
    speed: Annotated[
        float,
        typer.Option(min=0.1, max=1000, metavar="FACTOR", help="Let simulated models answer so many times as fast."),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Run a support ticket through six agents on a local stack, switch four steps to a small model, run again, compare.

    Needs no AWS account and no keys: a simulated model stands in for models without a key, at their own prices, and
    says so. With `--model openai:gpt-…` and OPENAI_API_KEY in the environment the real one answers, with `--model
    ollama:NAME` the Ollama of this machine (so do vllm, llamacpp and lmstudio). With `--json` all
    but the result goes to standard error. Exit code 0 only if both runs completed and nothing was deployed between
    them.
    """
    from loopllama_cli.local import LocalStack, LocalStackError
    from loopllama_cli.project import project_root

    began = time.monotonic()
    _check_models(model, small)
    log: list[str] = []
    console = output.err() if as_json else output.out()
    _say(console, 1, "Starting the stack of template.yaml on this machine (no Docker, no AWS account)")
    try:
        root = project_root()
        with LocalStack(root, {"SimulatedSpeed": str(speed)}, log=log.append) as stack:
            output.message(f"Ready after {time.monotonic() - began:.1f} s.", "dim")
            settings = connect_local(stack.aws_endpoint_url, stack.credentials).settings
            failures, result = _demo(console, settings, root / EXAMPLE, model, small)
    except KeyboardInterrupt as interrupt:
        output.message("Stopped, and the local stack with it.", "yellow")
        raise typer.Exit(130) from interrupt
    except (LocalStackError, OSError) as error:
        output.error(error)
        raise typer.Exit(1) from error
    if as_json:
        output.print_json(result)
    for failure in failures:
        output.message(f"demo failed: {failure}", "bold red")
    if failures:
        output.message("\n".join(["The local stack said:", *log]), "dim")
        raise typer.Exit(1)
    output.message(f"Done in {time.monotonic() - began:.0f} s.", "dim")


def _demo(
    console: Console, settings: Settings, example: Path, model: str | None, small: str
) -> tuple[list[str], dict[str, Any]]:
    from loopllama.routing.store import RouteStore
    from loopllama.workflows.store import DefinitionStore
    from loopllama_cli import workflow_files

    workflow = workflow_files.load(example / "workflow.yaml")
    text = (example / "input.txt").read_text(encoding="utf-8")
    steps = [step["name"] for step in workflow.to_definition()["crew"]]
    if model:
        _probe(console, settings, model)
    pushed = DefinitionStore(settings).push(workflow)
    workflow_id = pushed["workflow_id"]
    _say(console, 2, f"Running {workflow_id}: {len(steps)} steps, each on the model that its definition names")
    before = deployment()
    first = _run(console, settings, workflow_id, text, dict.fromkeys(steps, model) if model else {})
    print_output(first, console)

    _say(console, 3, f"Switching the routine steps to `{small}`: four rows in DynamoDB, nothing redeployed")
    routes = RouteStore(settings)
    for step in ROUTINE_STEPS:
        row = routes.set(workflow_id, step, {"model": small}, reason="routine work", updated_by="demo")
        shown = ", ".join(f"{name}: {row[name]}" for name in ("workflow", "step", "model"))
        console.print(Text.assemble((f"{settings.routes_table}  ", "dim"), f"{{{shown}}}"))
    seconds = settings.route_cache_seconds
    console.print(Text(f"Functions that run already see a row after at most {seconds:g} s.", "dim"))
    time.sleep(seconds)

    _say(console, 4, "Running it again")
    kept = {step: model for step in steps if step not in ROUTINE_STEPS} if model else {}
    second = _run(console, settings, workflow_id, text, kept)
    if second.get("output") != first.get("output"):
        print_output(second, console)
    else:
        console.print(Text("The output is the same as before.", "dim"))
    _say(console, 5, "Side by side")
    print_comparison(first, second, console)
    failures = check(first, second, before, deployment())
    if not failures:
        version = second["workflow_version"]
        text = f"Same workflow version ({version}); no function and no state machine changed between the runs."
        console.print(Text(text, "green"))
    return failures, compare_runs(first, second)


def check(first: RunView, second: RunView, before: Any, after: Any) -> list[str]:
    """Return what is wrong with the demonstration, in sentences; empty where both runs completed on the same workflow
    version and deployment."""
    failures = [
        f"run {run['id']} ended {run['status']}, not completed"
        for run in (first, second)
        if run["status"] != "completed"
    ]
    if first["workflow_version"] != second["workflow_version"]:
        failures.append(f"the workflow's version went from {first['workflow_version']} to {second['workflow_version']}")
    if before != after:
        failures.append("a function or state machine changed between the runs")
    return failures


def deployment() -> dict[str, Any]:
    """Return what is deployed: code and configuration of every function, definition and date of every state machine."""
    functions = {
        function["FunctionName"]: {key: function.get(key) for key in _CONFIGURATION}
        for page in clients.client("lambda").get_paginator("list_functions").paginate()
        for function in page["Functions"]
    }
    states = clients.client("stepfunctions")
    machines = {}
    for page in states.get_paginator("list_state_machines").paginate():
        for machine in page["stateMachines"]:
            description = states.describe_state_machine(stateMachineArn=machine["stateMachineArn"])
            machines[machine["name"]] = {
                key: str(description.get(key)) for key in ("definition", "revisionId", "creationDate", "updateDate")
            }
    return {"functions": functions, "state_machines": machines}


def _run(console: Console, settings: Settings, workflow_id: str, text: str, models: dict[str, str]) -> RunView:
    ended = follow(settings, start(settings, workflow_id, text, models=models))
    print_trace(ended, console)
    return ended


def _check_models(model: str | None, small: str) -> None:
    """Both must be known, and a real model needs its provider's key here, or its server, with that model; say so before
    anything starts."""
    import os

    from loopllama.catalog.catalog import bundled
    from loopllama.catalog.providers import KNOWN, OWN, variables_of
    from loopllama.providers.credentials import from_environment

    bundled().resolve(small)
    if model is None:
        return
    resolved = bundled().resolve(model)
    known = KNOWN.get(resolved.provider, OWN)
    if known.local_server:
        _server_here(resolved.provider).chosen([resolved.provider_model])
        return
    if not known.by_role and from_environment(resolved.provider, os.environ) is None:
        variable = f"{variables_of(resolved.provider)[0]}_API_KEY"
        raise InvalidRequest(
            f"{model} is answered by {resolved.provider}, which has no key here: export {variable}=KEY"
        )


def _server_here(provider: str) -> OwnServer:
    """Return a server of one's own where a local stack of this environment will look for it."""
    import json
    import os

    from loopllama.catalog.providers import variables_of
    from loopllama.providers.credentials import checked
    from loopllama_cli.catalog.own_servers import OwnServer
    from loopllama_cli.local.providers import credentials

    fields = json.loads(credentials(os.environ)[provider])
    source = f"environment variable {variables_of(provider)[0]}_BASE_URL"
    return OwnServer(checked(provider, fields, source, Settings()))


def _probe(console: Console, settings: Settings, model: str) -> None:
    """Ask a server of one's own what the model can, and write that into the stack's Models table: of a model that
    nobody knows, the crew would ask for JSON by instructions only."""
    from loopllama.catalog.catalog import bundled
    from loopllama.catalog.providers import KNOWN, OWN
    from loopllama.catalog.store import CatalogStore
    from loopllama_cli.commands.models.probe import look, server_of

    resolved = bundled().resolve(model)
    if not KNOWN.get(resolved.provider, OWN).local_server:
        return
    (found,) = look(server_of(resolved.provider, settings), settings, [resolved.provider_model])
    entry = found.entry(resolved.provider)
    CatalogStore(settings).write(resolved.id, entry, updated_by="demo", reason=f"told by {resolved.provider}")
    can = ", ".join(entry["capabilities"]) or "text only"
    console.print(Text(f"{model} can: {output.clean(can)}; {output.tokens(found.context_window)} tokens", "dim"))


def _say(console: Console, number: int, text: str) -> None:
    console.print()
    title = Text.assemble((f"{number} ", "bold cyan"), (output.clean(text), "bold"))
    console.print(Rule(title, align="left", style="cyan"))
