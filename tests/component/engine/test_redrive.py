"""Redriving a failed run by its id: it goes on where it failed, once, or says what to do instead."""

from __future__ import annotations

from typing import Any

import pytest
from support.api_client import InProcess
from support.command_line import answer, invoke
from support.world import World

from loopllama.aws import clients
from loopllama.core import clock
from loopllama.engine.cancel import cancel_run
from loopllama.engine.redrive import redrive_run
from loopllama.errors import Conflict, RunNotFound
from loopllama.providers.http import Reply
from loopllama.queries.runs import RunReader
from loopllama_cli import target

WRONG = Reply(400, {}, b'{"error": {"message": "no such thing"}}')


def failed(world: World, name: str = "Two") -> str:
    """A run whose second step has failed."""
    broken = world.serve
    world.serve = lambda body: WRONG if "two" in str(body["messages"]) else "fine"
    workflow = world.push([{"name": "one", "prompt": "one"}, {"name": "two", "prompt": "two"}], name, model="house:one")
    run_id = world.request({"workflow": workflow, "input": "x"})
    world.finish(run_id)
    world.serve = broken
    assert world.read(run_id)["status"] == "failed"
    return run_id


def test_it_goes_on_where_it_failed_and_pays_nothing_again(world: World) -> None:
    run_id = failed(world)
    world.serve = lambda body: "mended"
    assert redrive_run(world.settings, run_id)
    world.finish(run_id)
    run = world.read(run_id)
    assert (run["status"], run["output"], world.paid) == ("completed", "mended", 2)
    with pytest.raises(Conflict, match=f"is completed, not failed; a replay .*runs replay {run_id}"):
        redrive_run(world.settings, run_id)


def test_the_last_execution_of_a_long_run_is_the_one(world: World) -> None:
    run_id = failed(world)
    arn = f"{world.arn(run_id)}-2"
    world.executions[f"{run_id}-2"] = world.executions.pop(run_id)
    world.executions[f"{run_id}-2"].arn = arn
    world.executions[f"{run_id}-2"]._context["Execution"]["Id"] = arn
    world.runs.change(run_id, {"execution_arn": arn, "executions": 2}, only_from=("failed",))
    world.serve = lambda body: "mended"
    assert redrive_run(world.settings, run_id)
    assert list(world.redrives) == [arn]
    world.finish(run_id)
    assert world.read(run_id)["status"] == "completed"


def test_who_asks_again_while_it_goes_on_does_no_harm(world: World) -> None:
    run_id = failed(world)
    assert redrive_run(world.settings, run_id)
    assert not redrive_run(world.settings, run_id)  # its execution has begun, and has not opened the run
    world.runs.reopen(run_id)
    assert not redrive_run(world.settings, run_id)
    assert len(world.redrives[world.arn(run_id)]) == 1


@pytest.mark.parametrize("failing", [True, False])
def test_two_at_once_redrive_once_even_where_the_first_has_failed_again(
    world: World, failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has read the execution before the first redrives it."""
    run_id = failed(world)
    world.serve = lambda body: WRONG if failing else "mended"
    states = clients.client("stepfunctions")
    redrive = states.redrive_execution
    others: list[bool] = []

    def first_another(**asked: Any) -> Any:
        monkeypatch.setattr(states, "redrive_execution", redrive)
        others.append(redrive_run(world.settings, run_id))
        world.finish(run_id)
        return redrive(**asked)

    monkeypatch.setattr(states, "redrive_execution", first_another)
    redrive_run(world.settings, run_id)
    world.finish(run_id)
    assert others == [True]
    assert len(world.redrives[world.arn(run_id)]) == 1
    assert world.read(run_id)["status"] == ("failed" if failing else "completed")
    if failing:  # and by the next who asks, another time
        world.serve = lambda body: "mended"
        assert redrive_run(world.settings, run_id)
        world.finish(run_id)
        assert world.read(run_id)["status"] == "completed"


def test_somebody_else_redrove_it_between_two_calls(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = failed(world)
    states = clients.client("stepfunctions")
    redrive = states.redrive_execution

    def by_hand_first(**asked: Any) -> Any:
        redrive(**{**asked, "clientToken": "of the console"})
        return redrive(**asked)

    monkeypatch.setattr(states, "redrive_execution", by_hand_first)
    assert not redrive_run(world.settings, run_id)


def test_an_execution_that_is_about_to_end_is_not_taken_for_redriven(world: World) -> None:
    run_id = failed(world)
    world.executions[run_id].status = "RUNNING"
    with pytest.raises(Conflict, match="about to end; try again"):
        redrive_run(world.settings, run_id)


def test_what_cannot_be_redriven_says_what_to_do(world: World) -> None:
    with pytest.raises(RunNotFound):
        redrive_run(world.settings, "run_none")
    full = failed(world)
    world.executions[full].events = world.most_events
    with pytest.raises(Conflict, match=f"history event limit exceeded; a replay .*runs replay {full} --from-step"):
        redrive_run(world.settings, full)
    del world.executions[full]
    with pytest.raises(Conflict, match="does not know its execution any more; a replay"):
        redrive_run(world.settings, full)
    stopped = world.accept(world.push([{"name": "a"}]))
    cancel_run(world.settings, stopped)
    with pytest.raises(Conflict, match="is cancelled, not failed; a replay"):
        redrive_run(world.settings, stopped)
    gone = failed(world, "Gone")
    RunReader(world.settings)._definitions.delete("gone")
    with pytest.raises(Conflict, match="workflow 'gone' was deleted"):
        redrive_run(world.settings, gone)
    assert not any(world.redrives.values())


def test_it_fails_again_where_nothing_was_mended(world: World) -> None:
    run_id = failed(world)
    world.serve = lambda body: WRONG
    for times in (1, 2):
        assert redrive_run(world.settings, run_id)
        world.finish(run_id)
        assert world.read(run_id)["status"] == "failed"
        assert len(world.redrives[world.arn(run_id)]) == times
    assert world.paid == 1


# Over the API, and by the command


def test_the_api_redrives_and_answers_with_the_run(world: World) -> None:
    run_id = failed(world)
    world.serve = lambda body: "mended"
    assert world.call_api("POST", f"/v1/runs/{run_id}/redrive", {}, key="k")["id"] == run_id
    assert world.call_api("POST", f"/v1/runs/{run_id}/redrive", {}, key="k")["id"] == run_id
    world.finish(run_id)
    assert world.read(run_id)["status"] == "completed"
    code, told = InProcess(world.settings).ask("POST", f"/v1/runs/{run_id}/redrive", {})
    assert (code, "a replay does the rest" in told["error"]) == (409, True)
    assert InProcess(world.settings).ask("POST", "/v1/runs/run_none/redrive", {})[0] == 404


def test_the_command_redrives_one_or_all_that_failed_since(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "connect", lambda choice: target.Target("s", world.settings, {}, local=True))
    early = failed(world, "Early")
    world.wait(7200)
    since = clock.now_text()
    one, other = failed(world, "One"), failed(world, "Other")
    world.serve = lambda body: "mended"
    assert invoke("runs", "redrive", one).stdout == f"{one}: goes on\n"
    world.finish(one)
    told = answer("runs", "redrive", one, code=1)
    assert [(view["id"], view["redriven"]) for view in told] == [(one, False)]
    assert f"runs replay {one}" in told[0]["reason"]

    assert "nobody to ask" in invoke("runs", "redrive", "--failed-since", since, code=2).stderr
    assert not world.redrives.get(world.arn(other))
    assert answer("runs", "redrive", "--failed-since", since, "--workflow", "one", "--yes") == []
    assert "No run has failed" in invoke("runs", "redrive", "--failed-since", "0s", "--yes").stderr
    assert answer("runs", "redrive", "--failed-since", since, "--yes") == [
        {"id": other, "redriven": True, "reason": None}
    ]
    world.finish(other)
    assert world.read(other)["status"] == "completed"
    world.executions[early].events = world.most_events
    assert "history event limit" in invoke("runs", "redrive", "--failed-since", "3d", "--yes", code=1).stdout
    for options in ((), (one, "--failed-since", "2h"), (one, "--workflow", "w"), ("--failed-since", "soon")):
        assert invoke("runs", "redrive", *options, code=2).stderr.startswith("error: ")


OF_BEFORE = "arn:aws:states:us-east-1:123456789012:execution:crews-RunWorkflow-of-before:"


def test_runs_of_a_stack_that_was_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their tables were taken over (`deploy --adopt`), and the functions may ask for no execution of another state
    machine. A failed run says what to do instead, and one that was under way can be cancelled before the reconciler has
    looked at it."""
    monkeypatch.setattr(target, "connect", lambda choice: target.Target("s", world.settings, {}, local=True))
    run_id = failed(world)
    world.runs.change(run_id, {"execution_arn": OF_BEFORE + run_id}, only_from=("failed",))
    under_way = world.accept(world.push([{"name": "a"}], "Other"))
    assert world.runs.change(under_way, {"execution_arn": OF_BEFORE + under_way}, only_from=("queued",))

    def denied(**_: Any) -> None:
        raise AssertionError("AccessDenied")

    states = clients.client("stepfunctions")
    for name in ("describe_execution", "redrive_execution", "stop_execution"):
        monkeypatch.setattr(states, name, denied)
    api = InProcess(world.settings)
    code, told = api.ask("POST", f"/v1/runs/{run_id}/redrive", {})
    assert code == 409
    for said in (told["error"], answer("runs", "redrive", run_id, code=1)[0]["reason"]):
        assert "went with the stack that began it, whose tables this one has taken over; a replay" in said
        assert f"runs replay {run_id} --from-step STEP" in said
    code, told = api.ask("POST", f"/v1/runs/{under_way}/cancel", {})
    assert (code, told["data"]["status"]) == (200, "cancelled")
