"""Structured output: how a model is asked for JSON of an agent's `outputSchema`, and reading what it answered.

Three ways to ask, best first. `native`: the provider holds the model to the schema. `tool`: the model must call one
tool whose parameters are the schema. `instructions`: the prompt says so, which works with any model. Whatever the
way, the answer is checked here; providers' native modes do not enforce all of JSON Schema. Which way is taken in the
end is decided where the provider can refuse one, in `providers.output_modes`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from loopllama.core import exact_json, json_schema
from loopllama.errors import OutputInvalid
from loopllama.llm import thoughts
from loopllama.llm.types import ModelRequest, ModelResponse, OutputMode, StopReason, ToolSpec

MODES: tuple[OutputMode, ...] = ("native", "tool", "instructions")
"""The ways of asking, best first."""

TOOL_NAME = "give_answer"
"""The answer tool's name; no tool of a deployment may have it."""
ANSWER_TOOLS = frozenset((TOOL_NAME, "json_answer"))
"""Every name that the answer tool has had: answers that an earlier version recorded are read too."""
MAX_ANSWER_CHARACTERS = 1_000_000
_MAX_CANDIDATES = 1000
"""Places in an answer at which its JSON may begin: a text may cite many sources in brackets before it."""
_MOST_READ = 8 * MAX_ANSWER_CHARACTERS
_OPENING = re.compile(r"[{\[]")
_FENCE = re.compile(r"```[a-zA-Z0-9_+-]*[ \t]*\n(.*?)```", re.DOTALL)


def mode_for(capabilities: Collection[str] | None, schema: Mapping[str, Any] | None = None) -> OutputMode:
    """Return how to ask a model with these catalog `capabilities` for JSON of `schema` (without one: of some object).

    Unknown capabilities (`None`) mean `instructions`: a request for a mode that a model lacks is refused by its
    provider and would fail the step, instructions are never refused. So does a schema whose root is not an object:
    native modes and tools take objects only.
    """
    if capabilities is None or (schema is not None and schema.get("type") != "object"):
        return "instructions"
    if "structured_output" in capabilities:
        return "native"
    return "tool" if "tools" in capabilities else "instructions"


def instructions(schema: Mapping[str, Any]) -> str:
    """Return what the prompt says in `instructions` mode."""
    return (
        "Answer with exactly one JSON value and nothing else: no explanation, no code fence. "
        f"It must be valid against this JSON Schema:\n{exact_json.dumps(schema, ascii_only=False)}"
    )


def as_tool(schema: Mapping[str, Any]) -> ToolSpec:
    """Return the tool that the model must call in `tool` mode."""
    return ToolSpec(TOOL_NAME, "Give your final answer. Its arguments are the answer.", schema)


def asked_in(call: ModelRequest, mode: OutputMode) -> ModelRequest:
    """Return the call with its `output_schema` said in the way of `mode`."""
    schema = call.output_schema
    if schema is None or mode == "native":
        return call
    if mode == "instructions":
        return replace(call, output_schema=None, system=f"{call.system}\n\n{instructions(schema)}".lstrip())
    # Beside other tools the model must stay free to call those first.
    forced = None if call.tools else TOOL_NAME
    return replace(call, output_schema=None, tools=(*call.tools, as_tool(schema)), forced_tool=forced)


def from_answer_tool(answer: ModelResponse) -> ModelResponse:
    """Return the answer with the answer tool's arguments as its text, where nothing but that tool was called.

    A call beside it is for the agent to make: the model has answered before it saw that call's result.
    """
    if not answer.tool_calls or any(call.name not in ANSWER_TOOLS for call in answer.tool_calls):
        return answer
    stop: StopReason = "max_tokens" if answer.stop_reason == "max_tokens" else "end"
    return replace(answer, text=answer.tool_calls[0].raw, tool_calls=(), stop_reason=stop, thoughts=None)


def parse_answer(text: str, schema: Mapping[str, Any]) -> Any:
    """Return the JSON value of an answer, valid against `schema`; numbers are `int` or `Decimal`.

    The whole text is the JSON, or it stands in a code fence or between sentences; of several values the first valid
    one counts. Thoughts are not looked at. Raises `OutputInvalid`, whose message can be sent to the model as it is: up
    to 5 violations, each with its place. Raises `InvalidRequest` for a schema that `json_schema.check` refuses.
    """
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise OutputInvalid(
            f"The answer has {len(text):,} characters; at most {MAX_ANSWER_CHARACTERS:,} are taken. Answer shorter."
        )
    if not text.strip():
        raise OutputInvalid("The answer is empty. Answer with one JSON value that follows the schema.")
    text, _ = thoughts.apart(text)
    try:
        return _checked(text, schema)
    except ValueError as error:
        first_error = error
    problem, longest = OutputInvalid(_no_json(first_error)), 0
    for candidate in _candidates(text):
        try:
            return _checked(candidate, schema)
        except ValueError:
            continue
        except OutputInvalid as error:
            if len(candidate) > longest:
                problem, longest = error, len(candidate)
    raise problem


def _checked(text: str, schema: Mapping[str, Any]) -> Any:
    """`text` as JSON that follows `schema`. `ValueError` where it is no JSON at all."""
    try:
        value = exact_json.loads(text, last_wins=True)
        if "\\u" in text:
            exact_json.dumps(value, ascii_only=False).encode()
    except exact_json.NotTaken as error:
        raise OutputInvalid(
            f"The answer is not JSON that can be taken: {error}.\nAnswer again with the whole corrected JSON value."
        ) from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair (\\ud800 to \\udfff)") from None
    violations = json_schema.violations(schema, value)
    if violations:
        listed = "\n".join(f"- {violation}" for violation in violations)
        raise OutputInvalid(
            f"The answer does not follow the output schema:\n{listed}\n"
            "Answer again with the whole corrected JSON value."
        )
    return value


def _no_json(error: ValueError) -> str:
    return f"The answer is not JSON: {error}. Answer again with one JSON value only."


def _candidates(text: str) -> Iterator[str]:
    """Texts inside an answer that may be its JSON: fenced blocks first, then what parses from a bracket on; never what
    stands in a block of thoughts."""
    thought = thoughts.blocks(text)
    for number, match in enumerate(_FENCE.finditer(text)):
        if number == _MAX_CANDIDATES:
            break
        if not any(start < match.start() < end for start, end in thought):
            yield thoughts.apart(match.group(1))[0]
    decoder = json.JSONDecoder(parse_float=str, parse_int=str)  # only the ends of values count here
    position = read = 0
    for _ in range(_MAX_CANDIDATES):
        opening = _OPENING.search(text, position)
        if opening is None or read > _MOST_READ:
            return
        behind = next((end for start, end in thought if start < opening.start() < end), None)
        if behind is not None:
            position = behind
            continue
        try:
            _, end = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError) as error:
            position = opening.start() + 1
            read += getattr(error, "pos", len(text)) - opening.start()
            continue
        yield text[opening.start() : end]
        position = end
