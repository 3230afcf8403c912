"""Crews that branch: steps run at the same time, forks, joins, a fork inside a fork."""

from __future__ import annotations

from typing import Any

import pytest
from support.provider_server import Hold, Text
from support.system import System


def assert_ran_once_after_their_needs(run: dict[str, Any], needs: dict[str, list[str]]) -> None:
    assert run["status"] == "completed"
    steps = {step["step"]: step for step in run["steps"]}
    assert sorted(steps) == sorted(needs)
    for name, step in steps.items():
        assert step["status"] == "completed"
        assert len(step["attempts"]) == 1
        for need in needs[name]:
            assert steps[need]["finished_at"] <= step["started_at"], (need, name)


def push(system: System, title: str, needs: dict[str, list[str]], **fields: Any) -> str:
    return system.push(title, [{"name": name, "needs": of} for name, of in needs.items()], **fields)


def test_branches_are_in_progress_at_the_same_time(system: System, provider: Any) -> None:
    held = [Hold(Text("left")), Hold(Text("right"))]
    replies = iter([Text("root"), *held, Text("joined")])
    _, model = provider(lambda _: next(replies))
    needs = {"root": [], "left": ["root"], "right": ["root"], "join": ["left", "right"]}
    run_id = system.start(push(system, "Two branches", needs, model=model))
    for call in held:
        call.wait_entered()  # the second one comes while the first is kept waiting
    for call in held:
        call.release()
    assert_ran_once_after_their_needs(system.wait(run_id), needs)
    assert system.states_entered(run_id).count("ChainRunStep") == 3


def test_several_roots_start_together_and_join(system: System, provider: Any) -> None:
    held = [Hold(Text("a")), Hold(Text("b")), Hold(Text("c"))]
    replies = iter([*held, Text("joined")])
    _, model = provider(lambda _: next(replies))
    needs = {"a": [], "b": [], "c": [], "join": ["a", "b", "c"]}
    run_id = system.start(push(system, "Three roots", needs, model=model))
    for call in held:
        call.wait_entered()
    for call in held:
        call.release()
    assert_ran_once_after_their_needs(system.wait(run_id), needs)


@pytest.mark.aws
def test_a_fork_inside_a_fork_waits_for_the_round(system: System) -> None:
    needs = {
        "root": [],
        "left": ["root"],
        "right": ["root"],
        "left_one": ["left"],
        "left_two": ["left"],
        "right_one": ["right"],
        "left_one_a": ["left_one"],
        "left_one_b": ["left_one"],
        "left_join": ["left_one_a", "left_one_b", "left_two"],
        "end": ["left_join", "right_one"],
    }
    run = system.run(push(system, "Fork in a fork", needs))
    assert_ran_once_after_their_needs(run, needs)
    entered = system.states_entered(run["id"])
    assert entered.count("AdvanceRun") == 2  # the inner fork's steps, then the end
    assert len([state for state in entered if state.endswith("RunStep")]) == len(needs)


@pytest.mark.aws
def test_joins_that_share_their_needs_start_once_each(system: System) -> None:
    needs = {
        "a": [],
        "b": [],
        "c": [],
        "ab": ["a", "b"],
        "abc": ["a", "b", "c"],
        "bc": ["b", "c"],
        "end": ["ab", "abc", "bc"],
    }
    workflow = push(system, "Shared needs", needs)
    ids = [system.start(workflow) for _ in range(3)]
    for run_id in ids:
        assert_ran_once_after_their_needs(system.wait(run_id), needs)
