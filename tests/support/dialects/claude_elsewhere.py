"""Claude behind servers that speak OpenAI's formats, and hand on what Claude refuses.

Thinking is asked for as LiteLLM takes it (`thinking`; of an effort it makes a fixed budget: github.com/BerriAI/litellm,
pull request 27051) or as OpenRouter does (`reasoning`). What goes back of thoughts is `thinking_blocks` or
`reasoning_details`; plain text is not signed.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from support.dialects.anthropic import (
    NO_BUDGET,
    NO_SAMPLING,
    ONE_OF_TWO,
    ONE_SAMPLER,
    thinking_refused,
    together_refused,
)
from support.dialects.openai import OpenAIDialect
from support.dialects.openai_responses import ResponsesDialect
from support.wire_server import Reply, Request

BUDGETS = {"minimal": 1024, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16_384}


def thinking_of(body: Any) -> dict[str, Any]:
    """What Claude is asked to think."""
    reasoning = body.get("reasoning") or {}
    effort = reasoning.get("effort") or body.get("reasoning_effort") or "none"
    if "thinking" in body:
        return dict(body["thinking"])
    if "max_tokens" in reasoning:
        return {"type": "enabled", "budget_tokens": reasoning["max_tokens"]}
    if effort == "none" and not reasoning.get("enabled"):
        return {}
    if re.search(NO_BUDGET, body["model"]):
        return {"type": "adaptive"}
    if effort == "none":
        return {"type": "enabled", "budget_tokens": 1024}
    return {"type": "enabled", "budget_tokens": BUDGETS[effort]}


def refused(body: Any, limit: int | None, messages: list[tuple[str, list[str]]]) -> str | None:
    """What is handed on."""
    thinking = thinking_of(body)
    own = {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} | {"thinking": thinking}
    forced = body.get("tool_choice") not in (None, "auto", "none")
    if said := together_refused(own, limit, forced, body["model"]):
        return said
    if {"temperature", "top_p"} <= own.keys() and ONE_SAMPLER.search(body["model"]):
        return ONE_OF_TWO
    if len(own) > 1 and NO_SAMPLING.search(body["model"]):
        return f"`{next(iter(own))}` is deprecated for this model."
    return thinking_refused(messages, thinking.get("type") == "enabled")


class ClaudeByChat(OpenAIDialect):
    """A proxy of one's own that speaks Chat Completions."""

    name = "house"
    own_format = False
    model = "claude-sonnet-4-5"
    limit = "max_tokens"
    path = "/v1"
    strict: ClassVar[bool] = False

    def refusal(self, request: Request) -> Reply | None:
        body, messages = request.json, []
        for message in body["messages"]:
            if message["role"] == "system":
                continue
            signed = message.get("thinking_blocks") or message.get("reasoning_details")
            kinds = ["thinking"] if signed else []
            kinds += ["text"] if message["content"] and message["role"] != "tool" else []
            kinds += ["tool_use"] * len(message.get("tool_calls", ()))
            kinds += ["tool_result"] if message["role"] == "tool" else []
            messages.append(("user" if message["role"] == "tool" else message["role"], kinds))
        said = refused(body, body.get("max_tokens"), messages)
        return self.error(400, "400", f"litellm.BadRequestError: AnthropicException - {said}") if said else None


class ClaudeByResponses(ResponsesDialect):
    """The same by Responses."""

    name = "house"
    own_format = False
    model = "claude-sonnet-4-5"
    path = "/v1"

    def refusal(self, request: Request) -> Reply | None:
        body, messages = request.json, []
        for item in body["input"]:
            kind = {"message": "text", "reasoning": "thinking", "function_call": "tool_use"}.get(item["type"])
            role = "user" if kind is None else item.get("role", "assistant")
            if messages and messages[-1][0] == role:
                messages[-1][1].append(kind or "tool_result")
            else:
                messages.append((role, [kind or "tool_result"]))
        said = refused(body, body.get("max_output_tokens"), messages)
        return self.error(400, "400", f"litellm.BadRequestError: AnthropicException - {said}") if said else None
