"""OpenAI's Chat Completions, and the many servers that speak it: Azure, Gemini, Mistral, DeepSeek, vLLM, Ollama…

Wire format: https://platform.openai.com/docs/api-reference/chat/create.

How usage is counted
- `prompt_tokens` is the whole prompt; `prompt_tokens_details.cached_tokens` is a part of it, as are
  `cache_write_tokens` there, where the provider tells them (https://platform.openai.com/docs/guides/prompt-caching,
  https://openrouter.ai/docs/guides/best-practices/prompt-caching). LiteLLM's proxy calls those `cache_creation_tokens`
  (github.com/BerriAI/litellm, issue 11364), and those kept an hour `cache_creation_token_details` (its
  `CacheCreationTokenDetails`).
- DeepSeek says `prompt_cache_hit_tokens` instead; `prompt_tokens` is hits and misses together
  (https://api-docs.deepseek.com/api/create-chat-completion). Moonshot says `cached_tokens` beside `prompt_tokens`
  (https://platform.moonshot.ai/docs/api/chat).
- `completion_tokens` is the whole answer; `completion_tokens_details.reasoning_tokens` is a part of it
  (https://platform.openai.com/docs/guides/reasoning). Where `total_tokens` is more than both, the rest is reasoning,
  billed as output: Gemini's endpoint under any provider's name, and xAI
  (https://ai.google.dev/gemini-api/docs/thinking#pricing, https://docs.x.ai/docs/guides/reasoning).
- Perplexity charges for each request beside its tokens (`usage.cost.request_cost`,
  https://docs.perplexity.ai/getting-started/pricing): the call's cost is marked as an estimate then.
- A server that gives no usage, or none that can be read, gets an estimate, marked as such.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from loopllama.catalog.providers import KNOWN, Known, takes_temperature
from loopllama.core import exact_json
from loopllama.errors import ContentFiltered, InvalidModelResponse, ModelError, ModelUnavailable
from loopllama.llm import schema_subsets, thoughts
from loopllama.llm.types import Message, ModelRequest, StopReason, Thoughts, ToolCall, ToolSpec, Usage
from loopllama.providers import openai_service, wire
from loopllama.providers.adapter import Parsed
from loopllama.providers.credentials import Credentials
from loopllama.providers.http_adapter import HttpAdapter

_NO_SCHEMA_BESIDE_TOOLS = re.compile(r"gemini-[12](?!\d)")
_SIGNING = re.compile(r"gemini-([3-9]|\d\d)")
_UNSIGNED = "skip_thought_signature_validator"
"""Gemini from 3 on refuses tool calls in the conversation whose first lacks the signature that it gave; this stands for
one where another model asked. https://ai.google.dev/gemini-api/docs/thought-signatures"""

_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")
"""Fields of a message in which servers give thoughts and take them back: DeepSeek, Moonshot and vLLM the first, Ollama
the second, OpenRouter the third, LiteLLM before Claude the last. They go back in the field in which they came.
https://api-docs.deepseek.com/guides/thinking_mode#tool-calls, https://openrouter.ai/docs/guides/best-practices/reasoning-tokens,
https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model, https://docs.litellm.ai/docs/reasoning_content"""
_TAKES_BACK: Mapping[str, tuple[str, ...]] = {
    "openai": (),
    "google": (),  # signatures, with the calls
    "mistral": (),  # refuses what it does not know: github.com/BerriAI/litellm, issue 30835
    "perplexity": (),
    "xai": (),
    "groq": ("reasoning",),
    "cerebras": ("reasoning",),  # refuses the others: github.com/anomalyco/opencode, issue 48774
}
"""Providers that take fewer of these fields in a request."""
_OF_ANY_MODEL = {"reasoning_content"}
"""Plain text that every model of a server takes; the others may be signed, or unknown to the next model."""
_WANTED = re.compile("deepseek|kimi", re.IGNORECASE)
_NOT_RECORDED = "(not recorded)"
"""What stands for the thoughts where another model made the calls, or none were given. DeepSeek and Moonshot refuse
calls without `reasoning_content`: github.com/earendil-works/pi, issue 3636; github.com/continuedev/continue, issue
11600."""

_STOPS: dict[str, StopReason] = {
    "stop": "end",
    "eos": "end",  # Together
    "length": "max_tokens",
    "model_length": "max_tokens",  # Mistral
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",  # Z.ai
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_DECLINED = frozenset(
    {
        *("content_filter", "refusal", "safety", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII"),
        *("sensitive", "guardrail_intervened", "content_filtered", "content_filter_results"),
    }
)
"""Finish reasons of an answer that somebody's filter has cut: OpenAI's, Gemini's, Z.ai's, Bedrock's behind gateways."""
_BROKEN_OFF = frozenset({"error", "network_error", "insufficient_system_resource", "abort", "cancelled", "timeout"})
"""Finish reasons of an answer that the provider broke off: Mistral's and OpenRouter's, Z.ai's, DeepSeek's, vLLM's."""
_MALFORMED = frozenset({"malformed_function_call", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"})
"""Finish reasons of an answer whose tool call Gemini itself could not read."""


class OpenAI(HttpAdapter):
    """The adapter for one provider of this dialect: `openai`, or `azure` where its credentials say so."""

    access = openai_service.Key()
    codes = openai_service.CODES

    def url(self, credentials: Credentials, call: ModelRequest) -> str:
        """Return `…/chat/completions`."""
        return openai_service.address(credentials, "chat/completions", call.model)

    def body(self, call: ModelRequest) -> Mapping[str, Any]:
        """Return the request's body."""
        return request(call, self.known)

    def native_schema(self, call: ModelRequest) -> Mapping[str, Any] | None:
        """Return the call's schema; `None` for Gemini 2, which takes none beside tools: "Function calling with a
        response mime type: 'application/json' is unsupported" (github.com/googleapis/python-genai, issue 867)."""
        return None if call.tools and _NO_SCHEMA_BESIDE_TOOLS.search(call.model) else call.output_schema

    def is_error(self, value: Mapping[str, Any]) -> bool:
        """Return whether it is an error: OpenRouter reports an upstream's under status 200."""
        return bool(value.get("error") and not value.get("choices"))

    def read(self, call: ModelRequest, value: Mapping[str, Any]) -> Parsed:
        """Return what the first choice holds."""
        who, usage = self.who(call), _usage(value.get("usage"))
        choices = value.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            # A prompt that was blocked may get no choices; what has none to speak of, or broken ones, is no completion.
            broken = choices != [] or None
            return Parsed(
                usage=usage, error=InvalidModelResponse(f"{who}: the answer holds no message", against=broken)
            )
        text, calls = _text(message.get("content")), tuple(_tool_calls(message))
        finish, refusal = choice.get("finish_reason"), message.get("refusal")
        stop = _STOPS.get(finish, "end") if isinstance(finish, str) else "end"
        refused = refusal if isinstance(refusal, str) else ""
        error: ModelError | None = None
        reason = finish if isinstance(finish, str) else ""
        if reason in _DECLINED or (refused and not thoughts.apart(text)[0]):
            why = f": {refused[:200]}" if refused else f" (finish reason {reason})"
            error = ContentFiltered(f"{who} declined to answer{why}")
        elif reason in _BROKEN_OFF:
            error = ModelUnavailable(f"{who}: the provider broke off the answer ({reason})")
        elif reason in _MALFORMED:
            error = InvalidModelResponse(f"{who}: the model's tool call cannot be read ({reason})")
        model = value.get("model")
        return Parsed(
            text=text,
            tool_calls=calls,
            usage=usage,
            stop_reason="tool_calls" if calls and stop == "end" else stop,
            model=model if isinstance(model, str) else "",
            service_tier=wire.service_tier(value.get("service_tier")),
            error=error,
            thoughts=self._thoughts(call, message),
            why_empty="all its tokens went into reasoning; raise max_tokens" if stop == "max_tokens" else "no text",
        )

    def _thoughts(self, call: ModelRequest, message: Mapping[str, Any]) -> Thoughts | None:
        names = _TAKES_BACK.get(self.provider, _THOUGHTS)
        held = {name: message[name] for name in names if message.get(name) and isinstance(message[name], str | list)}
        if "reasoning_details" in held:
            held.pop("reasoning", None)  # the same once more, without signatures
        model = "" if held.keys() <= _OF_ANY_MODEL else call.model
        return Thoughts(self.provider, model, held) if held else None


def request(call: ModelRequest, known: Known) -> dict[str, Any]:
    """Return the request's body."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": call.system}] if call.system else []
    messages += [_message(message, known, call.model) for message in call.messages]
    body: dict[str, Any] = {**call.options, "model": call.model, "messages": messages}
    if call.tools:
        body["tools"] = [_tool(tool) for tool in call.tools]
    if call.forced_tool:
        body["tool_choice"] = {"type": "function", "function": {"name": call.forced_tool}}
    if call.output_schema is not None:
        strict = schema_subsets.for_openai(call.output_schema) if known.strict else None
        named = {"name": "answer", "schema": strict or call.output_schema, "strict": strict is not None}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if call.max_tokens is not None:
        body[known.max_tokens] = call.max_tokens
    if call.temperature is not None and takes_temperature(call.model):
        body["temperature"] = call.temperature
    if call.effort and "reasoning" in body:  # as OpenRouter's options say it
        body["reasoning"] = {**wire.member(body, "reasoning"), "effort": call.effort}
    elif call.effort:
        body["reasoning_effort"] = call.effort
    if call.service_tier:
        body["service_tier"] = call.service_tier
    body["stream"] = False
    return body


def _message(message: Message, known: Known, model: str) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": _id(message.tool_call_id, known), "content": message.text}
    if not message.tool_calls:
        return {"role": message.role, "content": message.text}
    calls = [
        {"id": _id(c.id, known), "type": "function", "function": {"name": c.name, "arguments": _arguments(c)}}
        for c in message.tool_calls
    ]
    if known.signatures:
        for place, (asked, c) in enumerate(zip(calls, message.tool_calls, strict=True)):
            signature = c.signature or (_UNSIGNED if place == 0 and _SIGNING.search(model) else "")
            if signature:
                asked["extra_content"] = {"google": {"thought_signature": signature}}
    held = dict(message.thoughts.value) if message.thoughts else {}
    if _wants_thoughts(known, model) and not {"reasoning_content", "reasoning"} & held.keys():
        held["reasoning_content"] = _NOT_RECORDED
    return {"role": message.role, "content": message.text or None, "tool_calls": calls, **held}


def _wants_thoughts(known: Known, model: str) -> bool:
    """Return whether calls without thoughts are refused: by DeepSeek, and by servers that are no known provider
    (Moonshot) or Azure, where they serve such a model. Other known ones that serve it refuse the field."""
    return known is KNOWN["deepseek"] or (not known.base_url and bool(_WANTED.search(model)))


def _id(identifier: str, known: Known) -> str:
    if not known.short_tool_ids or re.fullmatch("[a-zA-Z0-9]{9}", identifier):
        return identifier  # `history` has given it its form
    return hashlib.sha256(identifier.encode()).hexdigest()[:9]


def _arguments(call: ToolCall) -> str:
    return exact_json.dumps(wire.arguments_object(call))


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _text(content: Any) -> str:
    """Return the text of a message's content: a text, or (Mistral's reasoning models) parts of which some are
    thoughts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "".join(
        part["text"]
        for part in parts
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def _tool_calls(message: Mapping[str, Any]) -> Iterator[ToolCall]:
    calls = message.get("tool_calls")
    for position, asked in enumerate(calls if isinstance(calls, list) else ()):
        # Gemini's endpoint may leave out the id; Ollama gives the arguments as an object.
        function = wire.member(asked, "function") if isinstance(asked, dict) else {}
        identifier = asked.get("id") if isinstance(asked, dict) else None
        call = wire.tool_call(identifier, function.get("name"), function.get("arguments"), position)
        extra = wire.member(wire.member(asked, "extra_content"), "google") if isinstance(asked, dict) else {}
        signature = extra.get("thought_signature")
        yield replace(call, signature=signature) if isinstance(signature, str) else call


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    prompt, completion = wire.count(value.get("prompt_tokens")), wire.count(value.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    inside, outside = wire.member(value, "prompt_tokens_details"), wire.member(value, "completion_tokens_details")
    reasoning = wire.count(outside.get("reasoning_tokens")) or 0
    total = wire.count(value.get("total_tokens"))
    if total is not None and total > prompt + completion:
        reasoning = total - prompt - completion
        completion = total - prompt
    cached = _first(inside.get("cached_tokens"), value.get("prompt_cache_hit_tokens"), value.get("cached_tokens"))
    written = _first(
        *(inside.get(name) for name in ("cache_write_tokens", "cache_creation_tokens")),
        value.get("cache_creation_input_tokens"),
    )
    cached = min(cached, prompt)
    # A fee that the provider names beside its tokens is in no price of a token, so the figure is no measured one.
    charged = wire.member(value, "cost").get("request_cost")
    fee = isinstance(charged, int | float | Decimal) and charged > 0
    written = min(written, prompt - cached)
    kept = wire.member(inside, "cache_creation_token_details").get("ephemeral_1h_input_tokens")
    hour = min(wire.count(kept) or 0, written)
    return Usage(
        prompt, completion, cached, written, min(reasoning, completion), uncertain=fee, cache_write_1h_tokens=hour
    )


def _first(*counts: Any) -> int:
    """Return the first that is a count, 0 where none is."""
    return next((found for found in map(wire.count, counts) if found is not None), 0)
