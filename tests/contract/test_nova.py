"""Nova 2, which takes no limits at its highest effort."""

from __future__ import annotations

from typing import Any

import pytest
from support.dialects import BedrockDialect
from support.wire_server import Reply, WireServer

from loopllama.llm.types import Message, ModelRequest

DIALECT = BedrockDialect()
HIGH = {"additionalModelRequestFields": {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}}
MEDIUM = {"additionalModelRequestFields": {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}}
AGENTS: dict[str, Any] = {"max_tokens": 500, "temperature": 0.3}
ALL = {"maxTokens": 500, "temperature": 0.3}


@pytest.mark.parametrize(
    ("asked", "effort", "limits"),
    [
        # The agent's limit, or what a budget has left, counts more than the effort.
        ({"options": HIGH, **AGENTS}, "medium", ALL),
        ({"effort": "high", **AGENTS}, "medium", ALL),
        ({"options": MEDIUM, **AGENTS}, "medium", ALL),
        ({"effort": "low", **AGENTS}, "low", ALL),
        ({"options": HIGH, "temperature": 0.3, "max_output": 64_000}, "high", None),
        ({"options": HIGH, **AGENTS, "limit_unasked": True}, "high", None),
        (
            {"options": {**HIGH, "inferenceConfig": {"topP": 0.5, "stopSequences": ["."]}}},
            "high",
            {"stopSequences": ["."]},
        ),
        (AGENTS, None, ALL),
    ],
)
def test_limits_beside_an_effort(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], effort: str | None, limits: Any
) -> None:
    server.refuses = DIALECT.refusal
    adapter = DIALECT.adapter(server.url, monkeypatch)
    server.script(Reply(200, DIALECT.answer("ok")))
    model = "us.amazon.nova-2-lite-v1:0"
    adapter.complete(ModelRequest(model, "m", "", (Message("user", "Go."),), 10.0, **asked))
    body = server.requests[-1].json
    found = body.get("additionalModelRequestFields", {}).get("reasoningConfig", {}).get("maxReasoningEffort")
    assert (found, body.get("inferenceConfig")) == (effort, limits)
    assert server.refused == 0
