"""Answers under status 200 that are not as they should be: what can be read of them counts, the rest is an error.

An answer that has come is one that was made, so what is paid for must not be lost to a detail.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from support.dialects import DIALECTS, WIRE_FORMATS, Dialect, OpenAIDialect, ResponsesDialect
from support.failures import Make, failure_of
from support.wire_server import Raw, Reply, WireServer

from loopllama.errors import (
    ContentFiltered,
    CredentialsRejected,
    InvalidModelResponse,
    ModelRequestRejected,
    ModelThrottled,
    ModelUnavailable,
)
from loopllama.llm.types import Message, ModelRequest, Provider, ToolSpec, Usage


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"not json", "application/json"),
        (b'{"choices": [', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"", "application/json"),
        (b"null", "application/json"),
        (b'"ok"', "application/json"),
        (b"<html><body>Sign in to the network</body></html>", "text/html"),
        (b'data: {"choices": [{"delta": {"content": "So"}}]}\n\n', "text/event-stream"),
    ],
)
def test_malformed_json(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, body: bytes, kind: str
) -> None:
    error = failure_of(server, adapter, make_call(), Reply(200, body, {"content-type": kind}))
    assert error.against
    assert error.next_model
    assert type(error) is InvalidModelResponse
    assert isinstance(error.usage, Usage)
    assert error.usage.estimated


@pytest.mark.parametrize(
    "body", [{}, {"choices": []}, {"choices": [None]}, {"choices": [{"message": 1}]}, {"content": 3}]
)
def test_an_answer_without_what_it_must_have(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, body: object
) -> None:
    error = failure_of(server, adapter, make_call(), Reply(200, body))
    assert type(error) is InvalidModelResponse
    assert isinstance(error.usage, Usage)


FOREIGN: list[object] = [
    {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]},
    {"message": {"role": "assistant", "content": "hi"}, "done": True},
    {"generated_text": "hi"},
    {"status": "ok"},
]
"""Answers of Gemini's own API, Ollama's, text-generation-inference's, and of a page that says that all is well."""


@pytest.mark.parametrize("body", FOREIGN)
def test_an_answer_of_another_wire_format(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, body: object
) -> None:
    error = failure_of(server, adapter, make_call(), Reply(200, body))
    assert type(error) is InvalidModelResponse
    assert isinstance(error.usage, Usage)
    assert error.usage.estimated


def test_an_answer_of_any_other_dialect(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    """A server whose secret names the wrong dialect."""
    for other in WIRE_FORMATS:
        server.script(Reply(200, other.answer("hi", usage=None)))
        if _format(dialect) == _format(other):
            assert adapter.complete(make_call()).text == "hi"
            continue
        with pytest.raises(InvalidModelResponse) as caught:
            adapter.complete(make_call())
        assert isinstance(caught.value.usage, Usage)


def _format(dialect: Dialect) -> str:
    if isinstance(dialect, ResponsesDialect):
        return "responses"
    return "chat" if isinstance(dialect, OpenAIDialect) else dialect.name


def test_null_for_content(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    """No text and no call is no answer, and is paid."""
    error = failure_of(server, adapter, make_call(), Reply(200, _nulls(dialect.answer("", []))))
    assert type(error) is InvalidModelResponse
    assert (error.usage, error.next_model) == (Usage(21, 7, service_tier=dialect.tier), True)


def _nulls(value: Any) -> Any:
    """The value with null for each empty list and text."""
    if isinstance(value, dict):
        return {key: _nulls(inner) for key, inner in value.items()}
    return [_nulls(inner) for inner in value] if isinstance(value, list) and value else value if value != "" else None


@pytest.mark.parametrize(
    ("pack", "encoding"), [(gzip.compress, "gzip"), (gzip.compress, "x-gzip"), (zlib.compress, "deflate")]
)
def test_a_compressed_answer(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, pack: Any, encoding: str
) -> None:
    """Nobody asked for it; proxies do it all the same."""
    body = pack(json.dumps(dialect.answer("Sorry 🦙")).encode())
    server.script(Reply(200, body, {"content-encoding": encoding}))
    answer = adapter.complete(make_call())
    assert (answer.text, answer.usage) == ("Sorry 🦙", Usage(21, 7, service_tier=dialect.tier))
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (gzip.compress(b" " * 30_000_000), "20 MB"),
        (gzip.compress(b"{}" * 5000)[:-20], "cut off"),
        (b"{}", "is not"),
    ],
    ids=["a bomb", "cut off", "not compressed"],
)
def test_a_compressed_answer_that_cannot_be_read(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, body: bytes, says: str
) -> None:
    error = failure_of(server, adapter, make_call(), Reply(200, body, {"content-encoding": "gzip"}))
    assert type(error) is InvalidModelResponse
    assert says in str(error)
    assert error.maybe_billed


@pytest.mark.parametrize("rest", [b"\xff", b"\xf0\x9f\xa6", b"\xc3", b"\x80\x80"])
def test_bytes_that_are_no_characters(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, rest: bytes
) -> None:
    """A server that counts bytes ended the answer within a character: what is paid is not lost."""
    written = json.dumps(dialect.answer("Sorry 🦙 @", stop="length"), ensure_ascii=False).encode()
    server.script(Reply(200, written.replace(b"@", rest)))
    answer = adapter.complete(make_call())
    assert answer.text.startswith("Sorry 🦙 \ufffd")
    assert (answer.usage, answer.stop_reason) == (Usage(21, 7, service_tier=dialect.tier), "max_tokens")


def test_of_keys_that_are_there_twice_the_last_counts(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    written = json.dumps(dialect.answer("ok"))
    server.script(Reply(200, f'{{"{dialect.usage_field}": {{"x": 1}}, {written[1:]}'.encode()))
    answer = adapter.complete(make_call())
    assert (answer.text, answer.usage) == ("ok", Usage(21, 7, service_tier=dialect.tier))


@pytest.mark.parametrize("head", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"])
def test_a_head_before_the_head(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, head: bytes
) -> None:
    body = json.dumps(dialect.answer("ok")).encode()
    server.script(Raw(head + b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    assert adapter.complete(make_call()).text == "ok"


def test_more_choices_than_one(server: WireServer, monkeypatch: pytest.MonkeyPatch, make_call: Make) -> None:
    """The first counts, and the usage of all."""
    for one in (one for one in DIALECTS if isinstance(one, OpenAIDialect) and not isinstance(one, ResponsesDialect)):
        body = one.answer("first")
        body["choices"] += one.answer("second")["choices"]
        with WireServer() as running:
            running.script(Reply(200, body))
            answer = one.adapter(running.url, monkeypatch).complete(
                ModelRequest(one.model, "m", "", (Message("user", "hi"),), 10.0)
            )
        assert (answer.text, answer.usage) == ("first", Usage(21, 7))


def test_too_large_an_answer(dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make) -> None:
    error = failure_of(server, adapter, make_call(), Reply(200, b" " * (21 * 1024 * 1024)))
    assert type(error) is InvalidModelResponse
    assert "20 MB" in str(error)


OPENAI = OpenAIDialect()


def _minimax(code: int, said: str) -> Reply:
    return Reply(200, {"id": "1", "choices": None, "base_resp": {"status_code": code, "status_msg": said}})


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        (1002, "rate limit", ModelThrottled),
        (1039, "token limit", ModelThrottled),
        (1008, "insufficient balance", ModelThrottled),
        (1004, "login fail", CredentialsRejected),
        (1026, "input new_sensitive", ContentFiltered),
        (2013, "invalid params", ModelRequestRejected),
        (1000, "unknown error", ModelUnavailable),
        (99999, "what comes next", ModelUnavailable),
    ],
)
@pytest.mark.parametrize("dialect", [OPENAI], ids=lambda one: one.name)
def test_an_error_with_a_code_of_its_own_under_status_200(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, code: int, said: str, kind: type
) -> None:
    error = failure_of(server, adapter, make_call(), _minimax(code, said))
    assert type(error) is kind
    assert said in str(error)


TEXT: list[dict[str, Any]] = [
    {"message": {"content": [{"type": "output_text", "text": "a"}, {"type": "text", "text": "b"}]}},
    {"message": {"content": ["a", "b"]}},
    {"message": {"content": {"type": "text", "text": "ab"}}},
    {"delta": {"content": "ab"}},
    {"text": "ab"},
]
CALLS: list[dict[str, Any]] = [
    {"message": {"content": None, "function_call": {"name": "now", "arguments": "{}"}}},
    {"message": {"content": None, "tool_calls": {"id": "1", "function": {"name": "now", "arguments": "{}"}}}},
    {"message": {"content": None, "tool_calls": [{"id": "1", "name": "now", "arguments": {}}]}},
    {"message": {"content": '<tool_call>{"name": "now", "arguments": {}}</tool_call>'}},
]


@pytest.mark.parametrize("dialect", [OPENAI], ids=lambda one: one.name)
def test_an_answer_in_an_odd_form_is_read(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    body = dialect.answer("")
    for choice in (*TEXT, *CALLS):
        server.script(Reply(200, {**body, "choices": [{**choice, "finish_reason": "stop"}]}))
        answer = adapter.complete(make_call(tools=(ToolSpec("now", "The time.", {"type": "object"}),)))
        assert answer.text == ("ab" if choice in TEXT else "")
        assert [call.name for call in answer.tool_calls] == ([] if choice in TEXT else ["now"])
        assert answer.stop_reason == ("end" if choice in TEXT else "tool_calls")
    refusal = {"message": {"content": [{"type": "refusal", "refusal": "No."}]}, "finish_reason": "stop"}
    server.script(Reply(200, {**body, "choices": [refusal]}))
    with pytest.raises(ContentFiltered):
        adapter.complete(make_call())


@pytest.mark.parametrize("dialect", [OPENAI], ids=lambda one: one.name)
def test_counts_of_nothing_for_an_answer_are_no_counts(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    server.script(Reply(200, {**dialect.answer("Noon."), "usage": zeros}))
    usage = adapter.complete(make_call()).usage
    assert usage.estimated
    assert usage.input_tokens > 0


@pytest.mark.parametrize("dialect", [OPENAI], ids=lambda one: one.name)
def test_an_answer_whose_calls_are_in_another_choice(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make
) -> None:
    body = dialect.answer("I shall look.", (), "tools")
    other = dialect.answer("", [("call_1", "now", {})], "tools")["choices"][0]
    odd = [None, {"message": None}, {"message": {"tool_calls": "x"}}]
    body["choices"] += [{**other, "index": 1}, *odd]
    good = {**body, "base_resp": {"status_code": 0, "status_msg": ""}}
    server.script(Reply(200, good), Reply(200, body), Reply(200, {**body, "choices": [*body["choices"][:1], *odd]}))
    answer = adapter.complete(make_call())
    assert (answer.text, [call.id for call in answer.tool_calls]) == ("I shall look.", ["call_1"])
    assert answer.stop_reason == "tool_calls"
    assert adapter.complete(make_call(options={"n": 2})).tool_calls == ()  # two were asked for: the first counts
    assert adapter.complete(make_call()).text == "I shall look."


@pytest.mark.parametrize("dialect", [OPENAI], ids=lambda one: one.name)
@pytest.mark.parametrize(
    "message",
    [
        {"function_call": {"name": "now", "arguments": "{}"}},
        {"tool_calls": {"id": "call_0", "function": {"name": "now", "arguments": "{}"}}},
    ],
)
def test_calls_of_another_choice_may_have_any_form_of_a_call(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, message: dict[str, Any]
) -> None:
    body = dialect.answer("I shall look.", (), "end")
    body["choices"].append({"index": 1, "finish_reason": "tool_calls", "message": {"role": "assistant", **message}})
    server.script(Reply(200, body))
    answer = adapter.complete(make_call())
    assert (answer.text, [call.name for call in answer.tool_calls]) == ("I shall look.", ["now"])


@pytest.mark.parametrize("dialect", [OPENAI], ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("null", {}),
        (" [] ", {}),
        ('""', {}),
        (json.dumps(json.dumps({"zone": "UTC"})), {"zone": "UTC"}),
        ('{"zone": "U\n\tC"}', {"zone": "U\n\tC"}),  # no JSON, and what many write into long texts
        ("[1]", None),
        ("7", None),
        ('"UTC"', None),
        ("false", None),
    ],
)
def test_arguments_that_are_none_and_arguments_that_are_written_twice(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, written: str, meant: Any
) -> None:
    body = dialect.answer("", [("call_1", "now", {})], "tools")
    body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = written
    server.script(Reply(200, body))
    [call] = adapter.complete(make_call()).tool_calls
    assert call.arguments == meant
    assert call.raw == written
