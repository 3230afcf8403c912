"""A new account runs ten functions at once. Long lists of long items are slow there, and complete."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from support.asl.deployed import state_machine
from support.asl.execution import MOST_EVENTS, Execution, Lasting
from support.asl.execution import TaskError as Failed

from loopllama.engine import history
from loopllama.runs.records import Branch

AT_ONCE = 10
WORK = {"contract": 1, "run_id": "r", "workflow": "w", "version": 1}


class Account:
    """Functions that take so many seconds, of which ten run at once. All else is invoked in between, and waits too."""

    def __init__(self, items: int, seconds: float) -> None:
        self._items, self._seconds = items, seconds
        self._active, self.now, self.throttles, self.done = 0, 0.0, 0, 0
        luck = random.Random(7)  # noqa: S311 - no secret
        self.execution = Execution(
            state_machine(),
            "r",
            {"run_id": "r"},
            invoke=self._invoke,
            now=lambda: self.now,
            jitter=lambda longest: luck.uniform(0, longest),
            most_states=100_000,
        )

    def play(self) -> None:
        while (due := self.execution.go_on()) is not None:
            self.now = max(self.now, due)

    def _invoke(self, function: str, payload: Any) -> Lasting:
        if self._active >= AT_ONCE:
            self.throttles += 1
            raise Failed("Lambda.TooManyRequestsException", "Rate Exceeded.")
        self._active += 1
        answer = getattr(self, f"_{function.lower()}")(payload)

        def end() -> Any:
            self._active -= 1
            return json.loads(json.dumps(answer))

        return Lasting(self._seconds if payload.get("work", {}).get("depth") else 0.1, end)

    def _startrun(self, payload: Any) -> Any:
        first: Branch = {"step": "one", "iteration": 0, "item": 0}
        begun = {**WORK, "round": 0, "outcome": "more"}
        return {**begun, **history.shares(history.begin(MOST_EVENTS), [first])}

    def _runstep(self, payload: Any) -> Any:
        given: Any = {**payload["work"], "retry": payload["retry"]}
        work: Any = {name: given[name] for name in (*WORK, "step", "iteration", "item", "depth")}
        if given["item"] or "ended" in given:
            self.done += bool(given["item"])
            done: Any = {**work, "outcome": "done"}
            return history.charged(given, done)
        ready = [{"step": "one", "iteration": 0, "item": number + 1} for number in range(self._items)]
        forked: Any = {**work, "outcome": "fork", "ready": ready, "join": True, "max_concurrency": 40}
        return history.charged(given, forked)

    def _advancerun(self, payload: Any) -> Any:
        self.left = payload["left"] + history.unused(payload["ended"])
        return {"outcome": "done"}


@pytest.mark.parametrize(("items", "seconds"), [(200, 10), (40, 30), (1000, 3)])
def test_a_list_completes_where_ten_functions_run_at_once(items: int, seconds: float) -> None:
    account = Account(items, seconds)
    account.play()
    assert account.execution.status == "SUCCEEDED", account.execution.failure
    assert account.done == items
    assert account.throttles > 30
    assert account.now < 3 * items * seconds / AT_ONCE + 120
    # What its history holds, RunStep was told: the budget of events is kept.
    used = MOST_EVENTS - MOST_EVENTS // 25 - account.left
    assert account.execution.events == used
    assert used < MOST_EVENTS


def test_nobody_waits_for_ever() -> None:
    account = Account(20, 10)
    account._active = AT_ONCE
    account.play()
    assert account.execution.status == "FAILED"
    assert 1800 < account.now < 7200


def test_what_an_invocation_that_is_given_up_costs_is_counted() -> None:
    chain = state_machine()["States"]["RunChains"]["ItemProcessor"]["States"]
    tries = 1 + sum(rule["MaxAttempts"] for rule in chain["ChainRunStep"]["Retry"])
    assert history.RETRY * tries == history.CRASH
