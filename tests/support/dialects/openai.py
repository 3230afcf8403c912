"""OpenAI's Chat Completions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from loopllama.errors import (
    ContentFiltered,
    CredentialsRejected,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelUnavailable,
)
from support import schema_rules
from support.dialects.base import KEY, USUAL, Dialect, Documented, Figures, Seen
from support.dialects.history import Rules, Turn
from support.wire_server import Reply, Request

NO_TOOLS = (
    "Function tools with reasoning_effort are not supported for {} in /v1/chat/completions. To use function tools, use "
    "/v1/responses or set reasoning_effort to 'none'."
)
"""github.com/BerriAI/litellm, pull request 34569"""


NOT_OF_REASONING = {
    "temperature": "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value "
    "is supported.",
    "top_p": "Unsupported parameter: 'top_p' is not supported with this model.",
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
    "instead.",
}
"""github.com/langfuse/langfuse, issue 13325; https://platform.openai.com/docs/guides/reasoning"""


class OpenAIDialect(Dialect):
    name = "openai"
    counts_reasoning = True
    counts = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")
    strict = True
    arguments_are_text = True
    has_refusal = True
    """Whether a refusal has a field of its own."""
    model = "gpt-4.1-mini"
    limit = "max_completion_tokens"
    path = "/v1"
    too_long = (
        400,
        "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in 130010 tokens.",
    )
    throttled = (429, "rate_limit_exceeded", "Rate limit reached for gpt-4.1-mini")
    unauthorized = (401, "invalid_api_key", f"Incorrect API key provided: {KEY}")
    unknown_model = (404, "model_not_found", "The model `gpt-none` does not exist or you do not have access to it.")
    bad_request = (400, "invalid_value", "Invalid value for 'temperature'")
    overloaded = (503, "server_is_overloaded", "The engine is currently overloaded, please try again later")
    documented: ClassVar[Documented] = (
        # https://platform.openai.com/docs/guides/error-codes
        (400, "invalid_request_error", ModelRequestRejected),
        (400, "invalid_value", ModelRequestRejected),
        (400, "unsupported_parameter", ModelRequestRejected),
        (400, "content_policy_violation", ContentFiltered),
        (401, "invalid_api_key", CredentialsRejected),
        (401, "invalid_organization", CredentialsRejected),
        (401, "ip_not_authorized", CredentialsRejected),
        (403, "unsupported_country_region_territory", ModelNotAvailable),
        (404, "model_not_found", ModelNotAvailable),
        (409, "conflict", ModelUnavailable),
        (422, "unprocessable_entity", ModelRequestRejected),
        (429, "rate_limit_exceeded", ModelThrottled),
        (429, "rate_limit_error", ModelThrottled),
        (429, "insufficient_quota", ModelThrottled),
        (429, "credit_balance_exhausted", ModelThrottled),
        (429, "billing_hard_limit_reached", ModelThrottled),
        (429, "slow_down", ModelThrottled),
        (503, "slow_down", ModelThrottled),
        (500, "server_error", ModelUnavailable),
        (503, "server_is_overloaded", ModelUnavailable),
        (503, "service_unavailable_error", ModelUnavailable),
    )

    rules: ClassVar[Rules] = Rules(
        names="[a-zA-Z0-9_-]{1,64}",
        ids=r"[\x20-\x7e]{1,40}",
        says={
            "characters": "We could not parse the JSON body of your request: {what}",
            "name": "Invalid 'messages[{at}].tool_calls[0].function.name': string does not match pattern. Expected a "
            "string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
            "id": "Invalid 'messages[{at}].tool_calls[0].id': string too long. Expected a string with maximum "
            "length 40.",
            "arguments": "Invalid 'messages[{at}].tool_calls[0].function.arguments': {what}",
            "repeated": "Duplicate value for 'tool_call_id' of '{what}' in message[{at}]",
            "missing": "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: {what}",
            "extra": "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
            "'tool_calls'.",
        },
    )

    def turns(self, body: Any) -> list[Turn]:
        found: list[Turn] = []
        results = False
        for message in body["messages"]:
            if message["role"] == "tool":
                if not results:
                    found.append(Turn())
                found[-1].results.append(message["tool_call_id"])
            else:
                calls = message.get("tool_calls", ())
                assert calls or message["content"] is not None, "content is required"
                assert len(calls) <= 128, "array too long"
                found.append(Turn([(one["id"], one["function"]["name"], _arguments(one)) for one in calls]))
            results = message["role"] == "tool"
        return found

    def has_key(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {KEY}"

    def answer(
        self, text: str = "", calls: Sequence[Any] = (), stop: str = "end", usage: Figures | None = USUAL
    ) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": text or None, "refusal": None}
        if calls:
            message["tool_calls"] = [
                {
                    "id": identifier,
                    "type": "function",
                    "function": {"name": name, "arguments": a if isinstance(a, str) else json.dumps(a)},
                }
                for identifier, name, a in calls
            ]
        finish = {"end": "stop", "tools": "tool_calls", "length": "length", "refusal": "content_filter"}[stop]
        if stop == "refusal" and self.has_refusal:
            message["refusal"], finish = "I'm sorry, I cannot assist with that request.", "stop"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        body = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": f"{self.model}-2025-04-14",
            "choices": [choice],
        }
        return {**body, "usage": self.usage(usage)} if usage else body

    def usage(self, figures: Figures) -> dict[str, Any]:
        return {
            "prompt_tokens": figures.prompt,
            "completion_tokens": figures.answer,
            "total_tokens": figures.prompt + figures.answer,
            "prompt_tokens_details": {"cached_tokens": figures.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": figures.reasoning, "audio_tokens": 0},
        }

    def unreadable(self) -> Mapping[str, Reply]:
        """Of servers that speak this dialect: errors of Groq, Ollama and llama.cpp, and OpenRouter's finish reason."""
        body = self.answer()
        body["choices"][0] |= {"finish_reason": "error", "native_finish_reason": "MALFORMED_FUNCTION_CALL"}
        groq = "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details."
        ollama = {"error": {"message": "error parsing tool call: raw='{\"a\":1}]', err=invalid character ']'"}}
        return {
            "OpenRouter": Reply(200, body),
            "Groq": self.error(400, "tool_use_failed", groq),
            "Groq's JSON": self.error(
                400, "json_validate_failed", "Failed to generate JSON. Please adjust your prompt."
            ),
            "Ollama": Reply(500, ollama),
            "llama.cpp": self.error(500, "500", "Failed to parse input at pos 1360: <tool_call>"),
        }

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
        return Reply(status, body, headers or {})

    def refusal(self, request: Request) -> Reply | None:
        if (refused := super().refusal(request)) is not None:
            return refused
        body = request.json
        form = body.get("response_format", {}).get("json_schema")
        if re.match(r"gpt-(3\.5|4-turbo|4$)", body["model"]) and form:
            said = "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
            return self.error(400, "", said)
        if form and (wrong := schema_rules.at_openai(form["schema"], strict=bool(form.get("strict")))):
            return self.error(400, "", f"Invalid schema for response_format 'answer': {wrong}")
        if (wrong := self.tool_refusal(body)) is not None:
            return self.error(400, "invalid_function_parameters", wrong)
        if body.get("tools") and reasons_beside_tools(body):
            error = {"message": NO_TOOLS.format(body["model"]), "type": "invalid_request_error"}
            return Reply(400, {"error": {**error, "param": "reasoning_effort", "code": None}})
        if re.search(r"(^|\.)(o\d|gpt-[5-9])(?!.*-chat)", self.behind(body["model"])):
            for name, said in NOT_OF_REASONING.items():
                if name in body:
                    return self.error(400, "unsupported_parameter", said)
        return None

    def behind(self, model: str) -> str:
        """The model that answers to a name; a test may say it of its own."""
        return self.deployments.get(model, model)

    deployments: ClassVar[Mapping[str, str]] = {"support-prod": "gpt-5-mini"}

    def tool_refusal(self, body: Any) -> str | None:
        """What is said of the parameters of tools."""
        for tool in body.get("tools", ()):
            if (said := schema_rules.of_tool(tool["function"]["parameters"])) is not None:
                return f"Invalid schema for function '{tool['function']['name']}': {said}"
        return None

    def seen(self, request: Request) -> Seen:
        assert request.path == f"{self.path}/chat/completions"
        return self.seen_body(request.json)

    def seen_body(self, body: Any) -> Seen:
        assert body["stream"] is False
        messages: list[tuple[str, str, Any]] = []
        system = ""
        for message in body["messages"]:
            role = message["role"]
            if role == "system":
                system = message["content"]
            elif role == "tool":
                messages.append(("tool", "result", (message["tool_call_id"], message["content"])))
            else:
                if message["content"]:
                    messages.append((role, "text", message["content"]))
                for call in message.get("tool_calls", ()):
                    function = call["function"]
                    content = (call["id"], function["name"], json.loads(function["arguments"]))
                    messages.append((role, "call", content))
        form = body.get("response_format", {}).get("json_schema", {})
        assert not form or body["response_format"]["type"] == "json_schema"
        return Seen(
            body["model"],
            system,
            messages,
            {t["function"]["name"]: t["function"]["parameters"] for t in body.get("tools", ())},
            _forced(body),
            form.get("schema"),
            form.get("strict"),
            body.get(self.limit),
            body.get("temperature"),
        )


def _forced(body: Any) -> str | None:
    """The tool that must be called; where a word says it, the only one."""
    choice = body.get("tool_choice")
    if isinstance(choice, str) and choice in ("required", "any"):
        return str(body["tools"][0]["function"]["name"])
    return choice["function"]["name"] if isinstance(choice, dict) else None


def reasons_beside_tools(body: Any) -> bool:
    """Return whether Chat Completions refuses tools: the model reasons, by its own default from GPT-5.5 on."""
    by_default = re.match(r"gpt-5\.[5-9]|gpt-[6-9]", body["model"])
    effort = body.get("reasoning_effort", "medium" if by_default else "none")
    return effort != "none" and bool(by_default or body["model"].startswith("gpt-5.4"))


def _arguments(call: Any) -> Any:
    """The arguments of a call; their text where it is no JSON."""
    text = call["function"]["arguments"]
    try:
        return json.loads(text)
    except ValueError:
        return text


def not_strict(schema: Any) -> str | None:
    """What OpenAI's strict mode finds wrong."""
    return schema_rules.at_openai(schema, strict=True)
