"""Structured output: asking a model for JSON of an agent's `outputSchema`, and reading what it answered.

Three ways to ask, best first. `native`: the provider holds the model to the schema. `tool`: the model must call one
tool whose parameters are the schema. `instructions`: the prompt says so, which works with any model. Whatever the
way, the answer is checked here; providers' native modes do not enforce all of JSON Schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from . import jsontext, schemas
from .errors import OutputInvalid
from .providers.base import ToolCall, ToolSpec

Mode = Literal["native", "tool", "instructions"]

TOOL_NAME = "give_answer"
"""The forced tool's name; no tool of a deployment may have it."""
MAX_ANSWER_CHARACTERS = 1_000_000
_MAX_CANDIDATES = 32
_OPENING = re.compile(r"[{\[]")
_FENCE = re.compile(r"```[a-zA-Z0-9_+-]*[ \t]*\n(.*?)```", re.DOTALL)


def mode_for(capabilities: Collection[str] | None, schema: Mapping[str, Any] | None = None) -> Mode:
    """How to ask a model with these catalog `capabilities` for JSON of `schema` (without one: of some object).

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
    """What the prompt says in `instructions` mode."""
    return (
        "Answer with exactly one JSON value and nothing else: no explanation, no code fence. "
        f"It must be valid against this JSON Schema:\n{jsontext.dumps(schema, ascii_only=False)}"
    )


def as_tool(schema: Mapping[str, Any]) -> ToolSpec:
    """The tool that the model must call in `tool` mode."""
    return ToolSpec(TOOL_NAME, "Give your final answer. Its arguments are the answer.", schema)


def parse_answer(text: str, schema: Mapping[str, Any], mode: Mode = "instructions") -> Any:
    """The JSON value of an answer, valid against `schema`; numbers are `int` or `Decimal`.

    The whole text is the JSON. In `instructions` mode it may also stand in a code fence or between sentences; of
    several values the first valid one counts. Raises `OutputInvalid`, whose message can be sent to the model as it
    is: up to 5 violations, each with its place. Raises `InvalidRequest` for a schema that `schemas.check` refuses.
    """
    if len(text) > MAX_ANSWER_CHARACTERS:
        raise OutputInvalid(
            f"The answer has {len(text):,} characters; at most {MAX_ANSWER_CHARACTERS:,} are taken. Answer shorter."
        )
    if not text.strip():
        raise OutputInvalid("The answer is empty. Answer with one JSON value that follows the schema.")
    try:
        return _checked(text, schema)
    except ValueError as error:
        whole = error
    if mode != "instructions":
        raise OutputInvalid(_no_json(whole))
    problem, longest = OutputInvalid(_no_json(whole)), 0
    for candidate in _candidates(text):
        try:
            return _checked(candidate, schema)
        except ValueError:
            continue
        except OutputInvalid as error:
            if len(candidate) > longest:
                problem, longest = error, len(candidate)
    raise problem


def parse_tool_call(call: ToolCall, schema: Mapping[str, Any]) -> Any:
    """The answer in `tool` mode: the forced tool's arguments, checked as `parse_answer` does."""
    if call.arguments is None:
        return parse_answer(call.raw, schema, mode="tool")
    try:
        text = jsontext.dumps(call.arguments)
    except ValueError as error:
        raise OutputInvalid(_no_json(error)) from error
    return parse_answer(text, schema, mode="tool")


def _checked(text: str, schema: Mapping[str, Any]) -> Any:
    """`text` as JSON that follows `schema`. `ValueError` where it is no JSON at all."""
    try:
        value = jsontext.loads(text)
        if "\\u" in text:
            jsontext.dumps(value, ascii_only=False).encode()
    except jsontext.NotTaken as error:
        raise OutputInvalid(
            f"The answer is not JSON that can be taken: {error}.\nAnswer again with the whole corrected JSON value."
        ) from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair (\\ud800 to \\udfff)") from None
    found = schemas.violations(schema, value)
    if found:
        listed = "\n".join(f"- {one}" for one in found)
        raise OutputInvalid(
            f"The answer does not follow the output schema:\n{listed}\n"
            "Answer again with the whole corrected JSON value."
        )
    return value


def _no_json(error: ValueError) -> str:
    return f"The answer is not JSON: {error}. Answer again with one JSON value only."


def _candidates(text: str) -> Iterator[str]:
    """Texts inside an answer that may be its JSON: fenced blocks first, then what parses from a bracket on."""
    for number, match in enumerate(_FENCE.finditer(text)):
        if number == _MAX_CANDIDATES:
            break
        yield match.group(1)
    decoder = json.JSONDecoder(parse_float=str, parse_int=str)  # only the ends of values count here
    position = 0
    for _ in range(_MAX_CANDIDATES):
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        try:
            _, end = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            position = opening.start() + 1
            continue
        yield text[opening.start() : end]
        position = end
