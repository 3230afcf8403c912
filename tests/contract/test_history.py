"""Whatever an answer holds, the next request is one that every provider takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.dialects import DIALECTS, DeepSeekDialect, Dialect
from support.rubbish import ANYTHING
from support.wire_server import Request

from loopllama.errors import ModelRequestRejected
from loopllama.llm import history
from loopllama.llm.types import Message, ModelRequest, Provider, ToolCall, ToolSpec
from loopllama.providers import http

EVERY = [*DIALECTS, DeepSeekDialect()]
ORDER = ToolSpec("get_order", "Look up an order.", {"type": "object", "properties": {"order_id": {"type": "string"}}})
GIVE = ToolSpec("give_answer", "Give your final answer.", {"type": "object", "properties": {"ok": {"type": "boolean"}}})

NAMES = st.sampled_from(
    [
        "get_order",
        "multi_tool_use.parallel",
        "search the web",
        "functions.get_order",
        "give_answer",
        "",
        "2nd",
        "x" * 70,
    ]
) | st.text(max_size=70)
IDS = st.sampled_from(
    [
        "a",
        "a",
        "call_0",
        "call_1",
        "functions.get_order:0",
        "chatcmpl-tool/1",
        "a_2",
        "",
        None,
        7,
        "x" * 200,
        "D681PevKs",
    ]
) | st.text(max_size=50)
ARGUMENTS = (
    st.sampled_from([{"order_id": "A"}, '{"order_id": ', "[1]", "null", '{"order_id": "\\ud83d"}', '{"n": 1e999}', ""])
    | ANYTHING
)
ANSWERS = st.tuples(
    st.sampled_from(["", "Let me look."]), st.lists(st.tuples(IDS, NAMES, ARGUMENTS), min_size=1, max_size=4)
)
THOUGHTS = st.none() | st.just("I look it up.") | ANYTHING


class Wire:
    """Answers each request of the adapters in turn with one of the bodies, and keeps the request."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.requests: list[Request] = []

    def post(self, url: str, headers: Mapping[str, str], body: bytes, *_: Any) -> http.Reply:
        self.requests.append(Request(urlsplit(url).path, headers, body, 0))
        return http.Reply(200, {}, http._whole_characters(self.bodies.pop(0)))


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setattr(http, "post", made.post)
    return made


def body_of(dialect: Dialect, text: str, calls: list[Any], thoughts: Any) -> bytes:
    body = dialect.answer(text, calls, "tools", usage=None)
    if thoughts is not None and "choices" in body:
        body["choices"][0]["message"] |= {"reasoning_content": thoughts, "reasoning_details": thoughts}
    return json.dumps(body).encode()


@pytest.mark.parametrize("dialect", EVERY, ids=lambda one: one.name)
def test_whatever_an_answer_holds(dialect: Dialect, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = [(one, one.adapter("http://127.0.0.1:9", monkeypatch)) for one in EVERY]
    own = next(adapter for one, adapter in adapters if one is dialect)

    @settings(max_examples=60)
    @given(
        st.lists(st.tuples(ANSWERS, THOUGHTS), min_size=1, max_size=3), st.sampled_from([(ORDER,), (ORDER, GIVE), ()])
    )
    @example([(("", [("a", "search the web", {}), ("a", "get_order", "{")]), None)] * 2, (ORDER,))
    @example([(("", [(None, "", [1])]), "So.")] * 2, ())
    def check(answers: list[Any], tools: tuple[ToolSpec, ...]) -> None:
        messages = [Message("user", "Where is my order?", stable=True)]
        for (text, calls), thoughts in answers:
            wire.bodies.append(body_of(dialect, text, calls, thoughts))
            answer = own.complete(call_of(dialect, messages, tools))
            taken(dialect, wire.requests.pop())
            if not answer.tool_calls:
                continue
            messages.append(Message("assistant", answer.text, tool_calls=answer.tool_calls, thoughts=answer.thoughts))
            messages += [
                Message("tool", f"result of {one.name[:20]}", tool_call_id=one.id) for one in answer.tool_calls
            ]
        for other, adapter in adapters:
            ask(adapter, wire, other, messages, tools)

    check()


def ask(adapter: Provider, wire: Wire, dialect: Dialect, messages: list[Message], tools: tuple[ToolSpec, ...]) -> None:
    wire.bodies.append(json.dumps(dialect.answer("Done.")).encode())
    adapter.complete(call_of(dialect, messages, tools))
    taken(dialect, wire.requests.pop())


def call_of(dialect: Dialect, messages: list[Message], tools: tuple[ToolSpec, ...]) -> ModelRequest:
    return ModelRequest(
        model=dialect.model, catalog_id="test", system="", messages=tuple(messages), timeout=10.0, tools=tools
    )


def taken(dialect: Dialect, request: Request) -> None:
    """The provider takes the request, and each call has its own result, in order."""
    refused = dialect.refusal(request)
    assert refused is None, refused
    seen = dialect.seen(request)
    calls = [content[0] for _, kind, content in seen.messages if kind == "call"]
    assert calls == [content[0] for _, kind, content in seen.messages if kind == "result"]
    assert len(calls) == len(set(calls))


@pytest.mark.parametrize("dialect", EVERY, ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("fault", "spoil"),
    [
        ("name", lambda calls, _: calls[0].update(name="search the web")),
        ("name", lambda calls, _: calls[0].update(name="")),
        ("repeated", lambda calls, results: (calls[1].update(id=calls[0]["id"]), results.pop())),
        ("missing", lambda _, results: results.pop()),
        ("extra", lambda calls, _: calls.pop()),
    ],
    ids=["a name with spaces", "no name", "an id twice", "no result", "a result too many"],
)
def test_the_stand_ins_refuse_what_providers_refuse(dialect: Dialect, fault: str, spoil: Any) -> None:
    calls: list[dict[str, Any]] = [{"id": f"D681PevK{n}", "name": "get_order"} for n in (1, 2)]
    results = [one["id"] for one in calls]
    assert said_of(dialect, calls, results) is None
    spoil(calls, results)
    said = said_of(dialect, calls, results)
    assert said is not None
    wanted = dialect.rules.says[fault].split("{")[0]  # type: ignore[index]
    assert wanted in said or fault == "repeated" or "Invalid length for parameter" in said


def said_of(dialect: Dialect, calls: list[dict[str, Any]], results: list[str]) -> str | None:
    """Return what the provider, or its SDK, says of a conversation that no adapter writes by itself."""
    messages = [
        Message("user", "Where?"),
        Message("assistant", tool_calls=tuple(ToolCall(one["id"], one["name"], {}) for one in calls)),
        *(Message("tool", "here", tool_call_id=one) for one in results),
    ]
    wire = Wire()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "post", wire.post)
        patch.setattr(history, "fitted", lambda call, _: call)
        wire.bodies.append(json.dumps(dialect.answer("Done.")).encode())
        try:
            dialect.adapter("http://127.0.0.1:9", patch).complete(call_of(dialect, messages, (ORDER,)))
        except ModelRequestRejected as error:
            return str(error)  # botocore's own check
    refused = dialect.refusal(wire.requests.pop())
    return None if refused is None else json.dumps(refused.body, ensure_ascii=False).replace('\\"', '"')
