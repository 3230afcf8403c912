"""What the figures of a trace do not say: what was skipped, failed, waited for, guessed or simulated, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.text import Text

from loopllama_cli.console import output
from loopllama_cli.console.folding import folded, items_of
from loopllama_cli.console.moments import at_work
from loopllama_cli.console.places import label
from loopllama_cli.console.run_facts import error_text, simulated, step_simulated, steps_of, waits_for

if TYPE_CHECKING:
    from loopllama.queries.types import AttemptView, RunView, StepView, WaitView
    from loopllama_cli.console.folding import Folded

_LOOPS = {
    "max_reached": "its loop ended after {}, the most that it may take, and is not satisfied",
    "stopped": "its loop is not satisfied: the `when` of its first step ended it after round {1}, whose outputs stand",
    "unjudged": "nobody judged its loop: its `when` skipped it, after {0}",
}


def notes(run: RunView) -> Iterator[Text]:
    """Yield what the figures do not say: overrides skipped, failed attempts, fallbacks, where figures come from."""
    steps, at_top = steps_of(run), error_text(run.get("error") or "")
    for line in folded(steps):
        yield from _of_list(line) if items_of(line) else _of_step(line, at_top)
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


def _of_step(step: StepView, at_top: str) -> Iterator[Text]:
    """Yield what is to be said of one step; its error only where the run's, which is at the top, does not say it."""
    name = label(step)
    error = error_text(step["error"]) if step.get("error") else ""
    for ignored in step.get("ignored") or []:
        if ignored.get("layer") == "budget" and error.endswith(str(ignored.get("reason"))):
            continue  # the step's error says it
        yield _note("!", "yellow", name, ignored_text(ignored))
    attempts = step.get("attempts") or []
    for attempt in attempts:
        if attempt.get("outcome") not in ("ok", "open", None):
            yield _note("✗", "red", name, attempt_text(attempt))
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
    yield from _tools(step, name)
    yield from _waiting(step, name)
    if because := step.get("skipped_because"):
        yield _note("↷", "dim", name, f"skipped: {because}")
    if loop := _LOOPS.get(str(step.get("loop_ended"))):
        rounds = int(step.get("iteration") or 0) + 1
        yield _note("!", "yellow", name, loop.format(f"{rounds} round{'s' * (rounds > 1)}", rounds - 1))
    if error and not at_top.endswith(error):
        yield _note("✗", "bold red", name, error)


def _of_list(line: Folded) -> Iterator[Text]:
    """Yield what is to be said of the items of a long list together: counts, and the first that failed."""
    name, items = label(line), items_of(line)
    failed = [item for item in items if item.get("error")]
    for item in failed[:_MOST_ITEMS]:
        yield _note("✗", "bold red", label(item), error_text(item["error"]))
    if more := len(failed) - _MOST_ITEMS if len(failed) > _MOST_ITEMS else 0:
        yield _note("✗", "bold red", name, f"{more} more failed; the option --step {line['step']} shows each")
    for ignored, count in Counter(ignored_text(one) for item in items for one in item.get("ignored") or []).items():
        yield _note("!", "yellow", name, f"{ignored} ({_counted(count, 'item')})")
    outcomes = Counter(str(call["outcome"]) for call in line["attempts"] if call.get("outcome") not in ("ok", "open"))
    if outcomes:
        yield _note("✗", "red", name, f"{_counted(outcomes.total(), 'model call')} failed: {_listed(outcomes)}")
    tools = line["tool_calls"]
    if good := Counter(str(call.get("name")) for call in tools if call.get("outcome") != "failed"):
        yield _note("·", "dim", name, f"{_counted(good.total(), 'tool call')}: {_listed(good)}")
    if bad := Counter(str(call.get("name")) for call in tools if call.get("outcome") == "failed"):
        yield _note("✗", "red", name, f"{_counted(bad.total(), 'tool call')} failed: {_listed(bad)}")
    for reason, count in Counter(wait["reason"] for item in items if (wait := waits_for(item))).items():
        yield _note("⏸", "yellow", name, f"{_counted(count, 'item')} of these: {_REASONS[reason]}")


_MOST_ITEMS = 3
"""Items of a long list whose errors are told."""
_REASONS = {
    "person": "waiting for a person",
    "retry": "waiting to be tried again",
    "place": "waiting for a place among a model's calls",
}


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.most_common())


def _tools(step: StepView, name: str) -> Iterator[Text]:
    """Yield the step's tool calls: how many of each went well, and each that failed with what it said."""
    good = Counter(str(call.get("name")) for call in step.get("tool_calls") or [] if call.get("outcome") != "failed")
    if good:
        yield _note("·", "dim", name, f"{_counted(good.total(), 'tool call')}: {_listed(good)}")
    for call in step.get("tool_calls") or []:
        if call.get("outcome") == "failed":
            after = f" after {output.duration(call['latency_ms'])}" if call.get("latency_ms") is not None else ""
            why = output.one_line(call.get("result") or "", 300)
            yield _note("✗", "red", name, f"tool {call.get('name')} failed{after}{why and f': {why}'}")


def _waiting(step: StepView, name: str) -> Iterator[Text]:
    """Yield what the step waits for now, and how long it has waited for people."""
    wait = waits_for(step)
    if wait:
        yield _note("⏸", "yellow", name, waiting_text(step, wait))
    elif step.get("waited_ms"):
        yield _note("⏸", "dim", name, f"waited {output.duration(step['waited_ms'])} for people, beside its latency")


def waiting_text(step: StepView, wait: WaitView) -> str:
    """Return what a step waits for, and since when."""
    since = output.local_time(wait["since"], seconds=True)
    if wait["reason"] == "person":
        return f"waits for a person since {since}"
    last = next(iter((step.get("attempts") or [])[::-1]), None)
    if wait["reason"] == "place":
        model = next(
            (skipped.get("model") for skipped in step.get("ignored") or [] if skipped["layer"] == "calls"), None
        )
        return f"waits for its place among the calls of {model or 'its model'} since {since}"
    return f"waits to be tried again since {since}" + (f": {last['model']} {last['outcome']}" if last else "")


def simulated_text(steps: Sequence[StepView]) -> str:
    """Return what stands behind simulated figures, in a sentence."""
    some = "All" if all(step_simulated(step) for step in at_work(steps) if step.get("model")) else "Some"
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


def attempt_text(attempt: AttemptView) -> str:
    """Return how a model call that failed went."""
    outcome = str(attempt.get("outcome"))
    outcome_text = "was begun and never answered: its process ended" if outcome == "lost" else outcome
    after = f" after {output.duration(attempt['latency_ms'])}" if attempt.get("latency_ms") is not None else ""
    why = f": {error_text(attempt['error'])}" if attempt.get("error") else ""
    return f"{attempt.get('model')} {outcome_text}{after}{why}"


def _note(mark: str, style: str, name: str, text: str) -> Text:
    return Text.assemble((f"{mark} ", style), (f"{name}  " if name else "", "bold"), output.one_line(text, 1500))
