"""What one step received, did and gave, in the terminal: whole, where the trace has a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from loopllama.core import exact_json
from loopllama.errors import InvalidRequest
from loopllama.llm.usage import TITLED
from loopllama_cli.console import figures as costs
from loopllama_cli.console import output
from loopllama_cli.console.notes import ignored_text, waiting_text
from loopllama_cli.console.places import label, place
from loopllama_cli.console.run_facts import error_text, step_simulated, step_status, steps_of, waits_for

if TYPE_CHECKING:
    from loopllama.queries.types import AttemptView, RunView, StepView, ToolCallView


def named(run: RunView, name: str) -> list[StepView]:
    """Return the step of that name with all its items and rounds, or only those of `name[ITEM]`, `name #ROUND`. Raises
    `InvalidRequest`."""
    steps = steps_of(run)
    found = [step for step in steps if "".join(name.split()) in _names(step)]
    if not found:
        names = ", ".join(dict.fromkeys(str(step["step"]) for step in steps)) or "none yet"
        raise InvalidRequest(f"run {run['id']} has no step {name!r}; it has: {names}")
    return found


def _names(step: StepView) -> set[str]:
    given, item, again = step["step"], step.get("item"), step.get("iteration")
    first = [] if again else [f"{place(given, item)}#1"]
    texts = [place(given), place(given, item), place(given, None, again), place(given, item, again), *first]
    return {"".join(text.split()) for text in texts}


def print_steps(steps: Sequence[StepView], system_prompts: Mapping[str, str], console: Console | None = None) -> None:
    """Print steps one after the other: prompts, calls of models and tools in their order, output, error.
    `system_prompts` are by step."""
    console = console or output.out()
    for step in steps:
        console.print(_heading(step), soft_wrap=True)
        for ignored in step.get("ignored") or []:
            _line(console, "!", "yellow", ignored_text(ignored))
        if step.get("input") is not None:
            _block(console, "system prompt", system_prompts.get(step["step"]))
            _block(console, "prompt", step["input"])
        for entry in sorted(_calls(step), key=lambda entry: str(entry.get("started_at"))):
            if "arguments" in entry:
                _print_tool(console, entry)
            else:
                _line(console, *_attempt(entry))
        if wait := waits_for(step):
            _line(console, "⏸", "yellow", waiting_text(step, wait))
        if step.get("waited_ms"):
            _line(
                console, "⏸", "dim", f"{output.duration(step['waited_ms'])} of waiting for people, beside the latency"
            )
        if step.get("skipped_because"):
            _line(console, "↷", "dim", f"skipped: {step['skipped_because']}")
        if step.get("error"):
            _line(console, "✗", "bold red", error_text(step["error"]))
        _block(console, "output", step.get("output"))
        console.print()


def print_outputs(run: RunView, console: Console | None = None) -> None:
    """Print what each step gave, whole."""
    console = console or output.out()
    for step in steps_of(run):
        if step.get("output") is not None:
            console.print(Text.assemble((label(step), "bold"), ("  output", "dim")), soft_wrap=True)
            _body(console, step["output"])
            console.print()


def _calls(step: StepView) -> Iterator[Any]:
    yield from step.get("attempts") or []
    yield from step.get("tool_calls") or []


def _heading(step: StepView) -> Text:
    heading = Text.assemble((label(step), "bold"), "  ", output.status(step_status(step)))
    facts = [step.get("model"), step.get("source")]
    if step.get("replayed_from"):
        facts.append(f"kept from {step['replayed_from']}")
    elif step.get("latency_ms") is not None and step.get("status") != "skipped":
        facts.append(output.duration(step["latency_ms"]))
    heading.append("".join(f"  {output.clean(str(fact))}" for fact in facts if fact), "dim")
    if step.get("attempts"):
        heading.append("  ").append_text(costs.cost(step))
    if step_simulated(step):
        heading.append("  simulated", "yellow")
    return heading


def _attempt(attempt: AttemptView) -> tuple[str, str, str]:
    """Return a model call as a line: its sign, the sign's style, what it was."""
    outcome = str(attempt.get("outcome"))
    words = {"open": "is being asked", "lost": "was asked and never answered: its process ended", "ok": "answered"}
    parts = [f"{attempt.get('model')} {words.get(outcome, outcome)}"]
    if attempt.get("latency_ms") is not None:
        parts.append(output.duration(attempt["latency_ms"]))
    counts: Mapping[str, Any] = {**attempt}
    parts += [f"{int(count):,} {figure.title.lower()}" for figure in TITLED if (count := counts.get(figure.shown))]
    if outcome != "open":
        parts.append(costs.cost(counts).plain)
    if attempt.get("simulated"):
        parts.append("simulated")
    if attempt.get("error"):
        parts.append(error_text(attempt["error"]))
    sign = {"ok": ("✓", "green"), "open": ("●", "cyan")}.get(outcome, ("✗", "red"))
    return (*sign, "  ".join(parts))


def _print_tool(console: Console, call: ToolCallView) -> None:
    signs = {"ok": ("✓", "green", ""), "failed": ("✗", "red", " failed"), "open": ("●", "cyan", " is being called")}
    sign, style, what = signs.get(str(call.get("outcome")), ("·", "dim", ""))
    after = f"  {output.duration(call['latency_ms'])}" if call.get("latency_ms") is not None else ""
    _line(console, sign, style, f"tool {call.get('name')}{what}{after}")
    _block(console, "arguments", call.get("arguments"))
    _block(console, "result", call.get("result"))


def _line(console: Console, sign: str, style: str, text: str) -> None:
    console.print(Text.assemble((f"{sign} ", style), output.clean(text)), soft_wrap=True)


def _block(console: Console, name: str, value: Any) -> None:
    if value is not None:
        console.print(Text(f"  {name}", "dim"))
        _body(console, value)


def _body(console: Console, value: Any) -> None:
    text = value if isinstance(value, str) else exact_json.dumps(value, indent=2, ascii_only=False)
    for line in output.clean(text).splitlines() or [""]:
        console.print(Text(f"    {line}"), soft_wrap=True)
