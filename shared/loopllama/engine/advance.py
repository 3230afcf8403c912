"""AdvanceRun: what becomes of a run once no chain of it is alive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopllama import CONTRACT
from loopllama.core import clock
from loopllama.engine import metrics
from loopllama.engine.step_context import is_finished
from loopllama.errors import AwsRefused, RunFailed
from loopllama.runs import step_writer
from loopllama.runs.step_ref import iteration_of, step_key
from loopllama.runs.store import RunStore
from loopllama.runs.totals import of_run
from loopllama.settings import Settings
from loopllama.workflows import graph
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.runs.records import Branch, ChainEnd, RecordedError, Run, StepRecord
    from loopllama.workflows.types import CrewStep

MAX_ITERATIONS = 20
"""Most rounds of a `repeat`."""


def advance_run(settings: Settings, event: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the run, return the steps that are ready, or record its failure and raise `RunFailed`.

    Invoked on a failed run with `retry` 0, as redriving the execution does, it opens the run again and returns the
    unfinished steps; with a higher `retry` it is the state machine repeating an invocation that recorded the
    failure and died before it could say so.
    """
    store = RunStore(settings)
    run_id = event["run_id"]
    run = store.run(run_id)
    if run["status"] in ("completed", "cancelled"):
        return {"contract": CONTRACT, "run_id": run_id, "outcome": "done"}
    version = int(run["workflow_version"])
    crew = DefinitionStore(settings).get(run["workflow_id"], version)["definition"]["crew"]
    records = [record for record in store.steps(run_id) if "step" in record]
    current = {step_key(name, iteration_of(run, crew, name)): name for name in (step["name"] for step in crew)}
    heads = {current[record["item"]]: record for record in records if record["item"] in current}
    finished = {name for name, record in heads.items() if is_finished(record)}
    failed = [record for record in heads.values() if record["status"] == "failed"]

    if run["status"] == "failed":
        if int(event.get("retry", 0)):
            raise RunFailed(_sentence(run["error"]))
        _reopen(store, run, failed)
        return _more(run, crew, finished, 0)

    crashed = next((end for end in _flat(event.get("ended") or ()) if end["outcome"] == "crashed"), None)
    if len(finished) == len(crew):
        sums = of_run(records)
        settled = not (crashed or run.get("crashed"))
        if store.close(run_id, "completed", {"output": _output(crew, heads), **sums}, settled=settled):
            metrics.run_ended(run, sums, completed=True, latency_ms=_age_ms(run))
        return {"contract": CONTRACT, "run_id": run_id, "outcome": "done"}

    error: RecordedError | None = None
    if failed:
        first = min(failed, key=lambda record: record["finished_at"])
        error = {"step": first["step"], **first["error"]}
    elif crashed:
        error = {
            "step": _crashed_in(crashed["step"], crew, heads, finished),
            "type": crashed.get("error", "Unknown"),
            "message": (
                "an AWS service refused a call of the function that ran the step; its log says which"
                if crashed.get("error") == AwsRefused.__name__
                else "the function that ran the step died or could not be invoked, its retries too; "
                "its log and the execution's history say why"
            ),
        }
    elif int(event.get("round", 0)) > len(crew) * MAX_ITERATIONS:
        # Each round finishes a step or ends the run; this can only be a mistake of ours, and must not run for ever.
        error = {
            "step": crew[0]["name"],
            "type": "NoProgress",
            "message": "the run went round without finishing a step",
        }
    if error is None:
        return _more(run, crew, finished, int(event.get("round", 0)) + 1)

    sums = of_run(records)
    if store.close(run_id, "failed", {"error": error, "crashed": bool(crashed) or None, **sums}):
        metrics.run_ended(run, sums, completed=False, latency_ms=_age_ms(run))
    raise RunFailed(_sentence(error))


def _more(run: Run, crew: Sequence[CrewStep], finished: set[str], turn: int) -> dict[str, Any]:
    return {
        "contract": CONTRACT,
        "run_id": run["run_id"],
        "workflow": run["workflow_id"],
        "version": int(run["workflow_version"]),
        "outcome": "more",
        "round": turn,
        "ready": ready_work(run, crew, finished),
    }


def _reopen(store: RunStore, run: Run, failed: Sequence[StepRecord]) -> None:
    """Make a failed run's failed steps unfinished again, then the run itself: in this order, so that dying in between
    leaves a failed run that can be redriven."""
    for record in failed:
        step_writer.reopen(store, record)
    store.reopen(run["run_id"])


def ready_work(run: Run, crew: Sequence[CrewStep], finished: set[str]) -> list[Branch]:
    """Return the steps that may start, in the form that the state machine's Map takes: the rest of a step's work is the
    same for all."""
    return [
        {"step": name, "iteration": iteration_of(run, crew, name), "item": 0} for name in graph.ready(crew, finished)
    ]


def _output(crew: Sequence[CrewStep], heads: Mapping[str, StepRecord]) -> Any:
    """Return the run's output: that of the last agent of the crew that was not skipped."""
    outputs = (heads[step["name"]].get("output") for step in reversed(crew))
    return next((output for output in outputs if output is not None), None)


def _crashed_in(step: str, crew: Sequence[CrewStep], heads: Mapping[str, StepRecord], finished: set[str]) -> str:
    """Return which step a function died in that was invoked for `step`: where that is done, one behind it that has
    begun (the parameter StepsPerInvocation)."""
    if step not in finished:
        return step
    begun = (agent["name"] for agent in crew if agent["name"] in heads and agent["name"] not in finished)
    return next(begun, step)


def _flat(ended: Sequence[ChainEnd]) -> Iterator[ChainEnd]:
    """Yield how each chain ended, with the chains of its fork."""
    for end in ended:
        yield end
        yield from _flat(end.get("ended") or ())


def _sentence(error: RecordedError) -> str:
    """Return what the function's log and the execution's history may hold: the message quotes what a provider or a
    model answered, and that may quote the prompt."""
    return f"step {error.get('step')!r} failed: {error['type']}; the run's record says more"


def _age_ms(run: Run) -> int:
    return clock.ms_between(run.get("started_at") or run["created_at"], clock.now_text())
