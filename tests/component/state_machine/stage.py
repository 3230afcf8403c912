"""Where the state machine is played: invocations are noted and held against what docs/design.md says of payloads."""

from __future__ import annotations

import itertools
import json
import math
import runpy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from support.asl.execution import Execution, TaskError
from support.deployment import ROOT, Deployment

from loopllama import CONTRACT
from loopllama.engine import human_input
from loopllama.llm.types import ModelRequest, ModelResponse
from loopllama.runs.step_ref import ALONE, LINE, Work

WORK = set(Work("", "", 0, "").to_payload())
PLACES = {LINE: "Line", ALONE: "", 0: "Chain", 1: "Fork"}
"""What names of states begin with, by the depth of their chain."""
LUCK = 4
"""Full jitter chooses a fourth of the delay here."""
STEP_SECONDS = 60
"""That an invocation may take."""
MOST_STATES = 110
"""That a run here may enter; the longest takes half of it."""


def kind_of(function: str, payload: Mapping[str, Any]) -> str:
    """Return what an invocation is for; the name of its state, told without asking the state machine."""
    if function != "RunStep":
        return function
    work = payload.get("work", payload)
    return PLACES[work["depth"]] + ("WaitForResponse" if "token" in payload else "RunStep")


class Stage:
    """One execution of `definition`, of a state machine of that `contract`. `faults`: by kind of invocation, the errors
    that the next ones of it end with before the function runs. `person` is asked whenever nothing else can happen while
    a task token is out."""

    def __init__(
        self,
        definition: Mapping[str, Any],
        functions: Mapping[str, Callable[[Any], Any]],
        run: tuple[str, str, int],
        faults: Mapping[str, list[str]] | None = None,
        contract: int = CONTRACT,
    ) -> None:
        self.now = 0.0
        self.contract = contract
        self.run_id, self.workflow, self.version = run
        self.faults = {kind: list(errors) for kind, errors in (faults or {}).items()}
        self.person: Callable[[], object] = lambda: None
        self.let_pass: Callable[[float], None] = lambda seconds: None
        self.times: dict[str, list[float]] = {}
        """When functions were invoked, by kind."""
        self.delays: list[float] = []
        """What lay between an invocation that failed and its repetition."""
        self.repeated: list[str] = []
        """The kinds of the invocations that were repeated."""
        self.story: list[str] = []
        """What was invoked and did not fail before it ran: `RunStep two`, `ForkRunStep each 1`."""
        self.ended: list[Any] = []
        """How chains ended: what AdvanceRun and steps that gather are told."""
        self._functions = functions
        self._failed: Counter[str] = Counter()
        self.last: Any = None
        """What AdvanceRun was told last."""
        self.answered: Any = None
        """What a function answered last."""
        self._round = self._left = 0
        self._request = {"contract": CONTRACT, "run_id": self.run_id}
        self.execution = Execution(
            definition,
            self.run_id,
            self._request,
            invoke=self._invoke,
            now=lambda: self.now,
            arn="arn:of-this",
            jitter=lambda longest: longest / LUCK,
            most_states=MOST_STATES,
        )

    def play(self) -> Stage:
        """Play the execution until it has ended."""
        while (due := self.execution.go_on()) is not None:
            if self.execution.open_tokens:
                self.person()
                if not self.execution.open_tokens:
                    continue
            assert due < math.inf, "the execution waits for ever"
            self.wait(max(0, due - self.now))
        return self

    def redrive(self) -> Stage:
        """Let somebody redrive the failed execution, and play it again until it has ended."""
        self.story.clear()
        self._failed.clear()
        self.execution.redrive()
        return self.play()

    def wait(self, seconds: float) -> None:
        """Let time pass, for the functions too."""
        self.now += seconds
        self.let_pass(seconds)

    def answer(self, output: Any = None) -> None:
        """Send back the oldest token that is out."""
        assert self.execution.succeed(self.execution.open_tokens[0], output)

    def _invoke(self, function: str, payload: Any) -> Any:
        kind = kind_of(function, payload)
        what = json.dumps([kind, {name: value for name, value in payload.items() if name not in ("token", "retry")}])
        self._check(kind, payload, self._failed[what])
        times = self.times.setdefault(kind, [])
        if self._failed[what]:
            self.delays.append(self.now - times[-1])
            self.repeated.append(kind)
        times.append(self.now)
        self._failed[what] += 1
        if self.faults.get(kind):
            raise TaskError(self.faults[kind].pop(0), "as this test wants it")
        work = payload.get("work", payload)
        self.story.append(" ".join(str(word) for word in (kind, work.get("step"), work.get("item")) if word))
        if kind == "AdvanceRun":
            self.last = payload
        if "ended" in work:
            self.ended.append(work["ended"])
        try:
            answer = self._functions[function](payload)
        except Exception as error:
            raise TaskError(type(error).__name__, str(error)) from error
        self._failed[what] = 0
        self.answered = answer
        if kind in ("StartRun", "AdvanceRun", "RunStep"):
            self._round = answer.get("round", self._round)
            self._left = answer.get("left", self._left)
        return answer

    def _check(self, kind: str, payload: Any, failed: int) -> None:
        """The payload is what docs/design.md says, and of this run."""
        if kind == "StartRun":
            told = {"contract": self.contract} if self.contract > 1 else {}
            assert payload == {
                **told,
                "request": self._request,
                "execution_arn": "arn:of-this",
                "execution_name": self.run_id,
            }
            return
        work = payload
        if kind == "AdvanceRun":
            assert set(payload) == {"contract", "run_id", "round", "left", "ended", "execution_arn", "retry"}
            assert (payload["left"], payload["execution_arn"]) == (self._left, "arn:of-this")
            assert payload["round"] == self._round
            assert payload["retry"] == failed, "Step Functions' count"
        else:
            work = payload["work"]
            if "token" in payload:
                assert payload["token"] in self.execution.open_tokens
                assert set(payload) == {"work", "token"}
            else:
                assert set(payload) == {"work", "retry"}
                assert payload["retry"] == failed, "Step Functions' count"
            if kind == "LineRunStep":
                assert set(work) == WORK - {"iteration", "item"}
            else:
                assert set(work) >= {*WORK, "left", *(() if work["depth"] >= 0 else ("round",))}
            assert not {"ready", "crash"} & set(work), "small control values only"
            assert (work["workflow"], work["version"]) == (self.workflow, self.version)
        assert (work["contract"], work["run_id"]) == (self.contract, self.run_id)


class Troupe:
    """A deployment that plays many runs: workflows are stored once, and people's answers reach the run on stage."""

    def __init__(self, live: Deployment, patch: pytest.MonkeyPatch) -> None:
        self.live = live
        self._workflows: dict[str, str] = {}
        self._stage: Stage | None = None
        self._invocations = itertools.count(1)
        patch.setattr(human_input, "deliver", lambda token: self._stage and self._stage.execution.succeed(token))

    def stage(
        self,
        definition: Mapping[str, Any],
        crew: Sequence[Mapping[str, Any]],
        run_input: Any = "hello",
        faults: Mapping[str, list[str]] | None = None,
        script: Callable[[ModelRequest], ModelResponse | str] = lambda call: "fine",
        contract: int = CONTRACT,
    ) -> Stage:
        """Return a stage where the handlers of functions/ run this crew. `script` answers for its models."""
        key = json.dumps(crew)
        if key not in self._workflows:
            self._workflows[key] = self.live.push([*map(dict, crew)], name=f"Crew {len(self._workflows)}")
        self.live.provider.script = script
        run_id = self.live.accept(self._workflows[key], run_input)
        self._stage = Stage(definition, self._handlers(), (run_id, self._workflows[key], 1), faults, contract)
        self._stage.let_pass = self.live.wait
        return self._stage

    def _handlers(self) -> dict[str, Callable[[Any], Any]]:
        """Return the functions that the state machine invokes, in new processes as far as caches go."""
        made: dict[str, Callable[[Any], Any]] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("loopllama.settings.settings", lambda: self.live.settings)
            for name, folder in (("StartRun", "start_run"), ("RunStep", "run_step"), ("AdvanceRun", "advance_run")):
                handler = runpy.run_path(str(ROOT / "functions" / folder / "app.py"))["handler"]
                made[name] = self._invoking(handler)
        return made

    def _invoking(self, handler: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
        return lambda payload: handler(payload, self._context())

    def _context(self) -> Any:
        """Return Lambda's context of one invocation."""
        number = next(self._invocations)
        return SimpleNamespace(
            aws_request_id=f"invocation-{number}", get_remaining_time_in_millis=lambda: STEP_SECONDS * 1000
        )
