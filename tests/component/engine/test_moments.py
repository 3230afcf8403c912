"""Moments in which two invocations meet, or one dies between two writes: what comes after makes up for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.deployment import Deployment, Killed

from loopllama.agent import loop
from loopllama.agent.tool_calls import Waiting
from loopllama.aws import clients
from loopllama.engine import human_input, step_context
from loopllama.engine import step as step_module
from loopllama.engine.cancel import cancel_run
from loopllama.engine.reconcile import reconcile_run
from loopllama.errors import AwsUnavailable, ModelRequestRejected, ModelUnavailable, RunFailed
from loopllama.llm.types import ModelResponse, ToolCall, Usage
from loopllama.runs import bill
from loopllama.runs.step_writer import StepWriter


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    tokens: list[str] = []
    monkeypatch.setattr(human_input, "deliver", tokens.append)
    return tokens


def reject(call: Any) -> str:
    raise ModelRequestRejected("no")


def die(*_: Any, **__: Any) -> Any:
    raise Killed


def branches(live: Deployment) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two steps side by side: one whose model rejects it, one that waits for a person."""
    run_id = live.accept(live.push([{"name": "call", "needs": []}, {"name": "pay", "needs": [], "approval": True}]))
    call, pay = live.map(live.start(run_id))
    live.provider.script = reject
    assert live.step(pay)["outcome"] == "waiting"
    return call, pay


def one_step(live: Deployment, **step: Any) -> dict[str, Any]:
    """The only step of a run."""
    return live.map(live.start(live.accept(live.push([{"name": "one", "model": "test:a", **step}]))))[0]


def test_a_token_that_comes_when_the_run_is_stopping_is_given_back(live: Deployment, delivered: list[str]) -> None:
    call, pay = branches(live)
    assert live.step(call)["outcome"] == "failed"
    assert delivered == [], "nobody waits yet"
    live.step({"work": pay, "token": "t-1"})
    assert delivered == ["t-1"]
    assert live.step(pay)["outcome"] == "stopped"


def test_a_token_that_comes_when_the_other_items_are_stopping_is_given_back(
    live: Deployment, delivered: list[str]
) -> None:
    crew = [{"name": "pay", "forEach": "input.list", "needs": [], "tools": ["ask_human"]}]
    run_id = live.accept(live.push(crew), {"list": [1, 2]})
    fork = live.step(live.map(live.start(run_id))[0])
    first, second = live.map(fork, depth=1)
    live.provider.script = lambda _: ModelResponse(
        "", Usage(1, 1), "tool_calls", (ToolCall("t", "ask_human", {"question": "Which?"}),)
    )
    assert live.step(second)["outcome"] == "waiting"
    live.provider.script = reject
    assert live.step(first)["outcome"] == "failed"
    live.step({"work": second, "token": "t-2"})
    assert delivered == ["t-2"]


def test_an_invocation_that_died_failing_its_step_is_repeated_and_stops_the_others(
    live: Deployment, delivered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call, pay = branches(live)
    live.step({"work": pay, "token": "t-1"})
    with monkeypatch.context() as patch:
        patch.setattr(bill, "add_usage", die)
        with pytest.raises(Killed):
            live.step(call)
    assert delivered == []
    assert live.step(call, "again")["outcome"] == "failed"
    assert delivered == ["t-1"]


def test_of_two_invocations_that_read_the_same_record_the_slower_one_writes_nothing(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = one_step(live)
    look = step_context.look

    def slow(*args: Any) -> Any:
        view = look(*args)
        monkeypatch.setattr(step_module, "look", look)
        assert live.step(work, "faster")["outcome"] == "retry_later"
        return view

    def unavailable(call: Any) -> str:
        raise ModelUnavailable("no", maybe_billed=True)

    live.provider.script = unavailable
    monkeypatch.setattr(step_module, "look", slow)
    assert live.step(work, "slower")["outcome"] == "retry_later"
    assert len(live.provider.calls) == 1, "its call would have taken the place of the other's in the bill"
    live.provider.script = lambda _: "fine"
    assert live.step(work, "third")["outcome"] == "done"
    attempts = live.read(work["run_id"])["steps"][0]["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["ModelUnavailable", "ok"]


@pytest.mark.parametrize(
    "end",
    [
        loop.OutOfTime(),
        loop.RetryLater(ModelUnavailable("no")),
        Waiting("tool_0000_00", "input", "Which?"),
        ModelRequestRejected("no"),
    ],
    ids=lambda end: type(end).__name__,
)
def test_whatever_an_invocation_comes_to_when_another_has_done_its_step_counts_for_nothing(
    live: Deployment, monkeypatch: pytest.MonkeyPatch, end: Exception
) -> None:
    work = one_step(live)

    take = loop.AgentLoop.take

    def overtaken(turn: Any, text: str) -> str:
        monkeypatch.setattr(loop.AgentLoop, "take", take)
        assert live.step(work, "other")["outcome"] == "done"
        raise end

    monkeypatch.setattr(loop.AgentLoop, "take", overtaken)
    assert live.step(work, "slow")["outcome"] == "done"
    assert live.read(work["run_id"])["steps"][0]["status"] == "completed"


@pytest.mark.parametrize("rejected", [False, True])
def test_metrics_tell_once_of_a_step_whose_bill_needs_another_invocation(
    live: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rejected: bool
) -> None:
    work = one_step(live)
    if rejected:
        live.provider.script = reject

    def throttled(*_: Any) -> None:
        raise AwsUnavailable("busy")

    with monkeypatch.context() as patch:
        patch.setattr(bill, "add_usage", throttled)
        with pytest.raises(AwsUnavailable):
            live.step(work)
    assert live.step(work, "again")["outcome"] == ("failed" if rejected else "done")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [(line["step"], line["ModelCalls"]) for line in lines] == [("one", 1)]


@pytest.mark.parametrize("write", ["tries", "pending"])
def test_an_invocation_that_aws_keeps_from_waiting_lets_go_of_its_step(
    live: Deployment, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    work = one_step(live, **({"approval": True} if write == "pending" else {}))

    def unavailable(call: Any) -> str:
        raise ModelUnavailable("no")

    live.provider.script = unavailable
    writes = StepWriter.write

    def throttled(writer: StepWriter, values: Any, **how: Any) -> None:
        if write in values:
            raise AwsUnavailable("busy")
        writes(writer, values, **how)

    with monkeypatch.context() as patch:
        patch.setattr(StepWriter, "write", throttled)
        with pytest.raises(AwsUnavailable):
            live.step(work, "first")
    assert live.step(work, "second")["outcome"] == ("waiting" if write == "pending" else "retry_later")


def test_a_queued_run_whose_execution_ended_unheard_is_closed(
    live: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = live.accept(live.push([{"name": "one"}]))
    assert reconcile_run(live.settings, live.runs, run_id) == "started"
    arn = live.settings.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{run_id}"
    clients.client("stepfunctions").stop_execution(executionArn=arn)
    assert reconcile_run(live.settings, live.runs, run_id) == "closed"
    run = live.read(run_id)
    assert (run["status"], run["error"]) == ("cancelled", "ExecutionEnded: the execution was stopped")
    assert "RunsFailed" not in capsys.readouterr().out, "somebody stopped it"


def test_a_step_with_which_every_invocation_dies_is_given_up(live: Deployment) -> None:
    work = one_step(live)
    live.provider.script = die
    for number in range(5):
        with pytest.raises(Killed):
            live.step(work, f"invocation-{number}")
        assert live.step(work, "repeated")["outcome"] == "retry_later", "its lease holds"
        live.wait(61)
    assert live.step(work, "last")["outcome"] == "failed"
    assert live.read(work["run_id"])["steps"][0]["error"].startswith("FunctionDied: 5 invocations died")
    assert len(live.provider.calls) == 5
    with pytest.raises(RunFailed):
        live.advance(work)
    again = live.map(live.advance(work))[0]
    live.provider.script = lambda _: "fine"
    assert live.step(again)["outcome"] == "done", "somebody gave it more memory"


def test_invocations_that_die_now_and_then_are_made_up_for(live: Deployment) -> None:
    work = one_step(live, retries=10)

    def unavailable(call: Any) -> str:
        raise ModelUnavailable("no")

    for number in range(6):
        live.provider.script = die
        with pytest.raises(Killed):
            live.step(work, f"dead-{number}")
        live.wait(61)
        live.provider.script = unavailable
        assert live.step(work, f"alive-{number}")["outcome"] == "retry_later"
    live.provider.script = lambda _: "fine"
    assert live.step(work, "last")["outcome"] == "done"


def test_no_model_is_called_once_the_run_has_ended_while_a_tool_worked(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, work = live.begin(tools=["now"])
    monkeypatch.setattr(
        "loopllama.tools.toolbox.Toolbox.call", lambda *_, **__: cancel_run(live.settings, run_id) or "seen"
    )
    live.provider.script = lambda _: LOOK
    assert live.step(work)["outcome"] == "stopped"
    assert len(live.provider.calls) == 1


LOOK = ModelResponse("", Usage(1, 1), tool_calls=(ToolCall("1", "now", {}),))


@pytest.mark.parametrize("how", ["cancelled", "a sibling fails"])
@pytest.mark.parametrize("answer", [LOOK, "no JSON"])
def test_nothing_more_begins_once_the_run_has_ended_while_a_model_answered(
    live: Deployment, how: str, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the answer's tool calls, nor the turn's next model call; a redrive goes on behind the paid answer."""
    tools: list[str] = []
    monkeypatch.setattr("loopllama.tools.toolbox.Toolbox.call", lambda *_, **__: tools.append("now") or "seen")
    ask = {"name": "ask", "needs": [], "tools": ["now"], "outputSchema": {"type": "object"}}
    run_id = live.accept(live.push([ask, {"name": "other", "needs": []}]))
    asking, other = live.map(live.start(run_id))

    def meanwhile(call: Any) -> Any:
        live.provider.script = reject
        if how == "cancelled":
            cancel_run(live.settings, run_id)
        else:
            assert live.step(other)["outcome"] == "failed"
        return answer

    live.provider.script = meanwhile
    assert live.step(asking)["outcome"] == "stopped"
    assert (len(live.provider.calls), tools) == (1 + (how != "cancelled"), [])
    if how == "cancelled":
        return
    live.provider.script = lambda call: "{}"
    state = live.start(run_id)
    with pytest.raises(RunFailed):
        live.advance(state, retry=1)
    live.advance(state)
    assert live.step(asking)["outcome"] == "done"
    assert len(live.provider.calls) == 3
    assert tools == (["now"] if answer is LOOK else [])
