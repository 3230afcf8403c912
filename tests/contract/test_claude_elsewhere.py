"""Claude behind servers that speak OpenAI's formats: whatever an agent asks for goes together when it is sent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support.dialects.base import KEY, Dialect, adapter_of, request_to
from support.dialects.bedrock_openai import BedrockChatDialect
from support.dialects.claude_elsewhere import ClaudeByChat, ClaudeByResponses, refused, thinking_of
from support.wire_server import Reply, WireServer

from loopllama.llm.structured_output import TOOL_NAME
from loopllama.llm.types import Identity, Message, Provider, Thoughts, ToolCall, ToolSpec
from loopllama.providers.openai_responses import OpenAIResponses
from loopllama.settings import Settings

NOW = ToolSpec("now", "The time.", {"type": "object", "properties": {}})
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
CHAT, RESPONSES = ClaudeByChat(), ClaudeByResponses()
NEWER = "claude-opus-4-8"
DIALECTS = pytest.mark.parametrize("dialect", [CHAT, RESPONSES], ids=["chat", "responses"])
THINKING: dict[str, dict[str, Any]] = {
    "as LiteLLM takes it": {"options": {"thinking": {"type": "enabled", "budget_tokens": 4096}}},
    "as OpenRouter takes it": {"options": {"reasoning": {"max_tokens": 4096}}},
    "OpenRouter's effort": {"options": {"reasoning": {"effort": "high"}}},
    "an effort in the options": {"options": {"reasoning_effort": "high"}},
    "an effort in the model's name": {"effort": "high"},
}
WAYS = pytest.mark.parametrize("way", THINKING.values(), ids=THINKING)


def adapter_at(dialect: Dialect, server: WireServer, patch: pytest.MonkeyPatch) -> Provider:
    server.refuses = dialect.refusal
    patch.setenv("HOUSE_BASE_URL", f"{server.url}{dialect.path}")
    patch.setenv("HOUSE_API_KEY", KEY)
    chat = adapter_of("house")
    return chat if dialect is CHAT else OpenAIResponses("house", Settings())


def sent(server: WireServer) -> dict[str, Any]:
    body: dict[str, Any] = server.requests[-1].json
    return body


def limit_of(body: dict[str, Any]) -> int | None:
    found: int | None = body.get("max_tokens", body.get("max_output_tokens"))
    return found


def turn(thoughts: Thoughts | None) -> tuple[Message, ...]:
    asked = Message("assistant", "", (ToolCall("c1", "now", {}, "{}"),), thoughts=thoughts)
    return (Message("user", "When?"), asked, Message("tool", "noon", tool_call_id="c1"))


@DIALECTS
@WAYS
@pytest.mark.parametrize(
    ("max_tokens", "unasked", "limit", "budgets"),
    [
        (16_000, False, 16_000, {4096}),
        (4096, False, 4096, {2048}),
        (3000, False, 3000, {1500, 2048}),  # half of it, or the next effort below
        (1024, False, 1024, {None}),
        (500, False, 500, {None}),
        (None, False, None, {4096}),  # the proxy chooses a limit that leaves room
        (4000, True, 4096 + 8192, {4096}),
    ],
)
def test_a_thinking_budget_leaves_room_for_the_answer(
    dialect: Dialect,
    server: WireServer,
    monkeypatch: pytest.MonkeyPatch,
    way: dict[str, Any],
    max_tokens: int | None,
    unasked: bool,
    limit: int | None,
    budgets: set[int | None],
) -> None:
    adapter = adapter_at(dialect, server, monkeypatch)
    server.script(Reply(200, dialect.answer("ok")))
    adapter.complete(request_to(dialect, **way, max_tokens=max_tokens, limit_unasked=unasked, temperature=0.2))
    body = sent(server)
    by_effort = "effort" in str(way)
    budget = thinking_of(body).get("budget_tokens")
    assert budget in ({2048} if by_effort and unasked else budgets)
    assert limit_of(body) == (4000 if by_effort and unasked else limit)
    assert body.get("temperature") == (None if budget else 0.2)
    assert server.refused == 0


@DIALECTS
@WAYS
@pytest.mark.parametrize("model", ["claude-haiku-4-5", "anthropic/claude-sonnet-4.6", NEWER])
def test_sampling_beside_thinking(
    dialect: Dialect, server: WireServer, monkeypatch: pytest.MonkeyPatch, way: dict[str, Any], model: str
) -> None:
    adapter = adapter_at(dialect, server, monkeypatch)
    server.script(Reply(200, dialect.answer("ok")))
    options = {**way.get("options", {}), "top_k": 5, "top_p": 0.5}
    adapter.complete(request_to(dialect, **{**way, "options": options}, model=model, max_tokens=9000, temperature=0.2))
    assert not {"temperature", "top_p", "top_k"} & sent(server).keys()
    assert server.refused == 0


@DIALECTS
@WAYS
@pytest.mark.parametrize(
    ("thoughts", "thinks"),
    [
        (None, False),
        (Thoughts("house", "", {"reasoning_content": "Hm."}), False),
        (Thoughts("another", "m", {"reasoning_details": [{}]}), False),
        ("own", True),
    ],
    ids=["none", "unsigned", "another's", "its own"],
)
def test_after_calls_that_another_model_made_it_does_not_think(
    dialect: Dialect,
    server: WireServer,
    monkeypatch: pytest.MonkeyPatch,
    way: dict[str, Any],
    thoughts: Any,
    thinks: bool,
) -> None:
    if thoughts == "own":
        block = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
        item = {"type": "reasoning", "summary": [], "encrypted_content": "c2ln"}
        value = {"thinking_blocks": [block]} if dialect is CHAT else {"reasoning": [[0, item]]}
        thoughts = Thoughts("house", dialect.model, value)
    adapter = adapter_at(dialect, server, monkeypatch)
    server.script(Reply(200, dialect.answer("noon")))
    adapter.complete(
        request_to(dialect, **way, messages=turn(thoughts), tools=(NOW,), temperature=0.2, max_tokens=9000)
    )
    assert bool(thinking_of(sent(server))) is thinks
    assert server.refused == 0


@DIALECTS
@WAYS
def test_no_tool_is_forced_while_it_thinks(
    dialect: Dialect, server: WireServer, monkeypatch: pytest.MonkeyPatch, way: dict[str, Any]
) -> None:
    adapter = adapter_at(dialect, server, monkeypatch)
    server.script(Reply(200, dialect.answer('{"label": "a"}')))
    answer = adapter.complete(request_to(dialect, **way, output_schema=SCHEMA, output_mode="tool", max_tokens=9000))
    assert (answer.output_mode, server.refused) == ("instructions", 0)
    assert answer.mode_refused == "the answer tool was not used: Claude lets no tool be forced while it thinks"


@DIALECTS
def test_a_model_of_others_is_asked_as_it_was(
    dialect: Dialect, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DeepSeek, GLM and others have `thinking` too, and none of these rules."""
    adapter = adapter_at(dialect, server, monkeypatch)
    server.refuses = lambda request: dialect.refusal(request) if "claude" in request.json["model"] else None
    server.script(*[Reply(200, dialect.answer("noon"))] * 2)
    options = {"thinking": {"type": "enabled", "budget_tokens": 4096}, "top_p": 0.5}
    made = request_to(dialect, options=options, messages=turn(None), tools=(NOW,), temperature=0.2, max_tokens=500)
    for model, as_it_was in (("glm-5", True), ("claude-sonnet-4-5", False)):
        adapter.complete(replace(made, model=model))
        body = sent(server)
        assert (body.get("thinking") == options["thinking"]) is as_it_was
        assert (body["temperature"], body.get("top_p"), limit_of(body)) == (0.2, 0.5 if as_it_was else None, 500)


def test_a_name_that_does_not_say_claude_stands_for_it(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = adapter_at(CHAT, server, monkeypatch)
    behind = Identity("anthropic", "claude-sonnet-4-5")
    server.script(*[Reply(200, CHAT.answer('{"label": "a"}'))] * 2)
    options = {"thinking": {"type": "enabled", "budget_tokens": 4096}}
    made = request_to(CHAT, model="smart", stands_for=behind, options=options, temperature=0.2, max_tokens=3000)
    adapter.complete(made)
    assert thinking_of(sent(server))["budget_tokens"] == 1500
    assert adapter.complete(replace(made, output_schema=SCHEMA, output_mode="tool"))
    assert (sent(server).get("tool_choice"), server.refused) == (None, 0)


def test_claude_at_bedrocks_own_endpoints(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    dialect = BedrockChatDialect()
    adapter = dialect.adapter(server.url, monkeypatch)
    server.script(Reply(200, dialect.answer("ok")))
    model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    options = {"thinking": {"type": "enabled", "budget_tokens": 4096}}
    adapter.complete(request_to(dialect, model=model, options=options, temperature=0.2, max_tokens=3000))
    body = sent(server)
    assert (body["thinking"]["budget_tokens"], body["max_completion_tokens"]) == (1500, 3000)
    assert "temperature" not in body


def test_the_stand_in_refuses_what_does_not_go_together() -> None:
    messages = [("user", ["text"])]
    body = {"model": "claude-sonnet-4-5", "thinking": {"type": "enabled", "budget_tokens": 2000}}
    assert refused(body, 2001, messages) is None
    assert refused(body, None, messages) is None
    assert refused({"model": "claude-sonnet-4-5", "temperature": 0.2}, 10, messages) is None
    for more, limit in (
        ({}, 2000),
        ({"temperature": 0.2}, 4000),
        ({"tool_choice": {"type": "function", "function": {"name": TOOL_NAME}}}, 4000),
        ({"tool_choice": "required"}, 4000),
    ):
        assert refused({**body, **more}, limit, messages), json.dumps(more)
    assert refused({"model": "claude-sonnet-4-5", "reasoning_effort": "high"}, 4096, messages)
    assert refused({"model": "claude-sonnet-4-5", "reasoning": {"max_tokens": 4000}}, 2000, messages)
    assert refused(body, 4000, [*messages, ("assistant", ["tool_use"]), ("user", ["tool_result"])])
