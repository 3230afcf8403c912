"""A chain of steps beside which no other runs: at the top of the state machine, or as its line.

Most runs have no other chain. At the top, no Map is around it, and the RunStep that ends the run's last step completes
the run too: two transitions a step, three for the run. In a line, the state machine invokes RunStep for one step after
the other and asks nobody what is next: one transition a step, three for the run. That holds for crews whose every step
follows the one before it. Whatever else happens to a step of a line, the state machine leaves the line, and AdvanceRun
says what is ready. So a line knows one way only, and each other way exists once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopllama.engine import history
from loopllama.errors import LineLeft
from loopllama.runs import step_writer
from loopllama.runs.step_ref import ALONE, LINE, Work
from loopllama.runs.store import RunStore
from loopllama.workflows import graph

if TYPE_CHECKING:
    from loopllama.runs.records import Branch, ChainEnd, Run, StepOutcome, StepPayload
    from loopllama.workflows.types import CrewStep

_SINGLE = 2
"""The first contract whose state machine knows such chains."""
_ASKS = "ask_human"


def line_of(crew: Sequence[CrewStep]) -> list[str]:
    """Return the steps of a crew that is a line, in their order; none where a step would leave it for sure: it goes
    back, is for each item of a list, or asks a person."""
    before: list[str] = []
    names: list[str] = []
    for step in crew:
        leaves = step.get("for_each") or step.get("repeat") or step.get("approval") or _ASKS in step.get("tools", ())
        if leaves or step["needs"] != before:
            return []
        before = [step["name"]]
        names += before
    return names


def as_line(run: Run, steps: Sequence[str], left: int, contract: int) -> dict[str, Any] | None:
    """Return what lets the state machine take `steps` as a line; `None` where it cannot, or where the history might
    have no room for what comes where the line is left."""
    rest = history.behind_line(left, len(steps))
    if contract < _SINGLE or not steps or rest is None:
        return None
    # How AdvanceRun shall find that its only chain has ended, if the line is left.
    ended = [{"outcome": "line_left"}]
    return {**_of_run(run, contract), "round": 0, "outcome": "line", "line": [*steps], "left": rest, "ended": ended}


def as_round(
    run: Run, crew: Sequence[CrewStep], ready: Sequence[Branch], turn: int, left: int | None, contract: int
) -> dict[str, Any]:
    """Return what lets the state machine take the steps that are `ready`: as its only chain, or as a round of them.
    `left` is `None` in an execution that began before events were counted."""
    begun = {**_of_run(run, contract), "round": turn}
    if left is None:
        return {**begun, "outcome": "more", "ready": [*ready]}
    if contract < _SINGLE or len(ready) != 1 or graph.step_named(crew, ready[0]["step"])[1].get("for_each"):
        return {**begun, "outcome": "more", **history.shares(left, ready)}
    return {**begun, "outcome": "continue", **ready[0], "depth": ALONE, "left": left - history.CONTINUE}


def told(store: RunStore, crew: Sequence[CrewStep], given: StepPayload, outcome: StepOutcome) -> StepOutcome:
    """Return what the state machine is told of such a chain, by the outcome that its step has come to. Raises
    `LineLeft`."""
    kind = outcome["outcome"]
    if kind == "done":
        from loopllama.engine.advance import complete  # only a run's last step needs it

        if complete(store, given["run_id"], crew):
            return history.charged(given, outcome)
    if given["depth"] == LINE:
        return _in_line(store, given, outcome)
    if kind == "fork":
        ready, left = outcome["ready"], history.left_after(given)
        if (shares := history.another_round(left, ready)) is not None:
            return {**outcome, **shares, "outcome": "more", "round": given["round"] + 1}
        outcome = {**outcome, "outcome": "set_aside"}
    charged: StepOutcome = {**history.charged(given, outcome), "round": given["round"]}
    work = Work.from_payload(outcome)
    if charged["outcome"] in ("continue", "retry_later", "waiting"):
        return charged
    if kind == "retry_later":
        step_writer.put_off(store, work, outcome["seconds"])
    end: ChainEnd = {"outcome": charged["outcome"]}
    given_back = history.back(charged["left"])
    return {**work.to_payload(), "round": given["round"], "outcome": "advance", "left": given_back, "ended": [end]}


def _in_line(store: RunStore, given: StepPayload, outcome: StepOutcome) -> StepOutcome:
    """Return the outcome of a step behind which the line goes on. Raises `LineLeft`."""
    work = Work.from_payload(outcome)
    if outcome["outcome"] == "continue" and work != Work.from_payload(given):
        return outcome
    if outcome["outcome"] == "retry_later":
        step_writer.put_off(store, work, outcome["seconds"])
    raise LineLeft(f"step {work.step!r} of run {work.run_id} leaves its line: {outcome['outcome']}")


def _of_run(run: Run, contract: int) -> dict[str, Any]:
    return {
        "contract": contract,
        "run_id": run["run_id"],
        "workflow": run["workflow_id"],
        "version": int(run["workflow_version"]),
    }
