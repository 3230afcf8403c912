"""A step's chain of models: what is tried next, and how long it waits when none answers."""

from __future__ import annotations

from typing import Any

import pytest
from support.deployment import Killed, dies_once_settled
from support.step_dialects import OPENAI
from support.step_here import NUMBERS, PROMPT, USAGE, Here, cost_of
from support.wire_server import Reply, Reset, WireServer

from loopllama.runs import totals

# A chain


def chain(here: Here, *providers: str) -> tuple[list[str], dict[str, Any], str]:
    number = next(NUMBERS)
    models = [here.live.put_model(f"{one}-{number}", one, f"{one}-model") for one in providers]
    crew = [{"name": "reply", "model": models[0], "fallbacks": models[1:]}]
    run_id = here.live.accept(here.live.push(crew, name=f"Chain {number}"), PROMPT)
    return models, here.live.map(here.live.start(run_id))[0], run_id


def test_a_chain_of_three_of_which_two_are_down(here: Here, third: WireServer) -> None:
    here.first.script(Reply(503, b"down"))
    here.second.script(Reset())
    third.script(Reply(200, OPENAI.answer("Here I am.")))
    models, work, run_id = chain(here, "openai", "second", "third")
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert (step["output"], step["model"]) == ("Here I am.", models[2])
    assert [(one["model"], one["outcome"]) for one in step["attempts"]] == [
        (models[0], "ModelUnavailable"),
        (models[1], "ModelUnavailable"),
        (models[2], "ok"),
    ]
    assert [len(server.requests) for server in (here.first, here.second, third)] == [1, 1, 1]
    # The connection broke before the second's answer: it may have been billed.
    assert [one["cost_basis"] for one in step["attempts"]] == ["measured", "unknown", "measured"]
    assert (step["cost_usd"], step["cost_basis"]) == (cost_of(*USAGE), "unknown")


def test_an_exhausted_chain_waits_as_long_as_the_providers_ask(here: Here, third: WireServer) -> None:
    for server, seconds in ((here.first, "9"), (here.second, "33"), (third, "2")):
        server.script(OPENAI.error(*OPENAI.throttled, {"retry-after": seconds}))
    models, work, run_id = chain(here, "openai", "second", "third")
    put_off = here.live.step(work)
    assert put_off == {**work, "outcome": "retry_later", "seconds": 33, "left": put_off["left"]}
    step = here.read(run_id)
    assert [one["retry_after"] for one in step["attempts"]] == [9, 33, 2]
    assert (step["cost_usd"], step["cost_basis"]) == (0, "measured")

    # After that the chain is gone through again, and the step gets its answer.
    here.live.wait(33)
    here.first.script(Reply(200, OPENAI.answer("At last.")))
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert (step["output"], step["model"], len(step["attempts"])) == ("At last.", models[0], 4)
    assert [len(server.requests) for server in (here.first, here.second, third)] == [2, 1, 1]


def test_the_wait_is_not_forgotten_when_the_next_invocation_goes_on_with_the_chain(here: Here) -> None:
    here.first.script(OPENAI.error(*OPENAI.throttled, {"retry-after": "44"}))
    here.second.script(OPENAI.error(*OPENAI.throttled))
    _, work, _ = chain(here, "openai", "second")
    with dies_once_settled(), pytest.raises(Killed):
        here.live.step(work, "first")
    here.live.wait(60)
    put_off = here.live.step(work, "second")
    assert put_off == {**work, "outcome": "retry_later", "seconds": 44, "left": put_off["left"]}
    assert [len(server.requests) for server in (here.first, here.second)] == [1, 1]


def test_a_step_gives_up_after_its_retries(here: Here) -> None:
    here.first.script(*[Reply(500, b"down")] * 3)
    run_id, work = here.start(retries=2)
    waits = []
    while (outcome := here.live.step(work))["outcome"] == "retry_later":
        waits.append(outcome["seconds"])
        here.live.wait(outcome["seconds"])
    assert outcome["outcome"] == "failed"
    assert all(usual <= seconds <= 1.5 * usual for seconds, usual in zip(waits, (2, 4), strict=True))
    assert here.read(run_id)["error"].startswith("ModelUnavailable: openai (HTTP 500)")
    assert totals.attempts_of(here.stored(run_id)).keys() == {f"attempt_{n:04d}" for n in (1, 2, 3)}


def test_no_fallbacks_is_not_a_mistake(here: Here) -> None:
    here.first.script(Reply(200, here.dialect.answer("ok")))
    run_id, work = here.start(fallbacks=[])
    assert here.live.step(work)["outcome"] == "done"
    assert (here.read(run_id)["model"], here.read(run_id)["ignored"]) == (here.models[0], [])
