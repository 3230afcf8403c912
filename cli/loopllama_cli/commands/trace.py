"""`loopllama trace` and `compare`: what runs did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loopllama.errors import WorkflowNotFound
from loopllama.llm.usage import SUMMED
from loopllama.settings import Settings
from loopllama_cli import completion
from loopllama_cli.commands.common import Csv, Json, RunId, connect, either
from loopllama_cli.commands.run import read
from loopllama_cli.console import output, step_detail
from loopllama_cli.console.comparison import PAIRED, compare_runs, paired, print_comparison
from loopllama_cli.console.run_facts import steps_of
from loopllama_cli.console.trace import picture, print_trace

if TYPE_CHECKING:
    from loopllama.queries.types import RunView


_CSV = (
    *("step", "iteration", "item", "status", "model", "source", *(figure.shown for figure in SUMMED)),
    *("cost_usd", "cost_basis", "simulated", "latency_ms", "waited_ms", "started_at", "finished_at"),
)


def trace(
    ctx: typer.Context,
    run: RunId,
    step: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only this step, whole: prompt, model and tool calls, output. Also NAME[ITEM] and NAME#ROUND.",
        ),
    ] = None,
    outputs: Annotated[bool, typer.Option("--outputs", help="Print what each step gave, too.")] = False,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Write the trace as a picture instead.")
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show what a run did: for each step its model and who chose it, tokens, latency, cost; then a timeline.

    Long lists are one line, with their spread and what failed. In the cost column `~` marks an estimate and `≥` a sum
    that lacks a call of unknown cost. With --step --json: a list of step objects.
    """
    either(as_json, as_csv)
    settings = connect(ctx).settings
    view = read(settings, run)
    if as_csv:
        output.print_csv(_CSV, steps_of(view) if step is None else step_detail.named(view, step))
        return
    if step is not None:
        steps = step_detail.named(view, step)
        if as_json:
            output.print_json(steps)
        else:
            step_detail.print_steps(steps, system_prompts_of(settings, view))
        return
    if svg:
        svg.write_text(picture(view), "utf-8")
    if as_json:
        output.print_json(view)
    elif not svg:
        print_trace(view)
        if outputs:
            step_detail.print_outputs(view)


def system_prompts_of(settings: Settings, run: RunView) -> dict[str, str]:
    """Return the system prompts that a run's steps got, by step; none of a workflow that was deleted."""
    from loopllama.runs.store import RunStore
    from loopllama.workflows.store import DefinitionStore

    try:
        workflow = DefinitionStore(settings).get(run["workflow_id"], run["workflow_version"])
    except WorkflowNotFound:
        return {}
    given = {agent["name"]: agent["system_prompt"] for agent in workflow["definition"]["crew"]}
    return given | (RunStore(settings).run(run["id"]).get("system_prompts") or {})


def compare(
    ctx: typer.Context,
    first: Annotated[
        str, typer.Argument(metavar="RUN", help="The run to compare with.", autocompletion=completion.runs)
    ],
    second: Annotated[
        str, typer.Argument(metavar="RUN", help="The run that is compared.", autocompletion=completion.runs)
    ],
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Show two runs side by side: models, latency and cost by step, and what changed."""
    settings = connect(ctx).settings
    a, b = read(settings, first), read(settings, second)
    either(as_json, as_csv)
    if as_json:
        output.print_json(compare_runs(a, b))
    elif as_csv:
        output.print_csv(PAIRED, paired(a, b))
    else:
        print_comparison(a, b)
