"""Several steps in one invocation of RunStep (the parameter StepsPerInvocation)."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from support.deployment import Deployment, Killed

from loopllama.agent.loop import OutOfTime
from loopllama.engine.step import StepRunner
from loopllama.errors import ModelThrottled, RunFailed


def several(live: Deployment, steps: int) -> StepRunner:
    return StepRunner(replace(live.settings, steps_per_invocation=steps))


def begin(live: Deployment, crew: list[dict[str, Any]]) -> Any:
    return live.map(live.start(live.accept(live.push(crew))))[0]


def test_a_line_is_taken_in_as_many_invocations_as_the_limit_needs(live: Deployment) -> None:
    work = begin(live, [{"name": f"s{n}"} for n in range(5)])
    runner = several(live, 2)
    invocations = []
    while not invocations or work["outcome"] == "continue":
        invocations.append(work["step"])
        work = runner.run_steps(work, f"invocation-{len(invocations)}", 60_000)
    assert invocations == ["s0", "s2", "s4"]
    assert work["outcome"] == "done"
    assert [step["status"] for step in live.read(work["run_id"])["steps"]] == ["completed"] * 5
    assert len(live.provider.calls) == 5


def test_an_invocation_that_dies_in_its_second_step_is_repeated_and_pays_nothing_twice(live: Deployment) -> None:
    work = begin(live, [{"name": f"s{n}"} for n in range(3)])

    def die_once(call: Any) -> str:
        if len(live.provider.calls) == 2:
            raise Killed
        return "said"

    live.provider.script = die_once
    with pytest.raises(Killed):
        several(live, 10).run_steps(work, "first", 60_000)
    live.wait(61)  # its lease
    assert several(live, 10).run_steps(work, "second", 60_000)["outcome"] == "done"
    run = live.read(work["run_id"])
    assert [[attempt["outcome"] for attempt in step["attempts"]] for step in run["steps"]] == [
        ["ok"],
        ["lost", "ok"],
        ["ok"],
    ]


def test_a_run_whose_function_dies_for_good_names_the_step_that_it_died_in(live: Deployment) -> None:
    work = begin(live, [{"name": f"s{n}"} for n in range(3)])

    def die(call: Any) -> str:
        if len(live.provider.calls) == 2:
            raise Killed
        return "said"

    live.provider.script = die
    with pytest.raises(Killed):
        several(live, 10).run_steps(work, "first", 60_000)
    with pytest.raises(RunFailed):
        live.advance(work, [{"outcome": "crashed", "step": "s0", "item": 0, "error": "Runtime.ExitError"}])
    assert live.read(work["run_id"])["error"].startswith("step 's1': Runtime.ExitError")


def test_a_step_that_must_wait_and_one_whose_time_runs_short_end_the_invocation(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = begin(live, [{"name": "s0"}, {"name": "s1"}, {"name": "s2"}])
    runner = several(live, 10)

    def throttled(call: Any) -> str:
        if len(live.provider.calls) == 2:
            raise ModelThrottled("later", retry_after=7.0)
        return "said"

    live.provider.script = throttled
    later: Any = runner.run_steps(work, "first", 60_000)
    assert (later["outcome"], later["step"], later["seconds"]) == ("retry_later", "s1", 7)
    # Half of the time is gone after one step: the next gets an invocation of its own.
    now, monotonic = [0.0], time.monotonic

    def slow(call: Any) -> str:
        now[0] += 40
        return "said"

    live.provider.script = slow
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: monotonic() + now[0])
        short = runner.run_steps(later | {"outcome": "continue"}, "second", 60_000)
    assert (short["outcome"], short["step"]) == ("continue", "s2")
    assert runner.run_steps(short, "third", 60_000)["outcome"] == "done"


def test_the_rest_of_a_step_gets_an_invocation_of_its_own(live: Deployment) -> None:
    """What returns because its time is short must not be taken up again in the little that is left."""
    work = begin(live, [{"name": "s0"}, {"name": "s1"}])
    taken = []
    runner = several(live, 10)
    one = runner._step
    runner._step = lambda *given, **named: taken.append(given) or one(*given, **named)  # type: ignore[method-assign]
    live.provider.script = lambda _: raise_(OutOfTime())
    rest = runner.run_steps(work, "first", 60_000)
    assert (rest["outcome"], rest["step"], len(taken)) == ("continue", "s0", 1)


def raise_(error: Exception) -> Any:
    raise error
