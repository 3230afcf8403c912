"""Models that are served in pieces only: they are asked for pieces once they have said so, and gateways that send
pieces unasked are understood."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dialects import AnthropicDialect, OpenAIDialect, ResponsesDialect
from support.dialects.base import adapter_of, request_to
from support.rubbish import spoilt
from support.wire_server import Reply, Request, WireServer

from loopllama.errors import InvalidModelResponse, ModelRequestRejected, ModelUnavailable
from loopllama.llm.types import ToolCall, ToolSpec
from loopllama.providers import streams
from loopllama.providers.wire import LONGEST_UNASKED

OPENAI, RESPONSES, ANTHROPIC = OpenAIDialect(), ResponsesDialect(), AnthropicDialect()
QWQ = "This model only support stream mode, please enable the stream parameter to access the model. "
LONG = (
    "Streaming is required for operations that may take longer than 10 minutes. See "
    "https://github.com/anthropics/anthropic-sdk-python#long-requests for more details"
)


def stream(events: Iterable[Any], end: str = "data: [DONE]\n\n") -> Reply:
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + end
    return Reply(200, text.encode(), {"content-type": "text/event-stream"})


def chunk(delta: Any = None, finish: str | None = None, **others: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "model": "qwq-plus", "choices": choices, **others}


SAID = [
    chunk({"role": "assistant", "content": None, "reasoning_content": "Let me "}),
    chunk({"reasoning_content": "see.", "content": None}),
    chunk({"content": "Gr\u00fc"}),
    chunk({"content": "ezi."}),
    chunk({}, "stop"),
    chunk(usage={"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}),
]


def only_streams(said: str) -> Any:
    def refusal(request: Request) -> Reply | None:
        return None if request.json.get("stream") else OPENAI.error(400, "invalid_parameter_error", said)

    return refusal


@pytest.mark.parametrize(
    "said",
    [
        QWQ,
        "parameter.enable_thinking must be set to false for non-streaming calls",
        "parameter.enable_thinking\u5fc5\u987b\u8bbe\u7f6e\u4e3afalse\u624d\u80fd\u8fdb\u884c\u975e\u6d41\u5f0f\u8c03\u7528",
        "enable thinking can not be support when `stream=False`.",
        "Stream must be set to true",
        "Non-streaming requests are not supported by this model",
        LONG,
    ],
)
def test_it_is_asked_for_pieces_once_it_has_said_so(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    adapter = adapter_of("house")
    server.refuses = only_streams(said)
    server.script(stream(SAID), stream(SAID))
    for _ in range(2):
        answer = adapter.complete(request_to(OPENAI, model="qwq-plus"))
        assert (answer.text, answer.stop_reason, answer.model) == ("Gr\u00fcezi.", "end", "qwq-plus")
        assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.estimated) == (12, 7, False)
    assert server.refused == 1, "the process remembers it"
    assert server.requests[-1].json["stream_options"] == {"include_usage": True}


def test_calls_of_tools_come_in_pieces(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    server.refuses = only_streams(QWQ)

    def piece(index: int | None, arguments: str, **others: Any) -> dict[str, Any]:
        place = {} if index is None else {"index": index}
        name = {"name": others.pop("name")} if "name" in others else {}
        return chunk({"tool_calls": [{**place, **others, "function": {**name, "arguments": arguments}}]})

    server.script(
        stream(
            [
                piece(0, "", id="a", type="function", name="now"),
                piece(0, '{"zone": '),
                piece(1, '{"zone": "B"}', id="b", type="function", name="now"),
                piece(0, '"A"}', id=""),
                chunk({}, "tool_calls"),
            ]
        )
    )
    tool = ToolSpec("now", "The time.", {"type": "object", "properties": {"zone": {"type": "string"}}})
    answer = adapter_of("house").complete(request_to(OPENAI, model="m", tools=(tool,)))
    assert [(call.id, call.name, call.arguments) for call in answer.tool_calls] == [
        ("a", "now", {"zone": "A"}),
        ("b", "now", {"zone": "B"}),
    ]
    assert isinstance(answer.tool_calls[0], ToolCall)


PIECES = [
    chunk({"role": "assistant", "content": "a", "reasoning_details": [{"text": "b"}]}),
    chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "now", "arguments": "{"}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}], "reasoning_details": [{"text": "d"}]}),
    chunk({}, "tool_calls"),
]
EVENTS = [
    {"type": "response.output_item.done", "item": {"type": "message", "content": []}},
    {"type": "response.completed", "response": {"status": "completed", "output": []}},
]


@given(st.sampled_from([PIECES, EVENTS]).flatmap(spoilt))
def test_whatever_the_pieces_hold_they_are_a_document_or_none(events: list[Any]) -> None:
    body = stream(events).body
    together = streams.document(body)
    assert together is None or isinstance(together, dict)
    json.dumps(together, default=str)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "items left out"])
def test_the_responses_api_too(server: WireServer, monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    adapter = RESPONSES.adapter(server.url, monkeypatch)
    response = RESPONSES.answer("ok")
    items = [{"type": "response.output_item.done", "item": item} for item in response["output"]]
    ended = {"type": "response.completed", "response": response if whole else {**response, "output": []}}
    server.script(
        RESPONSES.error(400, "", "Stream must be set to true"),
        stream([{"type": "response.created", "response": {}}, *items, ended], end=""),
    )
    answer = adapter.complete(request_to(RESPONSES))
    assert answer.text == "ok"
    assert [request.json["stream"] for request in server.requests] == [False, True]


def test_pieces_that_nobody_asked_for(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    comment = Reply(200, b": keep-alive\r\n\r\n" + stream(SAID).body.replace(b"\n", b"\r\n"), {})
    server.script(comment)
    assert adapter_of("house").complete(request_to(OPENAI, model="m")).text == "Gr\u00fcezi."


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (stream(SAID[:3], end=""), InvalidModelResponse),
        (stream([*SAID[:3], {"error": {"message": "overloaded", "code": 503}}]), ModelUnavailable),
        (stream([], end=""), InvalidModelResponse),
        (stream([]), InvalidModelResponse),
    ],
    ids=["broken off", "an error on the way", "nothing", "nothing but its end"],
)
def test_a_stream_that_does_not_come_to_its_end(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, reply: Reply, kind: type
) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    server.script(reply)
    with pytest.raises(kind):
        adapter_of("house").complete(request_to(OPENAI, model="m"))


@pytest.mark.parametrize("status", [400, 500])
def test_a_long_answer_that_must_come_in_pieces_is_a_shorter_one_elsewhere(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    adapter = ANTHROPIC.adapter(server.url, monkeypatch)
    server.script(ANTHROPIC.error(status, "", LONG), Reply(200, ANTHROPIC.answer("ok")))
    adapter.complete(request_to(ANTHROPIC, max_tokens=64_000))
    assert [request.json["max_tokens"] for request in server.requests] == [64_000, LONGEST_UNASKED]


def test_a_model_that_comes_in_pieces_only_says_what_to_do(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = ANTHROPIC.adapter(server.url, monkeypatch)
    server.script(ANTHROPIC.error(400, "invalid_request_error", QWQ))
    with pytest.raises(ModelRequestRejected, match="OpenAI-compatible address") as caught:
        adapter.complete(request_to(ANTHROPIC, max_tokens=100))
    assert caught.value.next_model, "a fallback may take it"
    assert not caught.value.later


def test_lists_in_pieces_are_put_together_once() -> None:
    """Gateways send what a model thinks as a list of one part in each piece: the parts are not copied for each."""
    pieces = [chunk({"content": "a", "reasoning_details": [{"text": "x"}]}) for _ in range(60_000)]
    body = stream([*pieces, chunk({}, "stop")]).body
    begun = time.process_time()
    whole = streams.document(body)
    assert time.process_time() - begun < 2.5
    assert whole is not None
    assert len(whole["choices"][0]["message"]["reasoning_details"]) == 60_000
