"""Anthropic's Messages.

Wire format: https://docs.claude.com/en/api/messages; errors: https://docs.claude.com/en/api/errors.

How usage is counted: `input_tokens` is what was neither read from nor written to the cache;
`cache_read_input_tokens` and `cache_creation_input_tokens` come on top of it, so the prompt is the sum of the three
(https://docs.claude.com/en/docs/build-with-claude/prompt-caching, tracking cache performance). `output_tokens` is the
whole answer, thinking included; `output_tokens_details.thinking_tokens` is a part of it.

Structured output uses `output_config.format`; what that cannot say, or a model does not take, is asked for in another
way (`modes`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from loopllama.catalog.providers import takes_temperature
from loopllama.core import exact_json
from loopllama.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialsRejected,
    InvalidModelResponse,
    ModelError,
    ModelRequestRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from loopllama.llm import schema_subsets, structured_output, thoughts
from loopllama.llm.token_estimate import estimated_usage
from loopllama.llm.types import Message, ModelRequest, ModelResponse, StopReason, ToolCall, Usage
from loopllama.providers import http, wire
from loopllama.providers.credentials import Credentials, credentials_for, forget
from loopllama.providers.error_mapping import failure, failure_in_answer
from loopllama.providers.output_modes import Modes
from loopllama.settings import Settings

VERSION = "2023-06-01"
CODES: Mapping[str, type[ModelError]] = {
    "invalid_request_error": ModelRequestRejected,
    "authentication_error": CredentialsRejected,
    "billing_error": ModelThrottled,
    "permission_error": ModelRequestRejected,
    "not_found_error": ModelRequestRejected,
    "conflict_error": ModelUnavailable,
    "request_too_large": ContextTooLong,
    "rate_limit_error": ModelThrottled,
    "timeout_error": ModelTimeout,
    "api_error": ModelUnavailable,
    "overloaded_error": ModelUnavailable,
}
"""The documented error types."""

_STOPS: dict[str, StopReason] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "tool_use": "tool_calls",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
}


class Anthropic:
    """The adapter for one provider of this dialect."""

    def __init__(self, provider: str, settings: Settings) -> None:
        self._provider = provider
        self._settings = settings
        self._modes = Modes()

    def complete(self, call: ModelRequest) -> ModelResponse:
        """One POST to `/v1/messages`, or another where a way of asking for JSON is refused."""
        return self._modes.complete(call, self._send, native=native_schema, thinks=thinks(call.options))

    def _send(self, call: ModelRequest) -> ModelResponse:
        until = time.monotonic() + call.timeout
        credentials = credentials_for(self._provider, self._settings)
        body = exact_json.dumps(request(call)).encode()
        url = f"{credentials.base_url.removesuffix('/v1')}/v1/messages"
        reply = http.post(url, _headers(credentials), body, until, self._provider)
        if not 200 <= reply.status < 300:
            error = failure(
                reply.status, reply.headers, reply.body, codes=CODES, credentials=credentials, model=call.catalog_id
            )
            if isinstance(error, CredentialsRejected):
                forget(self._provider, self._settings)
            raise error
        return self._answer(call, reply, credentials)

    def _answer(self, call: ModelRequest, reply: http.Reply, credentials: Credentials) -> ModelResponse:
        who = f"{self._provider} on {call.catalog_id}"
        value = wire.read_object(reply.body)
        if value is None:
            usage = estimated_usage(call, reply.body.decode("utf-8", "replace"))
            raise InvalidModelResponse(f"{who}: the answer is no JSON object", usage=usage, against=True)
        if value.get("type") == "error":  # gateways report an upstream's error under status 200
            raise failure_in_answer(value, reply.headers, codes=CODES, credentials=credentials, model=call.catalog_id)
        content = value.get("content")
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
        said = "".join(b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str))
        text, _ = thoughts.apart(said)
        stopped = value.get("stop_reason")
        calls = tuple(_tool_calls(blocks, cut=stopped == "max_tokens"))
        usage = _usage(value.get("usage")) or estimated_usage(call, said + "".join(c.raw for c in calls))
        if stopped == "refusal":
            raise ContentFiltered(f"{who} declined to answer (stop_reason refusal)", usage=usage)
        stop = _STOPS.get(stopped, "end") if isinstance(stopped, str) else "end"
        if not text.strip() and not calls:
            why = "max_tokens is too low" if stop == "max_tokens" else f"stop_reason {stopped}"
            broken = not isinstance(content, list) or None
            raise InvalidModelResponse(f"{who}: the answer is empty ({why})", usage=usage, against=broken)
        model = value.get("model")
        return ModelResponse(text, usage, stop, calls, model if isinstance(model, str) else "")


def native_schema(call: ModelRequest) -> Mapping[str, Any] | None:
    """Return the call's schema as the output format takes it, `None` where it cannot be said there."""
    return schema_subsets.for_anthropic(call.output_schema or {})


def thinks(options: Mapping[str, Any]) -> bool:
    """Whether the options turn on extended thinking, beside which no tool may be forced
    (https://platform.claude.com/docs/en/build-with-claude/extended-thinking, thinking with tool use)."""
    return wire.member(options, "thinking").get("type") in ("enabled", "adaptive")


def request(call: ModelRequest) -> dict[str, Any]:
    """Return the request's body."""
    body: dict[str, Any] = {**call.options, "model": call.model, "max_tokens": wire.answer_limit(call)}
    if call.temperature is not None and takes_temperature(call.model):
        body["temperature"] = call.temperature
    if call.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters} for tool in call.tools
        ]
        if call.forced_tool:
            body["tool_choice"] = {"type": "tool", "name": call.forced_tool}
        elif any(tool.name == structured_output.TOOL_NAME for tool in call.tools):
            body["tool_choice"] = {"type": "any"}
    if call.system.strip():
        body["system"] = [{"type": "text", "text": call.system}]
    if call.prompt_cache and (stable := body.get("system") or body.get("tools")):
        # The prompt's order is tools, system, messages: a point behind the system prompt holds the tools as well.
        _mark(stable[-1])
    body["messages"] = _messages(call)
    if call.output_schema is not None:
        form = {"type": "json_schema", "schema": call.output_schema}
        body["output_config"] = {**wire.member(call.options, "output_config"), "format": form}
    return body


def _messages(call: ModelRequest) -> list[dict[str, Any]]:
    """Roles alternate: tool results and what the user says belong to one message."""
    messages: list[dict[str, Any]] = []
    cached = wire.cached_messages(call)
    for place, message in enumerate(call.messages):
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if place in cached:
            _mark(blocks[-1])
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    return messages


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": wire.tool_id(message.tool_call_id), "content": message.text}]
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text.strip() else []
    blocks += [
        {"type": "tool_use", "id": wire.tool_id(c.id), "name": c.name, "input": wire.arguments_object(c)}
        for c in message.tool_calls
    ]
    return blocks or [{"type": "text", "text": "(nothing)"}]  # blank texts are refused


def _mark(block: dict[str, Any]) -> None:
    block["cache_control"] = {"type": "ephemeral"}


def _headers(credentials: Credentials) -> dict[str, str]:
    headers = {"content-type": "application/json", "anthropic-version": VERSION}
    if credentials.api_key:
        headers["x-api-key"] = credentials.api_key
    return {**headers, **credentials.headers}


def _tool_calls(blocks: list[dict[str, Any]], cut: bool) -> Iterator[ToolCall]:
    for position, block in enumerate(blocks):
        if block.get("type") == "tool_use":
            call = wire.tool_call(block.get("id"), block.get("name"), block.get("input"), position)
            if cut and position == len(blocks) - 1:
                # The limit fell into this block: what is there of its input is not what the model meant.
                call = ToolCall(call.id, call.name, None, call.raw)
            yield call


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    fresh, output = wire.count(value.get("input_tokens")), wire.count(value.get("output_tokens"))
    if fresh is None or output is None:
        return None
    read = wire.count(value.get("cache_read_input_tokens")) or 0
    written = wire.count(value.get("cache_creation_input_tokens")) or 0
    thought = wire.count(wire.member(value, "output_tokens_details").get("thinking_tokens")) or 0
    return Usage(fresh + read + written, output, read, written, min(thought, output))
