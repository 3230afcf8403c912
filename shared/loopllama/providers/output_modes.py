"""Asking for JSON in the best way that a provider takes.

The catalog says how to begin (`ModelRequest.output_mode`). A provider that refuses a way is asked in the next one at
once, `native`, then `tool`, then `instructions`: capabilities in catalogs age, gateways leave parameters out, and a
refusal costs nothing. What was refused is remembered for the process, as soon as another way has been answered, and
told with each answer, so that the record says it."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from loopllama.catalog.providers import takes_forced_tool
from loopllama.core import exact_json
from loopllama.errors import CredentialsRejected, ModelRequestRejected
from loopllama.llm import structured_output
from loopllama.llm.types import ModelRequest, ModelResponse, OutputMode

_EITHER = r"|\bschemas?\b|grammar|requested parameters"
_NAMED: Mapping[OutputMode, re.Pattern[str]] = {
    "native": re.compile(
        r"(?:output|response)[\s_-]?(?:config|format|schema|mime)|text\.format|json[\s_-]?(?:schema|object|mode|output)"
        r"|structured.?output|(?:guided|constrained).?(?:json|decoding|generation)" + _EITHER,
        re.IGNORECASE,
    ),
    "tool": re.compile(
        r"tool_?(?:choice|config|use)|\btools?\b|function.?call|\bfunctions?\b" + _EITHER, re.IGNORECASE
    ),
}
"""What a refusal of each way names: a parameter by its name or in words, or what the provider makes of it. OpenRouter
says no more than "No endpoints found that can handle the requested parameters"."""
_ONE_SCHEMA = re.compile(
    r"invalid schema|\bschemas? (?:(?:is|are) (?!(?:un|not )supported|not (?:available|enabled|permitted|allowed))"
    r"|has|have|contains?|must|cannot|compil|conver|produces)|\bschema\b.{0,60} exceeds|grammar"
    r"|too (?:many|complex|deep|large)|in context",
    re.IGNORECASE,
)
"""What a refusal says that is about this schema, and not about the way of asking."""
_OTHER_NAMES = re.compile(r"must be one of:.*", re.DOTALL)
"""botocore lists every parameter that it knows behind the one that it does not."""
_ADDRESS = re.compile(r"https?://\S+")
_REFUSALS = (400, 404, 405, 422, 501, None)
"""HTTP statuses of a refused parameter: 404 is OpenRouter's where no endpoint supports it, no status botocore's own."""
_WORDS: Mapping[str, str] = {"native": "native structured output", "tool": "the answer tool"}
_MOST_REMEMBERED = 1000
_LONGEST_REASON = 300

Key = tuple[str, OutputMode, bool, str]
"""Model, way of asking, whether the agent has tools, and the schema where the refusal was about that alone."""


class Modes:
    """What one adapter knows of its models' ways of being asked for JSON. Safe for threads."""

    def __init__(self) -> None:
        self._refused: dict[Key, str] = {}

    def complete(
        self,
        call: ModelRequest,
        send: Callable[[ModelRequest], ModelResponse],
        *,
        native: Callable[[ModelRequest], Mapping[str, Any] | None],
        thinks: bool = False,
    ) -> ModelResponse:
        """Return `send`'s answer to the call, asked in the first way that the provider takes.

        `native` restates the call's schema as the provider's own mode says it, `None` where that cannot; a call handed
        to `send` has an `output_schema` in that mode only. `thinks`: the call's options turn thinking on, beside which
        no tool may be forced. Raises what `send` raises, but for refusals of a way of asking while another is left.
        """
        if call.output_schema is None:
            return send(call)
        until = time.monotonic() + call.timeout
        refused: list[tuple[Key, str]] = []
        schema = hashlib.sha256(exact_json.dumps(call.output_schema).encode()).hexdigest()
        for mode, asked in self._ways(call, native, not thinks and takes_forced_tool(call.model)):
            keys = [(call.model, mode, bool(call.tools), about) for about in ("", schema)]
            if known := next((key for key in keys if key in self._refused), None):
                refused.append((known, self._refused[known]))
                continue
            try:
                answer = send(replace(asked, timeout=until - time.monotonic()) if refused else asked)
            except ModelRequestRejected as error:
                if (reason := _reason(error, mode, call)) is None:
                    raise
                refused.append((keys[1] if _ONE_SCHEMA.search(reason) else keys[0], reason))
                continue
            if len(self._refused) + len(refused) > _MOST_REMEMBERED:
                self._refused.clear()
            self._refused.update(refused)
            refusals = "; ".join(f"{_WORDS[key[1]]} was refused: {reason}" for key, reason in refused)
            return replace(structured_output.from_answer_tool(answer), output_mode=mode, mode_refused=refusals)
        raise AssertionError("a call asked by instructions is answered or raises")

    @staticmethod
    def _ways(
        call: ModelRequest, native: Callable[[ModelRequest], Mapping[str, Any] | None], can_force: bool
    ) -> Iterator[tuple[OutputMode, ModelRequest]]:
        """Yield the ways of asking that the call can be said in, from the one that it begins with."""
        schema = call.output_schema or {}
        for mode in structured_output.MODES[structured_output.MODES.index(call.output_mode) :]:
            if mode == "native":
                restated = native(call)
                if restated is not None:
                    yield mode, replace(call, output_schema=restated)
            elif mode == "instructions" or (can_force and schema.get("type") == "object"):
                yield mode, structured_output.asked_in(call, mode)


def without_addresses(error: Exception) -> str:
    """Return an error's message without addresses, which may have any word in them."""
    return _ADDRESS.sub("", str(error))


def _reason(error: ModelRequestRejected, mode: OutputMode, call: ModelRequest) -> str | None:
    """Return what the provider said against this way of asking; `None` where the error is about something else."""
    if isinstance(error, CredentialsRejected) or error.status not in _REFUSALS or mode not in _NAMED:
        return None
    names = "|".join(sorted(map(re.escape, {call.catalog_id, call.model}), key=len, reverse=True))
    # As a whole: a model may be called "m", which is a part of what is looked for.
    without_names = _OTHER_NAMES.sub("", re.sub(rf"(?<!\w)(?:{names})(?!\w)", "", without_addresses(error)))
    return str(error)[:_LONGEST_REASON] if _NAMED[mode].search(without_names) else None
