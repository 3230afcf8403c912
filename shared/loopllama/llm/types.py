"""What every provider adapter takes and gives: the one wire-independent shape of a model call.

An adapter is a class with one method, `complete(call) -> ModelResponse`; it raises only `errors.ModelError`s. Adapters
log nothing, and repeat nothing but a call that was refused for how it was said (`providers.adapter`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol

STANDARD = "standard"
"""The service tier that no name asks for."""

StopReason = Literal["end", "tool_calls", "max_tokens"]
"""`max_tokens`: the answer was cut off. A refusal is no answer: adapters raise `ContentFiltered` for it."""

OutputMode = Literal["native", "tool", "instructions"]
"""How a model is asked for JSON: the provider holds it to the schema; it must call a tool whose parameters are the
schema; the prompt says so."""


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model sees it. `parameters` is a JSON Schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for. `arguments` is the parsed object, or `None` where the model's text was no JSON
    object; `raw` is that text then. `signature` is what the provider wants back with the call, as it came."""

    id: str
    name: str
    arguments: Mapping[str, Any] | None
    raw: str = ""
    signature: str = ""


class Thoughts(NamedTuple):  # loads faster than a dataclass
    """What a model thought before it called tools, as its provider wants it back with those calls.

    `value` is JSON in the form of the dialect that read it; nobody else looks into it. It goes back to `provider` only,
    and to `model` only where that is set: signatures hold for the model that gave them.
    """

    provider: str
    model: str
    value: Any

    def suits(self, provider: str, model: str) -> bool:
        """Return whether a request to this model may hold it."""
        return provider == self.provider and self.model in ("", model)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the turn. `tool` messages answer the `tool_call_id` of an earlier assistant message. `thoughts`
    are those of an assistant message with tool calls.

    `stable`: the text up to and including this message is the same in the step's later calls and, for the first
    messages, in other runs: a place for a cache point where the provider has them.
    """

    role: Literal["user", "assistant", "tool"]
    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str = ""
    stable: bool = False
    thoughts: Thoughts | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, counted the same way for every provider.

    `input_tokens` is all of the prompt, cached parts included; `cached_tokens` and `cache_write_tokens` are parts of
    it, and `cache_write_1h_tokens` those of the written that are kept an hour. `output_tokens` is all of the answer,
    `reasoning_tokens` a part of it. An adapter converts from its provider's own way of counting. `estimated`: the
    provider gave no usage and the figures are an estimate; `uncertain`: they are right, and the provider charges for
    more than them. `service_tier` is the one that answered, by our names, where the provider says it. `said_usd` is
    what the provider says that the call costs, fees included. `price_factor` is by what the provider multiplies its
    list prices for where it has computed the answer.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    uncertain: bool = False
    cache_write_1h_tokens: int = 0
    service_tier: str = ""
    said_usd: Decimal | None = None
    price_factor: Decimal = Decimal(1)


class Identity(NamedTuple):
    """A model by the name that its provider gives it."""

    provider: str
    model: str


class Forms(NamedTuple):
    """How a call is said where providers have several ways, as far as that was learnt from refusals.

    `temperature`: whether it may be sent. `limit` is the field that limits the answer, empty for the provider's usual
    one. `forced` is what stands for the name of a tool that must be called, empty for the name itself. `system`:
    whether there may be a system prompt; otherwise it opens the first message. `most_output` is the longest answer, in
    tokens, that may be asked for; 0 where none was named. `most_temperature` is the highest temperature, where one was
    named. `effort` is what stands for the reasoning effort that was asked for; empty: none is sent, `None`: that one.
    `stream`: whether the answer is asked for in pieces.
    """

    temperature: bool = True
    limit: str = ""
    forced: str = ""
    system: bool = True
    most_output: int = 0
    most_temperature: float | None = None
    effort: str | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of one model.

    `model` is the provider's own model id. `output_schema` asks for an answer that is JSON of that schema;
    `output_mode` is the first way of asking that is tried. `forced_tool` names the one tool that must be called.
    `timeout` bounds the whole call, in seconds. `catalog_id` is our id of the model (for messages, and for the
    simulated stand-in). `prompt_cache` says that the model takes cache points; they are set behind the system prompt
    and, where the turn has more calls, behind `stable` messages. `max_output` is the longest answer that the model can
    give, where that is known: what adapters go by where `max_tokens` is not set and the provider asks for a limit.
    `limit_unasked`: nobody has asked for `max_tokens`; it goes where the provider refuses it.
    `options` go into the request under the provider's own names, and never replace what the call itself says. `effort`
    and `service_tier` are what the model's name asks for, by our names; they win over the options.
    `stands_for` is the model behind a name that does not say it (a deployment's, an ARN), where that is known: what a
    model takes goes by `known_as`. `can_call_tools`: the answer may be asked for by a tool. `forms` is for adapters.
    """

    model: str
    catalog_id: str
    system: str
    messages: Sequence[Message]
    timeout: float
    tools: Sequence[ToolSpec] = ()
    output_schema: Mapping[str, Any] | None = None
    output_mode: OutputMode = "native"
    forced_tool: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    prompt_cache: bool = False
    max_output: int | None = None
    limit_unasked: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    effort: str = ""
    service_tier: str = ""
    stands_for: Identity | None = None
    can_call_tools: bool = True
    forms: Forms = field(default_factory=Forms)

    @property
    def known_as(self) -> str:
        """The model's name that tells what it is."""
        return self.stands_for.model if self.stands_for else self.model


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """What the model said. `model` is the provider's name for what answered, where it tells. `simulated` marks the
    stand-in. `output_mode` is how JSON was asked for, where it was; `mode_refused` says which better ways were not
    taken, and why (the provider refused them, or is known to), and which tools were described in part. `thoughts` go
    back with the tool calls."""

    text: str
    usage: Usage
    stop_reason: StopReason = "end"
    tool_calls: Sequence[ToolCall] = ()
    model: str = ""
    simulated: bool = False
    output_mode: OutputMode | None = None
    mode_refused: str = ""
    thoughts: Thoughts | None = None


class Provider(Protocol):
    """A wire adapter."""

    def complete(self, call: ModelRequest) -> ModelResponse:
        """Make the call. Raises `errors.ModelError` subclasses only."""
        ...
