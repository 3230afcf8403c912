"""Asking for JSON: which way each provider is asked in, and what is done where it refuses one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
from botocore.loaders import Loader
from support.deployment import Deployment
from support.dialects import (
    WIRE_FORMATS,
    AnthropicDialect,
    BedrockDialect,
    DeepSeekDialect,
    Dialect,
    GoogleDialect,
    OpenAIDialect,
)
from support.step_here import Here
from support.wire_server import Reply, Request, WireServer

from loopllama.catalog.catalog import bundled
from loopllama.errors import ModelRequestRejected, ModelThrottled
from loopllama.llm.structured_output import MODES, TOOL_NAME, mode_for
from loopllama.llm.types import Message, ModelRequest, OutputMode, Provider, ToolSpec
from loopllama_cli.console import trace

Make = Callable[..., ModelRequest]
OPENAI, ANTHROPIC, BEDROCK = OpenAIDialect(), AnthropicDialect(), BedrockDialect()
GOOGLE, DEEPSEEK = GoogleDialect(), DeepSeekDialect()
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["billing", "other"]}},
    "required": ["label"],
    "additionalProperties": False,
}
OTHER = {**SCHEMA, "properties": {"label": {"type": "string"}}}
VALUE = {"label": "billing"}
NOW = ToolSpec("now", "The time.", {"type": "object", "properties": {}})
OPUS_5, SONNET_5_5 = "us.anthropic.claude-opus-5", "eu.anthropic.claude-sonnet-5-5"


@pytest.fixture
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found: Dialect = getattr(request, "param", OPENAI)
    return found


def speaks(*dialects: Dialect) -> Any:
    return pytest.mark.parametrize("dialect", dialects, ids=lambda one: one.name, indirect=True)


def said(dialect: Dialect, mode: OutputMode) -> Reply:
    """An answer as a model gives it that was asked in this way."""
    if mode == "tool":
        return Reply(200, dialect.answer("", [("call_1", TOOL_NAME, VALUE)], "tools"))
    return Reply(200, dialect.answer(json.dumps(VALUE)))


def way_of(dialect: Dialect, request: Request) -> str:
    """In which way a request asks for JSON."""
    seen = dialect.seen(request)
    ways = {"native": seen.schema is not None, "tool": TOOL_NAME in seen.tools}
    ways["instructions"] = "JSON Schema" in seen.system
    [way] = [name for name, asked in ways.items() if asked]
    return way


def refusing(status: int, message: str, *ways: str, dialect: Dialect = OPENAI) -> Callable[[Request], Reply | None]:
    """A server that refuses some ways with such an error."""
    return lambda request: dialect.error(status, "", message) if way_of(dialect, request) in ways else None


@pytest.mark.parametrize(
    ("dialect", "model", "tools", "ways"),
    [
        (BEDROCK, BEDROCK.model, (), ["native"]),
        (BEDROCK, OPUS_5, (), ["native", "tool"]),
        (BEDROCK, OPUS_5, (NOW,), ["native", "tool"]),
        (BEDROCK, SONNET_5_5, (), ["native", "instructions"]),
        (ANTHROPIC, "claude-opus-5", (), ["native"]),
        (DEEPSEEK, "deepseek-flash", (), ["native", "tool", "instructions"]),
        (DEEPSEEK, "deepseek-v4-pro", (), ["native", "instructions"]),
        (GOOGLE, "gemini-2.5-flash", (), ["native"]),
        (GOOGLE, "gemini-2.5-flash", (NOW,), ["tool"]),
        (GOOGLE, "gemini-3-pro", (NOW,), ["native"]),
        (OPENAI, "gpt-4.1-mini", (NOW,), ["native"]),
        (OPENAI, "gpt-3.5-turbo", (), ["native", "tool"]),
    ],
    ids=lambda value: getattr(value, "name", None) or (value if isinstance(value, str) else None),
    indirect=["dialect"],
)
def test_the_best_way_that_the_model_takes(
    dialect: Dialect,
    server: WireServer,
    adapter: Provider,
    make_call: Make,
    model: str,
    tools: tuple[ToolSpec, ...],
    ways: list[OutputMode],
) -> None:
    for number in range(3):
        server.script(said(dialect, ways[-1]))
        answer = adapter.complete(make_call(model=model, tools=tools, output_schema=SCHEMA))
        assert json.loads(answer.text) == VALUE
        assert (answer.tool_calls, answer.stop_reason, answer.output_mode) == ((), "end", ways[-1])
        # What was refused is remembered, and told each time.
        assert [way_of(dialect, request) for request in server.requests] == [*ways, *ways[-1:] * number]
        assert answer.mode_refused.count("was refused") == len(ways) - 1
        assert ("HTTP 400" in answer.mode_refused) == (len(ways) > 1)


@pytest.mark.parametrize("mode", MODES)
@speaks(*WIRE_FORMATS)
def test_the_catalog_says_where_to_begin(
    dialect: Dialect, server: WireServer, adapter: Provider, make_call: Make, mode: OutputMode
) -> None:
    server.script(said(dialect, mode))
    answer = adapter.complete(make_call(output_schema=SCHEMA, output_mode=mode))
    assert (json.loads(answer.text), answer.output_mode, answer.mode_refused) == (VALUE, mode, "")
    assert [way_of(dialect, request) for request in server.requests] == [mode]


@pytest.mark.parametrize(
    ("status", "message", "refused", "ways"),
    [
        (400, "Unknown parameter: 'response_format'.", ["native"], ["native", "tool"]),
        (422, "response_format -> json_schema: extra fields not permitted", ["native"], ["native", "tool"]),
        (404, "No endpoints found that support the provided 'tool_choice' value.", ["tool"], ["tool", "instructions"]),
        (400, "registry.ollama.ai/library/gemma3 does not support tools", ["tool"], ["tool", "instructions"]),
        (500, "tools param requires --jinja flag", ["tool"], ["tool", "instructions"]),
        (400, "Extra inputs: json_schema, tool_choice", ["native", "tool"], list(MODES)),
    ],
)
def test_a_refusal_is_known_by_what_it_names(
    server: WireServer,
    adapter: Provider,
    make_call: Make,
    status: int,
    message: str,
    refused: list[str],
    ways: list[Any],
) -> None:
    server.refuses = refusing(status, message, *refused)
    server.script(said(OPENAI, ways[-1]))
    answer = adapter.complete(make_call(output_schema=SCHEMA, output_mode=ways[0]))
    assert [way_of(OPENAI, request) for request in server.requests] == ways
    assert message in answer.mode_refused


@pytest.mark.parametrize(
    ("dialect", "mode", "status", "message"),
    [
        # vLLM, llama.cpp, Groq, Gemini and OpenRouter, who name no parameter
        (OPENAI, "native", 400, "The provided JSON schema contains features not supported by xgrammar."),
        (OPENAI, "native", 400, "JSON schema conversion failed: Unrecognized schema"),
        (OPENAI, "native", 400, "Failed to initialize samplers: failed to parse grammar"),
        (OPENAI, "native", 400, "json mode cannot be combined with tool/function calling"),
        (OPENAI, "native", 400, "A schema in GenerationConfig exceeds the maximum allowed nesting depth."),
        (OPENAI, "native", 400, "The specified schema produces a constraint that has too many states for serving."),
        (OPENAI, "native", 404, "No endpoints found that can handle the requested parameters."),
        (OPENAI, "native", 400, "Response format is not supported"),
        (OPENAI, "tool", 404, "No endpoints found that can handle the requested parameters."),
        (OPENAI, "tool", 400, "Functions are not supported"),
        (ANTHROPIC, "native", 400, "This model does not support output format."),
        (ANTHROPIC, "native", 400, "Schema is too complex for compilation"),
        (ANTHROPIC, "native", 400, "The compiled grammar is too large. Simplify your tool schemas"),
        (ANTHROPIC, "native", 400, "Grammar compilation timed out."),
        (BEDROCK, "native", 400, "This model does not support the output config field."),
    ],
    ids=lambda value: getattr(value, "name", None) or str(value)[:30],
    indirect=["dialect"],
)
def test_a_refusal_in_words(
    dialect: Dialect,
    server: WireServer,
    adapter: Provider,
    make_call: Make,
    mode: OutputMode,
    status: int,
    message: str,
) -> None:
    after = MODES[MODES.index(mode) + 1]
    server.refuses = refusing(status, message, mode, dialect=dialect)
    server.script(said(dialect, after))
    answer = adapter.complete(make_call(output_schema=SCHEMA, output_mode=mode))
    assert (answer.output_mode, json.loads(answer.text)) == (after, VALUE)
    assert message in answer.mode_refused


def test_a_refusal_that_names_the_parameter_in_its_own_field(
    server: WireServer, adapter: Provider, make_call: Make
) -> None:
    body = {"error": {"message": "Unsupported value.", "type": "invalid_request_error", "param": "response_format"}}
    server.refuses = lambda request: Reply(400, body) if way_of(OPENAI, request) == "native" else None
    server.script(said(OPENAI, "tool"))
    answer = adapter.complete(make_call(output_schema=SCHEMA))
    assert "Unsupported value. (param: response_format)" in answer.mode_refused


@pytest.mark.parametrize("model", ["m", "format", "json-schema-tuned", "tool-user"])
def test_what_the_model_is_called_makes_no_difference(
    server: WireServer, adapter: Provider, make_call: Make, model: str
) -> None:
    server.refuses = refusing(400, "response_format is not supported", "native")
    server.script(said(OPENAI, "tool"))
    call = make_call(model=model, catalog_id=f"house:{model}", output_schema=SCHEMA)
    assert adapter.complete(call).output_mode == "tool"
    server.refuses = lambda _: None
    server.script(OPENAI.error(404, "", f"The model `{model}` does not exist"))
    with pytest.raises(ModelRequestRejected):
        adapter.complete(make_call(model=model, catalog_id=f"house:{model}", output_schema=OTHER, output_mode="native"))
    assert len(server.requests) == 3


def test_a_way_that_is_not_supported_is_not_asked_again_for_another_schema(
    server: WireServer, adapter: Provider, make_call: Make
) -> None:
    server.refuses = refusing(400, "response_format json_schema is not supported; this schema is unsupported", "native")
    server.script(*[said(OPENAI, "tool")] * 2)
    for schema in (SCHEMA, OTHER):
        assert adapter.complete(make_call(output_schema=schema)).output_mode == "tool"
    assert server.refused == 1


def test_other_errors_are_not_taken_for_a_refusal(server: WireServer, adapter: Provider, make_call: Make) -> None:
    for status, message in ((400, "Invalid value for 'max_tokens'"), (403, "json_schema is for other plans")):
        server.script(OPENAI.error(status, "", message))
        with pytest.raises(ModelRequestRejected, match=message):
            adapter.complete(make_call(output_schema=SCHEMA))
    server.script(OPENAI.error(429, "rate_limit_exceeded", "Too many json_schema requests"))
    with pytest.raises(ModelThrottled):
        adapter.complete(make_call(output_schema=SCHEMA))
    # Without a schema nothing is asked for that could be refused.
    server.script(OPENAI.error(400, "", "response_format is missing"))
    with pytest.raises(ModelRequestRejected):
        adapter.complete(make_call())
    assert len(server.requests) == 4


def test_a_refusal_is_believed_once_another_way_was_answered(
    server: WireServer, adapter: Provider, make_call: Make
) -> None:
    server.refuses = refusing(400, "json_schema is not supported", "native")
    server.script(OPENAI.error(503, "server_is_overloaded", "busy"), said(OPENAI, "tool"))
    with pytest.raises(Exception, match="busy"):
        adapter.complete(make_call(output_schema=SCHEMA))
    adapter.complete(make_call(output_schema=SCHEMA))
    assert [way_of(OPENAI, request) for request in server.requests] == ["native", "tool"] * 2


def test_a_schema_that_is_refused_says_nothing_about_others(
    server: WireServer, adapter: Provider, make_call: Make
) -> None:
    def refuses(request: Request) -> Reply | None:
        form = OPENAI.seen(request).schema
        return OPENAI.error(400, "", "Invalid schema for response_format 'answer'") if form == SCHEMA else None

    server.refuses = refuses
    server.script(said(OPENAI, "tool"), said(OPENAI, "native"), said(OPENAI, "tool"))
    ways = [adapter.complete(make_call(output_schema=one)).output_mode for one in (SCHEMA, OTHER, SCHEMA)]
    assert ways == ["tool", "native", "tool"]
    assert server.refused == 1


def test_with_thinking_on_no_tool_is_forced(server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"type": "object", "properties": {"data": {"type": "object"}}, "required": ["data"]}
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    for dialect, options in ((ANTHROPIC, thinking), (BEDROCK, {"additionalModelRequestFields": thinking})):
        server.refuses = dialect.refusal
        server.script(Reply(200, dialect.answer('{"data": {}}')))
        call = ModelRequest(
            dialect.model, "m", "", (Message("user", "Go."),), 10.0, output_schema=free, options=options
        )
        answer = dialect.adapter(server.url, monkeypatch).complete(call)
        assert (answer.text, answer.output_mode) == ('{"data": {}}', "instructions")
    assert server.refused == 0


@speaks(BEDROCK)
def test_an_sdk_that_does_not_know_the_parameter(
    dialect: Dialect, server: WireServer, make_call: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Lambda's own botocore did for months: github.com/boto/boto3, issue 4579."""
    load = Loader.load_service_model

    def older(self: Loader, service: str, kind: str, **version: Any) -> Any:
        model = load(self, service, kind, **version)
        if (service, kind) != ("bedrock-runtime", "service-2"):
            return model
        model = copy.deepcopy(model)
        del model["shapes"]["ConverseRequest"]["members"]["outputConfig"]
        return model

    monkeypatch.setattr(Loader, "load_service_model", older)
    adapter = dialect.adapter(server.url, monkeypatch)
    server.script(*[said(dialect, "tool")] * 2)
    for _ in range(2):
        answer = adapter.complete(make_call(output_schema=SCHEMA))
        assert (json.loads(answer.text), answer.output_mode) == (VALUE, "tool")
        assert 'Unknown parameter in input: "outputConfig"' in answer.mode_refused
    assert [way_of(dialect, request) for request in server.requests] == ["tool", "tool"]


def test_claude_on_bedrock_is_asked_by_the_answer_tool_unless_its_entry_says_native() -> None:
    claude = [model for model in bundled().models() if model.provider == "bedrock" and "anthropic.claude" in model.id]
    assert len(claude) > 20
    assert {mode_for(model.capabilities, SCHEMA) for model in claude} == {"tool"}


@speaks(BEDROCK)
def test_the_entrys_owner_may_say_native(here: Here, live: Deployment) -> None:
    for has, way in ((("tools",), "tool"), (("tools", "structured_output"), "native")):
        here.first.script(said(here.dialect, way))  # type: ignore[arg-type]
        run_id, work = here.start(has=has, outputSchema=SCHEMA)
        assert live.step(work)["outcome"] == "done"
        [attempt] = here.read(run_id)["attempts"]
        assert (attempt["output_mode"], attempt["mode_refused"]) == (way, None)
        assert way_of(here.dialect, here.first.requests[-1]) == way


@speaks(BEDROCK)
def test_the_trace_says_which_way_was_refused(
    here: Here, live: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here.dialect, "model", OPUS_5)
    here.first.script(said(here.dialect, "tool"))
    run_id, work = here.start(has=("tools", "structured_output"), outputSchema=SCHEMA)
    assert live.step(work)["outcome"] == "done"
    step = here.read(run_id)
    [attempt] = step["attempts"]
    assert (step["output"], attempt["outcome"], attempt["output_mode"]) == (VALUE, "ok", "tool")
    assert "Extra inputs are not permitted" in attempt["mode_refused"]
    assert attempt["cost_usd"] > 0
    capsys.readouterr()
    trace.print_trace(cast("Any", live.read(run_id)))
    shown = " ".join(capsys.readouterr().out.split())
    assert "native structured output was refused" in shown
    assert "asked by the answer tool" in shown
