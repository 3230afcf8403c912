"""StartRun: the first state. Makes the record where somebody started the execution by hand, and says what is ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import CONTRACT, clock
from ..definitions import DefinitionStore
from ..errors import InvalidRequest, RunFailed
from ..runs import FINAL, STARTED_CHECK_SECONDS, RunStore, check_time
from ..settings import Settings
from ..values import ValueStore
from .accept import new_run
from .advance import ready_work


def start_run(settings: Settings, event: Mapping[str, Any]) -> dict[str, Any]:
    """Open the run for its execution. Raises `InvalidRequest`, `WorkflowNotFound`, `RunFailed`."""
    request = event["request"]
    store = RunStore(settings)
    definitions = DefinitionStore(settings)
    if not isinstance(request, Mapping) or not ("run_id" in request or "workflow" in request):
        raise InvalidRequest('start an execution with {"workflow": its id, "input": a text or a JSON value}')
    if "run_id" in request:
        run = store.run(request["run_id"])
    else:
        # The execution's name is unique for 90 days, which makes it an idempotent id.
        run_id = str(event["execution_name"])
        workflow = definitions.get(request["workflow"])
        run = new_run(workflow, run_id, request.get("input"), request.get("models"), request.get("tags"))
        run["input"] = ValueStore(settings).store(run_id, "input", request["input"])
        if not store.create(run):
            run = store.run(run_id)
    run_id = run["run_id"]
    opened = store.change(
        run_id,
        {
            "status": "running",
            "started_at": run.get("started_at") or clock.now_text(),
            "execution_arn": event["execution_arn"],
            "check_at": check_time(STARTED_CHECK_SECONDS),
        },
        only_from=("queued", "running"),
    )
    if not opened and store.run(run_id)["status"] in FINAL:
        raise RunFailed(f"run {run_id} has ended already; replay it or start another")
    version = int(run["workflow_version"])
    crew = definitions.get(run["workflow_id"], version)["definition"]["crew"]
    return {
        "contract": CONTRACT,
        "run_id": run_id,
        "workflow": run["workflow_id"],
        "version": version,
        "round": 0,
        "ready": ready_work(run, crew, set()),
    }
