"""Anthropic's Messages."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from loopllama.catalog.providers import takes_temperature
from loopllama.errors import (
    ContextTooLong,
    CredentialsRejected,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
)
from loopllama.llm.structured_output import TOOL_NAME
from loopllama.providers.anthropic import VERSION
from support.dialects.base import KEY, USUAL, Dialect, Documented, Figures, Seen, closed
from support.dialects.history import Rules, Turn
from support.wire_server import Reply, Request

THINKING_FORCED = "Thinking may not be enabled when tool_choice forces tool use."
THINKING_MISSING = (
    "messages.{at}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{found}`. When `thinking` is "
    "enabled, a final `assistant` message must start with a thinking block (preceeding the lastmost set of `tool_use` "
    "and `tool_result` blocks). We recommend you include thinking blocks from previous turns. To avoid this "
    "requirement, disable `thinking`. Please consult our documentation at "
    "https://docs.claude.com/en/docs/build-with-claude/extended-thinking"
)
THINKING_NOT_FIRST = (
    "messages.{at}.content.0.type: If an assistant message contains any thinking blocks, the first block must be "
    "`thinking` or `redacted_thinking`. Found `{found}`."
)
THINKING = ("thinking", "redacted_thinking")


def thinking_refused(messages: list[tuple[str, list[str]]], thinks: bool) -> str | None:
    """What Claude's servers say of thoughts that are missing or in the wrong place. Messages are `(role, kinds of their
    blocks)`. The turn begins behind the last message that is not all results."""
    for at, (role, kinds) in enumerate(messages):
        if role == "assistant" and set(THINKING) & set(kinds) and kinds[0] not in THINKING:
            return THINKING_NOT_FIRST.format(at=at, found=kinds[0])
    said = [at for at, (role, kinds) in enumerate(messages) if role == "user" and set(kinds) != {"tool_result"}]
    turn = range((said[-1] if said else -1) + 1, len(messages))
    first = next((at for at in turn if messages[at][0] == "assistant"), None)
    if thinks and first is not None and messages[first][1][0] not in THINKING:
        return THINKING_MISSING.format(at=first, found=messages[first][1][0])
    return None


class AnthropicDialect(Dialect):
    name = "anthropic"
    counts = ("input_tokens", "output_tokens", "cache_read_input_tokens")
    cache_points = True
    recursive_schemas = False
    asks_for_a_limit = True
    takes_the_models_limit = True
    tier = "standard"
    options: ClassVar[Mapping[str, Any]] = {
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "service_tier": "standard_only",
    }
    counts_writes = True
    counts_reasoning = True
    model = "claude-haiku-4-5"
    too_long = (400, "invalid_request_error", "prompt is too long: 201246 tokens > 200000 maximum")
    throttled = (429, "rate_limit_error", "This request would exceed your organization's rate limit")
    unauthorized = (401, "authentication_error", "invalid x-api-key")
    unknown_model = (404, "not_found_error", "model: claude-none")
    bad_request = (400, "invalid_request_error", "temperature: range: 0..1")
    overloaded = (529, "overloaded_error", "Overloaded")
    documented: ClassVar[Documented] = (
        # https://docs.claude.com/en/api/errors
        (400, "invalid_request_error", ModelRequestRejected),
        (401, "authentication_error", CredentialsRejected),
        (402, "billing_error", ModelThrottled),
        (403, "permission_error", ModelNotAvailable),
        (404, "not_found_error", ModelNotAvailable),
        (409, "conflict_error", ModelUnavailable),
        (413, "request_too_large", ContextTooLong),
        (429, "rate_limit_error", ModelThrottled),
        (500, "api_error", ModelUnavailable),
        (504, "timeout_error", ModelTimeout),
        (529, "overloaded_error", ModelUnavailable),
    )

    rules: ClassVar[Rules] = Rules(
        names="[a-zA-Z0-9_-]{1,64}",
        ids="[a-zA-Z0-9_-]+",
        says={
            "characters": "The request body is not valid JSON: {what}",
            "name": "messages.{at}.content.0.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'",
            "id": "messages.{at}.content.0.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
            "arguments": "messages.{at}.content.0.tool_use.input: Input should be a valid dictionary",
            "repeated": "messages.{at}.content.0: `tool_use` ids must be unique",
            "missing": "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            "{what}. Each `tool_use` block must have a corresponding `tool_result` block in the next message.",
            "extra": "messages.{at}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {what}. Each "
            "`tool_result` block must have a corresponding `tool_use` block in the previous message.",
            "tools": "Requests which include `tool_use` or `tool_result` blocks must define tools",
        },
    )

    def turns(self, body: Any) -> list[Turn]:
        return [
            Turn(
                [(one["id"], one["name"], one["input"]) for one in message["content"] if one["type"] == "tool_use"],
                [one["tool_use_id"] for one in message["content"] if one["type"] == "tool_result"],
            )
            for message in body["messages"]
        ]

    def has_key(self, request: Request) -> bool:
        return request.headers.get("x-api-key") == KEY and request.headers["anthropic-version"] == VERSION

    def answer(
        self, text: str = "", calls: Sequence[Any] = (), stop: str = "end", usage: Figures | None = USUAL
    ) -> Any:
        content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        content += [{"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a in calls]
        reason = {"end": "end_turn", "tools": "tool_use", "length": "max_tokens", "refusal": "refusal"}[stop]
        body: dict[str, Any] = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": f"{self.model}-20251001",
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
        }
        if usage:
            body["usage"] = {
                "input_tokens": usage.prompt - usage.cached - usage.written,
                "cache_creation_input_tokens": usage.written,
                "cache_read_input_tokens": usage.cached,
                "cache_creation": {"ephemeral_5m_input_tokens": usage.written, "ephemeral_1h_input_tokens": 0},
                "output_tokens": usage.answer,
                "output_tokens_details": {"thinking_tokens": usage.reasoning},
                "service_tier": "standard",
            }
        return body

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        body = {"type": "error", "error": {"type": code, "message": message}, "request_id": "req_1"}
        return Reply(status, body, headers or {})

    def refusal(self, request: Request) -> Reply | None:
        if (refused := super().refusal(request)) is not None:
            return refused
        body = request.json
        kinds = [(one["role"], [block["type"] for block in one["content"]]) for one in body["messages"]]
        if said := thinking_refused(kinds, body.get("thinking", {}).get("type") == "enabled"):
            return self.error(400, "invalid_request_error", said)
        if body.get("tool_choice", {}).get("type") in ("any", "tool"):
            if body.get("thinking", {}).get("type") in ("enabled", "adaptive"):
                return self.error(400, "invalid_request_error", THINKING_FORCED)
            if re.match("claude-(fable|mythos|opus-5-5|sonnet-5-5)", body["model"]):
                return self.error(400, "invalid_request_error", "tool_choice: this model does not support forced tools")
        if "temperature" in body and not takes_temperature(body["model"]):
            return self.error(400, "invalid_request_error", "`temperature` is deprecated for this model.")
        schema = body.get("output_config", {}).get("format", {}).get("schema")
        if schema and (place := closed(schema)):
            said = f"output_config.format.schema: For 'object' type, 'additionalProperties' must be false ({place})"
            return self.error(400, "invalid_request_error", said)
        return None

    def seen(self, request: Request) -> Seen:
        assert request.path == "/v1/messages"
        body = request.json
        messages: list[tuple[str, str, Any]] = []
        roles = [message["role"] for message in body["messages"]]
        assert roles[0] == "user"
        assert all(one != other for one, other in itertools.pairwise(roles)), "roles must alternate"
        for message in body["messages"]:
            for block in message["content"]:
                if block["type"] == "text":
                    assert block["text"].strip(), "text content blocks must be non-empty"
                    messages.append((message["role"], "text", block["text"]))
                elif block["type"] == "tool_use":
                    messages.append((message["role"], "call", (block["id"], block["name"], block["input"])))
                elif block["type"] in THINKING:
                    messages.append((message["role"], "thoughts", block))
                else:
                    messages.append(("tool", "result", (block["tool_use_id"], block["content"])))
        form = body.get("output_config", {}).get("format", {})
        assert not form or form["type"] == "json_schema"
        choice = body.get("tool_choice", {})
        points = request.body.count(b'"cache_control":{"type":"ephemeral"}')
        assert points <= 4
        return Seen(
            body["model"],
            "".join(block["text"] for block in body.get("system", ())),
            messages,
            {tool["name"]: tool["input_schema"] for tool in body.get("tools", ())},
            choice.get("name") or (TOOL_NAME if choice.get("type") == "any" else None),
            form.get("schema"),
            None,
            body["max_tokens"],
            body.get("temperature"),
            points,
        )
