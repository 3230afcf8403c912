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


class _Text(list[str]):
    """The pieces of one text. They are joined at the end: a long answer has a hundred thousand."""


def _completion(events: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the chat completion that chunks are the pieces of; `None` where no choice has come to its end."""
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in events:
        whole |= {name: value for name, value in chunk.items() if value is not None and name != "choices"}
        found = chunk.get("choices")
        for piece in found if isinstance(found, list) else ():
            if isinstance(piece, dict):
                index = wire.count(piece.get("index")) or 0
                choice = choices.setdefault(index, {"index": index, "message": {}})
                choice |= {k: v for k, v in piece.items() if v is not None and k not in ("delta", "message", "index")}
                _add(choice["message"], piece.get("delta") or piece.get("message"))
    ended = [_joined(choices[index]) for index in sorted(choices)]
    if not ended or not all(choice.get("finish_reason") for choice in ended):
        return None
    return {**whole, "choices": ended}


def _joined(value: Any) -> Any:
    """Return what was put together, with its texts whole."""
    if isinstance(value, _Text):
        return "".join(value)
    if isinstance(value, list):
        return [_joined(one) for one in value]
    return {name: _joined(one) for name, one in value.items()} if isinstance(value, dict) else value


def _add(message: dict[str, Any], delta: Any) -> None:
    """Add a piece to a message: texts and lists go on where they were, tool calls each at its place."""
    for name, value in delta.items() if isinstance(delta, dict) else ():
        held = message.get(name)
        if name == "tool_calls":
            held = message[name] = held if isinstance(held, list) else []
            for piece in value if isinstance(value, list) else ():
                if isinstance(piece, dict):
                    _add_call(held, piece)
        elif name == "role":
            message[name] = value
        elif isinstance(value, str):
            _go_on(message, name, value)
        elif isinstance(value, list):
            if isinstance(held, list) and not isinstance(held, _Text):
                held += value
            else:
                message[name] = [*value]
        elif value is not None:
            message[name] = value


def _add_call(calls: list[dict[str, Any]], piece: Mapping[str, Any]) -> None:
    """Add a piece of a tool call. One without a place belongs to the last, unless it has an id of its own."""
    place = wire.count(piece.get("index"))
    at = next((call for call in calls if place is not None and call["index"] == place), None)
    if place is None and calls and piece.get("id") in (None, "", calls[-1].get("id")):
        at = calls[-1]
    if at is None:
        at = {"index": place, "type": "function", "function": {}}
        calls.append(at)
    for name, value in piece.items():
        if name not in ("index", "function") and value not in (None, ""):
            at[name] = value
    for name, value in wire.member(piece, "function").items():
        if name == "arguments" and isinstance(value, str):
            _go_on(at["function"], name, value)
        elif value not in (None, ""):
            at["function"][name] = value


def _go_on(holder: dict[str, Any], name: str, text: str) -> None:
    held = holder.get(name)
    if isinstance(held, _Text):
        held.append(text)
    else:
        holder[name] = _Text([text])
