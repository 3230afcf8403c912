"""Two runs side by side: what the second one changed in models, latency and cost."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.text import Text

from . import show
from .trace_view import Run, Step, run_cost, run_latency, simulated, simulated_text, steps_of


def compare_runs(a: Run, b: Run) -> dict[str, Any]:
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
    """The change from `first` to `second` as a fraction of `first`."""
    if first is None or second is None or not Decimal(first):
        return None
    return (Decimal(second) - Decimal(first)) / Decimal(first)


def print_comparison(a: Run, b: Run, console: Console | None = None) -> None:
    """Print the steps of two runs side by side, and the totals."""
    console = console or show.out()
    title = Text.assemble((show.clean(str(a.get("workflow_id"))), "bold"))
    if a.get("workflow_id") != b.get("workflow_id"):
        title.append(show.clean(f" → {b.get('workflow_id')}"), "bold")
    title.append(show.clean(f"  run {a.get('id')} → {b.get('id')}"), "dim")
    versions = {run.get("workflow_version") for run in (a, b)}
    title.append(f"  version {_pair(a.get('workflow_version'), b.get('workflow_version'), len(versions) == 1)}", "dim")
    if simulated(a) or simulated(b):
        title.append("  ")
        title.append(" SIMULATED ", "bold black on yellow")
    console.print(title)
    figures = ("Latency", "Change", "Cost", "Change ")
    steps = _side_by_side(a, b)
    decimals = show.cost_decimals(step.get("cost_usd") for pair in steps.values() for step in pair)
    table = show.table("Step", "Model", *figures, right=figures, show_footer=True, padding=(0, 2, 0, 0))
    for name, (first, second) in steps.items():
        table.add_row(
            name,
            _models(first, second),
            _pair(show.duration(first.get("latency_ms")), show.duration(second.get("latency_ms"))),
            show.change(relative(first.get("latency_ms"), second.get("latency_ms"))),
            _pair(_cost(first, decimals), _cost(second, decimals)),
            show.change(relative(first.get("cost_usd"), second.get("cost_usd"))),
        )
    result = compare_runs(a, b)
    totals: tuple[str | Text, ...] = (
        "Total",
        Text(""),
        _pair(show.duration(run_latency(a)), show.duration(run_latency(b))),
        show.change(result["latency_change"]),
        _pair(show.money(run_cost(a), decimals), show.money(run_cost(b), decimals)),
        show.change(result["cost_change"]),
    )
    for column, value in zip(table.columns, totals, strict=True):
        column.footer = value
        column.no_wrap = column.header not in ("Step", "Model")
    console.print(table)
    if simulated(a) or simulated(b):
        console.print(Text(simulated_text([*steps_of(a), *steps_of(b)]), "yellow"))


def _side_by_side(a: Run, b: Run) -> dict[str, tuple[Step, Step]]:
    """Steps by name (and iteration and item, where there are several), the first run's order first."""
    empty: Step = {}
    left, right = ({_key(step): step for step in steps_of(run)} for run in (a, b))
    return {key: (left.get(key, empty), right.get(key, empty)) for key in [*left, *(k for k in right if k not in left)]}


def _key(step: Step) -> str:
    places = [f"{int(step[key])}" for key in ("iteration", "item") if step.get(key)]
    return show.clean("/".join([str(step.get("step") or step.get("role")), *places]))


def _models(first: Mapping[str, Any], second: Mapping[str, Any]) -> Text:
    before, after = (show.clean(str(step.get("model") or "-")) for step in (first, second))
    if before == after:
        return Text(before)
    return Text.assemble(before, "\n", ("→ ", "bold"), (after, "bold cyan"))


def _cost(step: Step, decimals: int) -> str:
    return show.money(step.get("cost_usd"), decimals) if step else "-"


def _pair(first: Any, second: Any, same: bool | None = None) -> str:
    if same if same is not None else first == second:
        return str(first)
    return f"{first} → {second}"
