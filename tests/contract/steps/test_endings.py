"""Answers that cannot be used and may pass: empty ones, and those that a server could not read itself. The same request
is made once more, in its own attempt; then it is as with any other failure. And answers that were cut off."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from support.deployment import Killed, dies_once_settled
from support.dialects import DIALECTS, Dialect
from support.step_dialects import OPENAI, every_dialect
from support.step_here import USAGE, Here, cost_of
from support.wire_server import Reply

from loopllama.llm.types import ModelRequest, ModelResponse
from loopllama.providers.adapter import Adapter

FORMS = [
    pytest.param(dialect, name, id=f"{dialect.name}-{name}")
    for dialect in DIALECTS
    for name in ("empty", *dialect.unreadable())
]
every_form = pytest.mark.parametrize(("dialect", "form"), FORMS, indirect=["dialect"])


def unusable(dialect: Dialect, form: str = "empty") -> Reply:
    return dialect.unreadable()[form] if form != "empty" else Reply(200, dialect.answer(""))


def said(dialect: Dialect, text: str = "Sorry about that.") -> Reply:
    return Reply(200, dialect.answer(text))


def outcomes(step: Mapping[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in step["attempts"]]


NONE = "InvalidModelResponse"


@every_form
def test_it_is_asked_once_more_with_the_same_request(here: Here, form: str) -> None:
    here.first.script(unusable(here.dialect, form), said(here.dialect))
    run_id, work = here.start(tools=["now"])
    assert here.live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    assert (step["output"], outcomes(step)) == ("Sorry about that.", [NONE, "ok"])
    first, second = here.first.requests
    assert first.json == second.json
    # Each is paid and shown: an answer by what it counts, an error's by nothing.
    refused = unusable(here.dialect, form).status >= 400
    assert step["attempts"][0]["cost_usd"] == (0 if refused else cost_of(*USAGE))
    assert step["cost_usd"] == cost_of(*USAGE) * (1 if refused else 2)
    assert step["cost_basis"] == "measured"


@every_form
def test_after_the_second_the_next_model_is_asked_or_the_step_fails(here: Here, form: str) -> None:
    here.first.script(*[unusable(here.dialect, form)] * 2)
    run_id, work = here.start()
    assert here.live.step(work)["outcome"] == "failed"
    step = here.read(run_id)
    assert outcomes(step) == [NONE] * 2
    assert step["error"] == f"{NONE}: {step['attempts'][1]['error']}"
    assert here.dialect.name in step["error"]

    here.first.script(*[unusable(here.dialect, form)] * 2)
    here.second.script(said(OPENAI))
    run_id, work = here.start(fallback=True)
    assert here.live.step(work)["outcome"] == "done"
    assert outcomes(here.read(run_id)) == [NONE, NONE, "ok"]


@every_dialect
def test_it_is_once_more_for_each_place_of_the_conversation(here: Here) -> None:
    call = Reply(200, here.dialect.answer("", [("call_1", "now", {})], "tools"))
    here.first.script(unusable(here.dialect), call, unusable(here.dialect), said(here.dialect))
    run_id, work = here.start(tools=["now"], maxTurns=2)
    assert here.live.step(work)["outcome"] == "done"
    assert outcomes(here.read(run_id)) == [NONE, "ok", NONE, "ok"]
    roles = [
        [role for role, kind, _ in here.dialect.seen(one).messages if kind != "thoughts"] for one in here.first.requests
    ]
    assert roles == [["user"]] * 2 + [["user", "assistant", "tool"]] * 2


@every_dialect
def test_a_crash_does_not_make_it_more(here: Here) -> None:
    """Every invocation dies as soon as it has settled a call, and the one that takes over goes on."""
    here.first.script(*[unusable(here.dialect)] * 2)
    here.second.script(said(OPENAI))
    run_id, work = here.start(fallback=True)
    for owner, requests in (("first", 1), ("second", 2), ("third", 2)):
        with dies_once_settled(), pytest.raises(Killed):
            here.live.step(work, owner)
        assert len(here.first.requests) == requests
        here.live.wait(60)
    assert here.live.step(work, "fourth")["outcome"] == "done"
    assert outcomes(here.read(run_id)) == [NONE, NONE, "ok"]
    assert (len(here.first.requests), len(here.second.requests)) == (2, 1)


def test_a_call_that_a_crash_has_lost_is_none_of_the_two(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.first.script(unusable(here.dialect), said(here.dialect), said(here.dialect))
    run_id, work = here.start()
    complete, calls = Adapter.complete, []

    def dies_with_the_second(adapter: Adapter, call: ModelRequest) -> ModelResponse:
        calls.append(call)
        answer = complete(adapter, call)
        if len(calls) == 2:
            raise Killed
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Adapter, "complete", dies_with_the_second)
        with pytest.raises(Killed):
            here.live.step(work, "first")
        here.live.wait(60)
        assert here.live.step(work, "second")["outcome"] == "done"
    step = here.read(run_id)
    assert outcomes(step) == [NONE, "lost", "ok"]
    assert step["cost_basis"] == "unknown"


def test_the_next_invocation_asks_once_more_where_the_time_of_this_one_ran_short(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.first.script(*[unusable(here.dialect)] * 2)
    run_id, work = here.start()
    complete = Adapter.complete

    def slowly(adapter: Adapter, call: ModelRequest) -> ModelResponse:
        try:
            return complete(adapter, call)
        finally:
            time.sleep(1.3)

    with monkeypatch.context() as patch:
        patch.setattr(Adapter, "complete", slowly)
        outcome = here.live.step(work, "first", remaining_ms=1500)
    assert (outcome["outcome"], len(here.first.requests)) == ("continue", 1)
    assert here.live.step(outcome, "second")["outcome"] == "failed"
    assert outcomes(here.read(run_id)) == [NONE] * 2


def test_a_wait_for_another_models_trouble_gives_it_no_third(here: Here) -> None:
    here.first.script(unusable(here.dialect), unusable(here.dialect), unusable(here.dialect))
    here.second.script(Reply(503, b""), said(OPENAI))
    run_id, work = here.start(fallback=True)
    assert here.live.step(work)["outcome"] == "retry_later"
    assert here.live.step(work)["outcome"] == "done"
    assert outcomes(here.read(run_id)) == [NONE, NONE, "ModelUnavailable", NONE, "ok"]


@every_dialect
def test_an_empty_answer_that_was_cut_off_would_be_cut_off_again(here: Here) -> None:
    here.first.script(Reply(200, here.dialect.answer("", stop="length")))
    run_id, work = here.start()
    assert here.live.step(work)["outcome"] == "failed"
    assert outcomes(here.read(run_id)) == [NONE]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name, indirect=True)
@pytest.mark.parametrize("arguments", ["", "{}", '{"zone": "UTC"}'])
def test_a_tool_call_that_was_cut_off_is_not_made(here: Here, arguments: str) -> None:
    """Whatever is there of its arguments: they may be whole by chance."""
    given: Any = arguments
    if not here.dialect.arguments_are_text:
        given = {"zone": "UTC"} if "zone" in arguments else {}
    cut = here.dialect.answer("", [("call_1", "now", given)], "length")
    here.first.script(Reply(200, cut), said(here.dialect))
    run_id, work = here.start(tools=["now"])
    assert here.live.step(work)["outcome"] == "done"
    [call] = here.read(run_id)["tool_calls"]
    assert (call["name"], call["outcome"]) == ("now", "failed")
    assert "not a JSON object" in call["result"]
