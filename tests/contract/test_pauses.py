"""Turns that Anthropic pauses are continued where they stopped, within the call's time, and both parts are paid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.dialects import AnthropicDialect, Figures
from support.wire_server import Hang, Reply, WireServer

from loopllama.errors import ModelNotAvailable, ModelRequestRejected, ModelTimeout, ModelUnavailable
from loopllama.llm.types import ModelRequest, Provider, Usage

Make = Callable[..., ModelRequest]
ANTHROPIC = AnthropicDialect()


@pytest.fixture
def dialect() -> AnthropicDialect:
    return ANTHROPIC


def paused(text: str, why: str = "pause_turn", **figures: Any) -> Reply:
    return Reply(200, {**ANTHROPIC.answer(text, usage=Figures(**figures)), "stop_reason": why})


@pytest.mark.parametrize("why", ["pause_turn", "compaction"])
def test_it_goes_on_with_what_was_said(server: WireServer, adapter: Provider, make_call: Make, why: str) -> None:
    server.script(paused("Sorry ", why), paused("to ", why, cached=3), Reply(200, ANTHROPIC.answer("hear that.")))
    answer = adapter.complete(make_call())
    assert (answer.text, answer.stop_reason) == ("Sorry to hear that.", "end")
    assert answer.usage == Usage(63, 21, 3)
    first, second, third = (request.json["messages"] for request in server.requests)
    said = [{"type": "text", "text": "Sorry "}]
    assert second == [*first, {"role": "assistant", "content": said}]
    assert third == [*first, {"role": "assistant", "content": [*said, {"type": "text", "text": "to "}]}]
    assert server.refused == 0


def test_what_the_parts_cost_beside_their_tokens_is_kept(
    server: WireServer, adapter: Provider, make_call: Make
) -> None:
    first = {**ANTHROPIC.answer("Sorry "), "stop_reason": "compaction"}
    summed_up = {"type": "compaction", "input_tokens": 1000, "output_tokens": 50}
    first["usage"] = {**first["usage"], "iterations": [summed_up], "server_tool_use": {"web_search_requests": 1}}
    server.script(Reply(200, first), Reply(200, ANTHROPIC.answer("to hear that.")))
    assert adapter.complete(make_call()).usage == Usage(1042, 64, uncertain=True)


def test_one_without_end_is_broken_off_and_paid(server: WireServer, adapter: Provider, make_call: Make) -> None:
    server.script(*[paused("more ")] * 6)
    with pytest.raises(ModelUnavailable, match=r"broke off the answer .stop_reason pause_turn") as caught:
        adapter.complete(make_call())
    assert caught.value.usage == Usage(6 * 21, 6 * 7)


def test_time_is_the_calls_own_and_what_was_said_is_paid(
    server: WireServer, adapter: Provider, make_call: Make
) -> None:
    server.script(paused("Sorry "), Hang())
    with pytest.raises(ModelTimeout) as caught:
        adapter.complete(make_call(timeout=0.5))
    assert (caught.value.usage, caught.value.maybe_billed) == (Usage(21, 7), True)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("`temperature` is deprecated for this model.", ModelRequestRejected),
        ("output_config: Extra inputs are not permitted", ModelRequestRejected),
        ("tool_choice: not supported", ModelRequestRejected),
        ("service_tier: not supported", ModelNotAvailable),
    ],
)
@pytest.mark.parametrize("mode", ["native", "tool"])
def test_a_refusal_behind_a_pause_is_not_said_otherwise_and_what_was_said_is_paid(
    server: WireServer, adapter: Provider, make_call: Make, said: str, error: type[ModelRequestRejected], mode: str
) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    refusal = Reply(400, {"type": "error", "error": {"type": "invalid_request_error", "message": said}})
    server.script(paused("Sorry "), refusal)
    asked = make_call(temperature=0.2, output_schema=schema, output_mode=mode, service_tier="flex")
    with pytest.raises(error) as caught:
        adapter.complete(asked)
    assert (type(caught.value), caught.value.usage) == (error, Usage(21, 7))
    assert len(server.requests) == 2
