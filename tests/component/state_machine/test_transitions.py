"""What a run asks Step Functions to bill is what docs/design.md says (Transitions of a run)."""

from __future__ import annotations

from typing import Any

import pytest
from component.state_machine.scenarios import approve
from component.state_machine.stage import Troupe
from support.asl.deployed import state_machine

from loopllama.errors import ModelThrottled

LIST: Any = {"list": ["x", "y"]}


def line(steps: int) -> list[dict[str, Any]]:
    return [{"name": f"s{number}"} for number in range(steps)]


@pytest.mark.parametrize(
    ("crew", "transitions"),
    [
        (line(1), 1 + 3),
        (line(5), 5 + 3),
        # Its only chain waits for a person once, or goes round twice.
        ([*line(2), {"name": "pay", "approval": True}], 2 * 3 + 3 + 3),
        ([*line(1), {"name": "again", "repeat": {"backTo": "s0", "until": "input.never", "max": 2}}], 2 * 4 + 3),
        # It forks into two chains, of which one goes on behind the join.
        ([*line(1), *({"name": n, "needs": ["s0"]} for n in "bc"), {"name": "d", "needs": ["b", "c"]}], 2 * 4 + 8),
        # Two chains from the start, and a list of two items.
        ([{"name": "a"}, {"name": "b", "needs": []}], 2 * 2 + 8),
        ([{"name": "each", "forEach": "input.list"}], 3 * 2 + 7 + 7),
    ],
)
def test_a_run(troupe: Troupe, crew: list[dict[str, Any]], transitions: int) -> None:
    stage = troupe.stage(state_machine(), crew, LIST)
    stage.person = approve(troupe, stage)
    assert stage.play().execution.status == "SUCCEEDED"
    assert stage.execution.entered == transitions


def test_a_line_that_is_left(troupe: Troupe) -> None:
    """At its second step, which is put off once."""
    busy = [5]

    def script(call: Any) -> str:
        if "Second." in call.system and busy:
            raise ModelThrottled("busy", retry_after=busy.pop())
        return "fine"

    crew = [{"name": "s0"}, {"name": "s1", "systemPrompt": "Second."}, {"name": "s2"}]
    stage = troupe.stage(state_machine(), crew, script=script).play()
    assert stage.execution.status == "SUCCEEDED"
    assert stage.execution.entered == 1 + 2 * 2 + 3 + 4 + 3
