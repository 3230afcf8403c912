"""Asking for JSON in the best way that a provider takes.

The catalog says how to begin (`ModelRequest.output_mode`). A way that the provider is known to refuse
(`catalog.takes`), or in which the schema cannot be said, is left out. A provider that refuses a way is asked in the
next one at once, `native`, then `tool`, then `instructions`: capabilities in catalogs age, gateways leave parameters
out, and a refusal costs nothing. What was refused is remembered for the process, as soon as another way has been
answered. Each way that was not taken is told with the answer, and why, so that the record says it.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.errors import CredentialsRejected, ModelRequestRejected
from loopllama.llm import structured_output
from loopllama.llm.schema_restating import Restated
from loopllama.llm.types import ModelRequest, ModelResponse, OutputMode
from loopllama.providers.error_mapping import without_addresses

_EITHER = r"|\bschemas?\b|grammar|requested parameters"
_NAMED: Mapping[OutputMode, re.Pattern[str]] = {
    "native": late(
        r"(?:output|response)[\s_-]?(?:config|format|schema|mime)|text\.format|json[\s_-]?(?:schema|object|mode|output)"
        r"|structured.?output|(?:guided|constrained).?(?:json|decoding|generation)" + _EITHER,
        re.IGNORECASE,
    ),
    "tool": late(r"tool_?(?:choice|config|use)|\btools?\b|function.?call|\bfunctions?\b" + _EITHER, re.IGNORECASE),
}
"""What a refusal of each way names: a parameter by its name or in words, or what the provider makes of it. OpenRouter
says no more than "No endpoints found that can handle the requested parameters"."""
_ONE_SCHEMA = late(
    r"invalid schema|\bschemas? (?:(?:is|are) (?!(?:un|not )supported|not (?:available|enabled|permitted|allowed))"
    r"|has|have|contains?|must|cannot|compil|conver|produces)|\bschema\b.{0,60} exceeds|grammar"
    r"|too (?:many|complex|deep|large)|in context",
    re.IGNORECASE,
)
"""What a refusal says that is about this schema, and not about the way of asking."""
_OTHER_NAMES = late(r"must be one of:.*", re.DOTALL)
"""botocore lists every parameter that it knows behind the one that it does not."""
_REFUSALS = (400, 404, 405, 422, 500, 501, None)
"""HTTP statuses of a refused parameter: 404 is OpenRouter's where no endpoint supports it, 500 llama.cpp's where it was
started without a template for tools, no status botocore's own."""
_WORDS: Mapping[str, str] = {"native": "native structured output", "tool": "the answer tool"}
_MOST_REMEMBERED = 1000
_LONGEST_REASON = 300

Key = tuple[str, OutputMode, bool, str]
"""Model by the catalog's id, way of asking, whether the agent has tools, and the schema where a refusal was about that
alone."""


class Modes:
    """What one adapter knows of its models' ways of being asked for JSON. Safe for threads."""

    def __init__(self) -> None:
        self._refused: dict[Key, str] = {}

    def complete(
        self,
        call: ModelRequest,
        send: Callable[[ModelRequest], ModelResponse],
        *,
        native: Callable[[ModelRequest], Restated],
        no_tool: Callable[[ModelRequest], str],
    ) -> ModelResponse:
        """Return `send`'s answer to the call, asked in the first way that the provider takes.

        `native` restates the call's schema as the provider's own mode says it; a call handed to `send` has an
        `output_schema` in that mode only. `no_tool` says why no tool can be forced. Raises what `send` raises, but for
        refusals of a way of asking while another is left.
        """
        if call.output_schema is None:
            return send(call)
        until = time.monotonic() + call.timeout
        refused: list[tuple[Key, str]] = []
        told: list[str] = []
        schema = hashlib.sha256(exact_json.dumps(call.output_schema).encode()).hexdigest()
        for mode, asked, why_not in self._ways(call, native, no_tool):
            if asked is None:
                told.append(f"{_WORDS[mode]} was not used: {why_not}")
                continue
            keys = [(call.catalog_id, mode, bool(call.tools), about) for about in ("", schema)]
            if known := next((key for key in keys if key in self._refused), None):
                told.append(f"{_WORDS[mode]} was refused: {self._refused[known]}")
                continue
            try:
                answer = send(replace(asked, timeout=until - time.monotonic()) if refused else asked)
            except ModelRequestRejected as error:
                if error.usage is not None or (reason := _reason(error, mode, call)) is None:
                    raise  # one that has cost something is not repeated: what was paid would be lost
                refused.append((keys[1] if _ONE_SCHEMA.search(reason) else keys[0], reason))
                told.append(f"{_WORDS[mode]} was refused: {reason}")
                continue
            if len(self._refused) + len(refused) > _MOST_REMEMBERED:
                self._refused.clear()
            self._refused.update(refused)
            return replace(structured_output.from_answer_tool(answer), output_mode=mode, mode_refused="; ".join(told))
        raise AssertionError("a call asked by instructions is answered or raises")

    @staticmethod
    def _ways(
        call: ModelRequest, native: Callable[[ModelRequest], Restated], no_tool: Callable[[ModelRequest], str]
    ) -> Iterator[tuple[OutputMode, ModelRequest | None, str]]:
        """Yield the ways of asking from the one that the call begins with. One that the call cannot be said in has no
        request, and a text that says why."""
        schema = call.output_schema or {}
        for mode in structured_output.MODES[structured_output.MODES.index(call.output_mode) :]:
            if mode == "native":
                restated, why_not = native(call)
                yield mode, None if restated is None else replace(call, output_schema=restated), why_not
            elif mode == "instructions":
                yield mode, structured_output.asked_in(call, mode), ""
            elif not call.can_call_tools:
                yield mode, None, "the catalog's entry has no `tools`"
            elif schema.get("type") != "object":
                yield mode, None, "a tool's parameters are an object, and the answer is none"
            else:
                why_not = no_tool(call)
                yield mode, None if why_not else structured_output.asked_in(call, mode), why_not


def _reason(error: ModelRequestRejected, mode: OutputMode, call: ModelRequest) -> str | None:
    """Return what the provider said against this way of asking; `None` where the error is about something else."""
    if isinstance(error, CredentialsRejected) or error.status not in _REFUSALS or mode not in _NAMED:
        return None
    names = "|".join(sorted(map(re.escape, {call.catalog_id, call.model}), key=len, reverse=True))
    # As a whole: a model may be called "m", which is a part of what is looked for.
    without_names = _OTHER_NAMES.sub("", re.sub(rf"(?<!\w)(?:{names})(?!\w)", "", without_addresses(error)))
    return str(error)[:_LONGEST_REASON] if _NAMED[mode].search(without_names) else None
