"""What adapters read of a model's thoughts, and how they write them into the next request."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.dialects import AnthropicDialect, BedrockDialect, Dialect, OpenAIDialect, ResponsesDialect
from support.dialects.openai_responses import REASONED
from support.wire_server import Reply, Request, WireServer

from loopllama.errors import ModelRequestRejected
from loopllama.llm.token_estimate import prompt_tokens
from loopllama.llm.types import Message, ModelRequest, ModelResponse, Provider, Thoughts, ToolSpec

Make = Callable[..., ModelRequest]
OPENROUTER = OpenAIDialect()
OPENROUTER.name = "openrouter"
ANTHROPIC, BEDROCK, RESPONSES = AnthropicDialect(), BedrockDialect(), ResponsesDialect()
NOW = ToolSpec("now", "The time.", {"type": "object", "properties": {}})
CALLS = [("a", "now", {}), ("b", "now", {})]
THINKING = {"type": "enabled", "budget_tokens": 1024}
FIRST, SECOND = ({"type": "thinking", "thinking": f"thought {n}", "signature": f"sig {n}"} for n in (1, 2))


@pytest.fixture
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found: Dialect = request.param
    return found


def speaks(*dialects: Dialect) -> Any:
    return pytest.mark.parametrize("dialect", dialects, ids=lambda one: one.name, indirect=True)


def next_call(make_call: Make, answer: ModelResponse, **changes: Any) -> ModelRequest:
    """The request after an answer that asked for tools."""
    messages = (
        Message("user", "When?"),
        Message("assistant", answer.text, tool_calls=answer.tool_calls, thoughts=answer.thoughts),
        *(Message("tool", "noon", tool_call_id=call.id) for call in answer.tool_calls),
    )
    return make_call(messages=messages, tools=(NOW,), **changes)


def claude(*blocks: Any) -> Reply:
    return Reply(200, {**ANTHROPIC.answer(stop="tools"), "content": list(blocks)})


def use(number: int) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"t{number}", "name": "now", "input": {}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


@speaks(ANTHROPIC)
@pytest.mark.parametrize(
    ("blocks", "back"),
    [
        ([FIRST, text("So."), use(1)], [FIRST, text("So."), use(1)]),
        ([FIRST, use(1), SECOND, use(2)], [FIRST, use(1), SECOND, use(2)]),
        ([FIRST, text("So"), SECOND, text("."), use(1)], [FIRST, text("So."), SECOND, use(1)]),
        ([FIRST, text(" "), SECOND, use(1)], [FIRST, SECOND, use(1)]),
        # A message with any must begin with one.
        ([text("So."), FIRST, use(1), SECOND, use(2)], [FIRST, text("So."), use(1), SECOND, use(2)]),
    ],
    ids=["first", "between calls", "between texts", "blank text", "not first"],
)
def test_blocks_go_back_as_they_came(
    server: WireServer, adapter: Provider, make_call: Make, blocks: list[Any], back: list[Any]
) -> None:
    server.script(claude(*blocks), Reply(200, ANTHROPIC.answer("Noon.")))
    answer = adapter.complete(make_call(tools=(NOW,), options={"thinking": THINKING}))
    adapter.complete(next_call(make_call, answer, options={"thinking": THINKING}))
    assert server.refused == 0
    assert server.requests[1].json["messages"][1]["content"] == back
    assert server.requests[1].json["thinking"] == THINKING


@speaks(ANTHROPIC, BEDROCK)
@pytest.mark.parametrize(("kind", "stays"), [("enabled", False), ("adaptive", True)])
def test_thinking_that_must_have_begun_the_turn_is_off_where_it_did_not(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, kind: str, stays: bool
) -> None:
    thinking = {**THINKING, "type": kind}
    options = (
        {"thinking": thinking} if dialect is ANTHROPIC else {"additionalModelRequestFields": {"thinking": thinking}}
    )
    server.script(*[Reply(200, dialect.answer("", CALLS, "tools"))] * 2, Reply(200, dialect.answer("Noon.")))
    answer = adapter.complete(make_call(tools=(NOW,)))
    adapter.complete(next_call(make_call, answer, options=options))
    again = next_call(make_call, answer, options=options)
    # Somebody has spoken since: the turn is a new one.
    spoken = (*again.messages, Message("assistant", "It is noon."), Message("user", "Sure?"))
    adapter.complete(make_call(messages=spoken, tools=(NOW,), options=options))
    assert server.refused == 0
    first, second, third = (one.json.get("additionalModelRequestFields", one.json) for one in server.requests)
    assert ("thinking" in first, "thinking" in second, "thinking" in third) == (False, stays, True)


@speaks(BEDROCK)
@pytest.mark.parametrize(
    "held",
    [
        {"reasoningText": {"text": "unsigned"}},
        {"reasoningText": {"text": "unsigned", "signature": ""}},
        {"reasoningText": {"signature": "alone"}},
        {"redactedContent": "no base64!"},
        {"redactedContent": 7},
        {"reasoningText": "text"},
        {},
        "text",
    ],
)
def test_what_converse_would_not_take_is_left_out(
    server: WireServer, adapter: Provider, make_call: Make, held: Any
) -> None:
    body = BEDROCK.answer("", CALLS, "tools")
    body["output"]["message"]["content"].insert(0, {"reasoningContent": held})
    server.script(Reply(200, body), Reply(200, BEDROCK.answer("Noon.")))
    answer = adapter.complete(make_call(tools=(NOW,)))
    assert (answer.thoughts, len(answer.tool_calls)) == (None, 2)
    adapter.complete(next_call(make_call, answer))
    assert server.refused == 0


@speaks(BEDROCK)
def test_encrypted_thoughts_are_encoded_once(server: WireServer, adapter: Provider, make_call: Make) -> None:
    blob = base64.b64encode(bytes(range(256))).decode()
    body = BEDROCK.answer("", CALLS, "tools")
    body["output"]["message"]["content"].insert(0, {"reasoningContent": {"redactedContent": blob}})
    server.script(Reply(200, body), Reply(200, BEDROCK.answer("Noon.")))
    adapter.complete(next_call(make_call, adapter.complete(make_call(tools=(NOW,)))))
    assert server.requests[1].json["messages"][1]["content"][0] == {"reasoningContent": {"redactedContent": blob}}


def reasoning(number: int, **fields: Any) -> dict[str, Any]:
    encrypted = {"encrypted_content": f"{REASONED}{number}"}
    return {"type": "reasoning", "id": f"rs_{number}", "summary": [], "status": "completed", **encrypted, **fields}


def sent_back(number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "reasoning", "summary": [], "encrypted_content": f"{REASONED}{number}", **fields}


def says(said: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": said}], **fields}


def asks(number: int) -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_{number}", "call_id": f"t{number}", "name": "now", "arguments": "{}"}


@speaks(RESPONSES)
@pytest.mark.parametrize(
    ("output", "back"),
    [
        ([reasoning(1), asks(1)], [sent_back(1), "t1"]),
        ([reasoning(1), asks(1), reasoning(2), asks(2)], [sent_back(1), "t1", sent_back(2), "t2"]),
        ([reasoning(1), reasoning(2), asks(1)], [sent_back(1), sent_back(2), "t1"]),
        (
            [reasoning(1), says("I look.", phase="commentary"), reasoning(2), asks(1)],
            [sent_back(1), ("I look.", "commentary"), sent_back(2), "t1"],
        ),
        ([says("I look.", phase="commentary"), asks(1)], [("I look.", "commentary"), "t1"]),
        ([says("I look."), reasoning(1), asks(1)], [("I look.", None), sent_back(1), "t1"]),
        # Cut off behind it: without what follows, it would be refused.
        ([reasoning(1), asks(1), reasoning(2)], [sent_back(1), "t1"]),
        # Of a server that does not encrypt; and one that holds nothing without its id.
        (
            [reasoning(1, encrypted_content=None, content=[{"type": "reasoning_text", "text": "So."}]), asks(1)],
            [{"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "So."}]}, "t1"],
        ),
        ([reasoning(1, encrypted_content=None), asks(1)], ["t1"]),
        ([reasoning(1, encrypted_content=7, summary="x", content="y"), asks(1)], ["t1"]),
    ],
)
def test_reasoning_items_go_back_where_they_stood_without_ids(
    server: WireServer, adapter: Provider, make_call: Make, output: list[Any], back: list[Any]
) -> None:
    server.script(Reply(200, {**RESPONSES.answer(""), "output": output}), Reply(200, RESPONSES.answer("Noon.")))
    answer = adapter.complete(make_call(model="gpt-5.5", tools=(NOW,)))
    adapter.complete(next_call(make_call, answer, model="gpt-5.5"))
    assert server.refused == 0
    body = server.requests[1].json
    assert (body["store"], body["include"]) == (False, ["reasoning.encrypted_content"])
    kinds: dict[str, Callable[[Any], Any]] = {
        "reasoning": lambda item: item,
        "function_call": lambda item: item["call_id"],
        "message": lambda item: (item["content"], item.get("phase")),
    }
    items = [item for item in body["input"][1:] if item["type"] != "function_call_output"]
    assert [kinds[item["type"]](item) for item in items] == back
    assert not [item for item in body["input"] if "id" in item or "status" in item]


@speaks(RESPONSES)
def test_what_another_organization_reasoned_is_left_out(server: WireServer, adapter: Provider, make_call: Make) -> None:
    """A key may have been replaced in the middle of a step by one of another organization."""
    output = [reasoning(1, encrypted_content="gAAAA-of-others"), asks(1)]
    server.script(Reply(200, {**RESPONSES.answer(""), "output": output}), Reply(200, RESPONSES.answer("Noon.")))
    answer = adapter.complete(make_call(model="gpt-5.5", tools=(NOW,)))
    assert adapter.complete(next_call(make_call, answer, model="gpt-5.5")).text == "Noon."
    assert (server.refused, len(server.requests)) == (1, 3)


@speaks(RESPONSES)
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda items: items[1].update(id="rs_1"), "not persisted when `store` is set to false"),
        (lambda items: items[1].pop("encrypted_content"), "no encrypted content"),
        (lambda items: items[1].pop("summary"), "input[1].summary"),
        (lambda items: items.append(items.pop(1)), "without its required following item"),
        (lambda items: items.pop(2), "without its required following item"),
        (lambda items: items.pop(3), "No tool output found for function call t1"),
        (lambda items: items[1].update(encrypted_content="other"), "could not be verified"),
    ],
)
def test_the_stand_in_refuses_what_openai_refuses_of_items(
    server: WireServer, adapter: Provider, make_call: Make, spoil: Any, said: str
) -> None:
    server.script(Reply(200, {**RESPONSES.answer(""), "output": [reasoning(1), asks(1)]}))
    server.script(Reply(200, RESPONSES.answer("Noon.")))
    answer = adapter.complete(make_call(model="gpt-5.5", tools=(NOW,)))
    adapter.complete(next_call(make_call, answer, model="gpt-5.5"))
    body = server.requests[1].json
    spoil(body["input"])
    refused = RESPONSES.refusal(Request("/v1/responses", {}, json.dumps(body).encode(), 1))
    assert refused is not None
    assert said in refused.body["error"]["message"]


@speaks(OPENROUTER)
@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"reasoning": "So."}, {"reasoning": "So."}),
        ({"reasoning": "So.", "reasoning_details": [{"index": 0}]}, {"reasoning_details": [{"index": 0}]}),
        ({"reasoning_content": "", "reasoning": None, "reasoning_details": []}, None),
        ({"reasoning_content": 7, "reasoning": {"a": 1}}, None),
        ({"reasoning_details": [{"score": "@"}]}, None),
    ],
    ids=["text", "details", "empty", "no text", "a number that is not taken"],
)
def test_fields_of_a_message(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, fields: Any, kept: Any
) -> None:
    for calls in (CALLS, []):
        body = dialect.answer("Noon.", calls, "tools" if calls else "end")
        body["choices"][0]["message"] |= fields
        server.script(Reply(200, json.dumps(body).replace('"@"', "1e999").encode()))
        answer = adapter.complete(make_call(tools=(NOW,)))
        # Where there is nothing to go on with, nothing is kept.
        assert answer.thoughts == (Thoughts("openrouter", dialect.model, kept) if kept and calls else None)


@speaks(ANTHROPIC, OPENROUTER)
@pytest.mark.parametrize(
    ("status", "said", "again"),
    [
        (400, "messages.2.assistant.reasoning_content: property 'reasoning_content' is unsupported", True),
        (422, "[{'loc': ['messages', 1, 'assistant', 'reasoning'], 'msg': 'Extra inputs are not permitted'}]", True),
        (400, "messages.1.content.0: Invalid `signature` in `thinking` block", True),
        (400, "temperature: range: 0..1", False),
        (400, "max_tokens must be greater than thinking.budget_tokens", False),
    ],
)
def test_a_server_that_refuses_what_it_gave_is_asked_without(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, status: int, said: str, again: bool
) -> None:
    if dialect is ANTHROPIC:
        server.script(claude(FIRST, use(1)))
    else:
        body = dialect.answer("", CALLS, "tools")
        body["choices"][0]["message"]["reasoning"] = "thought 1"
        server.script(Reply(200, body))
    answer = adapter.complete(make_call(tools=(NOW,)))

    def refuse(request: Request) -> Reply | None:
        return (
            dialect.error(status, "", said) if not again or b"thought 1" in request.body else dialect.refusal(request)
        )

    server.refuses = refuse
    if again:
        server.script(Reply(200, dialect.answer("Noon.")))
        assert adapter.complete(next_call(make_call, answer)).text == "Noon."
    else:
        with pytest.raises(ModelRequestRejected):
            adapter.complete(next_call(make_call, answer))
    assert server.refused == 1


def test_thoughts_are_tokens_of_the_next_prompt() -> None:
    def call(thoughts: Thoughts | None) -> ModelRequest:
        return ModelRequest("m", "p:m", "", (Message("assistant", thoughts=thoughts),), 1.0)

    held = Thoughts("p", "m", {"reasoning_content": "many words " * 50})
    assert prompt_tokens(call(held)) > 100 > prompt_tokens(call(None))
