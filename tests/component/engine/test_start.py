"""Whose run an execution opens: its own, whatever its input says."""

from __future__ import annotations

from typing import Any

import pytest
from support.deployment import Deployment

from loopllama.engine.accept import execution_arn
from loopllama.engine.start import start_run
from loopllama.errors import InvalidRequest, RunNotFound


def started_by_hand(live: Deployment, name: str, request: Any) -> dict[str, Any]:
    """StartRun in an execution of that name and input."""
    arn = execution_arn(live.settings, name)
    return start_run(live.settings, {"contract": 2, "request": request, "execution_arn": arn, "execution_name": name})


@pytest.mark.parametrize("begun", [False, True])
def test_an_execution_takes_over_nobodys_run(live: Deployment, begun: bool) -> None:
    workflow = live.push([{"name": "one"}])
    run_id = live.accept(workflow, "theirs")
    if begun:
        live.start(run_id)
    before = live.runs.run(run_id)
    with pytest.raises(InvalidRequest, match=f"run {run_id} is not this execution's .*loopllama runs redrive"):
        started_by_hand(live, "mine", {"run_id": run_id})
    assert live.runs.run(run_id) == before
    assert live.start(run_id)["outcome"] == "more", (
        "its own goes on, as often as Step Functions repeats its first state"
    )


def test_nor_by_the_name_of_a_run_that_was_accepted(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}])
    run_id = live.accept(workflow, "theirs")
    before = live.runs.run(run_id)
    with pytest.raises(InvalidRequest, match="is not this execution's"):
        started_by_hand(live, run_id, {"workflow": workflow, "input": "mine"})
    assert live.runs.run(run_id) == before


def test_a_first_state_that_is_repeated_opens_the_same_run(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}])
    request = {"workflow": workflow, "input": "mine"}
    assert started_by_hand(live, "nightly.2026-11-28", request) == started_by_hand(live, "nightly.2026-11-28", request)
    assert live.read("nightly.2026-11-28")["status"] == "running"


@pytest.mark.parametrize("name", ["nächtlich", "it's", "a+b", "a@b", "..", ".hidden", "(1)", "x=1", "日本"])
def test_an_execution_whose_run_nobody_could_ask_for_is_refused_before_anything_is_paid(
    live: Deployment, name: str
) -> None:
    workflow = live.push([{"name": "one"}])
    with pytest.raises(InvalidRequest, match="start it under a name of letters"):
        started_by_hand(live, name, {"workflow": workflow, "input": "hello"})
    with pytest.raises(RunNotFound):
        live.runs.run(name)
