"""What a chain does after a step: the steps that it unblocks, or back to where a loop begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopllama.engine.step_context import View, is_finished
from loopllama.runs import step_writer
from loopllama.runs.step_ref import Work, iteration_of, step_key
from loopllama.runs.store import RunStore
from loopllama.workflows import graph

if TYPE_CHECKING:
    from loopllama.runs.records import Branch, ChainOutcome, StepOutcome

MAX_CONCURRENCY = 40
"""Chains of a fork that run at once: an inline Map of Step Functions takes so many."""


def follow(store: RunStore, view: View) -> StepOutcome:
    """Return the outcome of a step that is completed or skipped; derived anew, and the same, however often it is asked
    for."""
    work = view.work
    if view.record.get("repeat_pending"):
        return _again(store, view)
    known = {name for name, record in view.records.items() if is_finished(record)} | {work.step}
    dependents = graph.dependents(view.crew, work.step)
    doubtful = sorted({need for agent in dependents for need in agent["needs"]} - known)
    if doubtful:
        keys = {step_key(name, iteration_of(view.run, view.crew, name)): name for name in doubtful}
        known |= {keys[key] for key, record in store.items(work.run_id, keys).items() if is_finished(record)}
    unblocked = [agent for agent in dependents if known.issuperset(agent["needs"])]
    # A fork inside a fork waits for the round: AdvanceRun finds these steps ready.
    if not unblocked or (work.depth > 0 and (len(unblocked) > 1 or unblocked[0].get("for_each"))):
        return ended(work, "done")
    mine = []
    for agent in unblocked:
        iteration = iteration_of(view.run, view.crew, agent["name"])
        following = work.other(agent["name"], iteration)
        if not graph.is_join(agent) or step_writer.claim(store, following, work.key, view.run.get("delete_at")):
            mine.append(following)
    if not mine:
        return ended(work, "done")
    lists = [branch for branch in mine if graph.step_named(view.crew, branch.step)[1].get("for_each")]
    if work.depth < 0 and (lists or len(mine) > 1):
        return fork(work, mine)  # which becomes a round
    if len(mine) == 1:
        return ended(mine[0], "continue")
    # A forEach step forks itself, which it cannot do inside a fork.
    return fork(work, [branch for branch in mine if branch not in lists])


def _again(store: RunStore, view: View) -> StepOutcome:
    """Turn the loop to its next iteration, by one conditional write, and go back."""
    work = view.work
    store.iterate(work.run_id, work.step, work.iteration + 1)
    return ended(work.other(view.step["repeat"]["back_to"], work.iteration + 1), "continue")


def ended(work: Work, outcome: ChainOutcome) -> StepOutcome:
    """Return the payload of a chain that goes on with `work`, or ends at it."""
    return {**work.to_payload(), "outcome": outcome}


def fork(
    work: Work, branches: list[Work], *, join: bool = False, max_concurrency: int = MAX_CONCURRENCY
) -> StepOutcome:
    """Return the payload that makes a nested Map of chains."""
    ready: list[Branch] = [
        {"step": branch.step, "iteration": branch.iteration, "item": branch.item} for branch in branches
    ]
    return {**ended(work, "fork"), "ready": ready, "join": join, "max_concurrency": max_concurrency}
