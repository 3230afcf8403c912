"""Tool calls that a model wrote as JSON, or as Python writes the same: read value by value, wherever they begin.

A value ends where its own syntax says, so that neither a brace in a text nor what a model puts behind its call (an end
that is missing, doubled or another sign's) matters. Several stand in a list, or one behind the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.llm import written_python

_NAMES = ("name", "tool", "tool_name", "function", "function_name", "action")
_ARGUMENTS = ("arguments", "parameters", "params", "args", "input", "tool_input", "action_input")
_BESIDE = frozenset({"id", "type", "index", "call_id", "tool_call_id"})
_AROUND = ("tool_calls", "tool_call", "function_call", "function")
"""Members whose value is the call, or the calls."""
_BETWEEN = late(r"[\s;,]*")
_ENDS = json.JSONDecoder(parse_float=str, parse_int=str, strict=False)  # only the ends of values count here
_PYTHON_ENDS = late(r"</|<\||\n\n|\Z")

Written = tuple[str, Mapping[str, Any]]
"""The name and the arguments of a call."""


def values(text: str, start: int) -> Iterator[tuple[Any, int]]:
    """Yield the JSON values that stand one behind the other from `start` on, each with the place behind it."""
    end = start
    while True:
        begin = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]
        if text[begin : begin + 1] not in ("{", "["):
            return
        try:
            _, end = _ENDS.raw_decode(text, begin)
            found = exact_json.loads(text[begin:end], by_model=True)
        except (ValueError, RecursionError):
            end = _PYTHON_ENDS.search(text, begin).start()  # type: ignore[union-attr]
            found = written_python.literal(text[begin:end])
            if found is None:
                return
        yield found, end


def value(text: str) -> Any:
    """Return the JSON value that a text is, `None` where it is none."""
    try:
        return exact_json.loads(text, by_model=True)
    except ValueError:
        return None


def calls(found: Any, tools: Mapping[str, Mapping[str, Any]]) -> Iterator[Written]:
    """Yield the calls that a value is: one, a list of them, or a message that holds them. An object with other members
    than a call's is something else. Without arguments it is a call where the tool wants none."""
    if isinstance(found, list):
        for one in found:
            yield from calls(one, tools)
    if not isinstance(found, dict):
        return
    if around := [found[key] for key in _AROUND if isinstance(found.get(key), dict | list)]:
        if len(found.keys() - _BESIDE) == 1:
            yield from calls(around[0], tools)
        return
    names = [found[key] for key in _NAMES if key in found]
    arguments = [found[key] for key in _ARGUMENTS if key in found]
    if len(found.keys() - _BESIDE) != len(names) + len(arguments) or len(names) != 1 or not isinstance(names[0], str):
        return
    given = arguments[0] if len(arguments) == 1 else None if arguments else _without_arguments(names[0], tools)
    given = value(given) if isinstance(given, str) else given
    if isinstance(given, dict):
        yield names[0], given


def by_name(found: Any) -> Iterator[Written]:
    """Yield the calls that are members of objects in a list: Apertus writes `[{"search": {"q": "x"}}]`."""
    for one in found if isinstance(found, list) else ():
        for name, arguments in one.items() if isinstance(one, dict) else ():
            if isinstance(arguments, dict):
                yield name, arguments


def _without_arguments(name: str, tools: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    return {} if name in tools and not tools[name].get("required") else None
