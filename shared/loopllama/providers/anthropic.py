"""Anthropic's Messages.

Wire format: https://docs.claude.com/en/api/messages; errors: https://docs.claude.com/en/api/errors.

How usage is counted: `input_tokens` is what was neither read from nor written to the cache;
`cache_read_input_tokens` and `cache_creation_input_tokens` come on top of it, so the prompt is the sum of the three
(https://docs.claude.com/en/docs/build-with-claude/prompt-caching, tracking cache performance); of the written ones
`cache_creation.ephemeral_1h_input_tokens` are kept an hour, at a price of their own. `output_tokens` is the
whole answer, thinking included; `output_tokens_details.thinking_tokens` is a part of it.

Structured output uses `output_config.format`; what that cannot say, or a model does not take, is asked for in another
way (`output_modes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from loopllama.catalog.providers import takes_temperature
from loopllama.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialsRejected,
    ModelError,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from loopllama.llm import schema_subsets, structured_output
from loopllama.llm.types import Message, ModelRequest, StopReason, Thoughts, Usage
from loopllama.providers import wire
from loopllama.providers.adapter import Parsed
from loopllama.providers.credentials import Credentials
from loopllama.providers.http_adapter import ApiKey, HttpAdapter

VERSION = "2023-06-01"
CODES: Mapping[str, type[ModelError]] = {
    "invalid_request_error": ModelRequestRejected,
    "authentication_error": CredentialsRejected,
    "billing_error": ModelThrottled,
    "permission_error": ModelNotAvailable,
    "not_found_error": ModelNotAvailable,
    "conflict_error": ModelUnavailable,
    "request_too_large": ContextTooLong,
    "rate_limit_error": ModelThrottled,
    "timeout_error": ModelTimeout,
    "api_error": ModelUnavailable,
    "overloaded_error": ModelUnavailable,
}
"""The documented error types."""

_TIERS = {"priority": "auto"}
"""What asks for a service tier: there is no word for the priority tier, which is by contract and used while it lasts
(https://docs.claude.com/en/api/service-tiers)."""

_STOPS: dict[str, StopReason] = {
    "end_turn": "end",
    "stop_sequence": "end",
    "tool_use": "tool_calls",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
}


class Anthropic(HttpAdapter):
    """The adapter for one provider of this dialect."""

    access = ApiKey("x-api-key", prefix="")
    headers: ClassVar[Mapping[str, str]] = {"anthropic-version": VERSION}
    codes = CODES

    def url(self, credentials: Credentials, call: ModelRequest) -> str:  # noqa: ARG002
        """Return `…/v1/messages`."""
        return f"{credentials.base_url.removesuffix('/v1')}/v1/messages"

    def body(self, call: ModelRequest) -> Mapping[str, Any]:
        """Return the request's body."""
        return request(call)

    def native_schema(self, call: ModelRequest) -> Mapping[str, Any] | None:
        """Return the call's schema as the output format takes it, `None` where it cannot be said there."""
        return schema_subsets.for_anthropic(call.output_schema or {})

    def thinks(self, call: ModelRequest) -> bool:
        """Return whether extended thinking is on."""
        return wire.claude_thinks(call.options)

    def is_error(self, value: Mapping[str, Any]) -> bool:
        """Return whether it is an error: gateways report an upstream's under status 200."""
        return value.get("type") == "error"

    def read(self, call: ModelRequest, value: Mapping[str, Any]) -> Parsed:
        """Return what the message's blocks hold."""
        content = value.get("content")
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
        text = "".join(b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str))
        stopped = value.get("stop_reason")
        stop = _STOPS.get(stopped, "end") if isinstance(stopped, str) else "end"
        declined = f"{self.who(call)} declined to answer (stop_reason refusal)"
        model = value.get("model")
        thoughts = wire.thought_blocks(blocks, _thought, _tool_use)
        return Parsed(
            text=text,
            tool_calls=wire.tool_calls(blocks, _tool_use, cut=stopped == "max_tokens"),
            usage=_usage(value.get("usage")),
            stop_reason=stop,
            model=model if isinstance(model, str) else "",
            service_tier=wire.service_tier(wire.member(value, "usage").get("service_tier")),
            error=ContentFiltered(declined) if stopped == "refusal" else None,
            why_empty="max_tokens is too low" if stop == "max_tokens" else f"stop_reason {stopped}",
            malformed=not isinstance(content, list),
            thoughts=Thoughts(self.provider, call.model, thoughts) if thoughts else None,
        )


def request(call: ModelRequest) -> dict[str, Any]:
    """Return the request's body."""
    options = wire.claude_options(call.options, call.messages)
    body: dict[str, Any] = {**options, "model": call.model, "max_tokens": wire.answer_limit(call)}
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
    body["messages"] = wire.alternating(call, _blocks, lambda blocks: _mark(blocks[-1]))
    form: dict[str, Any] = {"effort": call.effort} if call.effort else {}
    if call.output_schema is not None:
        form["format"] = {"type": "json_schema", "schema": call.output_schema}
    if form:
        body["output_config"] = {**wire.member(call.options, "output_config"), **form}
    if call.service_tier:
        body["service_tier"] = _TIERS.get(call.service_tier, call.service_tier)
    return body


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": wire.tool_id(message.tool_call_id), "content": message.text}]
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text.strip() else []
    blocks += [
        {"type": "tool_use", "id": wire.tool_id(c.id), "name": c.name, "input": wire.arguments_object(c)}
        for c in message.tool_calls
    ]
    return wire.with_thoughts(blocks, message) or [{"type": "text", "text": "(nothing)"}]  # blank texts are refused


def _mark(block: dict[str, Any]) -> None:
    block["cache_control"] = {"type": "ephemeral"}


def _tool_use(block: Mapping[str, Any]) -> wire.Asked | None:
    return (block.get("id"), block.get("name"), block.get("input")) if block.get("type") == "tool_use" else None


def _thought(block: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return block if block.get("type") in ("thinking", "redacted_thinking") else None


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    fresh, output = wire.count(value.get("input_tokens")), wire.count(value.get("output_tokens"))
    if fresh is None or output is None:
        return None
    read = wire.count(value.get("cache_read_input_tokens")) or 0
    written = wire.count(value.get("cache_creation_input_tokens")) or 0
    hour = wire.count(wire.member(value, "cache_creation").get("ephemeral_1h_input_tokens")) or 0
    thought = wire.count(wire.member(value, "output_tokens_details").get("thinking_tokens")) or 0
    return Usage(
        fresh + read + written,
        output,
        read,
        written,
        min(thought, output),
        uncertain=value.get("speed") == "fast",
        cache_write_1h_tokens=min(hour, written),
    )
