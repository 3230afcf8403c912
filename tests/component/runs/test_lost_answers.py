"""Moments of a run that chance seldom finds: functions that die for good, answers that get lost."""

from __future__ import annotations

from typing import Any

import pytest
from component.runs.test_run_life import CALL
from support.deployment import Deployment, Killed
from support.scripts import answer, die

from loopllama.aws import dynamo
from loopllama.core import clock
from loopllama.engine import human_input
from loopllama.engine.reconcile import reconcile_run
from loopllama.engine.step_ending import StepEnding
from loopllama.runs.step_ref import step_key
from loopllama.runs.step_writer import StepWriter

# Moments that chance seldom finds


def waiting_run(live: Deployment, **approval: Any) -> tuple[str, dict[str, Any]]:
    """A run that waits for the approval of its only step, and that step's work."""
    run_id = live.accept(live.push([{"name": "pay", "approval": {"start": True, **approval}}]))
    live.provider.script = answer
    work = live.map(live.start(run_id))[0]
    assert live.step(work)["outcome"] == "waiting"
    return run_id, work


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The task tokens that answers were delivered to."""
    tokens: list[str] = []
    monkeypatch.setattr(human_input, "deliver", tokens.append)
    return tokens


def test_a_function_that_dies_for_good_behind_the_last_record_leaves_a_bill(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = live.accept(live.push([{"name": "only"}]))
    live.provider.script = answer
    state = live.start(run_id)
    with monkeypatch.context() as patch:
        patch.setattr(StepEnding, "go_on", die)
        with pytest.raises(Killed):
            live.step(live.map(state)[0])
    live.advance(state, [{"outcome": "crashed", "step": "only", "error": "Runtime.ExitError"}])
    assert live.read(run_id)["status"] == "completed"
    assert "check_at" in live.runs.run(run_id)
    reconcile_run(live.settings, live.runs, run_id)
    rows = [row for row in live.usage_rows() if row["run_id"] == run_id]
    assert [(row["steps"], row["cost_usd"]) for row in rows] == [(1, CALL)]
    assert "check_at" not in live.runs.run(run_id)


def test_an_answer_whose_own_answer_got_lost_is_nobody_elses(
    live: Deployment, delivered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, work = waiting_run(live)
    live.step({"work": work, "token": "t-1"})
    update = dynamo.update

    def twice(*args: Any, **kwargs: Any) -> Any:
        if any(str(name).startswith("human_") for name in args[3]):
            update(*args, **kwargs)  # done, and the SDK does not hear of it
        return update(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(dynamo, "update", twice)
        assert human_input.respond(live.runs, run_id, {"approved": True})["kind"] == "approval"
    assert delivered == ["t-1"]
    assert live.read(run_id)["pending"] is None


def test_an_answer_that_was_stored_and_not_delivered_is_delivered_by_the_reconciler(
    live: Deployment, delivered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, work = waiting_run(live)
    live.step({"work": work, "token": "t-1"})
    with monkeypatch.context() as patch:
        patch.setattr(human_input, "deliver", die)
        with pytest.raises(Killed):
            human_input.respond(live.runs, run_id, {"approved": True})
    pending = live.runs.run(run_id)["pending"]
    assert set(pending) == {"STEP#pay#0#0"}  # or else nobody would look
    human_input.redeliver(live.runs, run_id, "STEP#pay#0#0", pending["STEP#pay#0#0"])
    assert delivered == ["t-1"]
    assert live.read(run_id)["pending"] is None


def test_an_answer_at_the_last_moment_counts(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id, work = waiting_run(live, timeoutSeconds=60)
    write = StepWriter.write

    def answered_first(writer: StepWriter, values: Any, **options: Any) -> None:
        monkeypatch.undo()
        human_input.respond(live.runs, run_id, {"approved": True})
        live.wait(61)
        write(writer, values, **options)

    # The step finds that the time is over by a clock that is ahead of the API's.
    expired = live.runs.items(run_id, [step_key("pay")])[step_key("pay")]["pending"]["expires_at"]
    monkeypatch.setattr(StepWriter, "write", answered_first)
    monkeypatch.setattr(clock, "now_text", lambda seconds=None: expired)
    assert live.step(work)["outcome"] == "continue"
    assert live.step(work)["outcome"] == "done"


def test_a_run_whose_first_write_was_answered_late_is_started_and_is_no_conflict(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_new, workflow = dynamo.put_new, live.push([{"name": "only"}])
    monkeypatch.setattr(dynamo, "put_new", lambda *a: [put_new(*a), put_new(*a)][1])
    run_id = live.accept(workflow)
    assert live.read(run_id)["status"] == "queued"
