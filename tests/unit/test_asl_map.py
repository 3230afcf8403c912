"""A Map whose iteration fails, in the interpreter of the state machine."""

from __future__ import annotations

from typing import Any

from support.asl.definition import INVOKE
from support.asl.execution import Execution, TaskError


def test_it_begins_no_other_and_is_caught() -> None:
    """One iteration after the other. The history tells of the one that failed, and of the state."""
    step = {"Type": "Task", "Resource": INVOKE, "Parameters": {"FunctionName": "f", "Payload.$": "$"}, "End": True}
    state: dict[str, Any] = {
        "Type": "Map",
        "MaxConcurrency": 1,
        "ItemProcessor": {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": "Inner", "States": {"Inner": step}},
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": None, "Next": "Y"}],
        "End": True,
    }
    calls: list[Any] = []

    def invoke(function: str, payload: Any) -> Any:
        calls.append(payload)
        if payload == 2:
            raise TaskError("E", "because")
        return {}

    def played(**states: Any) -> Execution:
        execution = Execution({"StartAt": "X", "States": states}, "x", [1, 2, 3], invoke=invoke, now=lambda: 0.0)
        assert execution.go_on() is None
        return execution

    done = played(X=state, Y={"Type": "Succeed"})
    assert (done.status, done.output, calls) == ("SUCCEEDED", [1, 2, 3], [1, 2])
    # Started; entered, started, two iterations with five events of their tasks, but for the exit of the one that
    # failed, and their ends; failed and exited; Y; succeeded.
    assert done.events == 1 + 2 + (1 + 5 + 1) + (1 + 4 + 1) + 2 + 2 + 1
    assert done.entered == 4
    failed = played(X={name: value for name, value in state.items() if name != "Catch"})
    assert failed.failure is not None
    assert (failed.status, failed.failure.error) == ("FAILED", "E")
