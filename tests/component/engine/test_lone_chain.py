"""A run's only chain: which crews are a line, and that RunStep completes the run, once, whatever becomes of its
invocations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.deployment import Deployment, Killed

from loopllama.engine import history, lone_chain
from loopllama.engine.advance import complete
from loopllama.engine.reconcile import execution_ended
from loopllama.errors import LineLeft, ModelRequestRejected, ModelThrottled, RunFailed
from loopllama.runs.step_ref import ALONE, LINE
from loopllama.runs.store import RunStore

TWO = [{"name": "one"}, {"name": "two"}]


def begun(live: Deployment, crew: Any = TWO, depth: int = LINE, **options: Any) -> tuple[str, list[dict[str, Any]]]:
    """Start a run; its id, and the work of its steps as the state machine hands it over."""
    run_id = live.accept(live.push(crew), **options)
    state = live.start(run_id, contract=2)
    names = [step["name"] for step in crew]
    assert (state["outcome"], state.get("line")) == ("line", names)
    work = {name: state[name] for name in ("contract", "run_id", "workflow", "version")}
    alone = {"left": 1000, "round": 0} if depth == ALONE else {}
    return run_id, [{**work, "step": name, "depth": depth, **alone} for name in names]


def taken(live: Deployment, works: list[dict[str, Any]]) -> list[str]:
    return [live.step({"work": work, "retry": 0})["outcome"] for work in works]


def test_a_line_completes_its_run(live: Deployment) -> None:
    run_id, works = begun(live)
    assert taken(live, works) == ["continue", "done"]
    run, stored = live.read(run_id), live.runs.run(run_id)
    assert (run["status"], run["output"], run["total_steps"]) == ("completed", "answer 2", 2)
    assert run["cost_usd"] == sum(step["cost_usd"] for step in run["steps"])
    assert not {"active", "check_at", "pending", "stopping"} & set(stored), "nobody needs to look at it any more"


@pytest.mark.parametrize("depth", [LINE, ALONE])
def test_an_invocation_that_dies_around_the_end_is_repeated(
    live: Deployment, monkeypatch: pytest.MonkeyPatch, depth: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """It dies before it has completed the run, then after it."""
    run_id, works = begun(live, depth=depth)
    taken(live, works[:1])
    close = RunStore.close

    def die(*given: Any, **named: Any) -> bool:
        raise Killed

    def close_and_die(*given: Any, **named: Any) -> bool:
        close(*given, **named)
        raise Killed

    for dying, status in ((die, "running"), (close_and_die, "completed")):
        with monkeypatch.context() as patch:
            patch.setattr(RunStore, "close", dying)
            with pytest.raises(Killed):
                live.step({"work": works[1], "retry": 0})
        assert live.runs.run(run_id)["status"] == status
    finished = live.runs.run(run_id)["finished_at"]
    assert taken(live, works[1:]) == ["done"]
    assert live.runs.run(run_id)["finished_at"] == finished
    assert len(live.provider.calls) == 2
    assert capsys.readouterr().out.count("RunsCompleted") <= 2, "of the run's metric, name and value"


def test_a_run_that_was_cancelled_stays_so(live: Deployment) -> None:
    run_id, works = begun(live)

    def cancel(call: Any) -> str:
        if len(live.provider.calls) == 2:
            execution_ended(live.settings, {"name": run_id, "status": "ABORTED"})
        return "said"

    live.provider.script = cancel
    assert taken(live, works) == ["continue", "done"]
    assert live.runs.run(run_id)["status"] == "cancelled"


def test_what_has_failed_meanwhile_is_left_to_advance_run(live: Deployment) -> None:
    """As where somebody redrives an execution that was too slow: AdvanceRun opens its run again."""
    run_id, works = begun(live)
    taken(live, works[:1])
    execution_ended(live.settings, {"name": run_id, "status": "TIMED_OUT"})
    assert live.runs.run(run_id)["status"] == "failed"
    with pytest.raises(LineLeft, match="stopped"):
        live.step({"work": works[1], "retry": 0})
    state = live.advance({"contract": 2, "run_id": run_id}, [{"outcome": "line_left"}])
    assert (state["outcome"], state["step"], state["depth"]) == ("continue", "two", ALONE)
    assert live.step({"work": state, "retry": 0})["outcome"] == "done"
    assert live.read(run_id)["status"] == "completed"


def test_a_step_that_fails_leaves_the_line_and_fails_the_run(live: Deployment) -> None:
    run_id, works = begun(live)

    def refuse(call: Any) -> str:
        raise ModelRequestRejected("no")

    live.provider.script = refuse
    with pytest.raises(LineLeft, match="failed"):
        live.step({"work": works[0], "retry": 0})
    with pytest.raises(RunFailed):
        live.advance({"contract": 2, "run_id": run_id}, [{"outcome": "line_left"}])
    assert live.read(run_id)["status"] == "failed"


def test_a_step_that_is_put_off_is_waited_for_behind_the_line(live: Deployment) -> None:
    run_id, works = begun(live)

    def busy(call: Any) -> str:
        raise ModelThrottled("busy", retry_after=30.0)

    live.provider.script = busy
    with pytest.raises(LineLeft, match="retry_later"):
        live.step({"work": works[0], "retry": 0})
    state = live.advance({"contract": 2, "run_id": run_id}, [{"outcome": "line_left"}])
    told = live.step({"work": state, "retry": 0})
    assert (told["outcome"], told["seconds"]) == ("retry_later", 30)
    assert len(live.provider.calls) == 1


def test_a_run_whose_line_was_left_is_looked_at_once_more(live: Deployment) -> None:
    """What made the state machine leave it may have been a death between a step's record and its bill."""
    run_id, works = begun(live)
    taken(live, works[:1])
    live.step({**works[1], "depth": 0})  # in a chain of a round, which completes no run
    assert live.runs.run(run_id)["status"] == "running"
    assert live.advance({"contract": 2, "run_id": run_id}, [{"outcome": "line_left"}])["outcome"] == "done"
    assert "check_at" in live.runs.run(run_id)


def test_who_is_not_done_is_not_completed(live: Deployment) -> None:
    run_id, works = begun(live)
    crew: Any = [{"name": "one", "needs": []}, {"name": "two", "needs": ["one"]}]
    taken(live, works[:1])
    assert not complete(live.runs, run_id, crew)
    assert live.runs.run(run_id)["status"] == "running"


LINES: list[tuple[Any, bool]] = [
    ([{}], True),
    ([{}, {}, {}], True),
    ([{}, {"when": "input.more"}], True),
    ([{}, {"needs": []}], False),
    ([{}, {}, {"needs": ["s0"]}], False),
    ([{}, {"forEach": "input.list"}], False),
    ([{}, {"repeat": {"backTo": "s0", "until": "input.never", "max": 2}}], False),
    ([{}, {"approval": True}], False),
    ([{"tools": ["ask_human"]}], False),
    ([{"tools": ["now"]}], True),
]


@pytest.mark.parametrize(("crew", "line"), LINES)
def test_which_crews_are_lines(live: Deployment, crew: list[dict[str, Any]], line: bool) -> None:
    crew = [{**step, "name": f"s{number}"} for number, step in enumerate(crew)]
    run_id = live.accept(live.push(crew), {"list": ["x"], "more": True})
    state = live.start(run_id, contract=2)
    assert state.get("line", []) == ([step["name"] for step in crew] if line else [])
    assert state["outcome"] in (("line",) if line else ("continue", "more"))
    # An execution of the state machine before this one has no line.
    assert live.start(run_id)["outcome"] == "more"


def test_steps_that_share_an_invocation_are_no_line(live: Deployment) -> None:
    live.settings = replace(live.settings, steps_per_invocation=10)
    run_id = live.accept(live.push(TWO))
    state = live.start(run_id, contract=2)
    assert (state["outcome"], state["step"], state["depth"]) == ("continue", "one", ALONE)
    assert live.step({"work": state, "retry": 0})["outcome"] == "continue"


def test_a_line_that_its_history_has_no_room_for_is_a_chain(live: Deployment) -> None:
    """A line of the longest crew may be repeated often, and what comes when it is left must fit too."""
    left = history.begin(25_000)
    most = max(steps for steps in range(2000) if history.behind_line(left, steps) is not None)
    assert most >= 500
    assert history.behind_line(left, most) >= left // 2  # type: ignore[operator]
    assert history.behind_line(history.begin(100), 1) is None
    run = live.runs.run(live.accept(live.push(TWO)))
    assert lone_chain.as_line(run, ["one"] * (most + 1), left, 2) is None
    assert lone_chain.as_line(run, [], left, 2) is None


def test_a_fork_of_the_only_chain_is_a_round(live: Deployment) -> None:
    crew = [{"name": "a"}, {"name": "b", "needs": ["a"]}, {"name": "c", "needs": ["a"], "forEach": "input.list"}]
    run_id = live.accept(live.push(crew), {"list": ["x"]})
    state = live.start(run_id, contract=2)
    told = live.step({"work": state, "retry": 0})
    assert told["outcome"] == "more"
    assert [branch["step"] for branch in told["ready"]] == ["b", "c"], "a list too: it forks itself there"
    assert told["round"] == 1
    # Where the history has no room for it, the run's next execution takes it up.
    again = live.step({"work": {**state, "left": 10}, "retry": 0})
    assert (again["outcome"], again["ended"]) == ("advance", [{"outcome": "set_aside"}])
