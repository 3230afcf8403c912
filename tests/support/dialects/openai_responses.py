"""OpenAI's Responses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from loopllama.catalog.providers import KNOWN, Known
from loopllama.llm.types import Provider
from support.dialects.base import USUAL, Figures, Seen
from support.dialects.history import Rules, Turn
from support.dialects.openai import OpenAIDialect, not_strict
from support.wire_server import Reply, Request

PARAMETERS = frozenset(
    {
        *("background", "context_management", "conversation", "include", "input", "instructions"),
        *("max_output_tokens", "max_tool_calls", "metadata", "model", "parallel_tool_calls", "previous_response_id"),
        *("prompt", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning"),
        *("safety_identifier", "service_tier", "store", "stream", "stream_options", "temperature", "text"),
        *("tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user"),
    }
)
"""https://platform.openai.com/docs/api-reference/responses/create"""
MOVED = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
}
"""What Chat Completions calls otherwise; the error says so (github.com/lobehub/lobehub, pull request 8163)."""


REASONED = "gAAAAABpK-what-the-model-thought"


class ResponsesDialect(OpenAIDialect):
    """A provider of one's own speaks it here. How OpenAI's models get to it is tested apart."""

    name = "openai-responses"
    counts_writes = True
    counts = ("input_tokens", "output_tokens", "total_tokens", "cached_tokens")
    options: ClassVar[Mapping[str, Any]] = {"service_tier": "flex", "metadata": {"team": "support"}}
    limit = "max_output_tokens"

    def adapter(self, url: str, patch: pytest.MonkeyPatch) -> Provider:
        """Register a provider that speaks it, for one test."""
        known = Known(dialect=self.name, variables=("OPENAI_RESPONSES",), schemas="openai strict")
        patch.setitem(KNOWN, self.name, known)
        return super().adapter(url, patch)

    def unreadable(self) -> Mapping[str, Reply]:
        """Its own endpoint repairs what it can and says nothing of the rest: the output is without text then."""
        return {"no items": Reply(200, self.answer() | {"output": []})}

    def answer(
        self, text: str = "", calls: Sequence[Any] = (), stop: str = "end", usage: Figures | None = USUAL
    ) -> Any:
        ended = "incomplete" if stop == "length" else "completed"
        output: list[dict[str, Any]] = [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": REASONED}
        ]
        parts: list[dict[str, Any]] = [{"type": "output_text", "text": text, "annotations": []}] if text else []
        if stop == "refusal":
            parts = [{"type": "refusal", "refusal": "I'm sorry, I cannot assist with that request."}]
        if parts:
            message = {"type": "message", "id": "msg_1", "status": ended, "role": "assistant", "content": parts}
            output.append(message)
        output += [
            {
                "type": "function_call",
                "id": f"fc_{number}",
                "call_id": call_id,
                "name": name,
                "arguments": given if isinstance(given, str) else json.dumps(given),
                "status": ended,
            }
            for number, (call_id, name, given) in enumerate(calls)
        ]
        return {
            "id": "resp_1",
            "object": "response",
            "status": ended,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if stop == "length" else None,
            "model": f"{self.model}-2025-04-14",
            "output": output,
            "usage": self.usage(usage) if usage else None,
        }

    def usage(self, figures: Figures) -> dict[str, Any]:
        return {
            "input_tokens": figures.prompt,
            "input_tokens_details": {"cached_tokens": figures.cached, "cache_write_tokens": figures.written},
            "output_tokens": figures.answer,
            "output_tokens_details": {"reasoning_tokens": figures.reasoning},
            "total_tokens": figures.prompt + figures.answer,
        }

    def refusal(self, request: Request) -> Reply | None:
        body = request.json
        faults = _wrong_parameter(body) or _wrong_tool(body) or _wrong_item(body)
        code, said = faults or ("", self.rules.refusal(self.turns(body), body, self.has_tools(body)) or "")
        return self.error(400, code, said) if said else None

    # github.com/earendil-works/pi, issue 9057; github.com/NousResearch/hermes-agent, pull request 111443;
    # github.com/vercel/ai, issue 7883
    rules: ClassVar[Rules] = Rules(
        names="[a-zA-Z0-9_-]{1,64}",
        ids=r"[\x20-\x7e]{1,64}",
        says={
            "characters": "We could not parse the JSON body of your request: {what}",
            "name": "Invalid 'input[{at}].name': string does not match pattern. Expected a string that matches the "
            "pattern '^[a-zA-Z0-9_-]+$'.",
            "id": "Invalid 'input[{at}].call_id': string too long.",
            "arguments": "Invalid 'input[{at}].arguments': {what}",
            "repeated": "Duplicate 'call_id': {what}",
            "missing": "No tool output found for function call {what}.",
            "extra": "No tool call found for function call output with call_id {what}.",
        },
    )

    def turns(self, body: Any) -> list[Turn]:
        found: list[Turn] = []
        before = ""
        for item in body["input"]:
            if item["type"] == "reasoning":
                continue
            if item["type"] == "message" or item["type"] != before:
                found.append(Turn())
            if item["type"] == "function_call":
                try:
                    arguments = json.loads(item["arguments"])
                except ValueError:
                    arguments = item["arguments"]
                found[-1].calls.append((item["call_id"], item["name"], arguments))
            elif item["type"] == "function_call_output":
                found[-1].results.append(item["call_id"])
            before = item["type"]
        return found

    def seen(self, request: Request) -> Seen:
        assert request.path == f"{self.path}/responses"
        return self.seen_body(request.json)

    def seen_body(self, body: Any) -> Seen:
        assert (body["stream"], body["store"]) == (False, False)
        messages: list[tuple[str, str, Any]] = []
        for item in body["input"]:
            if item["type"] == "message":
                messages.append((item["role"], "text", item["content"]))
            elif item["type"] == "function_call":
                content = (item["call_id"], item["name"], json.loads(item["arguments"]))
                messages.append(("assistant", "call", content))
            elif item["type"] == "reasoning":
                messages.append(("assistant", "thoughts", item))
            else:
                assert item["type"] == "function_call_output"
                messages.append(("tool", "result", (item["call_id"], item["output"])))
        form = body.get("text", {}).get("format", {})
        assert not form or form["type"] == "json_schema"
        return Seen(
            body["model"],
            body.get("instructions", ""),
            messages,
            {tool["name"]: tool["parameters"] for tool in body.get("tools", ())},
            body.get("tool_choice", {}).get("name"),
            form.get("schema"),
            form.get("strict"),
            body.get(self.limit),
            body.get("temperature"),
        )


Wrong = tuple[str, str] | None
"""The code and the message of an error."""


def _wrong_parameter(body: Mapping[str, Any]) -> Wrong:
    for name in body:
        if name in MOVED:
            there = f"In the Responses API, this parameter has moved to '{MOVED[name]}'."
            return "unsupported_parameter", f"Unsupported parameter: '{name}'. {there}"
        if name not in PARAMETERS:
            return "unknown_parameter", f"Unknown parameter: '{name}'."
    reasons = re.search(r"(^|\.)(o\d|gpt-[5-9](?!.*-chat))", body["model"])
    refused = ("temperature", "top_p") if reasons else ("reasoning",)
    if found := [name for name in refused if name in body]:
        return "unsupported_parameter", f"Unsupported parameter: '{found[0]}' is not supported with this model."
    if "reasoning.encrypted_content" in body.get("include", ()) and not reasons:
        return "", "Encrypted content is not supported with this model."
    form = body.get("text", {}).get("format", {})
    if form and form.get("strict") and (place := not_strict(form["schema"])):
        return "invalid_json_schema", f"Invalid schema for response_format 'answer': In context={place}."
    return None


def _wrong_item(body: Mapping[str, Any]) -> Wrong:
    """github.com/openai/openai-agents-js, issue 546 (ids); github.com/openai/openai-python, issue 2570 (what follows a
    reasoning item); https://developers.openai.com/api/docs/guides/reasoning (encrypted content)."""
    items = body["input"]
    for place, item in enumerate(items):
        if "id" in item:
            there = "Items are not persisted when `store` is set to false."
            return "", f"Item with id '{item['id']}' not found. {there}"
        if item["type"] != "reasoning":
            continue
        if not isinstance(item.get("summary"), list):
            return "missing_required_parameter", f"Missing required parameter: 'input[{place}].summary'."
        if not (item.get("encrypted_content") or item.get("content")):
            return "", f"Item of type 'reasoning' at input[{place}] has no encrypted content."
        if not item.get("encrypted_content", REASONED).startswith(REASONED):
            why = "Reason: Encrypted content could not be decrypted or parsed."
            return "invalid_encrypted_content", f"The encrypted content gAAA... could not be verified. {why}"
        follows = items[place + 1] if place + 1 < len(items) else {}
        own = follows.get("type") in ("reasoning", "function_call") or follows.get("role") == "assistant"
        if not own:
            return "", "Item 'rs_1' of type 'reasoning' was provided without its required following item."
    return None


def _wrong_tool(body: Mapping[str, Any]) -> Wrong:
    tools = body.get("tools", [])
    for place, tool in enumerate(tools):
        if "name" not in tool:
            return "missing_required_parameter", f"Missing required parameter: 'tools[{place}].name'."
        if tool.get("strict", True) and (found := not_strict(tool["parameters"])):
            name = tool["name"]
            return "invalid_function_parameters", f"Invalid schema for function '{name}': In context={found}."
    chosen = body.get("tool_choice")
    if isinstance(chosen, Mapping) and chosen.get("name") not in {tool["name"] for tool in tools}:
        return "", "Tool choice 'function' not found in 'tools' parameter."
    return None
