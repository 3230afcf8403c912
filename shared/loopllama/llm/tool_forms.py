"""Tools as a provider takes them, where it bounds more than the keywords of their schemas: descriptions that are too
long for it, and names of parameters that it refuses.

One such tool makes every request of the agent a 400. The agent keeps the tool as it was defined: the model sees it
under other names, and what it gives is put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.llm.types import ModelRequest, ToolCall, ToolSpec

Names = Mapping[str, Mapping[str, str]]
"""By tool: the name that the model sees of a parameter to the tool's own, for those that differ."""

LONGEST_KEY = 64
_NOT_IN_KEYS = late(r"[^a-zA-Z0-9_.-]")
"""Claude's API, at Anthropic and on Bedrock, takes parameters named `^[a-zA-Z0-9_.-]{1,64}$` only, in the outermost
object (github.com/decocms/studio, pull request 6874; github.com/aws-solutions-library-samples/
accelerated-intelligent-document-processing-on-aws, issue 709)."""
_GOES_ON = " … (The rest is in the system prompt.)"


def with_short_descriptions(call: ModelRequest, longest: int | None) -> ModelRequest:
    """Return the call with descriptions of tools of at most `longest` characters; a longer one stands in the system
    prompt too, whole."""
    long = [tool for tool in call.tools if longest is not None and len(tool.description) > longest]
    if longest is None or not long:
        return call
    whole = "\n\n".join(f"The tool {tool.name}: {tool.description}" for tool in long)
    begin = longest - len(_GOES_ON)
    tools = tuple(
        replace(tool, description=tool.description[:begin] + _GOES_ON) if tool in long else tool for tool in call.tools
    )
    return replace(call, tools=tools, system=f"{call.system}\n\n{whole}".lstrip())


def with_plain_keys(call: ModelRequest) -> tuple[ModelRequest, Names]:
    """Return the call with names of parameters that Claude's API takes, in the conversation too, and what they stand
    for."""
    names = {tool.name: made for tool in call.tools if (made := _names(tool.parameters))}
    if not names:
        return call, names
    tools = tuple(_renamed(tool, names[tool.name]) if tool.name in names else tool for tool in call.tools)
    sent = {name: {own: plain for plain, own in made.items()} for name, made in names.items()}
    messages = tuple(
        replace(message, tool_calls=_called(message.tool_calls, sent)) if message.tool_calls else message
        for message in call.messages
    )
    return replace(call, tools=tools, messages=messages), names


def with_own_keys(calls: Sequence[ToolCall], names: Names) -> tuple[ToolCall, ...]:
    """Return a model's calls with the tools' own names of their parameters."""
    return _called(calls, names)


def _names(parameters: Mapping[str, Any]) -> dict[str, str]:
    properties = parameters.get("properties")
    keys = list(properties) if isinstance(properties, Mapping) else []
    used = {key for key in keys if _plain(key) == key}
    made = {}
    for key in keys:
        if key in used:
            continue
        plain, number = _plain(key), 1
        while plain in used:
            number += 1
            plain = f"{_plain(key)[: LONGEST_KEY - len(str(number)) - 1]}_{number}"
        used.add(plain)
        made[plain] = key
    return made


def _plain(key: str) -> str:
    return _NOT_IN_KEYS.sub("_", key)[:LONGEST_KEY] or "_"


def _renamed(tool: ToolSpec, names: Mapping[str, str]) -> ToolSpec:
    plain = {own: name for name, own in names.items()}
    properties = {
        plain.get(key, key): _named(part, key) if key in plain else part
        for key, part in tool.parameters["properties"].items()
    }
    parameters = {**tool.parameters, "properties": properties}
    if isinstance(required := parameters.get("required"), list):
        parameters["required"] = [plain.get(key, key) for key in required]
    return replace(tool, parameters=parameters)


def _named(part: Any, key: str) -> Any:
    """Return a parameter that says its own name, which tells what it is."""
    if not isinstance(part, Mapping):
        return part
    said = part.get("description")
    return {**part, "description": f"{key}: {said}" if isinstance(said, str) and said else key}


def _called(calls: Sequence[ToolCall], names: Names) -> tuple[ToolCall, ...]:
    made = []
    for call in calls:
        of_tool = names.get(call.name)
        if of_tool and call.arguments is not None:
            arguments = {of_tool.get(key, key): value for key, value in call.arguments.items()}
            call = replace(call, arguments=arguments, raw=exact_json.dumps(arguments))
        made.append(call)
    return tuple(made)
