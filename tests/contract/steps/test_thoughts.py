"""Thoughts that a provider wants back with its model's tool calls: sent again, through crashes, to nobody else."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from support.deployment import Killed
from support.dialects import (
    AnthropicDialect,
    BedrockDialect,
    BedrockResponsesDialect,
    DeepSeekDialect,
    Dialect,
    OpenAIDialect,
    ResponsesDialect,
)
from support.dialects.base import KEY, adapter_of
from support.dialects.openai_responses import REASONED
from support.step_here import Here
from support.wire_server import Reply, Request

from loopllama.llm.types import Provider
from loopllama.runs.step_writer import StepWriter

SECRET = "The customer wants a sum, so I calculate."
SIGNATURE = "EqQBCgIYAhIM-signature"
BLOB = base64.b64encode(b"encrypted thoughts").decode()
CALLS = [("call_1", "calculator", {"expression": "1+1"}), ("call_2", "calculator", {"expression": "2+2"})]


class Kimi(DeepSeekDialect):
    """Moonshot, a server that no provider of the catalog stands for."""

    name = "moonshot"
    model = "kimi-k2.5"

    def adapter(self, url: str, patch: pytest.MonkeyPatch) -> Provider:
        patch.setenv("MOONSHOT_API_KEY", KEY)
        patch.setenv("MOONSHOT_BASE_URL", url + self.path)
        return adapter_of(self.name)


class OpenRouter(OpenAIDialect):
    name = "openrouter"
    model = "anthropic/claude-sonnet-4.5"
    limit = "max_tokens"
    has: ClassVar[Mapping[str, Any]] = {
        "reasoning": SECRET,
        "reasoning_details": [
            {
                "type": "reasoning.text",
                "text": SECRET,
                "signature": SIGNATURE,
                "format": "anthropic-claude-v1",
                "index": 0,
            }
        ],
    }


class Cerebras(OpenAIDialect):
    name = "cerebras"
    model = "gpt-oss-120b"


DEEPSEEK, KIMI, OPENROUTER, CEREBRAS = DeepSeekDialect(), Kimi(), OpenRouter(), Cerebras()
ANTHROPIC, BEDROCK, OPENAI = AnthropicDialect(), BedrockDialect(), OpenAIDialect()


class Responses(ResponsesDialect):
    model = "gpt-5.5"


RESPONSES, BEDROCKS = Responses(), BedrockResponsesDialect()
REASONING = {"type": "reasoning", "summary": [], "encrypted_content": REASONED + SECRET + SIGNATURE}
THINKING = {"type": "enabled", "budget_tokens": 1024}
CLAUDE_BLOCKS = [
    {"type": "thinking", "thinking": SECRET, "signature": SIGNATURE},
    {"type": "redacted_thinking", "data": BLOB},
]
CONVERSE_BLOCKS = [
    {"reasoningContent": {"reasoningText": {"text": SECRET, "signature": SIGNATURE}}},
    {"reasoningContent": {"redactedContent": BLOB}},
]


def speaks(*dialects: Dialect) -> Any:
    return pytest.mark.parametrize("dialect", dialects, ids=lambda one: one.name, indirect=True)


thinking_dialects = speaks(DEEPSEEK, KIMI, OPENROUTER, CEREBRAS, ANTHROPIC, BEDROCK, RESPONSES, BEDROCKS)


def thinking(dialect: Dialect, text: str = "", calls: Any = CALLS, stop: str = "tools") -> Reply:
    """An answer with the thoughts before it, as this provider writes them."""
    body = dialect.answer(text, calls, stop)
    if dialect is ANTHROPIC:
        body["content"] = [*CLAUDE_BLOCKS, *body["content"]]
    elif isinstance(dialect, ResponsesDialect):
        body["output"][0] = {"id": "rs_1", **REASONING}
    elif dialect is BEDROCK:
        content = body["output"]["message"]["content"]
        body["output"]["message"]["content"] = [*CONVERSE_BLOCKS, *content]
    else:
        field = {"reasoning": SECRET} if dialect is CEREBRAS else {"reasoning_content": SECRET}
        body["choices"][0]["message"] |= getattr(dialect, "has", field)
    return Reply(200, body)


def thoughts_in(dialect: Dialect, request: Request) -> list[Any]:
    """What a request holds of them, for each message with tool calls."""
    found: list[Any] = []
    if isinstance(dialect, ResponsesDialect):
        # What stands before an answer, of which each item but a message is a part.
        for message in dialect.seen(request).messages:
            if message[:2] == ("assistant", "thoughts"):
                found.append([message[2]])
        return found
    for message in request.json["messages"]:
        content = message["content"]
        if dialect is ANTHROPIC and message["role"] == "assistant":
            found.append([one for one in content if "thinking" in one["type"]])
        elif dialect is BEDROCK and message["role"] == "assistant":
            found.append([one for one in content if "reasoningContent" in one])
        elif message.get("tool_calls"):
            names = ("reasoning_content", "reasoning", "reasoning_details")
            found.append({name: message[name] for name in names if name in message})
    return found


def expected(dialect: Dialect) -> Any:
    if dialect is ANTHROPIC:
        return CLAUDE_BLOCKS
    if dialect is BEDROCK:
        return CONVERSE_BLOCKS
    if isinstance(dialect, ResponsesDialect):
        return [REASONING]
    if dialect is OPENROUTER:
        return {"reasoning_details": OpenRouter.has["reasoning_details"]}
    return {"reasoning": SECRET} if dialect is CEREBRAS else {"reasoning_content": SECRET}


def begin(here: Here, fallback: bool = False, **agent: Any) -> tuple[str, dict[str, Any]]:
    """A step whose model thinks."""
    run_id, work = here.start(fallback=fallback, tools=["calculator"], **agent)
    options = {ANTHROPIC: {"thinking": THINKING}, BEDROCK: {"additionalModelRequestFields": {"thinking": THINKING}}}
    here.live.put_model(
        here.models[0],
        here.dialect.name,
        here.dialect.model,
        capabilities=["tools"],
        options=options.get(here.dialect, {}),
    )
    return run_id, work


@thinking_dialects
def test_they_go_back_with_the_calls_also_after_a_crash_between_two_rounds(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here.first.script(
        thinking(here.dialect, "Let me add."),
        thinking(here.dialect, calls=CALLS[:1]),
        Reply(200, here.dialect.answer("4")),
    )
    run_id, work = begin(here)
    settle = StepWriter.settle

    def die_before_the_second_tool(self: StepWriter, key: str, entry: Any) -> None:
        if key == "tool_0000_01":
            raise Killed
        settle(self, key, entry)

    with monkeypatch.context() as patch:
        patch.setattr(StepWriter, "settle", die_before_the_second_tool)
        with pytest.raises(Killed):
            here.live.step(work, "first")
    # What is shown of a run that is under way has none of it, and no log line.
    assert SECRET not in json.dumps(here.live.read(run_id), default=str)
    here.live.wait(60)
    assert here.live.step(work, "second")["outcome"] == "done"
    first, second, third = here.first.requests
    assert here.first.refused == 0
    assert thoughts_in(here.dialect, first) == []
    assert thoughts_in(here.dialect, second) == [expected(here.dialect)]
    assert thoughts_in(here.dialect, third) == [expected(here.dialect)] * 2
    assert here.read(run_id)["output"] == "4"
    shown = json.dumps(here.live.read(run_id), default=str) + "".join(capsys.readouterr())
    assert not [one for one in (SECRET, SIGNATURE, BLOB) if one in shown + str(here.stored(run_id))]


@thinking_dialects
def test_long_ones_go_to_the_bucket(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    long = SECRET * 2000
    monkeypatch.setattr("loopllama.runs.attempt_log.INLINE_BYTES", 1000)
    reply = json.dumps(thinking(here.dialect).body).replace(SECRET, long)
    here.first.script(Reply(200, reply.encode()), Reply(200, here.dialect.answer("4")))
    run_id, work = begin(here)
    settle = StepWriter.settle

    def settle_and_die(self: StepWriter, key: str, entry: Any) -> None:
        settle(self, key, entry)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(StepWriter, "settle", settle_and_die)
        with pytest.raises(Killed):
            here.live.step(work, "first")
    assert len(str(here.stored(run_id))) < 5000
    here.live.wait(60)
    assert here.live.step(work, "second")["outcome"] == "done"
    assert long in json.dumps(thoughts_in(here.dialect, here.first.requests[1]))


@thinking_dialects
def test_no_other_provider_gets_them(here: Here) -> None:
    here.first.script(thinking(here.dialect), here.dialect.error(*here.dialect.overloaded))
    run_id, work = begin(here, fallback=True)
    here.second.script(Reply(200, OPENAI.answer("2")))
    assert here.live.step(work)["outcome"] == "done"
    assert here.read(run_id)["output"] == "2"
    [sent] = here.second.requests
    assert thoughts_in(OPENAI, sent) == [{}]
    assert not [one for one in (SECRET, SIGNATURE, BLOB) if one.encode() in sent.body]


@thinking_dialects
def test_a_model_that_thinks_goes_on_with_another_models_calls(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins refuse a turn whose calls have no thoughts, as the real servers do."""
    monkeypatch.setenv("THIRD_BASE_URL", f"{here.second.url}/v1")
    run_id, work = begin(here)
    other = here.live.put_model("third-model", "second", "third-model", capabilities=["tools"])
    crew = [{"name": "reply", "model": other, "fallbacks": [here.models[0]], "tools": ["calculator"]}]
    here.second.script(Reply(200, OPENAI.answer("", CALLS, "tools")), Reply(503, b""))
    here.first.script(Reply(200, here.dialect.answer("", CALLS[:1], "tools")), Reply(200, here.dialect.answer("2")))
    del run_id, work
    run_id = here.live.accept(here.live.push(crew, name=f"Behind {here.dialect.name}"), "1+1?")
    here.live.play(run_id)
    assert here.live.read(run_id)["output"] == "2"
    assert here.first.refused == 0
    assert len(here.first.requests) == 2


@speaks(ANTHROPIC, BEDROCK, OPENROUTER, RESPONSES, BEDROCKS)
def test_signatures_go_to_no_other_model_of_the_provider(here: Here) -> None:
    here.first.script(
        thinking(here.dialect), here.dialect.error(*here.dialect.overloaded), Reply(200, here.dialect.answer("2"))
    )
    begin(here)
    options = {ANTHROPIC: {"thinking": THINKING}, BEDROCK: {"additionalModelRequestFields": {"thinking": THINKING}}}
    model = here.dialect.model.replace("haiku-4-5-20251001", "sonnet-4-5-20250929").replace("haiku-4-5", "sonnet-4-5")
    elsewhere: dict[Dialect, str] = {RESPONSES: "gpt-5.6-sol", BEDROCKS: "us.openai.gpt-5.6-sol"}
    model = elsewhere.get(here.dialect, model)
    other = here.live.put_model(
        f"other-{here.dialect.name}",
        here.dialect.name,
        model if model != here.dialect.model else "openai/gpt-oss-120b",
        capabilities=["tools"],
        options=options.get(here.dialect, {}),
    )
    crew = [{"name": "reply", "model": here.models[0], "fallbacks": [other], "tools": ["calculator"]}]
    run_id = here.live.accept(here.live.push(crew, name=f"Signed {here.dialect.name}"), "1+1?")
    here.live.play(run_id)
    assert here.live.read(run_id)["output"] == "2"
    assert here.first.refused == 0
    _, mine, others = here.first.requests
    assert SIGNATURE.encode() in mine.body
    assert SIGNATURE.encode() not in others.body


@speaks(DEEPSEEK)
def test_plain_ones_go_to_every_model_of_the_provider(here: Here) -> None:
    here.first.script(
        thinking(here.dialect), here.dialect.error(*here.dialect.overloaded), Reply(200, here.dialect.answer("2"))
    )
    begin(here)
    other = here.live.put_model("other-deepseek", "deepseek", "deepseek-v4-pro", capabilities=["tools"])
    crew = [{"name": "reply", "model": here.models[0], "fallbacks": [other], "tools": ["calculator"]}]
    run_id = here.live.accept(here.live.push(crew, name="Plain"), "1+1?")
    here.live.play(run_id)
    assert [thoughts_in(here.dialect, one) for one in here.first.requests[1:]] == [[expected(here.dialect)]] * 2


def test_a_provider_that_refuses_the_field_is_not_sent_it(here: Here) -> None:
    """Gateways copy a model's thoughts into answers in the name of a provider that knows no such field."""
    body = OPENAI.answer("", CALLS, "tools")
    body["choices"][0]["message"]["reasoning_content"] = SECRET
    here.first.script(Reply(200, body), Reply(200, OPENAI.answer("2")))
    _, work = begin(here)
    assert here.live.step(work)["outcome"] == "done"
    assert SECRET.encode() not in here.first.requests[1].body
