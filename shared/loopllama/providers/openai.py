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
  (https://platform.moonshot.ai/docs/api/chat), Mistral `num_cached_tokens` and `prompt_token_details` too
  (github.com/vercel/ai, issue 14382).
- `completion_tokens` is the whole answer; `completion_tokens_details.reasoning_tokens` is a part of it
  (https://platform.openai.com/docs/guides/reasoning). Where `total_tokens` is more than both, the rest is reasoning,
  billed as output: Gemini's endpoint under any provider's name, and xAI
  (https://ai.google.dev/gemini-api/docs/thinking#pricing, https://docs.x.ai/docs/guides/reasoning).
- Gateways before Claude leave what was read from a cache and written to it out of `prompt_tokens`, as Anthropic does:
  `total_tokens` has it, or it is more than the prompt under Anthropic's names. It belongs to the prompt. Qwen counts
  what was written as `prompt_tokens_details.cache_creation_input_tokens`
  (https://help.aliyun.com/zh/model-studio/context-cache).
- What is charged beside tokens of text, or at another price, makes the call's cost an estimate: Perplexity's fees
  (`usage.cost.request_cost` and its like, https://docs.perplexity.ai/getting-started/pricing), xAI's
  `num_sources_used`, OpenRouter's web search, and tokens of audio, or of images and video that are given.
- Some gateways have Anthropic's names for the counts. Where `completion_tokens` is missing, `total_tokens` tells, as it
  does of an answer whose tokens all went into thoughts (github.com/router-for-me/CLIProxyAPI, issue 5733).
- A server that gives no usage, or none that can be read, gets an estimate, marked as such.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from loopllama.catalog.providers import KNOWN, Known
from loopllama.catalog.takes import refused
from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.errors import ContentFiltered, InvalidModelResponse, ModelError
from loopllama.llm import schema_restating, thoughts
from loopllama.llm.types import Message, ModelRequest, Thoughts, ToolCall, ToolSpec, Usage
from loopllama.providers import claude, endings, error_mapping, openai_service, waits, wire
from loopllama.providers.adapter import Parsed
from loopllama.providers.credentials import Credentials

_SIGNING = late(r"gemini-([3-9]|\d\d)")
_UNSIGNED = "skip_thought_signature_validator"
"""Gemini from 3 on refuses tool calls in the conversation whose first lacks the signature that it gave; this stands for
one where another model asked. https://ai.google.dev/gemini-api/docs/thought-signatures"""

_OF_ANY_MODEL = {"reasoning_content"}
"""Plain text that every model of a server takes; the others may be signed, or unknown to the next model."""
_NOT_RECORDED = "(not recorded)"
"""What stands for the thoughts where another model made the calls, or none were given. DeepSeek and Moonshot refuse
calls without `reasoning_content`: github.com/earendil-works/pi, issue 3636; github.com/continuedev/continue, issue
11600."""


class OpenAI(openai_service.OpenAIService):
    """The adapter for one provider of this dialect: `openai`, or `azure` where its credentials say so."""

    def url(self, credentials: Credentials, call: ModelRequest) -> str:
        """Return `…/chat/completions`."""
        return openai_service.address(credentials, "chat/completions", call.model)

    def body(self, call: ModelRequest) -> Mapping[str, Any]:
        """Return the request's body."""
        served_by = call.stands_for.provider if call.stands_for and self.provider not in KNOWN else self.provider
        wanted = bool(refused("calls without thoughts", call.known_as, served_by))
        return request(call, self.known(call), self.limit_field(call), with_thoughts=wanted)

    def thinks(self, call: ModelRequest) -> bool:
        """Return whether the call's options or its effort turn thinking on."""
        return claude.thinks(_options(call))

    def limit_field(self, call: ModelRequest) -> str:
        """Return the field that limits the answer, by what was learnt, by the model, by the provider."""
        if call.forms.limit:
            return call.forms.limit
        known = self.known(call)
        if self.provider == "azure" and call.stands_for and call.stands_for.provider not in ("openai", "azure"):
            return "max_tokens"  # Azure hands the request to servers of others, which do not know the newer name
        new = known.max_tokens == "max_tokens" and self.provider not in KNOWN and refused("max_tokens", call.known_as)
        return "max_completion_tokens" if new else known.max_tokens

    def is_error(self, value: Mapping[str, Any]) -> bool:
        """Return whether it is an error: OpenRouter reports an upstream's under status 200, MiniMax each of its own."""
        failed = value.get("error") or wire.member(value, "base_resp").get("status_code")
        return bool(failed and not value.get("choices"))

    def read(self, call: ModelRequest, value: Mapping[str, Any]) -> Parsed:
        """Return what the first choice holds."""
        who, usage = self.who(call), self.charged(call, _usage(value.get("usage")))
        choices = value.get("choices")
        choice = _one_choice(choices, call.options.get("n"))
        message = _message_of(choice)
        if choice is None or not isinstance(message, dict):
            # A prompt that was blocked may get no choices; what has none to speak of, or broken ones, is no completion.
            broken = choices != [] or None
            return Parsed(
                usage=usage, error=InvalidModelResponse(f"{who}: the answer holds no message", against=broken)
            )
        finish, refusal = choice.get("finish_reason"), message.get("refusal") or _refusal(message.get("content"))
        native = choice.get("native_finish_reason")
        ending = endings.ending(endings.CHAT, finish, native)
        stop = endings.stop_reason(ending)
        text, calls = _text(message.get("content")), tuple(_tool_calls(message, cut=stop == "max_tokens"))
        error = endings.failure(ending, who, native or finish)
        if ending == "broken_off":
            error = self._broken_off(call, choice)
        if isinstance(refusal, str) and refusal and not thoughts.apart(text)[0]:
            error = ContentFiltered(f"{who} declined to answer: {refusal[:200]}")
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

    def _broken_off(self, call: ModelRequest, choice: Mapping[str, Any]) -> ModelError | None:
        """Return the error of an answer that the provider broke off; OpenRouter says in the choice why."""
        said, finish = wire.member(choice, "error").get("message"), choice.get("finish_reason")
        reason = said[:200] if isinstance(said, str) else choice.get("native_finish_reason") or finish
        status, error = error_mapping.status_in(choice), endings.failure("broken_off", self.who(call), reason)
        if not said:
            return error
        kind, wait = error_mapping.kind_of(status, (), str(reason), self.codes), waits.in_text(str(reason))
        made = kind(str(error), status=status, retry_after=wait if kind.later else None)
        return error_mapping.judged(made, (), str(reason))

    def _thoughts(self, call: ModelRequest, message: Mapping[str, Any]) -> Thoughts | None:
        known = self.known(call)
        held: dict[str, Any] = {
            name: message[name]
            for name in known.thoughts
            if message.get(name) and isinstance(message[name], str | list)
        }
        if "reasoning_details" in held:
            held.pop("reasoning", None)  # the same once more, without signatures
        content = message.get("content")
        if known.thought_parts and isinstance(content, list):
            held["content"] = [part for part in content if isinstance(part, dict) and part.get("type") == "thinking"]
        model = "" if held.keys() <= _OF_ANY_MODEL else call.model
        return Thoughts(self.provider, model, held) if any(held.values()) else None


def request(call: ModelRequest, known: Known, limit: str, *, with_thoughts: bool = False) -> dict[str, Any]:
    """Return the request's body; `limit` is the field that limits the answer, `with_thoughts` says that each call of a
    tool must have some."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": call.system}] if call.system else []
    messages += [_message(message, known, call.known_as, with_thoughts) for message in call.messages]
    options, most, temperature = claude.fitted_elsewhere(call, _options(call))
    body: dict[str, Any] = {**options, "model": call.model, "messages": messages}
    if call.tools:
        body["tools"] = [_tool(tool) for tool in call.tools]
    if call.forced_tool:
        # The word says as much as the name: where a tool is forced, it is the only one.
        body["tool_choice"] = call.forms.forced or {"type": "function", "function": {"name": call.forced_tool}}
    if call.output_schema is not None:
        strict = known.strict and schema_restating.holds(call.output_schema, known.schemas)
        named = {"name": "answer", "schema": call.output_schema, "strict": strict}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    if most is not None:
        body[limit] = most
    if temperature is not None:
        body["temperature"] = temperature
    if call.service_tier:
        body["service_tier"] = call.service_tier
    body["stream"] = call.forms.stream
    if call.forms.stream:
        body["stream_options"] = {"include_usage": True}
    return body


def _options(call: ModelRequest) -> dict[str, Any]:
    """Return a model's options with the effort that the call asks for."""
    options = dict(call.options)
    if call.effort and "reasoning" in options:  # as OpenRouter's options say it
        options["reasoning"] = {**wire.member(options, "reasoning"), "effort": call.effort}
    elif call.effort:
        options["reasoning_effort"] = call.effort
    return options


def _message(message: Message, known: Known, model: str, with_thoughts: bool) -> dict[str, Any]:
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
    if with_thoughts and not {"reasoning_content", "reasoning"} & held.keys():
        held["reasoning_content"] = _NOT_RECORDED
    content: Any = message.text or None
    if parts := held.pop("content", None):  # Mistral's: thoughts are parts of the content, before the text
        content = [*parts, *([{"type": "text", "text": message.text}] if message.text else [])]
    return {"role": message.role, "content": content, "tool_calls": calls, **held}


def _id(identifier: str, known: Known) -> str:
    if not known.short_tool_ids or re.fullmatch("[a-zA-Z0-9]{9}", identifier):
        return identifier  # `history` has given it its form
    return hashlib.sha256(identifier.encode()).hexdigest()[:9]


def _arguments(call: ToolCall) -> str:
    return exact_json.dumps(wire.arguments_object(call))


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _calls_of(message: Mapping[str, Any]) -> list[Any]:
    found = message.get("tool_calls") or message.get("function_call")  # the form before tools
    return found if isinstance(found, list) else [found] if isinstance(found, dict) else []


def _refusal(content: Any) -> str:
    """Return what a part of the content says that declines to answer."""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return next((part["refusal"] for part in parts if isinstance(part.get("refusal"), str)), "")


def _one_choice(choices: Any, asked: Any) -> Mapping[str, Any] | None:
    """Return the answer that the choices are: the first, with the tool calls of the others where one answer was asked
    for. Gateways before Claude put its text and its calls into a choice each (github.com/karthink/gptel, pull request
    1284; github.com/BerriAI/litellm, pull request 35444)."""
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    first, message = choices[0], wire.member(choices[0], "message")
    calling = [one for one in choices[1:] if isinstance(one, dict) and _calls_of(wire.member(one, "message"))]
    if _calls_of(message) or not calling or asked not in (None, 1):
        return first
    others = [wire.member(one, "message") for one in calling]
    calls = [call for other in others for call in _calls_of(other)]
    text = next((said for said in (message.get("content"), *(other.get("content") for other in others)) if said), None)
    return {**calling[-1], "message": {**others[0], **message, "content": text, "tool_calls": calls}}


def _text(content: Any) -> str:
    """Return the text of a message's content: a text, or (Mistral's reasoning models) parts of which some are
    thoughts."""
    if isinstance(content, str):
        return content
    said = []
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) and part.get("type") in ("text", "output_text") else part
        said.append(text if isinstance(text, str) else "")
    return "".join(said)


def _message_of(choice: Mapping[str, Any] | None) -> Any:
    """Return the message of a choice; of one that came as the piece of a stream, or as text alone, what stands for
    it."""
    if choice is None or isinstance(choice.get("message"), dict):
        return choice and choice["message"]
    if isinstance(choice.get("delta"), dict):
        return choice["delta"]
    return {"content": choice["text"]} if isinstance(choice.get("text"), str) else None


def _tool_calls(message: Mapping[str, Any], cut: bool) -> Iterator[ToolCall]:
    """Yield the tool calls. `cut`: the answer ended at its limit, and with it the last call: what is there of its
    arguments is not what the model meant."""
    calls = _calls_of(message)
    for position, asked in enumerate(calls):
        # Gemini's endpoint may leave out the id; Ollama gives the arguments as an object.
        function = asked if isinstance(asked, dict) else {}
        function = function["function"] if isinstance(function.get("function"), dict) else function
        identifier = asked.get("id") if isinstance(asked, dict) else None
        call = wire.tool_call(identifier, function.get("name"), function.get("arguments"), position)
        if cut and position == len(calls) - 1:
            call = replace(call, arguments=None)
        extra = wire.member(wire.member(asked, "extra_content"), "google") if isinstance(asked, dict) else {}
        signature = extra.get("thought_signature")
        yield replace(call, signature=signature) if isinstance(signature, str) else call


_CACHED = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens", "num_cached_tokens")


def _named(value: Mapping[str, Any], name: str, other: str) -> int | None:
    """Return a count by its name or, where it is missing or 0, by the other one that some gateways have for it."""
    return wire.count(value.get(name)) or wire.count(value.get(other)) or wire.count(value.get(name))


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    prompt, completion = (
        _named(value, "prompt_tokens", "input_tokens"),
        _named(value, "completion_tokens", "output_tokens"),
    )
    total = wire.count(value.get("total_tokens"))
    if prompt is not None and completion is None and total is not None and total >= prompt:
        completion = total - prompt  # all of it were thoughts
    if prompt is None or completion is None:
        return None
    inside, outside = wire.member(value, "prompt_tokens_details"), wire.member(value, "completion_tokens_details")
    reasoning = _most(outside.get("reasoning_tokens"), value.get("reasoning_tokens"))
    cached = _most(
        inside.get("cached_tokens"),
        wire.member(value, "prompt_token_details").get("cached_tokens"),
        *(value.get(name) for name in _CACHED),
    )
    names = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
    written = _most(*(inside.get(name) for name in names), value.get(names[-1]))
    apart = _most(value.get("cache_read_input_tokens")) + _most(value.get("cache_creation_input_tokens"))
    if apart > prompt or (total == prompt + completion + cached + written and reasoning != cached + written):
        prompt += cached + written  # they were left out of it
    impossible = cached > prompt
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    if total is not None and total > prompt + completion:
        reasoning = total - prompt - completion
        completion = total - prompt
    kept = wire.member(inside, "cache_creation_token_details").get("ephemeral_1h_input_tokens")
    return Usage(
        prompt,
        completion,
        cached,
        written,
        min(reasoning, completion),
        uncertain=impossible or _charges_more(value, inside, outside),
        cache_write_1h_tokens=min(wire.count(kept) or 0, written),
    )


def _charges_more(value: Mapping[str, Any], inside: Mapping[str, Any], outside: Mapping[str, Any]) -> bool:
    """Return whether the provider charges for something that no price of a token holds: a fee for requests, searches
    or sources, or tokens that are no text."""
    counted = (value.get(name) for name in ("num_search_queries", "num_sources_used", "citation_tokens"))
    searches = wire.member(value, "server_tool_use").get("web_search_requests")
    others = (inside.get("audio_tokens"), *(outside.get(f"{kind}_tokens") for kind in ("audio", "image", "video")))
    if wire.fees(value) or ("search_context_size" in value and "cost" not in value):
        return True  # Perplexity's fee depends on how much was searched
    amounts = (*counted, searches, *others)
    return any(isinstance(amount, int | float | Decimal) and amount > 0 for amount in amounts)


def _most(*counts: Any) -> int:
    """Return the largest that is a count, 0 where none is: gateways fill one of a figure's names with 0, and say it
    under another."""
    return max((found for found in map(wire.count, counts) if found is not None), default=0)
