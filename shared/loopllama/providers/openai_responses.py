"""OpenAI's Responses API: what OpenAI's newer models need where an agent has tools.

Which models those are: `catalog.takes.needs_responses`.

Wire format: https://platform.openai.com/docs/api-reference/responses/create, and for those who do not speak for OpenAI
https://www.openresponses.org/reference. How it differs from Chat Completions:
https://platform.openai.com/docs/guides/migrate-to-responses. Azure's address:
https://learn.microsoft.com/azure/ai-foundry/openai/how-to/responses.

Nothing is kept at the provider (`store`): each request holds the whole conversation. What a model reasoned comes
encrypted, and goes back before the calls that came of it (https://developers.openai.com/api/docs/guides/reasoning,
encrypted reasoning items). Items go back without their ids: the provider would look for what it has not kept ("Item
with id 'rs_…' not found. Items are not persisted when `store` is set to false", github.com/openai/openai-agents-js,
issue 546), and with a call's id it asks for the reasoning item that stood before it. A reasoning item must have the
item that followed it ("was provided without its required following item"). The `phase` of what was said on the way goes
back too (https://developers.openai.com/api/docs/guides/prompt-guidance, phase parameter).

How usage is counted
- `input_tokens` is the whole prompt; `input_tokens_details.cached_tokens` and, from GPT-5.6 on, `cache_write_tokens`
  there are parts of it (https://platform.openai.com/docs/guides/prompt-caching).
- `output_tokens` is the whole answer; `output_tokens_details.reasoning_tokens` is a part of it
  (https://platform.openai.com/docs/guides/reasoning).
- A server that gives no usage, or none that can be read, gets an estimate, marked as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loopllama.catalog.providers import Known
from loopllama.catalog.takes import reasons
from loopllama.core import exact_json
from loopllama.errors import ContentFiltered, InvalidModelResponse, ModelError
from loopllama.llm import schema_restating, thoughts
from loopllama.llm.types import Message, ModelRequest, Thoughts, ToolSpec, Usage
from loopllama.providers import claude, endings, openai_service, wire
from loopllama.providers.adapter import Parsed
from loopllama.providers.credentials import Credentials

CODES: Mapping[str, type[ModelError]] = {
    **openai_service.CODES,
    "invalid_prompt": ContentFiltered,
    "bio_policy": ContentFiltered,
}
"""OpenAI's, and those that a failed response has of its own
(https://platform.openai.com/docs/api-reference/responses/object, error)."""

_CHARGED_APART = {
    *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
    *("search_results", "fetch_url_results", "sandbox_results", "finance_results", "people_search_results"),
}
"""Items of the output that cost a fee beside the tokens: https://platform.openai.com/docs/pricing, built-in tools;
Perplexity's (github.com/maximhq/bifrost, pull request 7238)."""
_SAID = ("message", "function_call")
"""Items that have a status of their own, by which what they hold is whole or not."""
_MOVED = {"reasoning_effort": ("reasoning", "effort"), "verbosity": ("text", "verbosity")}
"""Parameters of Chat Completions that have another place here, so that a model's `options` go on to hold."""


class OpenAIResponses(openai_service.OpenAIService):
    """The adapter for one provider of this dialect; at Azure where its credentials say so."""

    codes = CODES

    def url(self, credentials: Credentials, call: ModelRequest) -> str:  # noqa: ARG002
        """Return `…/responses`."""
        return openai_service.address(credentials, "responses")

    def body(self, call: ModelRequest) -> Mapping[str, Any]:
        """Return the request's body."""
        return request(call, self.known(call))

    def thinks(self, call: ModelRequest) -> bool:
        """Return whether the call's options or its effort turn thinking on."""
        return claude.thinks(_options(call))

    def is_error(self, value: Mapping[str, Any]) -> bool:
        """Return whether it is an error: a response that failed has one, under status 200."""
        return value.get("status") == "failed" or bool(value.get("error") and not value.get("output"))

    def read(self, call: ModelRequest, value: Mapping[str, Any]) -> Parsed:
        """Return what the items of the output hold."""
        who, output = self.who(call), value.get("output")
        usage = self.charged(call, _usage(value.get("usage"), output))
        if not isinstance(output, list):
            return Parsed(usage=usage, error=InvalidModelResponse(f"{who}: the answer holds no output", against=True))
        items = [item for item in output if isinstance(item, dict)]
        status, why = value.get("status"), wire.member(value, "incomplete_details").get("reason")
        # A server may complete a response whose last item it has cut off.
        cut_off = (item["status"] for item in items if item.get("type") in _SAID and item.get("status") == "incomplete")
        ending = endings.ending(endings.RESPONSES, why, status, *cut_off)
        cut = ending == "max_tokens"
        text, refused = _text(items), "".join(_parts(items, "refusal", "refusal"))
        calls = wire.tool_calls(
            items,
            # What `item` has as `id` is the item's own, for those who let the provider keep it.
            lambda item: (
                (item.get("call_id"), item.get("name"), item.get("arguments"))
                if item.get("type") == "function_call"
                else None
            ),
            cut,
        )
        error = endings.failure(ending, who, "content filter" if ending == "declined" else status)
        if refused and not thoughts.apart(text)[0]:
            error = ContentFiltered(f"{who} declined to answer: {refused[:200]}")
        model = value.get("model")
        held = _held(items)
        return Parsed(
            text=text,
            tool_calls=calls,
            usage=usage,
            thoughts=Thoughts(self.provider, call.model, held) if held else None,
            stop_reason="max_tokens" if cut else "tool_calls" if calls else "end",
            model=model if isinstance(model, str) else "",
            service_tier=wire.service_tier(value.get("service_tier")),
            error=error,
            why_empty="all its tokens went into reasoning; raise max_tokens" if cut else f"status {status}",
        )


def request(call: ModelRequest, known: Known) -> dict[str, Any]:
    """Return the request's body."""
    options, most, temperature = claude.fitted_elsewhere(call, _options(call))
    body: dict[str, Any] = {**options, "model": call.model, "input": _input(call.messages)}
    if call.system:
        body["instructions"] = call.system
    if call.tools:
        body["tools"] = [_tool(tool, known) for tool in call.tools]
        if reasons(call.known_as):
            # Others refuse it. What was reasoned goes back before the calls that came of it.
            body["include"] = ["reasoning.encrypted_content"]
    if call.forced_tool:
        body["tool_choice"] = {"type": "function", "name": call.forced_tool}
    if call.output_schema is not None:
        strict = known.strict and schema_restating.holds(call.output_schema, known.schemas)
        form = {"name": "answer", "schema": call.output_schema, "strict": strict}
        body["text"] = {**wire.member(body, "text"), "format": {"type": "json_schema", **form}}
    if most is not None:
        body["max_output_tokens"] = most
    if temperature is not None:
        body["temperature"] = temperature
    if call.service_tier:
        body["service_tier"] = call.service_tier
    body["store"], body["stream"] = False, call.forms.stream
    return body


def _options(call: ModelRequest) -> dict[str, Any]:
    """Return a model's options as they are named here, with the effort that the call asks for. `text.format` is what
    the call says."""
    named = dict(call.options)
    for name, (group, inside) in _MOVED.items():
        if name in named:
            named[group] = {inside: named.pop(name), **wire.member(named, group)}
    if isinstance(text := named.get("text"), dict) and "format" in text:
        named["text"] = {name: value for name, value in text.items() if name != "format"}
    if call.effort:
        named["reasoning"] = {**wire.member(named, "reasoning"), "effort": call.effort}
    return named


def _input(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the conversation as items."""
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            own = wire.tool_id(message.tool_call_id)
            items.append({"type": "function_call_output", "call_id": own, "output": message.text})
            continue
        held = message.thoughts.value if message.thoughts else {}
        said: list[dict[str, Any]] = []
        if message.text or not message.tool_calls:
            phase = {"phase": held["phase"]} if held.get("phase") else {}
            said.append({"type": "message", "role": message.role, "content": message.text, **phase})
        for call in message.tool_calls:
            arguments = exact_json.dumps(wire.arguments_object(call))
            named = {"call_id": wire.tool_id(call.id), "name": call.name, "arguments": arguments}
            said.append({"type": "function_call", **named})
        for place, item in held.get("reasoning", ()):
            said.insert(int(place), item)
        while said[-1]["type"] == "reasoning":
            said.pop()
        items += said
    return items


def _held(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what goes back of an output beside its text and its calls: `reasoning`, each item with its place in the
    message, whose text is one item before the calls; and the `phase` of the text. Empty where there is nothing."""
    reasoning: list[list[Any]] = []
    phase, others = None, 0
    for item in items:
        if item.get("type") == "reasoning":
            if kept := _reasoning(item):
                reasoning.append([others + len(reasoning), kept])
        elif item.get("type") == "function_call":
            others += 1
        elif phase is None and any(_parts([item], "output_text", "text")):
            phase, others = str(item.get("phase") or ""), others + 1
    held = {"reasoning": reasoning, "phase": phase}
    return {name: value for name, value in held.items() if value}


def _reasoning(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a reasoning item as it goes back: encrypted, or the thoughts themselves from a server that does not
    encrypt them. One that is neither holds nothing without its id."""
    summary, content, encrypted = item.get("summary"), item.get("content"), item.get("encrypted_content")
    kept = {"type": "reasoning", "summary": summary if isinstance(summary, list) else []}
    if isinstance(encrypted, str) and encrypted:
        return {**kept, "encrypted_content": encrypted}
    return {**kept, "content": content} if isinstance(content, list) and content else None


def _tool(tool: ToolSpec, known: Known) -> dict[str, Any]:
    """Return a tool. Without `strict` the provider would restate its parameters as it likes, so it is said: true where
    they are in the strict subset as they stand."""
    strict = known.strict and schema_restating.holds(tool.parameters, known.schemas)
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": strict,
    }


def _text(items: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the output's messages: of the final answer alone, where the model has also said what it is
    about to do (https://developers.openai.com/api/docs/guides/prompt-guidance, phase parameter)."""
    final = [item for item in items if item.get("phase") == "final_answer"]
    texts = ("".join(_parts([item], "output_text", "text")) for item in final or items)
    return "\n".join(text for text in texts if text)


def _parts(items: Sequence[Mapping[str, Any]], kind: str, field: str) -> Iterator[str]:
    """Yield the parts of one kind in the content of messages."""
    for item in items:
        content = item.get("content") if item.get("type") == "message" else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") == kind and isinstance(part.get(field), str):
                yield part[field]


def _usage(value: Any, output: Any = None) -> Usage | None:
    if not isinstance(value, dict):
        return None
    prompt, answer = wire.count(value.get("input_tokens")), wire.count(value.get("output_tokens"))
    if prompt is None or answer is None:
        return None
    inside, outside = wire.member(value, "input_tokens_details"), wire.member(value, "output_tokens_details")
    cached = min(wire.count(inside.get("cached_tokens")) or 0, prompt)
    written = min(wire.count(inside.get("cache_write_tokens")) or 0, prompt - cached)
    reasoning = min(wire.count(outside.get("reasoning_tokens")) or 0, answer)
    kinds = {str(item.get("type")) for item in output if isinstance(item, dict)} if isinstance(output, list) else set()
    return Usage(prompt, answer, cached, written, reasoning, uncertain=bool(kinds & _CHARGED_APART) or wire.fees(value))
