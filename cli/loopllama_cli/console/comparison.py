"""Two runs side by side: what the second one changed in models, latency and cost.

Of a replay only what it redid is compared: what it kept took no time and cost nothing there, which says nothing of the
models. The other run's totals are those of the same steps then.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loopllama_cli.console import figures as costs
from loopllama_cli.console import output
from loopllama_cli.console.folding import folded, items_of, latencies
from loopllama_cli.console.moments import at_work, idle
from loopllama_cli.console.notes import simulated_text
from loopllama_cli.console.places import label, place
from loopllama_cli.console.run_facts import cost_basis, run_cost, run_latency, simulated, steps_of

if TYPE_CHECKING:
    from loopllama.queries.types import RunView, StepView
    from loopllama_cli.console.folding import Folded


def compare_runs(a: RunView, b: RunView) -> dict[str, Any]:
    """`cost_change` and `latency_change` as fractions, the second run relative to the first (-0.6: 60 % less; `None`
    where either is unknown or the first is 0), and both runs as `a` and `b`. Latency is from a run's start to its
    end, without waiting for people. Steps that one of them kept from another run count in neither, and are named in
    `kept`."""
    kept = kept_of(a, b)
    return {
        "cost_change": relative(_cost_of(a, kept)["cost_usd"], _cost_of(b, kept)["cost_usd"]),
        "latency_change": relative(_latency_of(a, kept), _latency_of(b, kept)),
        "kept": kept,
        "a": a,
        "b": b,
    }


def relative(first: Any, second: Any) -> Decimal | None:
    """Return the change from `first` to `second` as a fraction of `first`."""
    if first is None or second is None or not Decimal(first):
        return None
    return (Decimal(second) - Decimal(first)) / Decimal(first)


def kept_of(*runs: RunView) -> list[str]:
    """Return the steps that one of the runs kept from another run."""
    return list(dict.fromkeys(step["step"] for run in runs for step in steps_of(run) if step.get("replayed_from")))


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
    if kept := kept_of(a, b):
        told = f"Compared is what both runs did: without {', '.join(kept)}, which a replay kept."
        console.print(Text(output.clean(told), "dim"))
    if meaning := costs.legend([{**step, "simulated": False} for run in (a, b) for step in steps_of(run)]):
        console.print(Text(meaning, "yellow"))
    if simulated(a) or simulated(b):
        console.print(Text(simulated_text([*steps_of(a), *steps_of(b)]), "yellow"))


def _table(a: RunView, b: RunView) -> Table:
    """Two lines a step, the first run's above the second's; the last two are the totals."""
    figures = ("Latency", "Change", "Cost", "Change ")
    table = output.table("Step", "Model", *figures, right=figures)
    steps, kept = _side_by_side(a, b), kept_of(a, b)
    decimals = output.cost_decimals(step.get("cost_usd") for pair in steps.values() for step in pair)
    for first, second in steps.values():
        latency, cost = (relative(first.get(name), second.get(name)) for name in ("latency_ms", "cost_usd"))
        is_kept = (first or second)["step"] in kept
        table.add_row(label(first or second), _model(first), _latency(first), "", _cost(first, decimals), "")
        table.add_row(
            "",
            _model(second, first),
            _latency(second) if second or not is_kept else "kept",
            "" if is_kept else output.change(latency),
            _cost(second, decimals),
            "" if is_kept else output.change(cost),
        )
    table.add_section()
    result = compare_runs(a, b)
    took, paid = [_latency_of(run, kept) for run in (a, b)], [_cost_of(run, kept) for run in (a, b)]
    name = "Redone" if kept else "Total"
    table.add_row(name, "", output.duration(took[0]), "", costs.cost(paid[0], decimals), "", style="bold")
    table.add_row(
        "",
        Text("→", "bold"),
        output.duration(took[1]),
        output.change(result["latency_change"]),
        costs.cost(paid[1], decimals),
        output.change(result["cost_change"]),
        style="bold",
    )
    for column in table.columns:
        column.no_wrap = column.header not in ("Step", "Model")
    return table


def _side_by_side(a: RunView, b: RunView) -> dict[str, tuple[Folded, Folded]]:
    """Return steps by name (and iteration and item, where there are several), the first run's order first."""
    empty = cast("Folded", {})
    left, right = ({_key(step): step for step in folded(steps_of(run))} for run in (a, b))
    return {key: (left.get(key, empty), right.get(key, empty)) for key in [*left, *(k for k in right if k not in left)]}


def _key(step: Folded) -> str:
    """Return what is the same in both runs: long lists are compared whole, however many items they have."""
    return place(step.get("step"), "*" if items_of(step) else step.get("item"), step.get("iteration"))


def _cost_of(run: RunView, kept: list[str]) -> dict[str, Any]:
    """Return what a run cost, with its certainty; without the steps that were kept."""
    if not kept:
        return {**run, "cost_usd": run_cost(run), "cost_basis": cost_basis(run)}
    redone = cast("RunView", {"steps": _redone(run, kept)})
    unpriced = any(step.get("unpriced") for step in redone["steps"])
    return {"cost_usd": run_cost(redone), "cost_basis": cost_basis(redone), "unpriced": unpriced}


def _latency_of(run: RunView, kept: list[str]) -> Decimal | None:
    """Return how long a run took; of one with steps that were kept from the first that was redone to the last, in both
    without waiting for people."""
    if not kept:
        return run_latency(run)
    steps = list(at_work(_redone(run, kept)))
    begins = [moment for step in steps if (moment := output.moment(step.get("started_at")))]
    ends = [output.moment(step.get("finished_at")) for step in steps]
    if not begins or None in ends:
        return None
    begin, end = min(begins), max(cast("list[datetime]", ends))
    waited = sum(last - first for first, last in idle(steps, begin, datetime.now(UTC)))
    return Decimal(round((end - begin) / timedelta(milliseconds=1) - waited))


def _redone(run: RunView, kept: list[str]) -> list[StepView]:
    return [step for step in steps_of(run) if step["step"] not in kept]


def _model(step: Folded, before: Folded | None = None) -> Text:
    """Return the step's model; after another step, what became of that one's model."""
    name = output.clean(str(step.get("model") or "-"))
    if before is None:
        return Text(name)
    if step and step.get("model") == before.get("model"):
        return Text("→ the same", "dim")
    return Text.assemble(("→ ", "bold"), (name, "bold cyan"))


def _latency(step: Folded) -> str:
    if step.get("replayed_from"):
        return "kept"
    if step.get("status") == "skipped":
        return "skipped"
    spread = latencies(items_of(step))
    return output.spread(*spread) if spread else output.duration(step.get("latency_ms"))


def _cost(step: Folded, decimals: int) -> Text | str:
    return costs.cost(step, decimals) if step.get("model") and not step.get("replayed_from") else "-"
