"""OpenAI's Responses API: which models are asked by it, and what it has that no other wire format has."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.deployment import Deployment
from support.dialects import KEY, Dialect, OpenAIDialect, ResponsesDialect
from support.wire_server import Reply, Request, WireServer

from loopllama import providers
from loopllama.catalog.model import Model
from loopllama.errors import ContentFiltered, ModelError, ModelRequestRejected, ModelThrottled, ModelUnavailable
from loopllama.llm.structured_output import TOOL_NAME
from loopllama.llm.types import Message, ModelRequest, Provider, ToolCall, ToolSpec, Usage
from loopllama.settings import Settings

Make = Callable[..., ModelRequest]
CHAT, RESPONSES = OpenAIDialect(), ResponsesDialect()
NUMBERS = itertools.count()
NOW = ToolSpec("now", "The time.", {"type": "object", "properties": {}})
REASONS = "gpt-5.6-terra"


@pytest.fixture
def dialect() -> Dialect:
    return RESPONSES


def openai(request: Request) -> Reply | None:
    """OpenAI, which has both APIs."""
    return (RESPONSES if request.path == "/v1/responses" else CHAT).refusal(request)


@pytest.fixture
def at_openai(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> WireServer:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    providers._adapters.clear()
    server.refuses = openai
    return server


def run(live: Deployment, model: str) -> dict[str, Any]:
    """A run of one agent that has a tool."""
    workflow = live.push([{"name": "reply", "model": model, "tools": ["now"]}], name=f"Responses {next(NUMBERS)}")
    run_id = live.accept(workflow, "When?")
    live.play(run_id)
    [step] = live.read(run_id)["steps"]
    return dict(step)


# Which models


@pytest.mark.parametrize("model", ["gpt-5.5", "gpt-5.6-luna", "gpt-5.6-sol", "gpt-5.6-terra"])
def test_an_agent_with_tools_on_a_model_that_chat_completions_gives_none(
    live: Deployment, at_openai: WireServer, model: str
) -> None:
    asked = RESPONSES.answer("Let me look.", [("call_1", "now", {})], "tools")
    at_openai.script(Reply(200, asked), Reply(200, RESPONSES.answer("Noon.")))
    step = run(live, model)
    assert (step["status"], step["output"]) == ("completed", "Noon.")
    assert [request.path for request in at_openai.requests] == ["/v1/responses"] * 2
    assert all(RESPONSES.has_key(request) for request in at_openai.requests)
    [*_, said, call, result] = RESPONSES.seen(at_openai.requests[1]).messages
    assert said == ("assistant", "text", "Let me look.")
    assert call[2] == ("call_1", "now", {})
    assert result[2][0] == "call_1"
    assert at_openai.refused == 0
    assert step["cost_usd"] > 0


def test_the_other_models_keep_chat_completions(live: Deployment, at_openai: WireServer) -> None:
    for model in ("gpt-4.1-mini", "gpt-5.4"):
        at_openai.script(
            Reply(200, CHAT.answer("", [("call_1", "now", {})], "tools")), Reply(200, CHAT.answer("Noon."))
        )
        assert run(live, model)["output"] == "Noon."
    assert {request.path for request in at_openai.requests} == {"/v1/chat/completions"}
    assert at_openai.refused == 0


def test_gpt_5_4_with_an_effort(live: Deployment, at_openai: WireServer) -> None:
    """It reasons where its entry says so, and is refused tools then."""
    at_openai.script(Reply(200, RESPONSES.answer("Noon.")))
    hard = live.put_model("hard", "openai", "gpt-5.4", options={"reasoning_effort": "high", "verbosity": "low"})
    assert run(live, hard)["output"] == "Noon."
    [request] = at_openai.requests
    assert request.path == "/v1/responses"
    assert (request.json["reasoning"], request.json["text"]) == ({"effort": "high"}, {"verbosity": "low"})


def test_a_server_of_ones_own_that_serves_the_model(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not have the newer format; OpenRouter and LiteLLM restate the call themselves."""
    monkeypatch.setenv("HOUSE_BASE_URL", f"{server.url}/v1")
    providers._adapters.clear()
    server.script(Reply(200, CHAT.answer("ok")))
    call = ModelRequest("openai/gpt-5.6-sol", "m", "", (Message("user", "Go."),), 5.0, tools=(NOW,))
    adapter = providers.provider_for(Model("m", "house", "openai/gpt-5.6-sol"), Settings())
    assert adapter.complete(call).text == "ok"
    assert server.requests[0].path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("version", "paths"),
    [
        ("", ["/openai/v1/responses", "/openai/v1/chat/completions"]),
        (
            "2025-04-01-preview",
            [
                "/openai/responses?api-version=2025-04-01-preview",
                "/openai/deployments/gpt-4.1/chat/completions?api-version=2025-04-01-preview",
            ],
        ),
    ],
)
def test_azure(server: WireServer, monkeypatch: pytest.MonkeyPatch, version: str, paths: list[str]) -> None:
    monkeypatch.setenv("AZURE_API_KEY", KEY)
    monkeypatch.setenv("AZURE_ENDPOINT", server.url)
    monkeypatch.setenv("AZURE_API_VERSION", version)
    providers._adapters.clear()
    server.script(Reply(200, RESPONSES.answer("ok")), Reply(200, CHAT.answer("ok")))
    for model in ("gpt-5.5", "gpt-4.1"):
        call = ModelRequest(model, "m", "", (Message("user", "Go."),), 5.0, tools=(NOW,))
        assert providers.provider_for(Model("m", "azure", model), Settings()).complete(call).text == "ok"
    assert [request.path for request in server.requests] == paths
    assert server.requests[0].json["model"] == "gpt-5.5"
    for request in server.requests:
        assert request.headers["api-key"] == KEY
        assert "authorization" not in request.headers


# Requests


def body_of(server: WireServer, adapter: Provider, call: ModelRequest) -> dict[str, Any]:
    server.script(Reply(200, RESPONSES.answer("ok")))
    adapter.complete(call)
    body: dict[str, Any] = server.requests[-1].json
    return body


def test_only_models_that_reason_are_asked_for_what_they_reasoned(
    server: WireServer, adapter: Provider, make_call: Make
) -> None:
    body = body_of(server, adapter, make_call(model=REASONS, tools=(NOW,), temperature=0.5))
    assert body["include"] == ["reasoning.encrypted_content"]
    assert "temperature" not in body
    for call in (make_call(tools=(NOW,)), make_call(model=REASONS)):
        assert "include" not in body_of(server, adapter, call)


def test_options_of_chat_completions_go_where_they_belong_here(
    server: WireServer, adapter: Provider, make_call: Make
) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    options = {"reasoning_effort": "low", "verbosity": "high", "service_tier": "flex", "text": {"format": "replaced"}}
    server.script(Reply(200, RESPONSES.answer('{"ok": true}')))
    adapter.complete(make_call(model=REASONS, options=options, output_schema=schema))
    body = server.requests[-1].json
    assert (body["reasoning"], body["service_tier"]) == ({"effort": "low"}, "flex")
    assert body["text"]["verbosity"] == "high"
    assert body["text"]["format"]["schema"]["required"] == ["ok"]
    assert body_of(server, adapter, make_call(model=REASONS, options=options))["text"] == {"verbosity": "high"}
    own = {"reasoning": {"effort": "high", "summary": "auto"}, "reasoning_effort": "low"}
    # What is written under this format's own name counts.
    assert body_of(server, adapter, make_call(model=REASONS, options=own))["reasoning"] == own["reasoning"]


def test_a_tool_is_strict_where_its_parameters_are(server: WireServer, adapter: Provider, make_call: Make) -> None:
    closed = {
        "type": "object",
        "properties": {"id": {"type": "string"}},
        "required": ["id"],
        "additionalProperties": False,
    }
    optional = {**closed, "required": []}
    tools = tuple(ToolSpec(f"tool_{n}", "", one) for n, one in enumerate((closed, optional, NOW.parameters)))
    body = body_of(server, adapter, make_call(tools=tools))
    assert [(tool["strict"], tool["parameters"]) for tool in body["tools"]] == [
        (True, closed),
        (False, optional),
        (False, NOW.parameters),
    ]


def test_ids_of_tool_calls_are_made_unique(server: WireServer, adapter: Provider, make_call: Make) -> None:
    """Models before may have begun anew in each round, or have given two calls one id."""
    long = "x" * 80
    messages = [Message("user", "When?")]
    for ids in (("call_0", "call_1"), ("call_0", "call_0"), (long, long), ("call_0_2",)):
        messages.append(Message("assistant", "", tool_calls=tuple(ToolCall(one, "now", {}) for one in ids)))
        messages += [Message("tool", f"{len(messages)}-{place}", tool_call_id=one) for place, one in enumerate(ids)]
    body = body_of(server, adapter, make_call(messages=tuple(messages), tools=(NOW,)))
    calls = [item["call_id"] for item in body["input"] if item["type"] == "function_call"]
    results = [(item["call_id"], item["output"]) for item in body["input"] if item["type"] == "function_call_output"]
    assert len(set(calls)) == len(calls) == 7
    # The results stand in the order of the calls.
    assert [one for one, _ in results] == calls
    assert [text for _, text in results] == [message.text for message in messages if message.role == "tool"]
    assert server.refused == 0


@pytest.mark.parametrize("name", ["messages", "max_tokens", "response_format", "reasoning_effort", "seed"])
def test_what_it_does_not_know_is_refused(server: WireServer, adapter: Provider, make_call: Make, name: str) -> None:
    """By the stand-in, as by the real one; else these tests would show little."""
    plain = body_of(server, adapter, make_call())
    spoilt = Request("/v1/responses", {}, json.dumps({**plain, name: "x"}).encode(), 1)
    refused = RESPONSES.refusal(spoilt)
    assert refused is not None
    assert f"'{name}'" in refused.body["error"]["message"]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["+a"], "No tool output found for function call a"),
        (["-a"], "No tool call found for function call output with call_id a"),
        (["+a", "+a", "-a", "-a"], "Duplicate 'call_id': a"),
        (["+a", "-a", "-a"], "No tool call found for function call output with call_id a"),
        (["+a", "-a"], ""),
    ],
)
def test_ids_that_do_not_belong_together_are_refused(ids: list[str], said: str) -> None:
    kinds = {"+": "function_call", "-": "function_call_output"}
    rest = {"+": {"name": "now", "arguments": "{}"}, "-": {"output": "noon"}}
    items = [{"type": kinds[one[0]], "call_id": one[1:], **rest[one[0]]} for one in ids]
    tools = [{"type": "function", "name": "now", "parameters": {}, "strict": False}]
    refused = RESPONSES.refusal(
        Request("", {}, json.dumps({"model": REASONS, "input": items, "tools": tools}).encode(), 1)
    )
    assert (refused is not None and said in refused.body["error"]["message"]) == bool(said)


# Answers


def message(text: str, phase: str | None = None) -> dict[str, Any]:
    parts = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "role": "assistant", "phase": phase, "status": "completed", "content": parts}


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([message("I look into it.", "commentary"), message('{"ok": true}', "final_answer")], '{"ok": true}'),
        ([message("I look into it.", "commentary")], "I look into it."),
        ([message("One."), message("Two.")], "One.\nTwo."),
    ],
)
def test_what_the_model_says_on_its_way_is_not_the_answer(
    server: WireServer, adapter: Provider, make_call: Make, said: list[dict[str, Any]], text: str
) -> None:
    server.script(Reply(200, {**RESPONSES.answer(""), "output": said}))
    assert adapter.complete(make_call()).text == text


def test_a_content_filter_that_breaks_the_answer_off(server: WireServer, adapter: Provider, make_call: Make) -> None:
    cut = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    server.script(Reply(200, {**RESPONSES.answer("Well,"), **cut}))
    with pytest.raises(ContentFiltered, match="content filter") as caught:
        adapter.complete(make_call())
    assert caught.value.usage == Usage(21, 7)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("server_error", ModelUnavailable),
        ("rate_limit_exceeded", ModelThrottled),
        ("invalid_prompt", ContentFiltered),
        ("bio_policy", ContentFiltered),
        ("data_residency_mismatch", ModelUnavailable),
        (None, ModelUnavailable),
    ],
)
def test_a_response_that_failed(
    server: WireServer, adapter: Provider, make_call: Make, code: str | None, expected: type[ModelError]
) -> None:
    """Under status 200: https://platform.openai.com/docs/api-reference/responses/object"""
    error = {"code": code, "message": "The model failed."} if code else None
    server.script(Reply(200, {**RESPONSES.answer(usage=None), "status": "failed", "error": error, "output": []}))
    with pytest.raises(ModelError) as caught:
        adapter.complete(make_call())
    assert type(caught.value) is expected
    assert caught.value.usage is None
    assert not code or "The model failed." in str(caught.value)


def test_a_refused_format_is_asked_in_the_next_way(server: WireServer, adapter: Provider, make_call: Make) -> None:
    def refuses(request: Request) -> Reply | None:
        said = "Invalid parameter: 'text.format' is not supported with this model."
        return RESPONSES.error(400, "", said) if "text" in request.json else None

    server.refuses = refuses
    server.script(Reply(200, RESPONSES.answer("", [("a", TOOL_NAME, {"n": 1})], "tools")))
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answer = adapter.complete(make_call(output_schema=schema))
    assert (json.loads(answer.text), answer.output_mode) == ({"n": 1}, "tool")


def test_both_adapters_of_openai_stay_apart(at_openai: WireServer) -> None:
    """A process that uses models of both kinds makes one adapter of each."""
    newer, older = (providers.provider_for(Model(m, "openai", m), Settings()) for m in ("gpt-5.5", "gpt-5"))
    assert newer is not older
    assert newer is providers.provider_for(Model("gpt-5.6-sol", "openai", "gpt-5.6-sol"), Settings())
    at_openai.script(CHAT.error(*CHAT.bad_request), RESPONSES.error(*RESPONSES.bad_request))
    for adapter in (older, newer):
        with pytest.raises(ModelRequestRejected, match="temperature"):
            adapter.complete(ModelRequest("m", "m", "", (Message("user", "Go."),), 5.0))
    assert [request.path for request in at_openai.requests] == ["/v1/chat/completions", "/v1/responses"]
