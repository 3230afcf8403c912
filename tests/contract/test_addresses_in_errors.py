"""What an error says of the provider's address and key: where it asked, what may be missing, and no secret."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.wire_server import Drip, Reply, WireServer

from loopllama.errors import ContextTooLong, ModelError
from loopllama.llm.types import Message, ModelRequest
from loopllama.providers import openai
from loopllama.settings import Settings

CALL = ModelRequest("m", "house:m", "", (Message("user", "Hello"),), 5.0)


def failure(server: WireServer, monkeypatch: Any, reply: Any, path: str = "", key: str = "", **call: Any) -> str:
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}{path}")
    monkeypatch.setenv("HOUSE_API_KEY", key)
    server.script(reply)
    with pytest.raises(ModelError) as caught:
        openai.OpenAI("house", Settings()).complete(replace(CALL, **call))
    return str(caught.value)


PAGE = b"<!DOCTYPE html><html><body>nginx</body></html>"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(404, {"error": {"message": "Not Found"}}),
        Reply(405, {"detail": "Method Not Allowed"}),
        Reply(404, PAGE),
        Reply(502, PAGE),
        Reply(200, PAGE),
    ],
    ids=["404", "405", "404 page", "502 page", "200 page"],
)
def test_where_nobody_speaks_the_api_the_error_says_what_may_be_missing(
    server: WireServer, monkeypatch: Any, reply: Any
) -> None:
    error = failure(server, monkeypatch, reply)
    assert f"{server.url}/chat/completions" in error
    assert f"Most servers have the API below /v1: {server.url}/v1" in error
    assert "loopllama --stack NAME providers set house --base-url URL" in error
    assert "<" not in error
    error = failure(server, monkeypatch, reply, path="/v1")
    assert f"Is {server.url}/v1 the base URL" in error
    assert "below /v1" not in error


@pytest.mark.parametrize(
    "reply", [Reply(500, {"error": "down"}), Reply(429, {"error": "slow"}), Reply(200, b"hello"), Drip(b"HTTP/1.1 200")]
)
def test_every_error_names_the_address(server: WireServer, monkeypatch: Any, reply: Any) -> None:
    error = failure(server, monkeypatch, reply, timeout=0.3)
    assert f"{server.url}/chat/completions" in error
    assert "base URL" not in error


def test_nobody_answers_there(monkeypatch: Any) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(ModelError, match=r"house at http://127\.0\.0\.1:9/v1/chat/completions: cannot connect"):
        openai.OpenAI("house", Settings()).complete(CALL)


def test_an_address_is_shown_without_its_secrets() -> None:
    from loopllama.providers.error_mapping import shown

    assert shown("https://user:pw@h.example:8/openai/x?api-version=1&key=s#f") == "https://h.example:8/openai/x"


@pytest.mark.parametrize(("key", "kept"), [("x", True), ("none", True), ("1234567", True), ("sk-12345", False)])
def test_a_short_key_is_not_looked_for_in_texts(server: WireServer, monkeypatch: Any, key: str, kept: bool) -> None:
    said = f"none of the xylophones {key} exists"
    error = failure(server, monkeypatch, Reply(400, {"error": {"message": said}}), key=key)
    assert (said in error) is kept
    assert (key in error) is kept


def test_words_in_an_address_are_no_refusal_of_what_was_asked(server: WireServer, monkeypatch: Any) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    failure(
        server,
        monkeypatch,
        Reply(400, {"error": {"message": "bad"}}),
        path="/response_format/tools",
        output_schema=schema,
    )
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 8200 tokens (8 in the messages, "
        "8192 in the completion). Please reduce the length of the messages or completion.",
        "'max_tokens' or 'max_completion_tokens' is too large: 8192.",
    ],
)
def test_a_limit_that_nobody_has_set_goes_where_the_server_refuses_it(
    server: WireServer, monkeypatch: Any, said: str
) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", server.url)
    good = {"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}], "model": "m"}
    refusal = Reply(400, {"error": {"message": said}})
    server.script(refusal, Reply(200, good))
    from dataclasses import replace

    asked = replace(CALL, max_tokens=8192, limit_unasked=True)
    assert openai.OpenAI("house", Settings()).complete(asked).text == "Hello."
    bodies = [request.json for request in server.requests]
    assert [body.get("max_tokens") for body in bodies] == [8192, None]
    # One that the agent has set stays.
    server.script(refusal)
    with pytest.raises(ModelError):
        openai.OpenAI("house", Settings()).complete(replace(asked, limit_unasked=False))


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions", "/chat/completions/", "/models"])
def test_the_address_of_a_call_stands_for_the_base_url(server: WireServer, monkeypatch: Any, tail: str) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1{tail}")
    server.script(Reply(200, {"choices": [{"message": {"content": "Hi."}, "finish_reason": "stop"}]}))
    assert openai.OpenAI("house", Settings()).complete(CALL).text == "Hi."
    assert server.requests[0].path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("provider", "counted", "taken"), [("OLLAMA", 2050, False), ("OLLAMA", 4000, True), ("HOUSE", 2050, True)]
)
def test_an_answer_to_a_part_of_the_prompt_is_none(
    server: WireServer, monkeypatch: Any, provider: str, counted: int, taken: bool
) -> None:
    monkeypatch.setenv(f"{provider}_BASE_URL", f"{server.url}/v1")
    usage = {"prompt_tokens": counted, "completion_tokens": 7, "total_tokens": counted + 7}
    answer = {"choices": [{"message": {"content": "Filler."}, "finish_reason": "stop"}], "usage": usage}
    server.script(Reply(200, answer))
    text = "The password is ANANAS. " * 800  # 800 times five tokens with the full stop
    call = replace(CALL, messages=(Message("user", text),))
    adapter = openai.OpenAI(provider.lower(), Settings())
    if taken:
        assert adapter.complete(call).text == "Filler."
        return
    with pytest.raises(ContextTooLong, match="has read 2,050 tokens of a prompt of at least 4,0") as caught:
        adapter.complete(call)
    assert caught.value.usage.input_tokens == 2050  # type: ignore[attr-defined]
    assert (caught.value.next_model, caught.value.later) == (True, False)
