"""What every adapter does, whatever its wire format. `complete` is written here, and only here.

A dialect is a class of `Adapter`. It says how a call is sent and how an answer is read; what follows from that is the
same for all: in which way JSON is asked for, what an answer without text means, what is charged for a refused one.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from loopllama.catalog.providers import KNOWN, Known
from loopllama.core import exact_json
from loopllama.errors import InvalidModelResponse, ModelError, ModelNotAvailable, ModelRequestRejected
from loopllama.llm import history, thoughts
from loopllama.llm.token_estimate import estimated_usage
from loopllama.llm.types import ModelRequest, ModelResponse, StopReason, Thoughts, ToolCall, Usage
from loopllama.providers import wire
from loopllama.providers.output_modes import Modes
from loopllama.settings import Settings

_FIELD = r"(?:reasoning|thinking|thought|signature)"
_REFUSED = (
    r"(?:un(?:supported|known|recogni[sz]ed|expected)|not (?:supported|permitted|allowed)|invalid|forbidden|extra)"
)
_ABOUT_THOUGHTS = re.compile(f"{_FIELD}.{{0,200}}{_REFUSED}|{_REFUSED}.{{0,200}}{_FIELD}", re.IGNORECASE | re.DOTALL)
"""What refusals of thoughts say: Cerebras "property 'messages.2.assistant.reasoning_content' is unsupported", Mistral
"Extra inputs are not permitted" with the field, Anthropic "Invalid `signature` in `thinking` block"."""

_ABOUT_TIER = re.compile(r"(service|inference)[ _-]?tier", re.IGNORECASE)
"""What refusals of a service tier say: a model or a region may not have it, and answer at the standard one."""


class Parsed(NamedTuple):  # loads faster than a dataclass
    """What a dialect reads in an answer.

    `text` is all that the model said, thoughts included. `usage` is `None` where the provider gave none that can be
    read. `error` is what the answer stands for where it cannot be used, a refusal say; it is raised with the usage.
    `service_tier` is the one that answered (`wire.service_tier`). `why_empty` says why there may be neither text nor
    tool call. `malformed`: the answer lacks what the wire format promises, so an empty one speaks against the server.
    `thoughts` are what goes back with the tool calls.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    stop_reason: StopReason = "end"
    model: str = ""
    error: ModelError | None = None
    why_empty: str = "no text"
    service_tier: str = ""
    malformed: bool = False
    thoughts: Thoughts | None = None


class Adapter(ABC):
    """The adapter of one provider; a dialect's class fills in the abstract methods.

    It keeps nothing between calls but which ways of asking for JSON were refused. Safe for threads.
    """

    def __init__(self, provider: str, settings: Settings) -> None:
        self.provider = provider
        self.settings = settings
        self.known = KNOWN.get(provider, Known())
        self._modes = Modes()

    def complete(self, call: ModelRequest) -> ModelResponse:
        """Make one request, or another where the provider refuses a way of asking for JSON, or thoughts.

        Raises `errors.ModelError` subclasses only.
        """
        return self._modes.complete(call, self._ask, native=self.native_schema, thinks=self.thinks(call))

    # What a dialect says

    @abstractmethod
    def send(self, call: ModelRequest, until: float) -> Mapping[str, Any]:
        """Send the call and return the answer's document, before `until` by `time.monotonic()`.

        Raises the `ModelError` that an error answer stands for; `document` reads a good one.
        """

    @abstractmethod
    def read(self, call: ModelRequest, value: Mapping[str, Any]) -> Parsed:
        """Return what stands in the answer's document. Any JSON may be in it."""

    def native_schema(self, call: ModelRequest) -> Mapping[str, Any] | None:
        """Return the call's schema as the provider's own mode takes it, `None` where that cannot say it."""
        return call.output_schema

    def thinks(self, call: ModelRequest) -> bool:  # noqa: ARG002
        """Return whether the call's options turn thinking on, beside which no tool may be forced."""
        return False

    # What dialects share

    def who(self, call: ModelRequest) -> str:
        """Return how messages name the provider and the model."""
        return f"{self.provider} on {call.catalog_id}"

    def document(self, call: ModelRequest, body: bytes) -> Mapping[str, Any]:
        """Return the JSON object that a good answer is. Raises `InvalidModelResponse` where it is none."""
        value = wire.read_object(body)
        if value is None:
            usage = estimated_usage(call, body.decode("utf-8", "replace"))
            raise InvalidModelResponse(f"{self.who(call)}: the answer is no JSON object", usage=usage, against=True)
        return value

    def _ask(self, call: ModelRequest) -> ModelResponse:
        call = history.fitted(call, self.provider)
        parsed = self.read(call, self._sent(call))
        written = parsed.text + "".join(tool_call.raw for tool_call in parsed.tool_calls)
        usage = replace(parsed.usage or estimated_usage(call, written), service_tier=parsed.service_tier)
        if parsed.error is not None:
            parsed.error.usage = usage
            raise parsed.error
        text, _ = thoughts.apart(parsed.text)
        if not text.strip() and not parsed.tool_calls:
            message = f"{self.who(call)}: the answer is empty ({parsed.why_empty})"
            raise InvalidModelResponse(message, usage=usage, against=parsed.malformed or None)
        held = parsed.thoughts if parsed.tool_calls else None
        return ModelResponse(text, usage, parsed.stop_reason, parsed.tool_calls, parsed.model, thoughts=_kept(held))

    def _sent(self, call: ModelRequest) -> Mapping[str, Any]:
        """Return the answer's document. Servers that give thoughts and refuse them in requests, and gateways whose next
        model does not know the last one's signatures, are asked again without thoughts: a refusal costs nothing."""
        until = time.monotonic() + call.timeout
        try:
            return self.send(call, until)
        except ModelRequestRejected as error:
            if call.service_tier and _ABOUT_TIER.search(str(error)):
                raise ModelNotAvailable(str(error), status=error.status) from error
            bare = history.without_thoughts(call)
            if bare is call or not _ABOUT_THOUGHTS.search(str(error)):
                raise
            return self.send(bare, until)


def _kept(held: Thoughts | None) -> Thoughts | None:
    """Return the thoughts where they can be kept for a later request; numbers that are not taken cannot."""
    try:
        exact_json.check(None if held is None else held.value)
    except exact_json.NotTaken:
        return None
    return held
