"""A run's trace in the terminal: the steps with their models and cost, what went otherwise than planned, a timeline."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from loopllama.llm.usage import TITLED
from loopllama_cli.console import figures as costs
from loopllama_cli.console import output
from loopllama_cli.console.folding import ended, folded, items_of, latencies
from loopllama_cli.console.moments import at_work
from loopllama_cli.console.notes import notes
from loopllama_cli.console.places import label
from loopllama_cli.console.run_facts import (
    cost_basis,
    error_text,
    run_cost,
    run_latency,
    simulated,
    step_simulated,
    step_status,
    steps_of,
)
from loopllama_cli.console.timeline import timeline

if TYPE_CHECKING:
    from loopllama.queries.types import RunView, StepView
    from loopllama_cli.console.folding import Folded

_COLOURS = ("cyan", "magenta", "blue", "green", "bright_yellow", "bright_magenta", "bright_cyan", "bright_blue")


def print_trace(run: RunView, console: Console | None = None) -> None:
    """Print the whole trace of a run object (with its `steps`)."""
    console = console or output.out()
    console.print(header(run))
    colours = model_colours(steps_of(run))
    console.print()
    output.print_table(steps_table(run, colours), console)
    console.print()
    until = output.moment(run.get("finished_at")) or datetime.now(UTC)
    for part in (timeline(folded(steps_of(run)), console.width, colours, until), list(notes(run))):
        if part:
            console.print(Group(*part))
            console.print()


def picture(run: RunView, width: int = 112) -> str:
    """Return the trace as an SVG document, as a terminal of so many columns shows it."""
    console = Console(
        record=True, file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor",
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    print_trace(run, console)
    drawn = console.export_svg(title=f"loopllama trace {output.clean(str(run.get('id')))}", unique_id="trace")
    # rich names a font on another host; a picture fetches nothing.
    drawn = re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    return drawn.replace("Fira Code,", "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono,")


def model_colours(steps: Sequence[StepView]) -> dict[str, str]:
    """Return a colour for each model, by first use, so that table and timeline show at a glance who did what."""
    models = dict.fromkeys(str(step["model"]) for step in steps if step.get("model"))
    return {model: _COLOURS[place % len(_COLOURS)] for place, model in enumerate(models)}


def header(run: RunView) -> Group:
    """Return which run this is, how it ended, on what input."""
    title = Text.assemble(
        (output.clean(str(run.get("workflow_id"))), "bold"), "  ", output.status(run.get("status")), "  "
    )
    title.append(output.clean(str(run.get("id"))), "dim")
    if simulated(run):
        title.append("  ")
        title.append(" SIMULATED ", "bold black on yellow")
    facts = [f"version {run.get('workflow_version')}"] if run.get("workflow_version") is not None else []
    facts.append(output.local_time(run.get("started_at") or run.get("created_at")))
    if replayed := run.get("replayed_from"):
        facts.append(f"replayed from {replayed['run_id']} at {replayed['from_step']}")
    facts += [f"{key}={value}" for key, value in (run.get("tags") or {}).items()]
    lines: list[RenderableType] = [title, Text(output.clean(" · ".join(facts)), "dim")]
    if run.get("input") is not None:
        line = Text.assemble(("input  ", "dim"), output.one_line(run["input"], 400))
        line.no_wrap, line.overflow = True, "ellipsis"
        lines.append(line)
    if run.get("error"):
        lines.append(Text.assemble(("error  ", "bold red"), (error_text(run["error"]), "red")))
    return Group(*lines)


def steps_table(run: RunView, colours: Mapping[str, str]) -> Table:
    """Return a row for each step, and the totals."""
    steps = steps_of(run)
    total = run_cost(run)
    decimals = output.cost_decimals(step.get("cost_usd") for step in steps)
    mixed = simulated(run) and not all(step_simulated(step) for step in at_work(steps) if step.get("model"))
    figures = (*_TOKENS.values(), "Latency", "Cost", "Share")
    table = output.table("", "Step", "Model", "Source", *figures, right=figures, show_footer=True)
    for step in folded(steps):
        model = Text(output.clean(str(step.get("model") or "-")), colours.get(str(step.get("model")), "dim"))
        if mixed and step_simulated(step):
            model.append(" simulated", "yellow")
        table.add_row(
            output.status(step_status(step), word=False),
            _name(step),
            model,
            output.clean(str(step.get("source") or "-")),
            *(output.tokens(step.get(name)) for name in _TOKENS),
            _latency(step),
            _cost(step, decimals),
            _share(step.get("cost_usd"), total),
        )
    sums = [sum(int(cast("Mapping[str, Any]", step).get(name) or 0) for step in steps) for name in _TOKENS]
    footer = [
        "",
        "Total",
        "",
        "",
        *map(output.tokens, sums),
        output.duration(run_latency(run)),
        costs.cost({**run, "cost_usd": total, "cost_basis": cost_basis(run)}, decimals) if steps else "",
        "",
    ]
    for column, value in zip(table.columns, footer, strict=True):
        column.footer = value
        column.no_wrap = column.header not in ("Step", "Model")
    table.columns[1].overflow = table.columns[2].overflow = "fold"
    return table


_TOKENS = {
    figure.shown: figure.title.removeprefix("Tokens ").capitalize()
    for figure in sorted(TITLED, key=lambda figure: figure.name == "output_tokens")
}
"""The columns of figures and their headings: what goes in, then what comes out."""


def _name(step: Folded) -> Text:
    """Return what a step is called; of a folded list also how many items failed."""
    name, failed = Text(label(step)), ended(items_of(step), "failed")
    return name.append(f" {failed} failed", "red") if failed else name


def _latency(step: Folded) -> str:
    """Return how long a step took; of a folded list from the shortest to the longest time of an item."""
    if step.get("replayed_from"):
        return "kept"
    if step.get("status") == "skipped":
        return "-"
    spread = latencies(items_of(step))
    return output.spread(*spread) if spread else output.duration(step.get("latency_ms"))


def _cost(step: StepView, decimals: int) -> Text:
    """Return a step's cost; a dash where no model was called."""
    cost = step.get("cost_usd")
    if not cost and not step.get("attempts") and (cost == 0 or not step.get("model")):
        return Text("-", "dim")
    return costs.cost(step, decimals)


def _share(cost: Any, total: Decimal | None) -> str:
    return f"{Decimal(cost) / total * 100:.1f}%" if cost and total else "-"
