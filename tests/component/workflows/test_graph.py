"""Scheduling as a pure function, and the engine's claims on random graphs with crashes and duplicates in between."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.deployment import Deployment, deployment

from loopllama.engine.step_ending import StepEnding
from loopllama.workflows import graph

Crew = list[Any]


@st.composite
def crews(draw: st.DrawFn, most: int = 12) -> Crew:
    """Any acyclic crew: each step needs any earlier ones."""
    count = draw(st.integers(1, most))
    return [
        {"name": f"s{n}", "needs": sorted(draw(st.sets(st.sampled_from([f"s{k}" for k in range(n)]), max_size=3)))}
        if n
        else {"name": "s0", "needs": []}
        for n in range(count)
    ]


@given(crews(), st.randoms(use_true_random=False))
def test_whatever_order_steps_finish_in_each_becomes_ready_once_its_needs_are_done(
    crew: Crew, rng: random.Random
) -> None:
    finished: set[str] = set()
    while len(finished) < len(crew):
        ready = graph.ready(crew, finished)
        assert ready, "an acyclic crew always has something ready"
        for name in ready:
            assert set(graph.step_named(crew, name)[1]["needs"]) <= finished
        finished.add(rng.choice(ready))
    assert graph.ready(crew, finished) == []


@given(crews())
def test_ancestors_are_all_that_must_finish_before(crew: Crew) -> None:
    for step in crew:
        before = graph.ancestors(crew, step["name"])
        assert step["name"] not in before
        # Exactly what is left out of the ready steps' closure without them.
        assert set(step["needs"]) <= set(before)
        for name in before:
            assert set(graph.step_named(crew, name)[1]["needs"]) <= set(before)
        assert before == [one["name"] for one in crew if one["name"] in set(before)]


@given(crews())
def test_dependents_are_the_reverse_of_needs(crew: Crew) -> None:
    for step in crew:
        assert [one["name"] for one in graph.dependents(crew, step["name"])] == [
            one["name"] for one in crew if step["name"] in one["needs"]
        ]


@pytest.fixture(scope="module")
def live() -> Any:
    with pytest.MonkeyPatch.context() as monkeypatch, deployment(monkeypatch) as made:
        yield made


class Died(BaseException):
    """The invocation ended here; the state machine tries again."""


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.large_base_example])
@given(crew=crews(most=8), seed=st.integers(0, 2**32))
def test_every_step_of_a_random_graph_runs_once_never_before_its_needs_however_chains_race(
    live: Deployment, crew: Crew, seed: int
) -> None:
    """The state machine's chains are interleaved at random; an invocation dies at random after its step is completed
    and before it could say what is next (so completions and claims of several branches mix), and is tried again."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    order: list[str] = []
    needs = {step["name"]: set(step["needs"]) for step in crew}

    def answer(call: Any) -> str:
        order.append(call.system)
        return "done"

    live.provider.script = answer
    run_id = live.accept(live.push([{**step, "systemPrompt": step["name"]} for step in crew], name="graph"))
    go_on = StepEnding.go_on

    def dying(self: Any, *arguments: Any) -> Any:
        if rng.random() < 0.4:
            raise Died
        return go_on(self, *arguments)

    state = live.start(run_id)
    rounds = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepEnding, "go_on", dying)
        while True:
            chains = live.map(state)
            while chains:
                work = chains.pop(rng.randrange(len(chains)))
                try:
                    # Now and then the answer is lost and the same invocation is made again.
                    result = live.step(work, f"o{rng.random()}")
                    if rng.random() < 0.2:
                        result = live.step(work, f"o{rng.random()}")
                except Died:
                    live.wait(61)
                    chains.append(work)
                    continue
                if result["outcome"] in ("continue", "retry_later"):
                    live.wait(61)
                    chains.append(result)
                elif result["outcome"] == "fork":
                    assert not work.get("depth")
                    chains.extend(live.map(result, 1))
                else:
                    assert result["outcome"] == "done"
            state = live.advance(state)
            rounds += 1
            if state["outcome"] == "done":
                break
    assert sorted(order) == sorted(needs), "each step exactly once"
    for place, name in enumerate(order):
        assert needs[name] <= set(order[:place]), f"{name} ran before its needs"
    assert live.read(run_id)["status"] == "completed"
    assert rounds <= len(crew)
