"""Models whose provider takes no system prompt: it opens the first message then, and the process remembers it."""

from __future__ import annotations

import json

import pytest
from support.dialects import BedrockDialect, Dialect, GoogleDialect, OpenAIDialect
from support.wire_server import Reply, WireServer

from loopllama.llm.types import Message, ModelRequest

BEDROCK, GOOGLE, OPENAI = BedrockDialect(), GoogleDialect(), OpenAIDialect()


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


SYSTEM_REFUSED = [
    (OPENAI, "System role not supported"),
    (OPENAI, "Only user and assistant roles are supported!"),
    (OPENAI, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
    (OPENAI, "Conversation roles must alternate user/assistant/user/assistant/..."),
    (OPENAI, "invalid params, chat content has invalid message role: system (2013)"),
    (GOOGLE, "Developer instruction is not enabled for models/gemma-3-27b-it"),
    (BEDROCK, "This model doesn't support system messages. Try again without a system message."),
]


@pytest.mark.parametrize(("dialect", "said"), SYSTEM_REFUSED, ids=lambda value: str(value)[:20])
def test_a_model_without_a_system_role(
    dialect: Dialect, server: WireServer, patch: pytest.MonkeyPatch, said: str
) -> None:
    code = "ValidationException" if dialect is BEDROCK else "invalid_request_error"
    good = Reply(200, dialect.answer("ok"))
    server.script(dialect.error(400, code, said), good, good)
    adapter = dialect.adapter(server.url, patch)
    call = ModelRequest(dialect.model, "m", "Be brief.", (Message("user", "Go."),), 10.0)
    for _ in range(2):
        assert adapter.complete(call).text == "ok"
    assert len(server.requests) == 3  # it was remembered
    for request in server.requests[1:]:
        messages = request.json["messages"]
        assert [one["role"] for one in messages] == ["user"]
        assert "Be brief." in json.dumps(messages[0])
        assert not request.json.get("system")
