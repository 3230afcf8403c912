"""The executions of one run: its first, and the next ones where its history does not fit into one.

The run's `execution_arn` names the current one. The next is named in the record before it is started, under a name that
is computed: whoever repeats the handover starts the same execution, which Step Functions starts once. Until its
StartRun has run, the record says `starting`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from loopllama import CONTRACT
from loopllama.aws import clients
from loopllama.core import exact_json
from loopllama.runs.store import RunStore

if TYPE_CHECKING:
    from loopllama.runs.records import Run

MOST_EXECUTIONS = 1_000
"""Each comes further, so only a mistake of ours needs more; it must not run for ever."""
_SHORT = 40


def start(arn: str, run_id: str) -> bool:
    """Start the execution of that ARN for a run; a second start is no second execution. `False` where there has been
    one that has ended."""
    machine, _, name = arn.rpartition(":")
    states = clients.client("stepfunctions")
    try:
        states.start_execution(
            stateMachineArn=machine.replace(":execution:", ":stateMachine:"),
            name=name,
            input=exact_json.dumps({"contract": CONTRACT, "run_id": run_id}),
        )
    except states.exceptions.ExecutionAlreadyExists:
        # It ended, or runs with an input that differs in form only: either way this run has been started.
        return False
    return True


def is_current(run: Run, arn: str | None) -> bool:
    """Return whether the execution of that ARN is the one that the run's record is about."""
    return arn is None or run.get("execution_arn") in (None, arn)


def hand_over(store: RunStore, run: Run) -> None:
    """Let the run go on in another execution, unless it has ended or another one has it already."""
    number = int(run.get("executions", 1)) + 1
    # Where the write finds that somebody else has done it, the record says what is to be started too.
    store.hand_over(run, _next_arn(run["execution_arn"], run["run_id"], number), number)
    start_announced(store.run(run["run_id"]))


def start_announced(run: Run) -> bool:
    """Start the execution that the run's record has named, where nobody knows yet that it has begun; `False` where it
    has ended, or where none is named."""
    return run["status"] == "running" and bool(run.get("starting")) and start(run["execution_arn"], run["run_id"])


def _next_arn(arn: str, run_id: str, number: int) -> str:
    """Return the ARN of a run's execution of that number. A name has 80 characters at most, and who starts executions
    by hand may number them."""
    is_ours = len(run_id) < _SHORT and run_id.startswith("run_")
    name = run_id if is_ours else f"{run_id[:_SHORT]}-{hashlib.sha256(run_id.encode()).hexdigest()[:24]}"
    return f"{arn.rpartition(':')[0]}:{name}-{number}"
