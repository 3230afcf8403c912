"""Two runs side by side: what the second one changed in models, latency and cost."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loopllama_cli.console import output
from loopllama_cli.console.notes import simulated_text
from loopllama_cli.console.run_facts import run_cost, run_latency, simulated, steps_of

if TYPE_CHECKING:
    from loopllama.queries.types import RunView, StepView


def compare_runs(a: RunView, b: RunView) -> dict[str, Any]:
    """`cost_change` and `latency_change` as fractions, the second run relative to the first (-0.6: 60 % less; `None`
    where either is unknown or the first is 0), and both runs as `a` and `b`. Latency is from a run's start to its
    end."""
    return {
        "cost_change": relative(run_cost(a), run_cost(b)),
        "latency_change": relative(run_latency(a), run_latency(b)),
        "a": a,
        "b": b,
    }


def relative(first: Any, second: Any) -> Decimal | None:
    """Return the change from `first` to `second` as a fraction of `first`."""
    if first is None or second is None or not Decimal(first):
        return None
    return (Decimal(second) - Decimal(first)) / Decimal(first)


def print_comparison(a: RunView, b: RunView, console: Console | None = None) -> None:
    """Print the steps of two runs side by side, and the totals."""
    console = console or output.out()
    names = list(dict.fromkeys(output.clean(str(run.get("workflow_id"))) for run in (a, b)))
    title = Text(" → ".join(names), "bold")
    if simulated(a) or simulated(b):
        title.append("  ")
        title.append(" SIMULATED ", "bold black on yellow")
    console.print(title)
    for mark, run in (("  ", a), ("→ ", b)):
        console.print(Text(output.clean(f"{mark}{run.get('id')}, version {run.get('workflow_version')}"), "dim"))
    console.print()
    output.print_table(_table(a, b), console)
    console.print()
    if simulated(a) or simulated(b):
        console.print(Text(simulated_text([*steps_of(a), *steps_of(b)]), "yellow"))


def _table(a: RunView, b: RunView) -> Table:
    """Two lines a step, the first run's above the second's; the last two are the totals."""
    figures = ("Latency", "Change", "Cost", "Change ")
    table = output.table("Step", "Model", *figures, right=figures)
    steps = _side_by_side(a, b)
    decimals = output.cost_decimals(step.get("cost_usd") for pair in steps.values() for step in pair)
    for name, (first, second) in steps.items():
        table.add_row(name, _model(first), _duration(first), "", _cost(first, decimals), "")
        table.add_row(
            "",
            _model(second, first),
            _duration(second),
            output.change(relative(first.get("latency_ms"), second.get("latency_ms"))),
            _cost(second, decimals),
            output.change(relative(first.get("cost_usd"), second.get("cost_usd"))),
        )
    table.add_section()
    result = compare_runs(a, b)
    table.add_row(
        "Total", "", output.duration(run_latency(a)), "", output.money(run_cost(a), decimals), "", style="bold"
    )
    table.add_row(
        "",
        Text("→", "bold"),
        output.duration(run_latency(b)),
        output.change(result["latency_change"]),
        output.money(run_cost(b), decimals),
        output.change(result["cost_change"]),
        style="bold",
    )
    for column in table.columns:
        column.no_wrap = column.header not in ("Step", "Model")
    return table


def _side_by_side(a: RunView, b: RunView) -> dict[str, tuple[StepView, StepView]]:
    """Return steps by name (and iteration and item, where there are several), the first run's order first."""
    empty = cast("StepView", {})
    left, right = ({_key(step): step for step in steps_of(run)} for run in (a, b))
    return {key: (left.get(key, empty), right.get(key, empty)) for key in [*left, *(k for k in right if k not in left)]}


def _key(step: StepView) -> str:
    places = [f"{int(place)}" for place in (step.get("iteration"), step.get("item")) if place]
    return output.clean("/".join([str(step.get("step") or step.get("role")), *places]))


def _model(step: StepView, before: StepView | None = None) -> Text:
    """Return the step's model; after another step, what became of that one's model."""
    name = output.clean(str(step.get("model") or "-"))
    if before is None:
        return Text(name)
    if step and step.get("model") == before.get("model"):
        return Text("→ the same", "dim")
    return Text.assemble(("→ ", "bold"), (name, "bold cyan"))


def _duration(step: StepView) -> str:
    return output.duration(step.get("latency_ms"))


def _cost(step: StepView, decimals: int) -> str:
    return output.money(step.get("cost_usd"), decimals) if step.get("model") else "-"
