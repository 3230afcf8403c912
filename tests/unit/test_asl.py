"""The interpreter of the state machine does what Step Functions documents, and refuses what it does not know."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from support.asl import execution as asl
from support.asl.definition import INVOKE, WAIT_FOR_TOKEN, Unsupported, substituted, validate
from support.asl.execution import Endless, Execution, TaskError


def task(**fields: Any) -> dict[str, Any]:
    parameters = {"FunctionName": "f", "Payload.$": "$"}
    return {"Type": "Task", "Resource": INVOKE, "Parameters": parameters, "OutputPath": "$.Payload", **fields}


def machine(**states: Any) -> dict[str, Any]:
    made = {"StartAt": next(iter(states)), "States": states}
    validate(made)
    return made


class Clock:
    """Time that passes when an execution waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def execution(self, definition: dict[str, Any], data: Any = None, *answers: Any, **options: Any) -> Execution:
        """Return an execution whose function answers so, one after the other; a text is the name of an error."""
        left = iter(answers)

        def invoke(function: str, payload: Any) -> Any:
            answer = next(left)
            answer = answer(payload) if callable(answer) else answer
            if isinstance(answer, str):
                raise TaskError(answer, "because")
            return answer

        return Execution(definition, "x", data, **{"invoke": invoke, "now": lambda: self.now, **options})

    def play(self, execution: Execution, most: int = 100) -> Execution:
        for _ in range(most):
            due = execution.go_on()
            if due is None:
                return execution
            self.now = due
        raise AssertionError("does not end")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def noting(seen: list[Any], answer: Any) -> Callable[[Any], Any]:
    """Return an answer that notes what was asked."""

    def noted(payload: Any) -> Any:
        seen.append(payload)
        return answer

    return noted


def rule(*errors: str, **fields: Any) -> dict[str, Any]:
    return {"ErrorEquals": list(errors), **fields}


def test_retriers_are_tried_in_order_and_count_by_themselves(clock: Clock) -> None:
    """The example of the documentation: A, B, C and B again; the first two wait 1 and 2 s, the third 5, and the fourth
    is caught."""
    retry = [rule("A", "B", IntervalSeconds=1, BackoffRate=2.0, MaxAttempts=2), rule("C", IntervalSeconds=5)]
    catch = [rule("A", Next="Wrong"), rule("States.ALL", Next="Z")]
    states = machine(X=task(Retry=retry, Catch=catch, End=True), Wrong={"Type": "Succeed"}, Z={"Type": "Succeed"})
    times: list[float] = []

    def failing(error: str) -> Callable[[Any], str]:
        def fail(_: Any) -> str:
            times.append(clock.now)
            return error

        return fail

    done = clock.play(clock.execution(states, {"n": 1}, *map(failing, "ABCB")))
    assert (times, done.at, done.output) == ([0, 1, 3, 8], "Z", {"Error": "B", "Cause": "because"})


@pytest.mark.parametrize(
    ("fields", "delays"),
    [
        ({}, [1, 2, 4]),
        ({"IntervalSeconds": 3, "BackoffRate": 1, "MaxAttempts": 2}, [3, 3]),
        ({"MaxDelaySeconds": 3, "MaxAttempts": 4}, [1, 2, 3, 3]),
        ({"JitterStrategy": "FULL"}, [0.5, 1, 2]),
        ({"JitterStrategy": "NONE"}, [1, 2, 4]),
        ({"MaxAttempts": 0}, []),
    ],
)
def test_delays(clock: Clock, fields: dict[str, Any], delays: list[float]) -> None:
    states = machine(X=task(Retry=[rule("States.ALL", **fields)], End=True))
    done = clock.play(clock.execution(states, {}, *["E"] * 9, jitter=lambda longest: longest / 2))
    assert (done.status, clock.now) == ("FAILED", sum(delays))
    assert done.failure is not None
    assert (done.failure.error, done.failure.cause) == ("E", "because")


@pytest.mark.parametrize(
    ("named", "error", "matches"),
    [
        ("E", "E", True),
        ("E", "e", False),
        ("States.ALL", "E", True),
        ("States.ALL", "States.Timeout", True),
        ("States.ALL", "States.Runtime", False),
        ("States.ALL", "States.DataLimitExceeded", False),
        ("States.DataLimitExceeded", "States.DataLimitExceeded", True),
        ("States.TaskFailed", "E", True),
        ("States.TaskFailed", "States.Timeout", False),
        ("States.TaskFailed", "States.Runtime", False),
    ],
)
@pytest.mark.parametrize("kind", ["Retry", "Catch"])
def test_which_errors_a_rule_is_for(clock: Clock, kind: str, named: str, error: str, matches: bool) -> None:
    rules = {"Retry": [rule(named)], "Catch": [rule(named, Next="Y")]}
    states = machine(X=task(**{kind: rules[kind]}, Next="Y"), Y={"Type": "Succeed"})
    done = clock.play(clock.execution(states, {}, error, {}))
    assert done.status == ("SUCCEEDED" if matches else "FAILED")


@pytest.mark.parametrize(
    ("path", "output"),
    [
        ({"ResultPath": None}, {"n": 1}),
        ({"ResultPath": "$.r"}, {"n": 1, "r": {"Error": "E", "Cause": "because"}}),
        ({"ResultPath": "$"}, {"Error": "E", "Cause": "because"}),
        ({}, {"Error": "E", "Cause": "because"}),
    ],
)
def test_what_a_catcher_hands_on(clock: Clock, path: dict[str, Any], output: Any) -> None:
    states = machine(X=task(Catch=[rule("States.ALL", Next="Y", **path)], End=True), Y={"Type": "Succeed"})
    assert clock.play(clock.execution(states, {"n": 1}, "E")).output == output


def test_results_and_outputs(clock: Clock) -> None:
    fields: list[dict[str, Any]] = [
        {"OutputPath": "$.Payload"},
        {"ResultPath": None, "OutputPath": "$"},
        {"ResultPath": "$.r"},
    ]
    outputs = []
    for one in fields:
        states = machine(X=task(**{"OutputPath": "$", **one}, End=True))
        outputs.append(clock.play(clock.execution(states, {"n": 1}, {"a": 2})).output)
    envelope = {"ExecutedVersion": "$LATEST", "Payload": {"a": 2}, "StatusCode": 200}
    assert outputs == [{"a": 2}, {"n": 1}, {"n": 1, "r": envelope}]


def test_parameters_and_the_context(clock: Clock) -> None:
    parameters = {"a.$": "$.n", "b": {"c.$": "$$.Execution.Name", "d": 1}, "e.$": "$$.State.RetryCount"}
    states = machine(
        X={**task(Retry=[rule("E")], End=True), "Parameters": {"FunctionName": "f", "Payload": parameters}}
    )
    seen: list[Any] = []
    clock.play(clock.execution(states, {"n": 5}, noting(seen, "E"), noting(seen, {})))
    assert seen == [{"a": 5, "b": {"c": "x", "d": 1}, "e": retries} for retries in (0, 1)]


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"Type": "Pass", "Parameters": {"a.$": "$.gone"}, "End": True}, "States.ParameterPathFailure"),
        (task(OutputPath="$.gone", End=True), "States.Runtime"),
        ({"Type": "Wait", "SecondsPath": "$.text", "End": True}, "States.Runtime"),
        ({"Type": "Wait", "SecondsPath": "$.yes", "End": True}, "States.Runtime"),
        ({"Type": "Choice", "Choices": [{"Variable": "$.gone", "BooleanEquals": True, "Next": "X"}]}, "States.Runtime"),
        (
            {"Type": "Choice", "Choices": [{"Variable": "$.yes", "StringEquals": "true", "Next": "X"}]},
            "States.NoChoiceMatched",
        ),
        (
            {"Type": "Map", "ItemProcessor": {}, "ItemsPath": "$.text", "End": True},
            "States.Runtime",
        ),
        ({"Type": "Pass", "Parameters": {"a.$": "$.large", "b.$": "$.large"}, "End": True}, "States.DataLimitExceeded"),
    ],
)
def test_what_fails_a_state(clock: Clock, state: dict[str, Any], error: str) -> None:
    if "ItemProcessor" in state:
        state = {**state, "ItemProcessor": processor({"Type": "Pass", "End": True})}
    data = {"text": "5", "yes": True, "large": "x" * 200_000}
    done = clock.play(clock.execution(machine(X=state), data, {}))
    assert done.failure is not None
    assert (done.status, done.failure.error) == ("FAILED", error)


def processor(state: dict[str, Any]) -> dict[str, Any]:
    return {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": "Inner", "States": {"Inner": state}}


@pytest.mark.parametrize(("most", "times"), [(1, [1, 4, 6]), (2, [1, 3, 3]), (0, [1, 2, 3]), (9, [1, 2, 3])])
def test_iterations_of_a_map_run_side_by_side_and_answer_in_order(clock: Clock, most: int, times: list[float]) -> None:
    """Three items wait 1, 3 and 2 s; the result is in their order."""
    inner = {"Type": "Wait", "SecondsPath": "$.s", "End": True}
    state = {
        "Type": "Map",
        "ItemsPath": "$.items",
        "ItemSelector": {"s.$": "$$.Map.Item.Value", "at.$": "$$.Map.Item.Index", "n.$": "$.n"},
        "MaxConcurrencyPath": "$.most",
        "ItemProcessor": processor(inner),
        "ResultPath": "$.done",
        "End": True,
    }
    execution = clock.execution(machine(X=state), {"items": [1, 3, 2], "n": 7, "most": most})
    ends: list[float] = []
    while (due := execution.go_on()) is not None:
        clock.now = due
        ends.append(due)
    assert execution.output["done"] == [{"s": s, "at": at, "n": 7} for at, s in enumerate([1, 3, 2])]
    assert ends == sorted(set(times))


def test_at_most_forty_iterations_run_at_once(clock: Clock) -> None:
    state = {"Type": "Map", "ItemProcessor": processor(task(End=True)), "End": True}
    calls: list[Any] = []
    waiting = {**task(End=True), "Resource": WAIT_FOR_TOKEN, "OutputPath": "$"}
    state["ItemProcessor"] = processor(waiting)
    execution = clock.execution(machine(X=state), list(range(41)), *[noting(calls, {})] * 41)
    execution.go_on()
    assert (len(calls), len(execution.open_tokens)) == (40, 40)
    assert execution.succeed(execution.open_tokens[0], {"ok": 1})
    execution.go_on()
    assert (calls[-1], len(execution.open_tokens)) == (40, 40)


def waiting(**fields: Any) -> dict[str, Any]:
    parameters = {"FunctionName": "f", "Payload": {"token.$": "$$.Task.Token"}}
    return {"Type": "Task", "Resource": WAIT_FOR_TOKEN, "Parameters": parameters, **fields}


def test_a_task_token(clock: Clock) -> None:
    states = machine(X=waiting(TimeoutSecondsPath="$.s", End=True))
    tokens: list[str] = []

    def keep(payload: Any) -> Any:
        tokens.append(payload["token"])
        return {}

    answered = clock.execution(states, {"s": 9}, keep)
    assert answered.go_on() == 9
    assert answered.succeed(tokens[0], {"yes": 1})
    assert not answered.succeed(tokens[0]), "spent"
    assert clock.play(answered).output == {"yes": 1}
    late = clock.execution(states, {"s": 9}, keep)
    assert clock.play(late).failure is not None
    assert (late.failure and late.failure.error, clock.now) == ("States.Timeout", 9)
    assert not late.succeed(tokens[1]), "its time is over"


def test_every_try_has_a_token_of_its_own_and_what_came_back_counts(clock: Clock) -> None:
    states = machine(X=waiting(Retry=[rule("E")], End=True))
    tokens: list[str] = []

    def fail(payload: Any) -> str:
        tokens.append(payload["token"])
        return "E"

    def answer_and_fail(payload: Any) -> str:
        assert execution.succeed(payload["token"], {"yes": 1})
        return "E"

    execution = clock.execution(states, {}, fail, fail, answer_and_fail)
    assert clock.play(execution).output == {"yes": 1}
    assert len(set(tokens)) == 2
    assert not execution.succeed(tokens[0])


def test_an_execution_has_its_time_and_can_be_stopped(clock: Clock) -> None:
    states = machine(X={"Type": "Wait", "SecondsPath": "$.s", "Next": "Y"}, Y=task(End=True))
    slow = clock.play(clock.execution({**states, "TimeoutSeconds": 10}, {"s": 11}))
    assert (slow.status, clock.now) == ("TIMED_OUT", 10)
    stopped = clock.execution(states, {"s": 5})
    stopped.go_on()
    stopped.status = "ABORTED"
    clock.now += 5
    assert stopped.go_on() is None, "its function is not invoked"
    assert stopped.status == "ABORTED"


def test_a_redrive_begins_with_the_state_that_failed_and_its_retries_anew(clock: Clock) -> None:
    payload = {"n.$": "$.n", "retry.$": "$$.State.RetryCount"}
    states = machine(
        X={"Type": "Pass", "Parameters": {"n": 1}, "Next": "Y"},
        Y={**task(Retry=[rule("E", MaxAttempts=1)], End=True), "Parameters": {"FunctionName": "f", "Payload": payload}},
    )
    seen: list[Any] = []
    told: list[Any] = ["E", "E", "E", {}]
    execution = clock.play(clock.execution(states, {}, *(noting(seen, answer) for answer in told)))
    assert execution.status == "FAILED"
    execution.redrive()
    assert clock.play(execution).status == "SUCCEEDED"
    assert seen == [{"n": 1, "retry": retry} for retry in (0, 1, 0, 1)]
    with pytest.raises(Unsupported):
        clock.execution(states).redrive()


def test_what_goes_round_is_told(clock: Clock) -> None:
    states = machine(X={"Type": "Pass", "Next": "Y"}, Y={"Type": "Pass", "Next": "X"})
    with pytest.raises(Endless):
        clock.execution(states).go_on()
    assert asl.MOST_STATES >= 1000, "a list of a thousand items fits"


GOOD = {
    "StartAt": "A",
    "States": {
        "A": task(Retry=[rule("E", MaxAttempts=1)], Catch=[rule("States.ALL", Next="B")], Next="B"),
        "B": {"Type": "Choice", "Choices": [{"Variable": "$.a", "StringEquals": "b", "Next": "C"}], "Default": "C"},
        "C": {"Type": "Map", "ItemProcessor": processor({"Type": "Pass", "End": True}), "Next": "D"},
        "D": {"Type": "Wait", "SecondsPath": "$.s", "Next": "E"},
        "E": {"Type": "Pass", "Parameters": {"a": {"b.$": "$"}}, "End": True},
    },
}


def change(*path: Any) -> dict[str, Any]:
    """Return GOOD with another value at a place; `...` removes it."""
    *way, name, value = path
    made = copy.deepcopy(GOOD)
    holder: Any = made
    for part in way:
        holder = holder[part]
    if value is ...:
        del holder[name]
    else:
        holder[name] = value
    return made


@pytest.mark.parametrize(
    "definition",
    [
        change("QueryLanguage", "JSONata"),
        change("StartAt", "Z"),
        change("StartAt", ...),
        change("States", "A", "Type", "Parallel"),
        change("States", "A", "Type", ...),
        change("States", "A", "InputPath", "$.a"),
        change("States", "A", "HeartbeatSeconds", 5),
        change("States", "A", "Resource", "arn:aws:states:::sqs:sendMessage"),
        change("States", "A", "Parameters", ...),
        change("States", "A", "Next", ...),
        change("States", "A", "End", True),
        change("States", "A", "Next", "Z"),
        change("States", "A", "OutputPath", "$.a[0]"),
        change("States", "A", "Retry", 0, "ErrorEquals", []),
        change("States", "A", "Retry", 0, "Next", "B"),
        change("States", "A", "Retry", 0, "JitterStrategy", "HALF"),
        change("States", "A", "Retry", 0, "ErrorEquals", ["States.ALL", "E"]),
        change("States", "A", "Catch", [rule("States.ALL", Next="B"), rule("E", Next="B")]),
        change("States", "A", "Catch", 0, "Next", ...),
        change("States", "B", "Choices", 0, "NumericEquals", 5),
        change("States", "B", "Choices", 0, "StringEquals", ...),
        change("States", "B", "Choices", 0, "And", []),
        change("States", "C", "ItemProcessor", "ProcessorConfig", "Mode", "DISTRIBUTED"),
        change("States", "C", "ItemProcessor", "States", "Inner", "Next", "A"),
        change("States", "C", "ToleratedFailureCount", 5),
        change("States", "D", "SecondsPath", ...),
        change("States", "D", "Seconds", 5),
        change("States", "E", "Parameters", "a", "b.$", "States.UUID()"),
        change("States", "E", "Parameters", "a", "c", ["d"]),
        change("States", "E", "ResultPath", "$.a"),
    ],
)
def test_what_it_does_not_know_is_refused(definition: dict[str, Any]) -> None:
    validate(GOOD)
    with pytest.raises(Unsupported):
        validate(definition)


def test_substitutions_must_be_known() -> None:
    text = '{"StartAt": "A", "States": {"A": {"Type": "Pass", "Parameters": {"b": "${B}"}, "End": true}}}'
    assert substituted(text, {"B": "c"})["States"]["A"]["Parameters"] == {"b": "c"}
    with pytest.raises(KeyError):
        substituted(text, {})
