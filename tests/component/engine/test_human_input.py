"""Steps that wait for a person."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from support.deployment import Deployment
from support.scripts import reject

from loopllama.core import clock
from loopllama.engine import human_input
from loopllama.errors import Conflict, InvalidRequest, RunFailed
from loopllama.llm.types import ModelResponse, ToolCall, Usage
from loopllama.runs.store import RunStore


def test_a_step_waits_for_approval_to_start(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}, {"name": "pay", "approval": True}])
    run_id = live.accept(workflow)
    state = live.start(run_id)
    assert live.chain(live.map(state)[0])["outcome"] == "waiting"
    run = live.read(run_id)
    assert run["status"] == "waiting_input"
    assert (run["pending"]["kind"], run["pending"]["step"]) == ("approval", "pay")
    assert len(live.provider.calls) == 1
    with pytest.raises(InvalidRequest, match="waits for an approval"):
        human_input.respond(live.runs, run_id, {"input": "yes"})
    human_input.respond(live.runs, run_id, {"approved": True})
    with pytest.raises(Conflict, match="waits for no answer"):
        human_input.respond(live.runs, run_id, {"approved": False})
    work = {**live.map(state)[0], "step": "pay"}
    assert live.chain(work)["outcome"] == "done"
    live.advance(state)
    run = live.read(run_id)
    assert (run["status"], run["pending"]) == ("completed", None)


def test_declined_and_unanswered_approvals_fail_the_step(live: Deployment) -> None:
    workflow = live.push([{"name": "pay", "approval": {"start": True, "timeoutSeconds": 60}}])
    for answer, message in (
        ({"approved": False, "note": "too much"}, "declined to let the step start: too much"),
        (None, "nobody answered by"),
    ):
        run_id = live.accept(workflow)
        state = live.start(run_id)
        waited = live.step(live.map(state)[0])
        assert (waited["outcome"], waited["seconds"]) == ("waiting", 48), "until its end is told"
        if answer:
            human_input.respond(live.runs, run_id, answer)
        else:
            live.wait(61)
        assert live.step(live.map(state)[0])["outcome"] == "failed"
        with pytest.raises(RunFailed):
            live.advance(state)
        assert message in live.read(run_id)["error"]
        # A redrive asks again, where people can see it.
        again = live.map(live.advance(state))[0]
        assert live.step(again)["outcome"] == "waiting"
        assert live.read(run_id)["pending"]["step"] == "pay"
        human_input.respond(live.runs, run_id, {"approved": True})
        assert live.step(again)["outcome"] == "done"
        assert len(live.provider.calls) == 1
        live.provider.calls.clear()


def test_an_agent_asks_a_person_and_goes_on_with_the_answer(live: Deployment) -> None:
    question = "Which colour? " * 100

    def script(call: Any) -> ModelResponse:
        if len(call.messages) == 1:
            return ModelResponse("", Usage(1, 1), "tool_calls", (ToolCall("t1", "ask_human", {"question": question}),))
        return ModelResponse(f"painted {call.messages[-1].text}", Usage(1, 1))

    live.provider.script = script
    run_id = live.accept(live.push([{"name": "paint", "tools": ["ask_human"]}]))
    state = live.start(run_id)
    assert live.step(live.map(state)[0])["outcome"] == "waiting"
    assert live.read(run_id)["pending"]["prompt"] == question
    assert len(live.runs.run(run_id)["pending"]["STEP#paint#0#0"]["prompt"]) == 300, "the run's item stays small"
    human_input.respond(live.runs, run_id, {"input": "blue"})
    live.wait(61)
    assert live.step(live.map(state)[0])["outcome"] == "done"
    live.advance(state)
    run = live.read(run_id)
    assert run["output"] == "painted blue"
    assert len(live.provider.calls) == 2, "the first call is not made again"
    assert run["steps"][0]["tool_calls"][0]["result"] == "blue"


def test_waiting_for_a_person_is_no_time_of_the_turn(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]
    monkeypatch.setattr(clock, "time", SimpleNamespace(time=lambda: time.time() + sum(passed)))

    def script(call: Any) -> ModelResponse:
        if len(call.messages) == 1:
            passed.append(10)
            return ModelResponse("", Usage(1, 1), "tool_calls", (ToolCall("t1", "ask_human", {"question": "Which?"}),))
        return ModelResponse("painted", Usage(1, 1))

    live.provider.script = script
    crew = [{"name": "paint", "tools": ["ask_human"], "approval": True, "timeoutSeconds": 30}]
    workflow = live.push(crew)
    for slow in (False, True):
        run_id = live.accept(workflow)
        work = live.map(live.start(run_id))[0]
        for answer in ({"approved": True}, {"input": "blue"}):
            assert live.step(work)["outcome"] == "waiting"
            passed.append(3600)
            human_input.respond(live.runs, run_id, answer)
        passed.append(25 if slow else 0)
        assert live.step(work)["outcome"] == ("failed" if slow else "done")
    assert "timeoutSeconds are used up" in live.read(run_id)["steps"][0]["error"]


def test_an_answer_that_was_stored_and_not_delivered_is_delivered_when_the_token_comes(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered: list[str] = []
    monkeypatch.setattr(human_input, "deliver", delivered.append)
    run_id = live.accept(live.push([{"name": "pay", "approval": True}]))
    work = live.map(live.start(run_id))[0]
    live.step(work)
    human_input.respond(live.runs, run_id, {"approved": True})
    assert delivered == []
    assert live.step({"work": work, "token": "t-1"})["outcome"] == "waiting"
    assert delivered == ["t-1"]


def test_a_redrive_asks_anew_where_an_invocation_died_as_the_time_was_over(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has written that nobody answered, and not that the step has failed."""
    crew = [
        {"name": "pay", "needs": [], "approval": {"start": True, "timeoutSeconds": 60}},
        {"name": "other", "needs": []},
    ]
    run_id = live.accept(live.push(crew))
    state = live.start(run_id)
    pay, other = live.map(state)
    assert live.step(pay)["outcome"] == "waiting"
    live.wait(61)
    with monkeypatch.context() as dying:
        dying.setattr(RunStore, "clear_pending", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            live.step(pay)
    live.provider.script = reject
    assert live.step(other)["outcome"] == "failed"
    with pytest.raises(RunFailed):
        live.advance(state)
    live.advance(state)
    assert live.step(pay)["outcome"] == "waiting"
    human_input.respond(live.runs, run_id, {"approved": True})
    live.provider.script = lambda call: "fine"
    assert live.step(pay)["outcome"] == "done"


@pytest.mark.parametrize("declined", [True, False])
def test_a_redrive_asks_anew_with_all_of_the_time(live: Deployment, declined: bool) -> None:
    """Declined, or still open when another step failed: its old end has passed while nobody could answer."""
    approval = {"start": True, "timeoutSeconds": 60}
    crew = [{"name": "pay", "needs": [], "approval": approval}, {"name": "other", "needs": []}]
    run_id = live.accept(live.push(crew))
    state = live.start(run_id)
    pay, other = live.map(state)
    assert live.step(pay)["outcome"] == "waiting"
    if declined:
        human_input.respond(live.runs, run_id, {"approved": False})
        assert live.step(pay)["outcome"] == "failed"
    else:
        live.provider.script = reject
        assert live.step(other)["outcome"] == "failed"
        assert live.step(pay)["outcome"] == "stopped"
    with pytest.raises(RunFailed):
        live.advance(state)
    live.wait(61)
    live.advance(state)
    assert (again := live.step(pay))["outcome"] == "waiting"
    assert again["seconds"] == 48, "until its end is told"
    [question] = live.read(run_id)["questions"]
    assert clock.ms_between(question["asked_at"], question["expires_at"]) == 60_000
    human_input.respond(live.runs, run_id, {"approved": True})
    live.provider.script = lambda call: "fine"
    assert live.step(pay)["outcome"] == "done"
