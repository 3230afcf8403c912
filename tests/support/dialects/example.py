"""A wire format that nobody speaks: its adapter, its entry of the registry and its side of the contract, all here.

It shows what a new dialect takes, and that the product needs no change elsewhere for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from loopllama import providers
from loopllama.catalog.providers import KNOWN, Known
from loopllama.core import exact_json
from loopllama.errors import (
    ContentFiltered,
    ContextTooLong,
    CredentialsRejected,
    ModelError,
    ModelNotAvailable,
    ModelRequestRejected,
    ModelThrottled,
    ModelUnavailable,
)
from loopllama.llm.types import Message, ModelRequest, Provider, StopReason, Usage
from loopllama.providers import http, wire
from loopllama.providers.adapter import Parsed
from loopllama.providers.credentials import Credentials
from loopllama.providers.http_adapter import ApiKey, HttpAdapter
from support.dialects.base import KEY, USUAL, Dialect, Documented, Figures, Seen
from support.dialects.history import Rules, Turn
from support.wire_server import Reply, Request

# The adapter, as it would stand in a file of its own in providers/

_ENDS: dict[str, StopReason] = {"done": "end", "asking": "tool_calls", "longest": "max_tokens"}


class Example(HttpAdapter):
    """The adapter for one provider of this dialect."""

    access = ApiKey("x-example-key", prefix="")
    codes: ClassVar[Mapping[str, type[ModelError]]] = {
        "script-too-long": ContextTooLong,
        "no-such-player": ModelNotAvailable,
        "key-unknown": CredentialsRejected,
        "slow-down": ModelThrottled,
        "house-full": ModelUnavailable,
    }

    def url(self, credentials: Credentials, call: ModelRequest) -> str:
        """Return the address, which names the model."""
        return f"{credentials.base_url}/plays/{call.model}"

    def body(self, call: ModelRequest) -> Mapping[str, Any]:
        """Return the request's body."""
        script = [_line(message) for message in call.messages]
        body: dict[str, Any] = {**call.options, "script": script, "longest": call.max_tokens}
        if call.system:
            body["direction"] = call.system
        if call.tools:
            body["props"] = [{"prop": t.name, "about": t.description, "takes": t.parameters} for t in call.tools]
        if call.forced_tool:
            body["must_use"] = call.forced_tool
        if call.output_schema is not None:
            body["shape"] = call.output_schema
        if call.temperature is not None:
            body["heat"] = call.temperature
        return body

    def is_error(self, value: Mapping[str, Any]) -> bool:
        """Return whether it is an error."""
        return "fault" in value

    def read_error(self, reply: http.Reply) -> tuple[list[str], str]:
        """Return kind and text of the fault."""
        value = wire.read_object(reply.body)
        fault = None if value is None else value.get("fault")
        if not isinstance(fault, dict):
            return super().read_error(reply)
        kind, text = fault.get("kind"), fault.get("text")
        said = text if isinstance(text, str) else exact_json.dumps(fault)
        return ([kind] if isinstance(kind, str) else []), said

    def read(self, call: ModelRequest, value: Mapping[str, Any]) -> Parsed:
        """Return what the player said."""
        said, ended, player = value.get("said"), value.get("ended"), value.get("player")
        wants = value.get("wants")
        asked = [one for one in wants if isinstance(one, dict)] if isinstance(wants, list) else []
        stop = _ENDS.get(ended, "end") if isinstance(ended, str) else "end"
        declined = ContentFiltered(f"{self.who(call)} declined to answer") if ended == "declined" else None
        return Parsed(
            text=said if isinstance(said, str) else "",
            tool_calls=wire.tool_calls(
                asked, lambda one: (one.get("ref"), one.get("prop"), one.get("with")), ended == "longest"
            ),
            usage=_usage(value.get("words")),
            stop_reason=stop,
            model=player if isinstance(player, str) else "",
            error=declined,
            why_empty="max_tokens is too low" if stop == "max_tokens" else f"ended {ended}",
            malformed=not isinstance(said, str),
        )


def _line(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        return {"by": "prop", "ref": wire.tool_id(message.tool_call_id), "gives": message.text}
    wants = [{"ref": wire.tool_id(c.id), "prop": c.name, "with": wire.arguments_object(c)} for c in message.tool_calls]
    return {"by": "player" if message.role == "assistant" else "author", "says": message.text, "wants": wants}


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    heard, said = wire.count(value.get("heard")), wire.count(value.get("said"))
    if heard is None or said is None:
        return None
    known = min(wire.count(value.get("known_before")) or 0, heard)
    return Usage(heard, said, known, 0, min(wire.count(value.get("muttered")) or 0, said))


# Its side of the contract


class ExampleDialect(Dialect):
    """A server of this format; a model is a player, a tool a prop."""

    name = "example"
    model = "hamlet-2"
    counts_reasoning = True
    counts = ("heard", "said", "known_before")
    usage_field = "words"
    options: ClassVar[Mapping[str, Any]] = {"mood": "melancholy"}
    too_long = (400, "script-too-long", "The script is longer than the play.")
    throttled = (429, "slow-down", "One line after another, please.")
    unauthorized = (403, "key-unknown", f"Nobody knows the key {KEY}.")
    unknown_model = (404, "no-such-player", "There is no such player in this company.")
    bad_request = (400, "bad-script", "heat: a temperature from 0 to 1")
    overloaded = (503, "house-full", "The house is full.")
    documented: ClassVar[Documented] = (
        (400, "script-too-long", ContextTooLong),
        (400, "bad-script", ModelRequestRejected),
        (403, "key-unknown", CredentialsRejected),
        (404, "no-such-player", ModelNotAvailable),
        (429, "slow-down", ModelThrottled),
        (500, "", ModelUnavailable),
        (503, "house-full", ModelUnavailable),
    )

    def adapter(self, url: str, patch: pytest.MonkeyPatch) -> Provider:
        """Register the dialect and a provider that speaks it, for one test."""
        patch.setitem(providers.DIALECTS, "example", providers.Dialect(lambda: Example))
        patch.setitem(KNOWN, self.name, Known(dialect="example", variables=("EXAMPLE",)))
        return super().adapter(url, patch)

    def has_key(self, request: Request) -> bool:
        return request.headers.get("x-example-key") == KEY

    def answer(
        self, text: str = "", calls: Sequence[Any] = (), stop: str = "end", usage: Figures | None = USUAL
    ) -> Any:
        body: dict[str, Any] = {
            "player": f"{self.model}-first-folio",
            "said": text,
            "wants": [{"ref": ref, "prop": name, "with": given} for ref, name, given in calls],
            "ended": {"end": "done", "tools": "asking", "length": "longest", "refusal": "declined"}[stop],
        }
        if usage:
            body["words"] = {
                "heard": usage.prompt,
                "known_before": usage.cached,
                "said": usage.answer,
                "muttered": usage.reasoning,
            }
        return body

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        return Reply(status, {"fault": {"kind": code, "text": message}}, headers or {})

    rules: ClassVar[Rules] = Rules(
        names="[a-zA-Z0-9_-]{1,64}",
        ids="[a-zA-Z0-9_-]{1,64}",
        says={
            "name": "prop {what} is in nobody's hands",
            "id": "ref {what}",
            "arguments": "with {what}",
            "repeated": "ref {what} twice",
            "missing": "nothing came of {what}",
            "extra": "nobody wanted {what}",
        },
    )

    def turns(self, body: Any) -> list[Turn]:
        found: list[Turn] = []
        before = ""
        for line in body["script"]:
            if line["by"] != "prop":
                found.append(Turn([(one["ref"], one["prop"], one["with"]) for one in line["wants"]]))
            else:
                if before != "prop":
                    found.append(Turn())
                found[-1].results.append(line["ref"])
            before = line["by"]
        return found

    def seen(self, request: Request) -> Seen:
        head, plays, model = request.path.split("/")
        assert (head, plays) == ("", "plays")
        body = request.json
        messages: list[tuple[str, str, Any]] = []
        for line in body["script"]:
            if line["by"] == "prop":
                messages.append(("tool", "result", (line["ref"], line["gives"])))
                continue
            role = {"author": "user", "player": "assistant"}[line["by"]]
            if line["says"]:
                messages.append((role, "text", line["says"]))
            messages += [(role, "call", (one["ref"], one["prop"], one["with"])) for one in line["wants"]]
        return Seen(
            model,
            body.get("direction", ""),
            messages,
            {prop["prop"]: prop["takes"] for prop in body.get("props", ())},
            body.get("must_use"),
            body.get("shape"),
            False,
            body["longest"],
            body.get("heat"),
        )
