"""What a model takes together, and what by the model behind a name: asked for in a way that its provider takes.

The stand-ins refuse what the providers refuse, in their words; a call that was refused shows in `server.refused`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from support.dialects import AnthropicDialect, AzureDialect, BedrockDialect, Dialect, GoogleDialect, OpenAIDialect
from support.dialects.anthropic import together_refused
from support.dialects.base import adapter_of, request_to
from support.dialects.others import (
    CerebrasBesideToolsDialect,
    CerebrasDialect,
    EarlierMistralDialect,
    ForeignAtAzureDialect,
    GroqDialect,
    LmStudioDialect,
    WordsOnlyDialect,
)
from support.wire_server import Reply, WireServer

from loopllama.llm.structured_output import TOOL_NAME
from loopllama.llm.types import Identity, Message, Provider, ToolCall, ToolSpec

ANTHROPIC, BEDROCK, OPENAI = AnthropicDialect(), BedrockDialect(), OpenAIDialect()
AZURE, GOOGLE, GROQ = AzureDialect(), GoogleDialect(), GroqDialect()
NOW = ToolSpec("now", "The time.", {"type": "object", "properties": {}})
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}},
    "required": ["label"],
    "additionalProperties": False,
}
VALUE = {"label": "billing"}
CLAUDES = pytest.mark.parametrize("dialect", [ANTHROPIC, BEDROCK], ids=lambda one: one.name)


@pytest.fixture
def patch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def asked(dialect: Dialect, server: WireServer, patch: pytest.MonkeyPatch) -> Provider:
    server.refuses = dialect.refusal
    return dialect.adapter(server.url, patch)


def own(dialect: Dialect, options: Mapping[str, Any]) -> dict[str, Any]:
    """Claude's own parameters where the dialect has them."""
    return {"additionalModelRequestFields": dict(options)} if dialect is BEDROCK else dict(options)


def sent(dialect: Dialect, server: WireServer) -> tuple[dict[str, Any], int]:
    """Claude's own parameters, and the limit, of the last request."""
    body = server.requests[-1].json
    if dialect is BEDROCK:
        return body.get("additionalModelRequestFields", {}), body["inferenceConfig"]["maxTokens"]
    return body, body["max_tokens"]


@CLAUDES
@pytest.mark.parametrize(
    ("budget", "max_tokens", "max_output", "thinks", "limit"),
    [
        (4096, 16_000, 64_000, 4096, 16_000),
        (4096, 4096, 64_000, 2048, 4096),  # the agent's limit, or what a budget in USD has left, counts more
        (4096, 3000, 64_000, 1500, 3000),
        (4096, 2047, 64_000, None, 2047),
        (4096, 500, 64_000, None, 500),
        (32_000, None, 64_000, 32_000, 40_192),  # nobody has set a limit: there is room for both
        (63_000, None, 64_000, 63_000, 64_000),
        (64_000, None, 64_000, 32_000, 64_000),
        (1024, 1025, 64_000, 1024, 1025),
    ],
)
def test_a_thinking_budget_leaves_room_for_the_answer(
    dialect: Dialect,
    server: WireServer,
    patch: pytest.MonkeyPatch,
    budget: int,
    max_tokens: int | None,
    max_output: int,
    thinks: int | None,
    limit: int,
) -> None:
    server.script(Reply(200, dialect.answer("ok")))
    options = own(dialect, {"thinking": {"type": "enabled", "budget_tokens": budget}})
    adapter = asked(dialect, server, patch)
    adapter.complete(request_to(dialect, options=options, max_tokens=max_tokens, max_output=max_output))
    body, found = sent(dialect, server)
    assert (body.get("thinking", {}).get("budget_tokens"), found) == (thinks, limit)
    assert server.refused == 0


@CLAUDES
@pytest.mark.parametrize("thinking", [{"type": "enabled", "budget_tokens": 2048}, {"type": "adaptive"}])
def test_sampling_beside_thinking(
    dialect: Dialect, server: WireServer, patch: pytest.MonkeyPatch, thinking: dict[str, Any]
) -> None:
    server.script(*[Reply(200, dialect.answer("ok"))] * 2)
    adapter = asked(dialect, server, patch)
    for top_p, stays in ((0.5, False), (0.95, True)):
        options = own(dialect, {"thinking": thinking, "top_k": 5, "top_p": top_p})
        adapter.complete(request_to(dialect, options=options, temperature=0.2, max_tokens=4000))
        body, _ = sent(dialect, server)
        assert "top_k" not in body
        assert ("top_p" in body) is stays
        assert dialect.seen(server.requests[-1]).temperature is None
    assert server.refused == 0


@CLAUDES
def test_one_of_temperature_and_top_p(dialect: Dialect, server: WireServer, patch: pytest.MonkeyPatch) -> None:
    server.script(*[Reply(200, dialect.answer("ok"))] * 2)
    adapter = asked(dialect, server, patch)
    options = {"inferenceConfig": {"topP": 0.5}} if dialect is BEDROCK else {"top_p": 0.5}
    adapter.complete(request_to(dialect, options=options, temperature=0.2, max_tokens=4000))
    assert dialect.seen(server.requests[-1]).temperature == 0.2
    assert b"0.5" not in server.requests[-1].body
    adapter.complete(request_to(dialect, options=options, max_tokens=4000))
    assert b"0.5" in server.requests[-1].body
    assert server.refused == 0


@pytest.mark.parametrize(
    ("dialect", "model", "why"),
    [
        (GOOGLE, "gemini-2.5-flash", "Gemini before 3 takes no schema beside tools"),
        (GROQ, GROQ.model, "Groq takes no schema beside tools"),
        (CerebrasBesideToolsDialect(), "gpt-oss-120b", "Cerebras takes no schema beside tools"),
    ],
    ids=["google", "groq", "cerebras"],
)
def test_a_schema_beside_tools_is_asked_for_otherwise_and_the_answer_says_why(
    dialect: Dialect, server: WireServer, patch: pytest.MonkeyPatch, model: str, why: str
) -> None:
    server.script(Reply(200, dialect.answer("", [("call_1", TOOL_NAME, VALUE)], "tools")))
    adapter = asked(dialect, server, patch)
    answer = adapter.complete(request_to(dialect, model=model, tools=(NOW,), output_schema=SCHEMA))
    assert (json.loads(answer.text), answer.output_mode, server.refused) == (VALUE, "tool", 0)
    assert answer.mode_refused == f"native structured output was not used: {why}"


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC, BEDROCK], ids=lambda one: one.name)
def test_the_answer_tool_is_not_for_models_without_tools(
    dialect: Dialect, server: WireServer, patch: pytest.MonkeyPatch
) -> None:
    said = "This model does not support output format: json_schema, output_config."
    adapter = asked(dialect, server, patch)
    code = "ValidationException" if dialect is BEDROCK else "invalid_request_error"
    server.refuses = lambda request: dialect.error(400, code, said) if dialect.seen(request).schema else None
    server.script(Reply(200, dialect.answer(json.dumps(VALUE))))
    answer = adapter.complete(request_to(dialect, output_schema=SCHEMA, can_call_tools=False))
    assert answer.output_mode == "instructions"
    assert "the answer tool was not used: the catalog's entry has no `tools`" in answer.mode_refused


@pytest.mark.parametrize(
    ("dialect", "forced", "mode"),
    [
        (LmStudioDialect(), "required", "tool"),
        (EarlierMistralDialect(), "any", "tool"),
        (CerebrasDialect(), None, None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_tool_is_forced_by_the_word_that_the_server_knows(
    dialect: WordsOnlyDialect, server: WireServer, patch: pytest.MonkeyPatch, forced: str | None, mode: str | None
) -> None:
    patch.setenv("WORDS_ONLY_BASE_URL", f"{server.url}/v1")
    server.refuses = dialect.refusal
    adapter = adapter_of("words-only")
    as_tool = Reply(200, dialect.answer("", [("call_1", TOOL_NAME, VALUE)], "tools"))
    server.script(*[as_tool if forced else Reply(200, dialect.answer(json.dumps(VALUE)))] * 2)
    for _ in range(2):
        answer = adapter.complete(request_to(dialect, output_schema=SCHEMA, output_mode="tool"))
        assert (json.loads(answer.text), answer.output_mode) == (VALUE, mode or "instructions")
        assert server.requests[-1].json.get("tool_choice") == forced
    assert server.refused == 1  # learnt for the process


@pytest.mark.parametrize("known", [True, False], ids=["same_as", "learnt"])
def test_a_deployment_whose_name_does_not_say_its_model(
    server: WireServer, patch: pytest.MonkeyPatch, known: bool
) -> None:
    adapter = asked(AZURE, server, patch)
    server.script(*[Reply(200, AZURE.answer("ok"))] * 2)
    behind = Identity("openai", "gpt-5-mini") if known else None
    for _ in range(2):
        adapter.complete(request_to(AZURE, model="support-prod", stands_for=behind, temperature=0.2, max_tokens=500))
        seen = AZURE.seen(server.requests[-1])
        assert (seen.temperature, seen.max_tokens) == (None, 500)
    assert server.refused == (0 if known else 1)


@pytest.mark.parametrize("known", [True, False], ids=["same_as", "learnt"])
def test_a_model_of_others_at_azure(server: WireServer, patch: pytest.MonkeyPatch, known: bool) -> None:
    dialect = ForeignAtAzureDialect()
    adapter = asked(dialect, server, patch)
    server.script(*[Reply(200, dialect.answer("ok"))] * 2)
    behind = Identity("mistral", "mistral-large-2512") if known else None
    for _ in range(2):
        adapter.complete(request_to(dialect, stands_for=behind, max_tokens=500))
        assert server.requests[-1].json["max_tokens"] == 500
    assert server.refused == (0 if known else 1)


def test_what_is_refused_at_one_effort_is_still_said_at_another(server: WireServer, patch: pytest.MonkeyPatch) -> None:
    """While it thinks a model may take no temperature and let no tool be forced; else it takes both."""

    def refuses(request: Any) -> Reply | None:
        if request.json.get("reasoning_effort") != "high":
            return None
        for field in ("temperature", "tool_choice"):
            if field in request.json:
                return Reply(400, {"error": {"message": f"'{field}' is not supported with this reasoning effort."}})
        return None

    patch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    server.refuses = refuses
    adapter = adapter_of("house")
    as_tool = Reply(200, OPENAI.answer("", [("call_1", TOOL_NAME, VALUE)], "tools"))
    as_text = Reply(200, OPENAI.answer(json.dumps(VALUE)))
    server.script(as_text, as_tool, as_text, as_tool)
    modes = []
    for effort in ("high", "", "high", "low"):
        name = f"m@{effort}" if effort else "m"
        made = request_to(
            OPENAI, catalog_id=name, effort=effort, temperature=0.2, output_schema=SCHEMA, output_mode="tool"
        )
        modes.append(adapter.complete(made).output_mode)
        assert ("temperature" in server.requests[-1].json) == (effort != "high")
    assert modes == ["instructions", "tool", "instructions", "tool"]


def test_a_second_account_is_spoken_to_as_the_first(server: WireServer, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("OPENAI_EU_BASE_URL", f"{server.url}/v1")
    server.refuses = OPENAI.refusal
    server.script(Reply(200, OPENAI.answer(json.dumps(VALUE))))
    adapter = adapter_of("openai-eu")
    behind = Identity("openai", "gpt-5-mini")
    adapter.complete(
        request_to(OPENAI, model="gpt-5-mini", stands_for=behind, max_tokens=500, temperature=0.2, output_schema=SCHEMA)
    )
    seen = OPENAI.seen(server.requests[-1])
    assert (seen.max_tokens, seen.temperature, seen.strict, server.refused) == (500, None, True, 0)


@pytest.mark.parametrize("dialect", [OPENAI, GOOGLE, ANTHROPIC, BEDROCK], ids=lambda one: one.name)
def test_parameters_of_tools_are_said_as_the_provider_takes_them(
    dialect: Dialect, server: WireServer, patch: pytest.MonkeyPatch
) -> None:
    awkward = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "max": {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]},
            "pair": {"type": "array", "items": [{"type": "number"}, {"type": "number"}]},
            "kind": {"const": "a"},
        },
        "anyOf": [{"required": ["max"]}, {"required": ["pair"]}],
    }
    adapter = asked(dialect, server, patch)
    models = [dialect.model, *(["us.amazon.nova-pro-v1:0"] if dialect is BEDROCK else [])]
    for model in models:
        server.script(Reply(200, dialect.answer("ok")))
        adapter.complete(request_to(dialect, model=model, tools=(ToolSpec("look", "Look.", awkward),)))
    assert server.refused == 0


def test_thoughts_of_mistral_go_back_as_parts(server: WireServer, patch: pytest.MonkeyPatch) -> None:
    from support.dialects import MistralDialect

    dialect = MistralDialect()
    adapter = asked(dialect, server, patch)
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Look first."}], "closed": True}
    body = dialect.answer("", [("abcdefghi", "now", {})], "tools")
    body["choices"][0]["message"]["content"] = [thought, {"type": "text", "text": "I look."}]
    server.script(Reply(200, body), Reply(200, dialect.answer("noon")))
    first = adapter.complete(request_to(dialect, tools=(NOW,)))
    assert (first.text, first.thoughts and first.thoughts.value) == ("I look.", {"content": [thought]})
    messages = (
        Message("user", "When?"),
        Message("assistant", first.text, first.tool_calls, thoughts=first.thoughts),
        Message("tool", "12:00", tool_call_id=first.tool_calls[0].id),
    )
    adapter.complete(request_to(dialect, tools=(NOW,), messages=messages))
    said = server.requests[-1].json["messages"][1]
    assert said["content"] == [thought, {"type": "text", "text": "I look."}]
    assert server.refused == 0


@pytest.mark.parametrize(
    ("model", "goes_back"),
    [
        ("minimax.minimax-m2", True),
        ("openai.gpt-oss-120b-1:0", True),
        ("us.deepseek.r1-v1:0", False),
        (BEDROCK.model, False),
    ],
)
def test_unsigned_thoughts_of_bedrocks_models(
    server: WireServer, patch: pytest.MonkeyPatch, model: str, goes_back: bool
) -> None:
    adapter = asked(BEDROCK, server, patch)
    body = BEDROCK.answer("", [("call_1", "now", {})], "tools")
    thought = {"reasoningContent": {"reasoningText": {"text": "Look first."}}}
    body["output"]["message"]["content"].insert(0, thought)
    server.script(Reply(200, body), Reply(200, BEDROCK.answer("noon")))
    first = adapter.complete(request_to(BEDROCK, model=model, tools=(NOW,)))
    messages = (
        Message("user", "When?"),
        Message("assistant", "", (ToolCall("call_1", "now", {}),), thoughts=first.thoughts),
        Message("tool", "12:00", tool_call_id="call_1"),
    )
    adapter.complete(request_to(BEDROCK, model=model, tools=(NOW,), messages=messages))
    assert (thought in server.requests[-1].json["messages"][1]["content"]) is goes_back
    assert server.refused == 0


NEWER = ("claude-opus-4-7", "claude-opus-4-8@20260601", "claude-sonnet-5", "claude-fable")


@CLAUDES
@pytest.mark.parametrize("model", [*NEWER, "claude-opus-4-6", "claude-haiku-4-5"])
def test_thinking_by_a_budget_where_there_is_none_any_more(
    dialect: Dialect, server: WireServer, patch: pytest.MonkeyPatch, model: str
) -> None:
    server.script(Reply(200, dialect.answer("ok")))
    thinking = {"type": "enabled", "budget_tokens": 4000, "display": "omitted"}
    options = own(dialect, {"thinking": thinking, "top_k": 5, "top_p": 0.96})
    named = f"us.anthropic.{model.partition('@')[0]}" if dialect is BEDROCK else model
    adapter = asked(dialect, server, patch)
    adapter.complete(request_to(dialect, model=named, options=options, temperature=0.2, max_tokens=9000, effort="low"))
    body, limit = sent(dialect, server)
    newer = model in NEWER
    assert body["thinking"] == ({"type": "adaptive", "display": "omitted"} if newer else thinking)
    assert (body["output_config"], limit) == ({"effort": "low"}, 9000)
    assert ("top_p" in body, "top_k" in body) == (not newer, False)
    assert server.refused == 0


def test_the_stand_in_of_claude_refuses_what_does_not_go_together() -> None:
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    assert together_refused(thinking, 2001, forced=False) is None
    assert together_refused({}, 10, forced=True) is None
    for body, limit, forced in (
        (thinking, 2000, False),
        (thinking, 4000, True),
        ({"thinking": {"type": "enabled", "budget_tokens": 1023}}, 4000, False),
        ({**thinking, "temperature": 0.5}, 4000, False),
        ({**thinking, "top_k": 5}, 4000, False),
        ({**thinking, "top_p": 0.9}, 4000, False),
    ):
        assert together_refused(body, limit, forced=forced)
