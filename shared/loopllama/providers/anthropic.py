"""Anthropic's Messages.

Wire format: https://docs.claude.com/en/api/messages; errors: https://docs.claude.com/en/api/errors.

How usage is counted: `input_tokens` is what was neither read from nor written to the cache;
`cache_read_input_tokens` and `cache_creation_input_tokens` come on top of it, so the prompt is the sum of the three
(https://docs.claude.com/en/docs/build-with-claude/prompt-caching, tracking cache performance); of the written ones
`cache_creation.ephemeral_1h_input_tokens` are kept an hour, at a price of their own. `output_tokens` is the
whole answer, thinking included; `output_tokens_details.thinking_tokens` is a part of it. What summing up a conversation
took comes on top, in `iterations` alone (https://platform.claude.com/docs/en/build-with-claude/compaction,
understanding usage). Inference in the United States alone (`inference_geo`) costs a tenth more, of all prices
(https://platform.claude.com/docs/en/about-claude/pricing, data residency pricing;
https://docs.aws.amazon.com/claude-platform/latest/userguide/data-residency.html, read in November 2026). Web searches
(`server_tool_use`), inference in any other place and fast mode cost more than the tokens say: the cost is an estimate
then.

Structured output uses `output_config.format`; what that cannot say, or a model does not take, is asked for in another
way (`output_modes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from loopllama.errors import (
    ContextTooLong,
    CredentialsRejected,
    ModelError,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from loopllama.llm import structured_output
from loopllama.llm.types import Message, ModelRequest, Thoughts, Usage
from loopllama.providers import claude, endings, wire
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

_MOST_PAUSES = 5
_US_FACTOR = Decimal("1.1")
_TIERS = {"priority": "auto"}
"""What asks for a service tier: there is no word for the priority tier, which is by contract and used while it lasts
(https://docs.claude.com/en/api/service-tiers)."""


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

    def is_error(self, value: Mapping[str, Any]) -> bool:
        """Return whether it is an error: gateways report an upstream's under status 200."""
        return value.get("type") == "error"

    def send(self, call: ModelRequest, until: float) -> Mapping[str, Any]:
        """Make the POST of a call, and another each time that the provider pauses the turn: it goes on where it is
        given what it has said (https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons)."""
        body = self.body(call)
        value = self.post(call, body, until)
        for _ in range(_MOST_PAUSES):
            content = value.get("content")
            paused = endings.ending(endings.ANTHROPIC, value.get("stop_reason")) == "broken_off"
            if not paused or not isinstance(content, list) or not content:
                break
            so_far = {**body, "messages": [*body["messages"], {"role": "assistant", "content": content}]}
            try:
                value = _together(value, self.post(call, so_far, until))
            except ModelError as error:
                error.usage = error.usage or _usage(value.get("usage"))
                raise
        return value

    def read(self, call: ModelRequest, value: Mapping[str, Any]) -> Parsed:
        """Return what the message's blocks hold."""
        content = value.get("content")
        blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
        text = "".join(b["text"] for b in blocks if b.get("type") == "text" and isinstance(b.get("text"), str))
        stopped = value.get("stop_reason")
        ending = endings.ending(endings.ANTHROPIC, stopped)
        stop = endings.stop_reason(ending)
        model = value.get("model")
        thoughts = wire.thought_blocks(blocks, _thought, _tool_use)
        return Parsed(
            text=text,
            tool_calls=wire.tool_calls(blocks, _tool_use, cut=stop == "max_tokens"),
            usage=_usage(value.get("usage")),
            stop_reason=stop,
            model=model if isinstance(model, str) else "",
            service_tier=wire.service_tier(wire.member(value, "usage").get("service_tier")),
            error=endings.failure(ending, self.who(call), f"stop_reason {stopped}"),
            why_empty="max_tokens is too low" if stop == "max_tokens" else f"stop_reason {stopped}",
            malformed=not isinstance(content, list),
            thoughts=Thoughts(self.provider, call.model, thoughts) if thoughts else None,
        )


def request(call: ModelRequest) -> dict[str, Any]:
    """Return the request's body."""
    options, limit, temperature = claude.fitted(call, call.options, lambda: call.known_as, wire.answer_limit(call))
    body: dict[str, Any] = {**options, "model": call.model, "max_tokens": limit}
    if temperature is not None:
        body["temperature"] = temperature
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


def _together(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return two parts of one turn as one answer, with what both cost."""
    parts = [value.get("content") for value in (before, after)]
    counts = [wire.member(value, "usage") for value in (before, after)]
    usage: dict[str, Any] = {
        name: sum(wire.count(one.get(name)) or 0 for one in counts)
        for name in {**counts[0], **counts[1]}
        if any(wire.count(one.get(name)) is not None for one in counts)
    }
    for name in ("iterations", "server_tool_use", "inference_geo", "speed"):
        said = [one[name] for one in counts if one.get(name)]
        if said:
            usage[name] = [part for one in said for part in one] if all(isinstance(x, list) for x in said) else said[0]
    known = all(_usage(one) for one in counts)
    content = [block for part in parts if isinstance(part, list) for block in part]
    return {**after, "content": content, "usage": usage if known else None}


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    fresh, output = wire.count(value.get("input_tokens")), wire.count(value.get("output_tokens"))
    if fresh is None or output is None:
        return None
    parts = [value, *_apart(value)]

    def summed(name: str, inside: str = "") -> int:
        return sum(wire.count((wire.member(part, inside) if inside else part).get(name)) or 0 for part in parts)

    read, written = summed("cache_read_input_tokens"), summed("cache_creation_input_tokens")
    hour = summed("ephemeral_1h_input_tokens", "cache_creation")
    thought, output = summed("thinking_tokens", "output_tokens_details"), summed("output_tokens")
    searched = wire.count(wire.member(value, "server_tool_use").get("web_search_requests"))
    place = value.get("inference_geo")
    elsewhere = place not in (None, "", "global", "not_available", "us")
    return Usage(
        summed("input_tokens") + read + written,
        output,
        read,
        written,
        min(thought, output),
        uncertain=value.get("speed") == "fast" or bool(searched) or elsewhere or _by_others(value),
        cache_write_1h_tokens=min(hour, written),
        price_factor=_US_FACTOR if place == "us" else Decimal(1),
    )


def _iterations(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = value.get("iterations")
    return [part for part in found if isinstance(part, dict)] if isinstance(found, list) else []


def _apart(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the counts that the message's own leave out: those of a conversation that the provider has summed up."""
    return [part for part in _iterations(value) if part.get("type") == "compaction"]


def _by_others(value: Mapping[str, Any]) -> bool:
    """Return whether another model worked on the answer too, at its own price."""
    return any(part.get("type") not in (None, "message", "compaction") for part in _iterations(value))
