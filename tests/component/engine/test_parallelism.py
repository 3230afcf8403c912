"""How many items of a list run at once: what the agent and the deployment say, fewer while Lambda turns steps away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.deployment import Deployment

from loopllama.routing.call_slots import RAISE_MS

CREW = {"name": "work", "forEach": "input.list"}


def forked(live: Deployment, **agent: Any) -> int:
    """Start a run with a list; how many of its items may run at once."""
    run_id = live.accept(live.push([{**CREW, **agent}], name=f"List {agent}"), {"list": ["a", "b"]})
    return int(live.step(live.map(live.start(run_id))[0])["max_concurrency"])


def repeated(live: Deployment, times: int) -> None:
    """Let the state machine invoke RunStep after so many tries that Lambda turned away."""
    _, work = live.begin()
    assert live.step({"work": work, "retry": times})["outcome"] == "done"


@pytest.mark.parametrize(("most", "agent", "at_once"), [(40, None, 40), (40, 3, 3), (5, None, 5), (5, 30, 5)])
def test_the_agent_and_the_deployment_say_it(live: Deployment, most: int, agent: int | None, at_once: int) -> None:
    live.settings = replace(live.settings, max_concurrency=most)
    assert forked(live, **({} if agent is None else {"maxConcurrency": agent})) == at_once


def test_fewer_run_at_once_while_lambda_has_no_room(live: Deployment) -> None:
    repeated(live, 0)
    assert forked(live) == 40
    repeated(live, 1)
    assert forked(live) == 20
    # Those of the same wave say nothing new.
    repeated(live, 3)
    assert forked(live) == 20
    live.wait(3)
    repeated(live, 1)
    assert forked(live) == 10
    assert forked(live, maxConcurrency=3) == 3
    live.wait(RAISE_MS / 1000)
    assert forked(live) == 12
    live.wait(15 * RAISE_MS / 1000)
    assert forked(live) == 40


def test_one_at_least_runs(live: Deployment) -> None:
    for _ in range(9):
        repeated(live, 1)
        live.wait(3)
    assert forked(live) == 1


def test_an_execution_of_an_earlier_version_says_nothing_of_repetitions(live: Deployment) -> None:
    _, work = live.begin()
    assert live.step(work)["outcome"] == "done"
    assert forked(live) == 40
