"""A reasoning effort that a model refuses, and of which no rule knows: it is asked at the nearest that the refusal
names, or without one, the answer says so, and the process remembers it."""

from __future__ import annotations

from typing import Any

import pytest
from support.dialects import AnthropicDialect, BedrockDialect, Dialect, OpenAIDialect, ResponsesDialect
from support.dialects.base import adapter_of, request_to
from support.wire_server import Reply, WireServer

from loopllama.errors import ModelRequestRejected

OPENAI = OpenAIDialect()


@pytest.mark.parametrize(
    ("status", "said", "asked", "sent"),
    [
        # OpenAI, and those who have its words
        (
            400,
            "Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. Supported values are: "
            "'low', 'medium', and 'high'.",
            "minimal",
            "low",
        ),
        (
            400,
            "Unsupported value: 'reasoning_effort' does not support 'medium' with this model. Supported values are: "
            "'low', 'high', and 'max'",
            "medium",
            "low",
        ),
        (400, "Unsupported parameter: 'reasoning_effort' is not supported with this model.", "low", None),
        (400, "Unrecognized request argument supplied: reasoning_effort", "high", None),
        (400, "reasoning_effort max is not supported for this model", "max", None),
        # github.com/router-for-me/CLIProxyAPI, issues 1307 and 1572
        (
            400,
            "Validation error for `reasoning_effort`: expected one of `'low' | 'medium' | 'high'`, received `'xhigh'`.",
            "xhigh",
            "high",
        ),
        (
            422,
            "[{'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'low', 'medium' or 'high'\", "
            "'input': 'max'}]",
            "max",
            "high",
        ),
        # Groq's Qwen thinks, or does not
        (400, "`reasoning_effort` must be one of `none` or `default`", "low", None),
        # github.com/openai/openai-openapi, issue 541
        (
            400,
            "Function tools with reasoning_effort are not supported for m in /v1/chat/completions. To use function "
            "tools, use /v1/responses or set reasoning_effort to 'none'.",
            "high",
            "none",
        ),
        # Gemini, Ollama, a gateway
        (400, "Thinking level MINIMAL is not supported for this model.", "minimal", None),
        (500, 'think value "medium" is not supported for this model', "medium", None),
        (400, '"m" does not support thinking', "low", None),
        (
            500,
            "Unexpected reasoning effort high. Supported types are xhigh (default), medium, and low.",
            "high",
            "medium",
        ),
    ],
)
@pytest.mark.parametrize("by", ["name", "options", "openrouter"])
def test_what_only_a_refusal_says(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, status: int, said: str, asked: str, sent: str | None, by: str
) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    adapter = adapter_of("house")
    server.script(OPENAI.error(status, "", said), *[Reply(200, OPENAI.answer("ok"))] * 2)
    ways: dict[str, dict[str, Any]] = {
        "name": {"effort": asked},
        "options": {"options": {"reasoning_effort": asked}},
        "openrouter": {"options": {"reasoning": {"effort": asked, "exclude": True}}},
    }
    for _ in range(2):
        answer = adapter.complete(request_to(OPENAI, model="m", **ways[by]))
        body = server.requests[-1].json
        assert (body["reasoning"].get("effort") if by == "openrouter" else body.get("reasoning_effort")) == sent
        assert by != "openrouter" or body["reasoning"]["exclude"] is True
        how = f"sent as {sent!r}" if sent else "not sent"
        assert answer.mode_refused == f"the effort {asked!r} was {how}: the model refused it"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("dialect", "said", "effort_of"),
    [
        (
            AnthropicDialect(),
            "This model does not support the effort parameter.",
            lambda body: body.get("output_config", {}).get("effort"),
        ),
        (
            ResponsesDialect(),
            "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
            lambda body: body.get("reasoning", {}).get("effort"),
        ),
        (
            BedrockDialect(),
            "The model returned the following errors: This model does not support the effort parameter.",
            lambda body: body.get("additionalModelRequestFields", {}).get("output_config", {}).get("effort"),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Dialect) else None,
)
def test_of_every_wire_format(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, dialect: Dialect, said: str, effort_of: Any
) -> None:
    adapter = dialect.adapter(server.url, monkeypatch)
    status, code, _ = dialect.bad_request
    server.script(dialect.error(status, code, said), Reply(200, dialect.answer("ok")))
    answer = adapter.complete(request_to(dialect, effort="low"))
    assert answer.mode_refused == "the effort 'low' was not sent: the model refused it"
    assert [effort_of(request.json) for request in server.requests] == ["low", None]


def test_one_that_is_refused_again_is_left_out(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """github.com/mistralai/mistral-vibe, issue 1117: two checks of one provider name different ones."""
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    first = "reasoning_effort must be one of none, minimal, low, medium, high, xhigh, max"
    second = "reasoning_effort 'minimal' is not supported: expected one of ['low', 'high', 'max']"
    server.script(OPENAI.error(422, "", first), OPENAI.error(400, "", second), Reply(200, OPENAI.answer("ok")))
    adapter_of("house").complete(request_to(OPENAI, model="m", effort="low"))
    assert [request.json.get("reasoning_effort") for request in server.requests] == ["low", "minimal", None]


def test_a_refusal_of_something_else_changes_no_effort(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    server.script(OPENAI.error(400, "", "property 'seed' is unsupported"))
    with pytest.raises(ModelRequestRejected):
        adapter_of("house").complete(request_to(OPENAI, model="m", effort="low"))
    assert len(server.requests) == 1
