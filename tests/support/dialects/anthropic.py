"""Anthropic's Messages."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

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
from support import schema_rules
from support.dialects.base import KEY, USUAL, Dialect, Documented, Figures, Seen
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
NO_SAMPLING = re.compile("claude-(opus-4-[7-9]|(opus|sonnet|haiku)-[5-9]|fable|mythos)")
"""https://docs.claude.com/en/docs/about-claude/models/migration-guide"""
NO_BUDGET = "claude-(opus-4-[7-9]|(opus|sonnet|haiku)-[5-9]|fable)"
"""https://platform.claude.com/docs/en/build-with-claude/extended-thinking"""
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


ONE_SAMPLER = re.compile("claude-(opus-4-[1-6]|(sonnet|haiku)-4-[5-9])")
ONE_OF_TWO = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
"""github.com/BerriAI/litellm, issue 15097"""


def together_refused(body: Mapping[str, Any], limit: int | None, forced: bool, model: str = "") -> str | None:
    """What Claude's servers say of thinking beside what it does not go with. `body` has Anthropic's names.
    https://platform.claude.com/docs/en/build-with-claude/extended-thinking; BerriAI/litellm, issue 9001."""
    if body.get("temperature", 0) > 1:
        return "temperature: range: 0..1"
    thinking = body.get("thinking", {})
    if thinking.get("type") == "enabled" and re.search(NO_BUDGET, model):
        return '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive".'
    if thinking.get("type") not in ("enabled", "adaptive"):
        return None
    budget = thinking.get("budget_tokens")
    if thinking["type"] == "enabled":
        if budget < 1024:
            return "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        if limit is not None and budget >= limit:
            return "`max_tokens` must be greater than `thinking.budget_tokens`."
    if forced:
        return THINKING_FORCED
    if body.get("temperature", 1) != 1:
        return "`temperature` may only be set to 1 when thinking is enabled."
    if "top_k" in body:
        return "`top_k` must be unset when thinking is enabled."
    if body.get("top_p", 1) < 0.95:
        return "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled."
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

    def unreadable(self) -> Mapping[str, Reply]:
        """Nothing but thoughts, and nothing but white space."""
        thoughts, blank = self.answer(), self.answer("\n\n")
        thoughts["content"] = [{"type": "thinking", "thinking": "Twice?", "signature": "c2ln"}]
        return {"thoughts": Reply(200, thoughts), "blank": Reply(200, blank)}

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
        choice = body.get("tool_choice", {}).get("type") in ("any", "tool")
        if said := together_refused(body, body["max_tokens"], choice, body["model"]):
            return self.error(400, "invalid_request_error", said)
        if choice and re.match("claude-(fable|mythos|opus-5-5|sonnet-5-5)", body["model"]):
            return self.error(400, "invalid_request_error", "tool_choice: this model does not support forced tools")
        for name in ("temperature", "top_p", "top_k"):
            if name in body and NO_SAMPLING.search(body["model"]):
                return self.error(400, "invalid_request_error", f"`{name}` is deprecated for this model.")
        if {"temperature", "top_p"} <= body.keys() and ONE_SAMPLER.search(body["model"]):
            return self.error(400, "invalid_request_error", ONE_OF_TWO)
        schema = body.get("output_config", {}).get("format", {}).get("schema")
        if schema and (said := schema_rules.at_anthropic(schema)):
            return self.error(400, "invalid_request_error", said)
        for place, tool in enumerate(body.get("tools", ())):
            if said := schema_rules.of_tool_at_anthropic(tool["input_schema"]):
                return self.error(400, "invalid_request_error", f"tools.{place}.custom.{said}")
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
