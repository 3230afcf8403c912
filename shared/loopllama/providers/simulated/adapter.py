"""The simulated model: an embedded stand-in that needs no key and no network, and computes what it says.

It stands in for a model whose provider has no credentials. It is no language model: it quotes. What it is honest about
- Its answer comes from the text that it is given: the sentences that fit the system prompt best; for a JSON Schema,
  values found in the text, labels by the words they share with it (`filling`). A tool is called where its parameters
  can be filled in from the text, once; the answer then comes from the tool's results as well.
- Its tokens are those of what it read and wrote, counted by the rule of `tokens`. There is no prompt cache.
- It takes `first_token_ms` and then `tokens_per_second`, the catalog's prior for the model, divided by
  `SIMULATED_SPEED` (2 is twice as fast, 0 does not wait), keeps to `max_tokens`, and runs into the call's timeout.
- `ModelResponse.simulated` is set, an error's too, and the record and everything that shows it say so.

The same prompt gives the same answer and the same counts whatever model it stands in for, so that two runs differ in
cost by their prices alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loopllama.core import exact_json
from loopllama.errors import InvalidModelResponse, ModelTimeout
from loopllama.llm.token_estimate import TOKEN, count_tokens, prompt_tokens
from loopllama.llm.types import ModelRequest, ModelResponse, ToolCall, ToolSpec, Usage
from loopllama.providers.simulated.filling import GUESSED, STATED, Filler
from loopllama.providers.simulated.reading import Reading, words

if TYPE_CHECKING:
    from loopllama.catalog.model import Speed

_SENTENCES = 4


class Simulated:
    """The stand-in for a model of the given speed."""

    def __init__(self, speed: Speed, factor: float) -> None:
        self._speed = speed
        self._factor = factor

    def complete(self, call: ModelRequest) -> ModelResponse:
        """Raise `ModelTimeout` and, for a prompt without any text, `InvalidModelResponse`."""
        read = prompt_tokens(call)
        text, asked = _reply(call)
        answer = asked.raw if asked else text
        written = count_tokens(answer)
        cut = call.max_tokens is not None and written > call.max_tokens
        if cut:
            written = call.max_tokens or 0
            answer = _first_tokens(answer, written)
        self._take_time(written, call.timeout, read)
        usage = Usage(read, written)
        if not answer:
            nothing = f"the simulated model found no text to answer from ({call.catalog_id})"
            raise InvalidModelResponse(nothing, usage=usage, simulated=True)
        if asked is None:
            return ModelResponse(answer, usage, "max_tokens" if cut else "end", simulated=True)
        if cut:
            asked = replace(asked, arguments=None, raw=answer)
        return ModelResponse("", usage, "max_tokens" if cut else "tool_calls", (asked,), simulated=True)

    def _take_time(self, tokens: int, timeout: float, read: int) -> None:
        if self._factor <= 0:
            return
        seconds = (self._speed.first_token_ms / 1000 + tokens / max(1, self._speed.tokens_per_second)) / self._factor
        time.sleep(min(seconds, max(0.0, timeout)))
        if seconds > timeout:
            needs = f"the simulated model needs {seconds:.1f} s, the call had {timeout:g} s"
            raise ModelTimeout(needs, usage=Usage(read, 0), simulated=True)


def _reply(call: ModelRequest) -> tuple[str, ToolCall | None]:
    reading = Reading("\n".join(message.text for message in call.messages if message.role != "assistant"))
    if call.forced_tool:
        tool = next((tool for tool in call.tools if tool.name == call.forced_tool), None)
        if tool is not None:
            return "", _tool_call(tool.name, Filler(reading, call.system, tool.parameters).fill(tool.parameters)[0])
    elif call.tools and not any(message.role == "tool" for message in call.messages):
        asked = _wanted_tool(call, reading)
        if asked is not None:
            return "", asked
    schema = call.output_schema or _written_schema(call.system)
    if schema is None:
        return " ".join(reading.relevant(words(call.system), _SENTENCES)), None
    return _json(Filler(reading, call.system, schema).fill(schema)[0]), None


def _wanted_tool(call: ModelRequest, reading: Reading) -> ToolCall | None:
    """Return the tool that has most to do with the prompt among those whose parameters can be filled in from it."""
    about = {*words(call.system), *reading.counts}
    best: tuple[int, ToolCall] | None = None
    for tool in call.tools:
        overlap = len(about & set(words(f"{tool.name} {tool.description}")))
        arguments, stated = _arguments(tool, reading, call.system)
        if arguments is None or not (overlap or stated):
            continue
        score = overlap + (3 if stated else 0)
        if best is None or score > best[0]:
            best = (score, _tool_call(tool.name, arguments))
    return best[1] if best else None


def _arguments(tool: ToolSpec, reading: Reading, instruction: str) -> tuple[dict[str, Any] | None, bool]:
    """Return the tool's arguments, `None` where a required one has nothing to stand on, and whether any stands in the
    text."""
    filler = Filler(reading, instruction, tool.parameters)
    properties: Mapping[str, Any] = tool.parameters.get("properties") or {}
    required = tool.parameters.get("required") or ()
    arguments: dict[str, Any] = {}
    stated = False
    for name, schema in properties.items():
        value, founded = filler.fill(schema, name)
        if name in required and founded < GUESSED:
            return None, False
        if name in required or founded == STATED:
            arguments[name] = value
            stated = stated or founded == STATED
    return arguments, stated


def _tool_call(name: str, arguments: Any) -> ToolCall:
    raw = _json(arguments)
    return ToolCall("call_1", name, exact_json.loads(raw, last_wins=True), raw)


def _written_schema(system: str) -> Mapping[str, Any] | None:
    """Return the JSON Schema that a system prompt asks to follow, if it ends with one."""
    if not system.rstrip().endswith("}"):
        return None
    return next((value for value in Reading(system).objects[::-1] if "properties" in value or "$ref" in value), None)


def _first_tokens(text: str, tokens: int) -> str:
    for number, match in enumerate(TOKEN.finditer(text), start=1):
        if number == tokens:
            return text[: match.end()]
    return "" if tokens < 1 else text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
