"""An answer that came in pieces, put together as if it had come whole.

Calls are answered whole wherever a provider does so: nobody reads along. Some models are served in pieces only
(`forms`), and some gateways send pieces whatever they are asked for. Formats:
https://platform.openai.com/docs/api-reference/chat/streaming, https://platform.openai.com/docs/api-reference/responses-streaming,
and https://html.spec.whatwg.org/multipage/server-sent-events.html for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loopllama.providers import wire

_WHOLE = ("response.completed", "response.incomplete", "response.failed", "response.done")
"""Events of the Responses API that hold the response as it ended."""


def document(body: bytes) -> dict[str, Any] | None:
    """Return the document that the events of a body are the pieces of; an error's where one of them is an error. `None`
    where the body is no stream, or one that breaks off."""
    if body.lstrip()[:1] not in (b"d", b"e", b":", b"i", b"r"):  # a field's name, or a comment
        return None
    events = list(_events(body))
    for event in events:
        if event.get("error") and not event.get("choices"):
            return event
        if event.get("type") == "error":
            return {"error": event}
    if any(str(event.get("type", "")).startswith("response.") for event in events):
        return _response(events)
    return _completion(events)


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that events carry. One whose data is none, `[DONE]` say, is left out."""
    data: list[str] = []
    for line in [*body.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n"), ""]:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line:
            if (event := wire.read_object("\n".join(data))) is not None:
                yield event
            data = []


def _response(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the response with which the stream ended. Gateways may leave out of it what events before have said."""
    ended = [wire.member(event, "response") for event in events if event.get("type") in _WHOLE]
    if not ended:
        return None
    items = [event["item"] for event in events if event.get("type") == "response.output_item.done" and "item" in event]
    return {**ended[-1], "output": ended[-1].get("output") or items}


def _completion(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the chat completion that chunks are the pieces of; `None` where no choice has come to its end."""
    whole: dict[str, Any] = {}
    choices: dict[Any, dict[str, Any]] = {}
    for chunk in events:
        whole |= {name: value for name, value in chunk.items() if value is not None and name != "choices"}
        found = chunk.get("choices")
        for piece in found if isinstance(found, list) else ():
            if isinstance(piece, dict):
                index = wire.count(piece.get("index")) or 0
                choice = choices.setdefault(index, {"index": index, "message": {}})
                choice |= {k: v for k, v in piece.items() if v is not None and k not in ("delta", "message", "index")}
                _add(choice["message"], piece.get("delta") or piece.get("message"))
    ended = [choices[index] for index in sorted(choices)]
    if not ended or not all(choice.get("finish_reason") for choice in ended):
        return None
    return {**whole, "choices": ended}


def _add(message: dict[str, Any], delta: Any) -> None:
    """Add a piece to a message: texts and lists go on where they were, tool calls each at its place."""
    for name, value in delta.items() if isinstance(delta, dict) else ():
        if name == "tool_calls" and isinstance(value, list):
            calls = message.setdefault(name, [])
            for piece in value:
                if isinstance(piece, dict):
                    _add_call(calls, piece)
        elif name != "role" and isinstance(value, str | list) and isinstance(message.get(name), type(value)):
            message[name] += value
        elif value is not None:
            message[name] = value


def _add_call(calls: list[dict[str, Any]], piece: Mapping[str, Any]) -> None:
    """Add a piece of a tool call. One without a place belongs to the last, unless it has an id of its own."""
    place = wire.count(piece.get("index"))
    at = next((call for call in calls if place is not None and call.get("index") == place), None)
    if place is None and calls and piece.get("id") in (None, "", calls[-1].get("id")):
        at = calls[-1]
    if at is None:
        at = {"index": place, "type": "function", "function": {}}
        calls.append(at)
    function = at["function"]
    for name, value in piece.items():
        if name == "function" and isinstance(value, dict):
            for part, said in value.items():
                if part == "arguments" and isinstance(said, str) and isinstance(function.get(part), str):
                    function[part] += said
                elif said not in (None, "") or part not in function:
                    function[part] = said
        elif name != "index" and value not in (None, ""):
            at[name] = value
