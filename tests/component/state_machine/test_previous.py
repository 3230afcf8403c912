"""Executions keep the state machine that they began with: those of contract 1 get the answers of today's functions.

There every chain is an iteration of a Map, and AdvanceRun ends each run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from component.state_machine.scenarios import EACH, approve, failed, left_of, outcomes
from component.state_machine.stage import Stage, Troupe
from support.asl.deployed import previous_state_machine
from support.asl.execution import MOST_EVENTS

from loopllama.errors import ModelRequestRejected, ModelThrottled

DONE = {"outcome": "done"}
FORK = {"b": ["a"], "c": ["a"], "d": ["b", "c"]}
FORKING = [{"name": "a"}, *({"name": name, "needs": needs} for name, needs in FORK.items())]
LOOP = [{"name": "a"}, {"name": "b", "repeat": {"backTo": "a", "until": "input.never", "max": 2}}]
LIST: Any = {"list": ["x", "y"]}


def play(
    troupe: Troupe, crew: list[dict[str, Any]], run_input: Any = "hello", script: Callable[[Any], str] | None = None
) -> Stage:
    """Play an execution of the previous state machine; people approve what they are asked."""
    script = script or (lambda call: "fine")
    stage = troupe.stage(previous_state_machine(), crew, run_input, script=script, contract=1)
    stage.person = approve(troupe, stage)
    return stage.play()


def completed(troupe: Troupe, stage: Stage) -> None:
    run = troupe.live.read(stage.run_id)
    assert (stage.execution.status, run["status"]) == ("SUCCEEDED", "completed"), run["error"]
    assert stage.story[-1] == "AdvanceRun"
    # Each execution began with two events less than are counted now.
    assert stage.execution.events == MOST_EVENTS - MOST_EVENTS // 25 - left_of(stage) - 2


@pytest.mark.parametrize(
    ("crew", "run_input", "ended"),
    [
        ([{"name": "one"}, {"name": "two"}, {"name": "three"}], "hello", [DONE]),
        (FORKING, "hello", [{**DONE, "ended": [DONE] * 2}]),
        ([{"name": "one"}, {"name": "each", "forEach": "input.list"}, {"name": "end"}], LIST, [DONE]),
        ([{**EACH, "maxConcurrency": 1}], LIST, [DONE]),
        ([{"name": "pay", "approval": True}, {"name": "say"}], "hello", [DONE]),
        (LOOP, "hello", [DONE]),
    ],
)
def test_a_run_completes(troupe: Troupe, crew: list[dict[str, Any]], run_input: Any, ended: list[Any]) -> None:
    stage = play(troupe, crew, run_input)
    assert outcomes(stage)[-1] == ended
    completed(troupe, stage)


def test_a_step_is_tried_later(troupe: Troupe) -> None:
    busy = [9, 5]

    def script(call: Any) -> str:
        if busy:
            raise ModelThrottled("busy", retry_after=busy.pop())
        return "fine"

    stage = play(troupe, [{"name": "one"}, {"name": "two"}], script=script)
    assert stage.times["ChainRunStep"][:3] == [0, 5, 14]
    completed(troupe, stage)


def test_a_run_fails_and_is_redriven(troupe: Troupe) -> None:
    wrong = [True]

    def script(call: Any) -> str:
        if "Two." in call.system and wrong:
            raise ModelRequestRejected("no")
        return "fine"

    stage = play(troupe, [{"name": "one"}, {"name": "two", "systemPrompt": "Two."}, {"name": "three"}], script=script)
    failed(troupe, stage, "ModelRequestRejected")
    wrong.clear()
    stage.redrive()
    assert stage.story == ["AdvanceRun", "ChainRunStep two", "ChainRunStep three", "AdvanceRun"]
    assert troupe.live.read(stage.run_id)["status"] == "completed"
