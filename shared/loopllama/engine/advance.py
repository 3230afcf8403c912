"""AdvanceRun: what becomes of a run once no chain of it is alive.

A run whose steps are all done is completed here, or by the RunStep that ended the last step of a run's only chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopllama.core import clock
from loopllama.engine import executions, history, lone_chain, metrics
from loopllama.engine.step_context import is_finished
from loopllama.errors import AwsRefused, RunFailed
from loopllama.runs import step_writer, waits
from loopllama.runs.step_ref import contract_of, iteration_of, step_key
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
_UNSURE = ("crashed", "line_left")
"""How chains end whose last step may lack a part of its bill."""


def advance_run(settings: Settings, event: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the run, return the steps that are ready, or record its failure and raise `RunFailed`.

    Where the execution's history has no room for them, the run goes on in another execution and this one ends.

    Invoked on a failed run with `retry` 0, as redriving the execution does, it opens the run again and returns the
    unfinished steps; with a higher `retry` it is the state machine repeating an invocation that recorded the
    failure and died before it could say so. Raises `ContractUnknown`, before anything is done.
    """
    contract_of(event)
    store = RunStore(settings)
    run_id = event["run_id"]
    run = store.run(run_id)
    if run["status"] in ("completed", "cancelled"):
        return _done(event)
    if not executions.is_current(run, event.get("execution_arn")):
        executions.start_announced(run)  # who named it may have died before it did
        return _done(event)
    version = int(run["workflow_version"])
    crew = DefinitionStore(settings).get(run["workflow_id"], version)["definition"]["crew"]
    records = [record for record in store.steps(run_id) if "step" in record]
    heads = heads_of(run, crew, records)
    finished = finished_of(heads)
    failed = [record for record in heads.values() if record["status"] == "failed"]

    if run["status"] == "failed":
        if int(event.get("retry", 0)):
            raise RunFailed(_sentence(run["error"]))
        _reopen(store, run, failed)
        return _more(store, run, crew, finished, event, 0)

    ends = list(_ends(event))
    crashed = next((end for end in ends if end["outcome"] == "crashed"), None)
    if len(finished) == len(crew):
        # What made the state machine leave a line may have been a death.
        _complete(store, run, crew, records, settled=not any(end["outcome"] in _UNSURE for end in ends))
        return _done(event)

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
    elif (
        int(event.get("round", 0)) > len(crew) * MAX_ITERATIONS
        or int(run.get("executions", 1)) > executions.MOST_EXECUTIONS
    ):
        # Each round finishes a step or ends the run; this can only be a mistake of ours, and must not run for ever.
        error = {
            "step": crew[0]["name"],
            "type": "NoProgress",
            "message": "the run went round without finishing a step",
        }
    if error is None:
        return _more(store, run, crew, finished, event, int(event.get("round", 0)) + 1)

    sums, waited_ms = of_run(records), waits.of_run(run, records, clock.now_text())
    closing: Run = {"error": error, "crashed": bool(crashed) or None, "waited_ms": waited_ms, **sums}
    if store.close(run_id, "failed", closing):
        metrics.run_ended(run, sums, completed=False, waited_ms=waited_ms)
    raise RunFailed(_sentence(error))


def complete(store: RunStore, run_id: str, crew: Sequence[CrewStep]) -> bool:
    """Complete a run whose last step has ended, while no other chain of it is alive; `False` where AdvanceRun has to
    see what becomes of it. Harmless where that was done."""
    run = store.run(run_id)
    if run["status"] in ("completed", "cancelled"):
        return True
    if run["status"] != "running":
        return False
    records = [record for record in store.steps(run_id) if "step" in record]
    if len(finished_of(heads_of(run, crew, records))) < len(crew):
        return False
    _complete(store, run, crew, records, settled=True)
    return True


def _complete(
    store: RunStore, run: Run, crew: Sequence[CrewStep], records: Sequence[StepRecord], *, settled: bool
) -> None:
    """Complete a run, unless it has ended; `settled` where its bill has all rows."""
    sums, waited_ms = of_run(records), waits.of_run(run, records, clock.now_text())
    output = _output(crew, heads_of(run, crew, records))
    settled = settled and not run.get("crashed")
    if store.close(run["run_id"], "completed", {"output": output, "waited_ms": waited_ms, **sums}, settled=settled):
        metrics.run_ended(run, sums, completed=True, waited_ms=waited_ms)


def heads_of(run: Run, crew: Sequence[CrewStep], records: Iterable[StepRecord]) -> dict[str, StepRecord]:
    """Return the records of the steps themselves, by name, each of the iteration that counts now."""
    current = {step_key(name, iteration_of(run, crew, name)): name for name in (step["name"] for step in crew)}
    return {current[record["item"]]: record for record in records if record["item"] in current}


def finished_of(heads: Mapping[str, StepRecord]) -> set[str]:
    """Return the steps that are done."""
    return {name for name, record in heads.items() if is_finished(record)}


def _done(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"contract": contract_of(event), "run_id": event["run_id"], "outcome": "done"}


def _more(
    store: RunStore,
    run: Run,
    crew: Sequence[CrewStep],
    finished: set[str],
    event: Mapping[str, Any],
    turn: int,
) -> dict[str, Any]:
    """Return another round, or let the run's next execution have it."""
    ready, left = ready_work(run, crew, finished), event.get("left")
    if left is not None:
        left = history.further(left, list(_ends(event)), ready)
        if left is None:
            executions.hand_over(store, run)
            return _done(event)
    return lone_chain.as_round(run, crew, ready, turn, left, contract_of(event))


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


def _ends(event: Mapping[str, Any]) -> Iterator[ChainEnd]:
    """Yield how the round's chains ended; the state machine says of a run's only chain that it crashed, without a
    list."""
    ended: Any = event.get("ended") or ()
    if isinstance(ended, dict):
        ended = (ended,)
    return _flat(ended)


def _flat(ended: Sequence[ChainEnd]) -> Iterator[ChainEnd]:
    """Yield how each chain ended, with the chains of its fork."""
    for end in ended:
        yield end
        yield from _flat(end.get("ended") or ())


def _sentence(error: RecordedError) -> str:
    """Return what the function's log and the execution's history may hold: the message quotes what a provider or a
    model answered, and that may quote the prompt."""
    return f"step {error.get('step')!r} failed: {error['type']}; the run's record says more"
