"""What every adapter does, whatever its wire format. `complete` is written here, and only here.

A dialect is a class of `Adapter`. It says how a call is sent and how an answer is read; what follows from that is the
same for all: in which way JSON is asked for, what an answer without text means, what is charged for a refused one.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from loopllama.catalog.providers import KNOWN, OWN, Known
from loopllama.catalog.takes import refused
from loopllama.core import exact_json, redaction
from loopllama.errors import (
    ContextTooLong,
    InvalidModelResponse,
    ModelError,
    ModelNotAvailable,
    ModelRequestRejected,
)
from loopllama.llm import history, schema_restating, thoughts, tool_forms, written_calls
from loopllama.llm.schema_restating import Restated
from loopllama.llm.schema_subsets import SUBSETS
from loopllama.llm.token_estimate import estimated_usage, least_tokens
from loopllama.llm.types import Forms, ModelRequest, ModelResponse, OutputMode, StopReason, Thoughts, ToolCall, Usage
from loopllama.providers import claude, forms, wire
from loopllama.providers.output_modes import Modes
from loopllama.settings import Settings

_COOL = 1.0
"""A temperature that every model takes that takes any."""
_WORTH_A_LOOK = 1000
"""Tokens; no server has a window that a shorter prompt does not fit into."""


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


class _Secrets(threading.local):
    scrubber = redaction.NOTHING
    """Of the call that this thread makes."""


class Adapter(ABC):
    """The adapter of one provider; a dialect's class fills in the abstract methods.

    It keeps nothing between calls but what was refused of each model: ways of asking for JSON, and forms of saying the
    same. Both go by the catalog's id: a model may refuse at one effort, or with one entry's `options`, what it takes
    at another. Safe for threads.
    """

    streams: ClassVar[bool] = False
    """Whether answers that come in pieces are understood."""

    def __init__(self, provider: str, settings: Settings) -> None:
        self.provider = provider
        self.settings = settings
        self._modes = Modes()
        self._forms: dict[str, Forms] = {}
        self._secrets = _Secrets()

    def complete(self, call: ModelRequest) -> ModelResponse:
        """Make one request, or another where the provider refuses a way of asking for JSON, thoughts, or a form.

        Nothing that is returned or raised holds what the provider knows us by, however it writes it. Raises
        `errors.ModelError` subclasses only.
        """
        self._secrets.scrubber = redaction.NOTHING
        try:
            answer = self._complete(call)
        except ModelError as error:
            self._secrets.scrubber.error(error)
            raise
        return _without_secrets(answer, self._secrets.scrubber)

    def sends(self, secrets: Iterable[str]) -> redaction.Scrubber:
        """Take note of the secrets in the request that is about to be sent; returns what takes them out."""
        self._secrets.scrubber = redaction.Scrubber(secrets)
        return self._secrets.scrubber

    def _complete(self, call: ModelRequest) -> ModelResponse:
        answer = self._modes.complete(call, self._ask, native=self._native, no_tool=self._no_forced_tool)
        told = [answer.mode_refused] if answer.mode_refused else []
        told += self._said_in_part(call, answer.output_mode) + self._cooled(call) + self._at_other_effort(call)
        return replace(answer, mode_refused="; ".join(told))

    # What a dialect says

    @abstractmethod
    def send(self, call: ModelRequest, until: float) -> Mapping[str, Any]:
        """Send the call and return the answer's document, before `until` by `time.monotonic()`.

        Raises the `ModelError` that an error answer stands for; `document` reads a good one.
        """

    @abstractmethod
    def read(self, call: ModelRequest, value: Mapping[str, Any]) -> Parsed:
        """Return what stands in the answer's document. Any JSON may be in it."""

    def known(self, call: ModelRequest) -> Known:
        """Return how the provider is spoken to. A server that is none of `KNOWN` is spoken to as the provider of the
        model that its entry stands for: it may be a second account there."""
        if self.provider in KNOWN or call.stands_for is None:
            return KNOWN.get(self.provider, OWN)
        return KNOWN.get(call.stands_for.provider, OWN)

    def native_schema(self, call: ModelRequest) -> Restated:
        """Return the call's schema as the provider's own mode takes it."""
        return schema_restating.restated(call.output_schema or {}, self.known(call).schemas)

    def known_as(self, call: ModelRequest) -> str:
        """Return the model's name that tells what it is: the rules of `catalog.takes` go by it."""
        return call.known_as

    def thinks(self, call: ModelRequest) -> bool:
        """Return whether the call's options turn thinking on."""
        return claude.thinks(call.options)

    def parameters(self, call: ModelRequest) -> str:
        """Return the subset of JSON Schema in which the parameters of tools are taken."""
        return self.known(call).parameters

    def limit_field(self, call: ModelRequest) -> str:  # noqa: ARG002
        """Return the field of the request that limits the answer; empty in a wire format that has one only."""
        return ""

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

    def _native(self, call: ModelRequest) -> Restated:
        rule = refused("schema beside tools", self.known_as(call), self.provider) if call.tools else None
        return Restated(None, rule.why) if rule else self.native_schema(call)

    def _no_forced_tool(self, call: ModelRequest) -> str:
        """Return why no tool can be forced; empty where one can."""
        name = self.known_as(call)
        rule = refused("forced tool", name, self.provider)
        if rule is None and self.thinks(call):
            rule = refused("forced tool while thinking", name, self.provider)
        return rule.why if rule else ""

    def _said_in_part(self, call: ModelRequest, mode: OutputMode | None) -> list[str]:
        """Return what the record says of tools whose parameters the provider takes some levels deep only."""
        subset = self.parameters(call)
        tools = [(f"the tool {tool.name}", tool.parameters) for tool in call.tools]
        if mode == "tool" and call.output_schema is not None:
            tools.append(("the answer tool", call.output_schema))
        parts = [name for name, schema in tools if schema_restating.says_less(schema, subset)]
        return [f"{name} was described some levels deep only: its parameters refer to themselves" for name in parts]

    def _temperature(self, call: ModelRequest) -> float | None:
        """Return the temperature that the rules let a call be sent with. Only for one that has any is it asked what an
        inference profile stands for."""
        if call.temperature is None:
            return None
        name = self.known_as(call)
        if refused("temperature", name, self.provider):
            return None
        if call.temperature > _COOL and refused("temperature over 1", name, self.provider):
            return _COOL
        return call.temperature

    def _cooled(self, call: ModelRequest) -> list[str]:
        """Return what the record says of a temperature that is higher than the model takes."""
        learnt = self._forms.get(call.catalog_id, call.forms)
        most = learnt.most_temperature
        if call.temperature is None or call.temperature <= (_COOL if most is None else most) or not learnt.temperature:
            return []
        if self.thinks(call) and refused("temperature while thinking", self.known_as(call), self.provider):
            return []  # none was sent
        sent = self._temperature(call)
        if sent is not None and most is not None:
            sent = min(sent, most)
        if sent is None or sent >= call.temperature:
            return []
        rule = refused("temperature over 1", self.known_as(call), self.provider)
        why = rule.why if rule else f"{self.provider} takes no higher one"
        return [f"the temperature {call.temperature:g} was sent as {sent:g}: {why}"]

    def _at_other_effort(self, call: ModelRequest) -> list[str]:
        """Return what the record says of a reasoning effort that the model has refused."""
        learnt, asked = self._forms.get(call.catalog_id, call.forms).effort, forms.effort_of(call)
        if learnt is None or not asked:
            return []
        return [f"the effort {asked!r} was {f'sent as {learnt!r}' if learnt else 'not sent'}: the model refused it"]

    def _ask(self, call: ModelRequest) -> ModelResponse:
        call = self._fitted(history.fitted(call, self.provider))
        call = tool_forms.with_short_descriptions(call, self.known(call).longest_description)
        names: tool_forms.Names = {}
        if SUBSETS[self.parameters(call)].plain_keys:
            call, names = tool_forms.with_plain_keys(call)
        document = self._sent(call)
        parsed = self.read(call, document)
        written = parsed.text + "".join(tool_call.raw for tool_call in parsed.tool_calls)
        counted = parsed.usage
        if counted is not None and not parsed.error and not counted.input_tokens and not counted.output_tokens:
            counted = None  # whoever has read and written something, and counts none, does not count
        usage = replace(
            counted or estimated_usage(call, written),
            service_tier=parsed.service_tier,
            said_usd=wire.said_usd(document.get("usage")) if self.known(call).says_cost else None,
        )
        if parsed.error is not None:
            parsed.error.usage, parsed.error.model = usage, parsed.model
            raise parsed.error
        self._check_read_whole(call, usage)
        text, thought = thoughts.apart(parsed.text)
        asked = tool_forms.with_own_keys(history.meant(parsed.tool_calls, call.tools), names)
        stop = parsed.stop_reason
        if not asked and call.tools and call.output_schema is None and stop != "max_tokens":
            tools = {tool.name: tool.parameters for tool in call.tools}
            text, asked = written_calls.found(text, tools)
            if not text.strip() and not asked and thoughts.is_open(thought):
                _, asked = written_calls.found(thought, tools)  # it went on to call without an end of its thoughts
            stop = "tool_calls" if asked else stop
            if not asked and written_calls.is_broken(text):
                raise InvalidModelResponse(
                    f"{self.who(call)}: it has written a call of a tool that cannot be read",
                    usage=usage,
                    repeatable=True,
                )
        if not text.strip() and not asked:
            message = f"{self.who(call)}: the answer is empty ({parsed.why_empty})"
            again = parsed.stop_reason != "max_tokens" and not parsed.malformed
            raise InvalidModelResponse(message, usage=usage, against=parsed.malformed or None, repeatable=again)
        held = parsed.thoughts if parsed.tool_calls else None
        return ModelResponse(text, usage, stop, asked, parsed.model, thoughts=_kept(held))

    def _check_read_whole(self, call: ModelRequest, usage: Usage) -> None:
        """Raise `ContextTooLong` where the server has left out a part of the prompt without a word. Ollama keeps as
        much as fills half of its window, and what goes first is the system prompt (github.com/ollama/ollama, issues
        3839 and 17427); nothing but the count of the prompt's tokens tells."""
        if not self.known(call).cuts_prompts or usage.estimated:
            return
        least = least_tokens("\n".join([call.system, *(message.text for message in call.messages)]))
        if least >= _WORTH_A_LOOK and least > 1.5 * usage.input_tokens:
            raise ContextTooLong(
                f"{self.who(call)}: the server has read {usage.input_tokens:,} tokens of a prompt of at least "
                f"{least:,}, and left out the others without saying so: its context window is too small. Start it with "
                "a larger one (OLLAMA_CONTEXT_LENGTH=TOKENS ollama serve), shorten the prompt, or name a fallback",
                usage=usage,
            )

    def _fitted(self, call: ModelRequest) -> ModelRequest:
        """Return the call as the rules, and what was learnt of the model, say it."""
        known = self._forms.get(call.catalog_id, call.forms)
        subset = self.parameters(call)
        tools = tuple(
            replace(tool, parameters=schema_restating.parameters(tool.parameters, subset)) for tool in call.tools
        )
        return forms.applied(replace(call, temperature=self._temperature(call), tools=tools, forms=known))

    def _otherwise(self, call: ModelRequest, error: ModelError) -> ModelRequest | None:
        return forms.otherwise(call, error, self.limit_field(call), streams=self.streams)

    def _sent(self, call: ModelRequest) -> Mapping[str, Any]:
        """Return the answer's document. A call that is refused for how it is said is said otherwise, each form once: a
        refusal costs nothing. Servers that give thoughts and refuse them in requests, and gateways whose next model
        does not know the last one's signatures, are asked again without thoughts; without a limit those that refuse one
        that nobody has set, as vLLM does where its context has no room for it (github.com/vllm-project/vllm,
        vllm/entrypoints/utils.py)."""
        until = time.monotonic() + call.timeout
        while True:
            try:
                document = self.send(call, until)
            except (ModelRequestRejected, ContextTooLong) as error:
                if call.service_tier and forms.is_about_tier(error):
                    raise ModelNotAvailable(str(error), status=error.status, usage=error.usage) from error
                # What was paid before, by a turn that paused say, would be lost with the refusal.
                other = self._otherwise(call, error) if error.usage is None else None
                if other is None:
                    raise
                call = other
                continue
            if call.forms != Forms():
                self._forms[call.catalog_id] = call.forms
            return document


def _without_secrets(answer: ModelResponse, scrubber: redaction.Scrubber) -> ModelResponse:
    if scrubber is redaction.NOTHING:
        return answer
    text = scrubber.text
    return replace(
        answer,
        text=text(answer.text),
        tool_calls=tuple(
            replace(
                call,
                id=text(call.id),
                name=text(call.name),
                arguments=scrubber.value(call.arguments),
                raw=text(call.raw),
                signature=text(call.signature),
            )
            for call in answer.tool_calls
        ),
        model=text(answer.model),
        mode_refused=text(answer.mode_refused),
        thoughts=answer.thoughts and answer.thoughts._replace(value=scrubber.value(answer.thoughts.value)),
    )


def _kept(held: Thoughts | None) -> Thoughts | None:
    """Return the thoughts where they can be kept for a later request; numbers that are not taken cannot."""
    try:
        exact_json.check(None if held is None else held.value)
    except exact_json.NotTaken:
        return None
    return held
