"""Tool calls that a model wrote into its answer's text.

A server that has no parser for its model's calls, or whose parser gives up, hands them on as text: vLLM without
`--tool-call-parser`, Ollama and llama.cpp with a template of somebody else's, gateways. Taken for the answer, such a
text would end the turn. Forms by family: `<tool_call>` with JSON (Hermes, Qwen) or with tags (Qwen3 Coder),
`<function=…>` (Llama 3, Groq), `[TOOL_CALLS]` (Mistral), `<|python_tag|>` and the bare object (Llama 3.1 and later),
`<|tool_call_begin|>` (Kimi), its like in full-width signs (DeepSeek).

Only what names a tool of the request, and has an object of arguments, is a call; a text in which none does is an
answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from loopllama.core import exact_json
from loopllama.llm.history import MOST_CALLS
from loopllama.llm.types import ToolCall


def _sign(*words: str) -> str:
    """Return one of DeepSeek's signs: words between full-width bars."""
    return "<\uff5c{}\uff5c>".format("\u2581".join(words))


_SECTIONS = ("<|tool_calls_section_begin|>", _sign("tool", "calls", "begin"))
_DEEPSEEK_BEGINS = _sign("tool", "call", "begin")
_SIGNS = (
    "<tool_call>",
    "<function=",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<|tool_call_begin|>",
    _DEEPSEEK_BEGINS,
    *_SECTIONS,
)
_HERMES = re.compile(r"<tool_call>\s*(\{.*?\})\s*(?:</tool_call>|\Z)", re.DOTALL)
_FUNCTION = re.compile(r"<function=([\w.:-]{1,80})>\s*(.*?)\s*(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([\w.:-]{1,80})>\n?(.*?)\n?</parameter>", re.DOTALL)
_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s*(\[.*\])", re.DOTALL)
_PYTHON = re.compile(r"<\|python_tag\|>\s*(\{.*\})", re.DOTALL)
_KIMI = re.compile(
    r"<\|tool_call_begin\|>\s*([\w.:-]{1,80})\s*<\|tool_call_argument_begin\|>\s*(.*?)\s*<\|tool_call_end\|>",
    re.DOTALL,
)
_DEEPSEEK_SEP = _sign("tool", "sep")
_DEEPSEEK = re.compile(
    rf"{_DEEPSEEK_BEGINS}(?:function{_DEEPSEEK_SEP})?\s*([\w.:-]{{1,80}})(?:{_DEEPSEEK_SEP}|\s*```json)\s*"
    rf"(\{{.*?\}})\s*(?:```)?\s*{_sign('tool', 'call', 'end')}",
    re.DOTALL,
)
_LONGEST = 100_000
"""Characters; a longer text is no call, and takes long to look through."""
_BEFORE_NAME = re.compile(r"^functions?[.:]")
_BEHIND_NAME = re.compile(r":\d+$")


def found(text: str, tools: Collection[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """Return what is said before the calls that a text holds, and the calls; the text itself where it holds none."""
    bare = text.strip()
    if len(text) > _LONGEST or sum(map(text.count, _SIGNS)) > MOST_CALLS:
        return text, ()
    if not tools or not (any(sign in text for sign in _SIGNS) or bare.startswith('{"')):
        return text, ()
    calls = [
        ToolCall(f"call_{place}", name, arguments, exact_json.dumps(arguments))
        for place, (name, arguments) in enumerate(_read(bare))
        if name in tools
    ]
    if not calls:
        return text, ()
    start = min((text.index(sign) for sign in _SIGNS if sign in text), default=0)
    return text[:start].strip(), tuple(calls)


def _read(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if text.startswith('{"'):
        yield from _of_object(_json(text))
        return
    for match in _HERMES.finditer(text):
        yield from _of_object(_json(match[1]))
    for match in _FUNCTION.finditer(text):
        parameters = {name: _value(value) for name, value in _PARAMETER.findall(match[2])}
        yield from _named(match[1], parameters or _json(match[2] or "{}"))
    for match in _MISTRAL.finditer(text):
        listed = _json(match[1])
        for one in listed if isinstance(listed, list) else ():
            yield from _of_object(one)
    for match in _PYTHON.finditer(text):
        yield from _of_object(_json(match[1]))
    for pattern in (_KIMI, _DEEPSEEK):
        for match in pattern.finditer(text):
            yield from _named(match[1], _json(match[2]))


def _of_object(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the call that an object of a name and arguments is. One with other members is something else."""
    if isinstance(value, dict) and value.keys() <= {"name", "arguments", "parameters", "id", "type"}:
        yield from _named(value.get("name"), value.get("arguments", value.get("parameters")))


def _named(name: Any, arguments: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(name, str) and isinstance(arguments, dict):
        yield _BEHIND_NAME.sub("", _BEFORE_NAME.sub("", name)), arguments


def _json(text: str) -> Any:
    try:
        return exact_json.loads(text)
    except ValueError:
        return None


def _value(text: str) -> Any:
    """Return the value of a parameter in tags: JSON where it is an object, a list, a number or a truth, else text."""
    try:
        return exact_json.loads(text)
    except ValueError:
        return text
