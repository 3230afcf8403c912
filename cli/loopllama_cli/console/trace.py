"""A run's trace in the terminal: the steps with their models and cost, what went otherwise than planned, a timeline."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from loopllama.llm.usage import TITLED
from loopllama_cli.console import output
from loopllama_cli.console.timeline import label, timeline

if TYPE_CHECKING:
    from loopllama.queries.types import AttemptView, RunView, StepView

_COLOURS = ("cyan", "magenta", "blue", "green", "bright_yellow", "bright_magenta", "bright_cyan", "bright_blue")


def print_trace(run: RunView, console: Console | None = None) -> None:
    """Print the whole trace of a run object (with its `steps`)."""
    console = console or output.out()
    console.print(header(run))
    colours = model_colours(steps_of(run))
    console.print()
    output.print_table(steps_table(run, colours), console)
    console.print()
    for part in (timeline(steps_of(run), console.width, colours), list(notes(run))):
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


def steps_of(run: RunView) -> list[StepView]:
    """Return the run's steps in their order."""
    return sorted(run.get("steps") or [], key=lambda step: (int(step.get("order") or 0), label(step)))


def model_colours(steps: Sequence[StepView]) -> dict[str, str]:
    """Return a colour for each model, by first use, so that table and timeline show at a glance who did what."""
    models = dict.fromkeys(str(step["model"]) for step in steps if step.get("model"))
    return {model: _COLOURS[place % len(_COLOURS)] for place, model in enumerate(models)}


def step_status(step: StepView) -> str:
    """Return a step's status, derived where the record does not say it."""
    if step.get("status"):
        return str(step["status"])
    if step.get("error"):
        return "failed"
    if step.get("finished_at"):
        return "completed"
    return "running" if step.get("started_at") else "queued"


def run_latency(run: RunView) -> Decimal | None:
    """Milliseconds from the run's start to its end; `None` while it has none."""
    if (latency := run.get("latency_ms")) is not None:
        return Decimal(latency)
    started, finished = output.moment(run.get("started_at")), output.moment(run.get("finished_at"))
    if started is None or finished is None:
        return None
    return Decimal((finished - started) // timedelta(microseconds=1)) / 1000


def simulated(run: RunView) -> bool:
    """Return whether a run's figures come from the simulated provider, in part or whole."""
    return bool(run.get("simulated")) or any(step_simulated(step) for step in run.get("steps") or [])


def step_simulated(step: StepView) -> bool:
    """Return whether a step's figures come from the simulated provider, in part or whole."""
    return bool(step.get("simulated")) or any(attempt.get("simulated") for attempt in step.get("attempts") or [])


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


def error_text(error: Any) -> str:
    """Return a run's or step's error as a sentence: its step, its type, its message."""
    if not isinstance(error, Mapping):
        return output.one_line(error, 1000)
    parts = [str(error[key]) for key in ("step", "type", "message") if error.get(key)]
    return output.one_line(": ".join(parts) or error, 1500)


def steps_table(run: RunView, colours: Mapping[str, str]) -> Table:
    """Return a row for each step, and the totals."""
    steps = steps_of(run)
    total = run_cost(run)
    decimals = output.cost_decimals(step.get("cost_usd") for step in steps)
    mixed = simulated(run) and not all(step_simulated(step) for step in steps if step.get("model"))
    figures = (*_TOKENS.values(), "Latency", "Cost", "Share")
    table = output.table("", "Step", "Model", "Source", *figures, right=figures, show_footer=True)
    for step in steps:
        model = Text(output.clean(str(step.get("model") or "-")), colours.get(str(step.get("model")), "dim"))
        if mixed and step_simulated(step):
            model.append(" simulated", "yellow")
        table.add_row(
            output.status(step_status(step), word=False),
            label(step),
            model,
            output.clean(str(step.get("source") or "-")),
            *(output.tokens(step.get(name)) for name in _TOKENS),
            "kept" if step.get("replayed_from") else output.duration(step.get("latency_ms")),
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
        _marked(total, cost_basis(run), bool(run.get("unpriced")), decimals) if steps else "",
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


def run_cost(run: RunView) -> Decimal | None:
    """USD of the run: the recorded total, or the sum of its steps while it has none; `None` where nothing is
    priced."""
    if (total := run.get("cost_usd")) is not None:
        return Decimal(total)
    costs = [Decimal(cost) for step in run.get("steps") or [] if (cost := step.get("cost_usd")) is not None]
    return sum(costs, Decimal(0)) if costs else None


def cost_basis(run: RunView) -> str:
    """Return the basis of the run's cost: that of its least certain step."""
    bases = {str(part.get("cost_basis")) for part in [run, *(run.get("steps") or [])] if part.get("cost_basis")}
    return next((basis for basis in ("unknown", "estimated") if basis in bases), "measured")


def _cost(step: StepView, decimals: int) -> Text:
    """Return a step's cost; a dash where no model was called."""
    cost = step.get("cost_usd")
    if not cost and not step.get("attempts") and (cost == 0 or not step.get("model")):
        return Text("-", "dim")
    return _marked(cost, step.get("cost_basis"), bool(step.get("unpriced")), decimals)


def _marked(cost: Decimal | None, basis: str | None, unpriced: bool, decimals: int) -> Text:
    """Return a cost with its certainty: `~` holds an estimate, `≥` lacks a call of unknown cost or price."""
    if cost is None:
        return Text("unknown" if basis == "unknown" else "unpriced", "yellow")
    incomplete = basis == "unknown" or unpriced
    mark = "≥" if incomplete else "~" if basis == "estimated" else ""
    return Text.assemble((mark, "yellow"), output.money(cost, decimals))


def _share(cost: Any, total: Decimal | None) -> str:
    return f"{Decimal(cost) / total * 100:.1f}%" if cost and total else "-"


_LOOPS = {
    "max_reached": "its loop ended after {}, the most that it may take, and is not satisfied",
    "stopped": "its loop is not satisfied: the `when` of its first step ended it after round {1}, whose outputs stand",
    "unjudged": "nobody judged its loop: its `when` skipped it, after {0}",
}


def notes(run: RunView) -> Iterator[Text]:
    """Yield what the figures do not say: overrides skipped, failed attempts, fallbacks, where figures come from."""
    steps = steps_of(run)
    for step in steps:
        name = label(step)
        error = error_text(step["error"]) if step.get("error") else ""
        for ignored in step.get("ignored") or []:
            if ignored.get("layer") == "budget" and error.endswith(str(ignored.get("reason"))):
                continue  # the step's error says it
            yield _note("!", "yellow", name, ignored_text(ignored))
        attempts = step.get("attempts") or []
        for attempt in attempts:
            if attempt.get("outcome") not in ("ok", "open", None):
                yield _note("✗", "red", name, _attempt_text(attempt))
            elif attempt.get("mode_refused"):
                asked = f"; asked by {_MODES[mode]}" if (mode := attempt.get("output_mode")) in _MODES else ""
                yield _note("!", "yellow", name, f"{attempt['mode_refused']}{asked}")
            elif attempt.get("stop_reason") == "max_tokens":
                unasked = f" of {limit:,}, which the agent did not set" if (limit := attempt.get("max_tokens")) else ""
                cut = f"an answer of {attempt.get('model')} was cut off by its token limit{unasked}"
                yield _note("!", "yellow", name, cut)
            if attempt.get("answered_by"):
                yield _note("·", "dim", name, f"{attempt.get('model')} was asked, {attempt['answered_by']} answered")
            if (queued := attempt.get("queued_ms")) is not None:
                waited = f"waited {output.duration(queued)} for its place among the calls of {attempt.get('model')}"
                yield _note("·", "dim", name, waited)
        good = next((attempt for attempt in reversed(attempts) if attempt.get("outcome") == "ok"), None)
        if good and attempts[0].get("model") != good.get("model"):
            yield _note("↷", "yellow", name, f"answered by the fallback {good.get('model')}")
        calls = step.get("tool_calls") or []
        if calls:
            names = ", ".join(dict.fromkeys(str(call.get("name")) for call in calls))
            yield _note("·", "dim", name, f"{len(calls)} tool call{'s' * (len(calls) > 1)}: {names}")
        if loop := _LOOPS.get(str(step.get("loop_ended"))):
            rounds = int(step.get("iteration") or 0) + 1
            yield _note("!", "yellow", name, loop.format(f"{rounds} round{'s' * (rounds > 1)}", rounds - 1))
        if error and not error_text(run.get("error") or "").endswith(error):  # that is at the top
            yield _note("✗", "bold red", name, error)
    saved = sum((Decimal(step.get("cache_saving_usd") or 0) for step in steps), Decimal(0))
    if saved > 0:
        yield _note("·", "green", "", f"Cached tokens saved {output.money(saved)}.")
    if any(step.get("unpriced") for step in steps):
        yield _note("!", "yellow", "", "Some calls have no known price; the total leaves them out.")
    bases = {str(step.get("cost_basis")) for step in steps}
    if "estimated" in bases:
        reported = "The provider reported no usage for some calls: their tokens are estimated."
        if any(attempt.get("answered_by") for step in steps for attempt in step.get("attempts") or []):
            reported += " Or nobody knows the price of what answered: then it is that of the model asked."
        yield _note("~", "yellow", "", reported)
    if "unknown" in bases:
        yield _note("≥", "yellow", "", "Some calls ended without an answer: what they cost is unknown and not counted.")
    if simulated(run):
        yield Text(simulated_text(steps), "yellow")


def simulated_text(steps: Sequence[StepView]) -> str:
    """Return what stands behind simulated figures, in a sentence."""
    some = "All" if all(step_simulated(step) for step in steps if step.get("model")) else "Some"
    return (
        f"{some} answers, tokens and latencies here are simulated: a stand-in answered for models whose provider has "
        "no key, its tokens priced at those models' own prices."
    )


_MODES = {"tool": "the answer tool", "instructions": "instructions"}
_LAYERS = {
    "run": "the run's own choice",
    "step-override": "the step's override",
    "agent": "the agent's choice",
    "workflow-override": "the workflow's override",
    "workflow-default": "the workflow's default",
    "deployment-default": "the deployment's default",
}


def ignored_text(ignored: Mapping[str, Any]) -> str:
    """Return why a layer's word, or a model that it names, was skipped; or which call a budget or limit left out."""
    layer, model, reason = (str(ignored.get(name) or "") for name in ("layer", "model", "reason"))
    if layer in ("budget", "calls"):
        return f"{model} was not called: {reason}"
    return f"{' '.join(part for part in (_LAYERS.get(layer, layer), model) if part)} skipped: {reason}"


def _attempt_text(attempt: AttemptView) -> str:
    outcome = str(attempt.get("outcome"))
    outcome_text = "was begun and never answered: its process ended" if outcome == "lost" else outcome
    after = f" after {output.duration(attempt['latency_ms'])}" if attempt.get("latency_ms") is not None else ""
    why = f": {error_text(attempt['error'])}" if attempt.get("error") else ""
    return f"{attempt.get('model')} {outcome_text}{after}{why}"


def _note(mark: str, style: str, name: str, text: str) -> Text:
    return Text.assemble((f"{mark} ", style), (f"{name}  " if name else "", "bold"), output.one_line(text, 1500))
