"""An interpreter of the Amazon States Language for tests: as much as run_workflow.asl.json uses, and not a field more.

It does what Step Functions' documentation says, in virtual time. What it does not know is refused
(`definition.validate`), so that a new field of the state machine comes here first. An execution is resumed by `go_on`,
which returns when it wants to be resumed again: whoever plays it moves the time, and decides what happens meanwhile.

Sources: https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html (retriers are tried in order,
each counts its own attempts, catchers come after them; what States.ALL leaves out),
https://docs.aws.amazon.com/step-functions/latest/dg/input-output-contextobject.html,
https://docs.aws.amazon.com/step-functions/latest/dg/state-map-inline.html (at most 40 iterations at once),
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html (256 KiB a payload, 25,000 events),
https://docs.aws.amazon.com/step-functions/latest/apireference/API_HistoryEvent.html (which events there are).
"""

from __future__ import annotations

import itertools
import json
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass

from support.asl.definition import INVOKE, OPERATORS, Json, Unsupported, parts_of

Process = Generator[float, None, Json]
"""Yields the time at which it wants to be resumed; may be resumed before."""

AT_ONCE = 40
LARGEST = 256 * 1024
MOST_EVENTS = 25_000
"""Of an execution's history; the last one says that it failed for that."""
MOST_STATES = 2000
"""That an execution may enter: what goes on for longer goes round."""
TERMINAL = ("States.Runtime", "States.DataLimitExceeded")
"""What States.ALL does not match."""


class Endless(AssertionError):
    """The execution goes round."""


class TaskError(Exception):
    """A state fails with this error name and cause."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(error, cause)
        self.error, self.cause = error, cause


class Stopped(Exception):
    """Somebody stopped the execution."""


def _found(path: str, data: Json, context: Json, failure: str = "States.Runtime") -> Json:
    """Return what stands at a path. Raises `TaskError`."""
    root, *names = parts_of(path)
    value = context if root == "$$" else data
    for name in names:
        if not isinstance(value, dict) or name not in value:
            raise TaskError(failure, f"nothing at {path}")
        value = value[name]
    return value


def _filled(template: Json, data: Json, context: Json) -> Json:
    """Return parameters with what stands at their paths."""
    if not isinstance(template, dict):
        return template
    return {
        name.removesuffix(".$"): _found(value, data, context, "States.ParameterPathFailure")
        if name.endswith(".$")
        else _filled(value, data, context)
        for name, value in template.items()
    }


def _put(data: Json, path: str | None, result: Json) -> Json:
    """Return a state's input with its result at `ResultPath`."""
    if path is None:
        return data
    names = parts_of(path)[1:]
    if not names:
        return result
    if len(names) > 1:
        raise Unsupported(f"ResultPath {path}")
    if not isinstance(data, dict):
        raise TaskError("States.ResultPathMatchFailure", f"no {path} in {data!r}")
    return {**data, names[0]: result}


def _seconds(path: str, data: Json, context: Json) -> int:
    """Return the whole number, 0 or more, that stands at a path."""
    value = _found(path, data, context)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TaskError("States.Runtime", f"{path} is {value!r}")
    return value


def _matches(rule: Mapping[str, Json], error: str) -> bool:
    """Whether a retrier or a catcher is for this error."""
    errors = rule["ErrorEquals"]
    if error in TERMINAL:
        return error in errors
    return error in errors or "States.ALL" in errors or ("States.TaskFailed" in errors and error != "States.Timeout")


def _fits(data: Json) -> Json:
    """Return what one state hands to the next. Raises `TaskError` where it is too large."""
    if len(json.dumps(data, ensure_ascii=False).encode()) > LARGEST:
        raise TaskError("States.DataLimitExceeded", "over 256 KiB")
    return data


@dataclass(frozen=True)
class Lasting:
    """An invocation that is under way for so many seconds; `end()` gives what the function answers."""

    seconds: float
    end: Callable[[], Json]


class Execution:
    """One execution. `invoke(function, payload)` answers for Lambda, at once or as `Lasting`, and raises `TaskError`;
    `now` is the time in seconds; `jitter` chooses a delay of at most so many seconds where a retrier says FULL.
    `status` is Step Functions' word; who sets it to another one than RUNNING stops the execution."""

    def __init__(
        self,
        definition: Mapping[str, Json],
        name: str,
        data: Json,
        *,
        invoke: Callable[[str, Json], Json],
        now: Callable[[], float],
        arn: str = "arn:x",
        jitter: Callable[[float], float] = lambda longest: longest,
        begin_at: str | None = None,
        most_states: int = MOST_STATES,
        most_events: int = MOST_EVENTS,
    ) -> None:
        self._definition, self._invoke_function, self._now, self._jitter = definition, invoke, now, jitter
        self._context = {"Execution": {"Id": arn, "Name": name, "Input": data}}
        self._tokens: dict[str, list[Json]] = {}
        self._numbers = itertools.count(1)
        self._most_states, self._most_events = most_states, most_events
        self.entered = 0
        """States so far: what Step Functions bills as transitions, the iterations of a Map not among them."""
        self.events = 0
        """Of its history so far."""
        self.name, self.arn, self.input = name, arn, data
        self.at, self.data = begin_at or definition["StartAt"], data
        self.output: Json = None
        self.status = ""
        self.failure: TaskError | None = None
        self._begin()

    # For those who play it

    def go_on(self) -> float | None:
        """Go as far as this moment lets; return the time of the next, None where the execution has ended."""
        if self.status == "RUNNING" and self._now() >= self._ends:
            self.status = "TIMED_OUT"
        if self.status != "RUNNING":
            self._process.close()
            return None
        try:
            return float(min(next(self._process), self._ends))
        except StopIteration as end:
            self.status, self.output = "SUCCEEDED", end.value
            self.events += 1
        except TaskError as failure:
            self.status, self.failure = "FAILED", failure
        except Stopped:
            pass
        return None

    def redrive(self) -> None:
        """Go on with the state that failed, as if it had not been tried."""
        state = self._definition["States"][self.at]
        if self.status == "RUNNING" or state["Type"] == "Map":
            raise Unsupported(f"redriving {self.at}")
        self._begin()

    def _begin(self) -> None:
        self.status, self.failure = "RUNNING", None
        self.events += 1  # ExecutionStarted, or ExecutionRedriven
        self._ends = self._now() + self._definition.get("TimeoutSeconds", math.inf)
        self._process = self._level(self._definition, self.data, self._context, self.at)

    @property
    def open_tokens(self) -> list[str]:
        """The task tokens that are waited for, oldest first."""
        return [token for token, outputs in self._tokens.items() if not outputs]

    def succeed(self, token: str, output: Json = None) -> bool:
        """Take a token back, as SendTaskSuccess does; return whether anybody waits for it."""
        if self.status != "RUNNING" or token not in self.open_tokens:
            return False
        self._tokens[token].append({} if output is None else output)
        return True

    # States

    def _level(self, level: Mapping[str, Json], data: Json, context: Json, begin_at: str) -> Process:
        name: str | None = begin_at
        while name is not None:
            if level is self._definition:
                self.at, self.data = name, data
            self.entered += 1
            if self.entered > self._most_states:
                raise Endless(f"the execution goes round, now in {name}")
            self._happened()  # it was entered
            state = level["States"][name]
            run = getattr(self, f"_{state['Type'].lower()}")
            data, name = yield from run(state, data, {**context, "State": {"Name": name, "RetryCount": 0}})
            _fits(data)
            self._happened()  # it was left
        return data

    def _happened(self, events: int = 1) -> None:
        """Write into the history. Raises `TaskError`, which ends the execution, where it is full."""
        self.events += events
        if self.events >= self._most_events:
            raise TaskError(
                "States.Runtime", f"The execution reached the maximum number of history events ({self._most_events})."
            )

    def _succeed(self, state: Mapping[str, Json], data: Json, context: Json) -> Process:
        yield from ()
        return data, None

    def _pass(self, state: Mapping[str, Json], data: Json, context: Json) -> Process:
        yield from ()
        return _filled(state["Parameters"], data, context) if "Parameters" in state else data, state.get("Next")

    def _wait(self, state: Mapping[str, Json], data: Json, context: Json) -> Process:
        yield from self._until(self._now() + _seconds(state["SecondsPath"], data, context))
        return data, state.get("Next")

    def _choice(self, state: Mapping[str, Json], data: Json, context: Json) -> Process:
        yield from ()
        for rule in state["Choices"]:
            value = _found(rule["Variable"], data, context)
            wanted = next(rule[operator] for operator in OPERATORS if operator in rule)
            if type(value) is type(wanted) and value == wanted:
                return data, rule["Next"]
        if "Default" not in state:
            raise TaskError("States.NoChoiceMatched")
        return data, state["Default"]

    def _map(self, state: Mapping[str, Json], data: Json, context: Json) -> Process:
        most = state.get("MaxConcurrency", 0)
        if "MaxConcurrencyPath" in state:
            most = _seconds(state["MaxConcurrencyPath"], data, context)
        most = min(most or AT_ONCE, AT_ONCE)
        inner = state["ItemProcessor"]
        waiting = deque(self.iterations(state, data, context))
        active: dict[int, Process] = {}
        results: list[Json] = [None] * len(waiting)
        self._happened()
        while waiting or active:
            while waiting and len(active) < most:
                index, item, with_item = waiting.popleft()
                self._happened()
                active[index] = self._level(inner, item, with_item, inner["StartAt"])
            due = math.inf
            for index, process in list(active.items()):
                try:
                    due = min(due, next(process))
                except StopIteration as end:
                    results[index] = end.value
                    self._happened()
                    del active[index]
                except TaskError as failure:
                    self._happened(2)  # the iteration failed, and with it the state; no other one is begun
                    return self._caught(state, data, failure)
            if active and not (waiting and len(active) < most):
                yield due
        self._happened()
        return _put(data, state.get("ResultPath", "$"), _fits(results)), state.get("Next")

    def iterations(
        self, state: Mapping[str, Json], data: Json, context: Json = None
    ) -> Iterator[tuple[int, Json, Json]]:
        """Give each iteration of a Map: its number, its input and its context."""
        context = context or self._context
        items = _found(state.get("ItemsPath", "$"), data, context)
        if not isinstance(items, list):
            raise TaskError("States.Runtime", "the items are no list")
        for index, value in enumerate(items):
            with_item = {**context, "Map": {"Item": {"Index": index, "Value": value}}}
            selector = state.get("ItemSelector")
            yield index, value if selector is None else _filled(selector, data, with_item), with_item

    def _task(self, state: Mapping[str, Json], data: Json, context: Json) -> Process:
        retriers = state.get("Retry", ())
        tried = [0] * len(retriers)
        while True:
            tries = {**context, "State": {**context["State"], "RetryCount": sum(tried)}}
            try:
                result = _put(data, state.get("ResultPath", "$"), (yield from self._attempt(state, data, tries)))
                return _found(state.get("OutputPath", "$"), result, tries), state.get("Next")
            except TaskError as failure:
                number = next((n for n, rule in enumerate(retriers) if _matches(rule, failure.error)), None)
                if number is not None and tried[number] < retriers[number].get("MaxAttempts", 3):
                    delay = self._delay(retriers[number], tried[number])
                    tried[number] += 1
                else:
                    return self._caught(state, data, failure)
            yield from self._until(self._now() + delay)

    def _caught(self, state: Mapping[str, Json], data: Json, failure: TaskError) -> Json:
        """Return where the first catcher of a failure goes on. Raises it where none is for it."""
        rule = next((rule for rule in state.get("Catch", ()) if _matches(rule, failure.error)), None)
        if rule is None:
            raise failure
        told = {"Error": failure.error, "Cause": failure.cause}
        return _put(data, rule.get("ResultPath", "$"), told), rule["Next"]

    def _attempt(self, state: Mapping[str, Json], data: Json, context: Json) -> Process:
        """Invoke a function; wait for its token where the state does."""
        began = self._now()
        self._happened(3)  # scheduled, started, and how it ended
        if state["Resource"] == INVOKE:
            parameters = _fits(_filled(state["Parameters"], data, context))
            answer = self._invoke(parameters)
            if isinstance(answer, Lasting):
                yield from self._until(self._now() + answer.seconds)
                answer = answer.end()
            return _fits({"ExecutedVersion": "$LATEST", "Payload": answer, "StatusCode": 200})
        self._happened()  # submitted
        token = f"{self.name}/{next(self._numbers)}"
        outputs = self._tokens[token] = []
        parameters = _fits(_filled(state["Parameters"], data, {**context, "Task": {"Token": token}}))
        path = state.get("TimeoutSecondsPath")
        until = math.inf if path is None else began + _seconds(path, data, context)
        try:
            try:
                self._invoke(parameters)
            except TaskError:
                if not outputs:  # what came back before the function failed counts
                    raise
            while not outputs:
                if self._now() >= until:
                    raise TaskError("States.Timeout")
                yield until
            return outputs[0]
        finally:
            del self._tokens[token]

    def _invoke(self, parameters: Json) -> Json:
        if self.status != "RUNNING":
            raise Stopped
        if set(parameters) != {"FunctionName", "Payload"}:
            raise Unsupported(f"lambda:invoke with {', '.join(sorted(parameters))}")
        answer = self._invoke_function(parameters["FunctionName"], json.loads(json.dumps(parameters["Payload"])))
        return answer if isinstance(answer, Lasting) else json.loads(json.dumps(answer))

    def _delay(self, rule: Mapping[str, Json], tried: int) -> float:
        """Return the seconds before the next try."""
        delay = rule.get("IntervalSeconds", 1) * rule.get("BackoffRate", 2.0) ** tried
        delay = min(delay, rule.get("MaxDelaySeconds", math.inf))
        return self._jitter(delay) if rule.get("JitterStrategy", "NONE") == "FULL" else delay

    def _until(self, due: float) -> Generator[float, None, None]:
        while self._now() < due:
            yield due
