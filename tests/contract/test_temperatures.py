"""A temperature that is higher than a model takes is sent as the highest that it takes, and the answer says so."""

from __future__ import annotations

from typing import Any

import pytest
from support.dialects import AnthropicDialect, BedrockDialect, Dialect, OpenAIDialect
from support.dialects.base import adapter_of, request_to
from support.dialects.claude_elsewhere import ClaudeByChat
from support.wire_server import Reply, WireServer

ANTHROPIC, BEDROCK, OPENAI, ELSEWHERE = AnthropicDialect(), BedrockDialect(), OpenAIDialect(), ClaudeByChat()


def adapter_at(dialect: Dialect, server: WireServer, patch: pytest.MonkeyPatch) -> Any:
    server.refuses = dialect.refusal
    if dialect is ELSEWHERE:
        patch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
        return adapter_of("house")
    return dialect.adapter(server.url, patch)


@pytest.mark.parametrize("asked", [0, 0.7, 1, 1.5, 2])
@pytest.mark.parametrize(
    ("dialect", "model", "why"),
    [
        (ANTHROPIC, "claude-haiku-4-5", "Claude takes 0 to 1"),
        (ELSEWHERE, "anthropic/claude-sonnet-4.5", "Claude takes 0 to 1"),
        (BEDROCK, BEDROCK.model, "Claude takes 0 to 1"),
        (BEDROCK, "us.amazon.nova-pro-v1:0", "Converse takes 0 to 1, of every model"),
        (BEDROCK, "us.meta.llama3-3-70b-instruct-v1:0", "Converse takes 0 to 1, of every model"),
        (OPENAI, "gpt-4o", None),
    ],
    ids=["anthropic", "elsewhere", "claude on bedrock", "nova", "llama", "openai"],
)
def test_what_is_known_to_be_too_high(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, dialect: Dialect, model: str, why: str | None, asked: float
) -> None:
    server.script(Reply(200, dialect.answer("ok")))
    answer = adapter_at(dialect, server, monkeypatch).complete(request_to(dialect, model=model, temperature=asked))
    sent = asked if why is None else min(asked, 1)
    assert (dialect.seen(server.requests[-1]).temperature, server.refused) == (sent, 0)
    assert answer.mode_refused == ("" if sent == asked else f"the temperature {asked:g} was sent as 1: {why}")


@pytest.mark.parametrize(
    ("said", "asked", "sent"),
    [
        ("temperature: range: 0..1", 1.5, 1),
        ("temperature: range: -1 or 0..1", 1.5, 1),
        ("Invalid request: temperature must be between 0 and 1", 1.2, 1),
        ("invalid params, temperature should be in (0, 1]", 1.5, 1),
        ("Invalid temperature value, the valid range of temperature is [0, 1.5]", 1.8, 1.5),
        ("'temperature' must be float in [0.0, 2.0) - 'temperature'", 2, 1.99),
        (
            "Value '1.5' at 'temperature' failed to satisfy constraint: Member must have value less than or equal to 1",
            1.5,
            1,
        ),
        (
            '[{"loc": ["body", "temperature"], "msg": "Input should be less than or equal to 1.5", "input": 1.8}]',
            1.8,
            1.5,
        ),
        ("temperature: temperature must be in the range [0.0, 1.0].", 1.5, 1),
        ("Invalid value for 'temperature': must be at most 1, not 1.5.", 1.5, 1),
        ("invalid temperature: only 1 is allowed for this model", 0.2, None),
        ("Unsupported value: only temperature=1 is supported with this model", 0.2, None),
    ],
)
def test_what_only_a_refusal_says(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, said: str, asked: float, sent: float | None
) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    adapter = adapter_of("house")
    server.script(OPENAI.error(400, "", said), *[Reply(200, OPENAI.answer("ok"))] * 2)
    for _ in range(2):
        answer = adapter.complete(request_to(OPENAI, model="m", temperature=asked))
        assert server.requests[-1].json.get("temperature") == sent
        told = "" if sent is None else f"the temperature {asked:g} was sent as {sent:g}: house takes no higher one"
        assert answer.mode_refused == told
    assert len(server.requests) == 3  # learnt for the process


def test_a_model_that_thinks_is_sent_none_and_nothing_is_said(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script(Reply(200, ANTHROPIC.answer("ok")))
    options = {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    call = request_to(ANTHROPIC, model="claude-haiku-4-5", temperature=1.5, options=options, max_tokens=9000)
    answer = adapter_at(ANTHROPIC, server, monkeypatch).complete(call)
    assert ANTHROPIC.seen(server.requests[-1]).temperature is None
    assert (answer.mode_refused, server.refused) == ("", 0)


def test_one_that_is_refused_for_another_reason_is_the_agents_to_hear(
    server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    server.script(OPENAI.error(400, "", "temperature must be between 0 and 2"))
    with pytest.raises(Exception, match="between 0 and 2"):
        adapter_of("house").complete(request_to(OPENAI, temperature=1.5))
    assert len(server.requests) == 1
