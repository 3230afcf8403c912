"""The conversation of a call in a form that every provider takes.

A model may call a tool by a name that no provider takes back (OpenAI's own `multi_tool_use.parallel`), gateways and
quantised models give two calls one id, and a turn may go on with another provider than the one that answered. One such
message in the history makes every further request of the turn a 400. `fitted` is the one place where that is put right,
for all dialects, always in the same way, so that a repeated call is the same call and a cached prompt stays cached.

Forms: https://platform.openai.com/docs/api-reference/chat/create (names; ids end at 40 characters),
https://docs.claude.com/en/api/messages and
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolUseBlock.html (names and ids of
`[a-zA-Z0-9_-]`, each id once, each with its result in the next message),
https://ai.google.dev/api/caching#FunctionDeclaration (names begin with a letter or an underscore).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.llm.types import Message, ModelRequest, ToolCall, ToolSpec

LONGEST_NAME = 64
LONGEST_ID = 40
"""OpenAI's, the shortest of those that bound ids by no other form."""
MOST_CALLS = 128
"""Of one message; OpenAI takes no more."""
NO_RESULT = "(no result)"

_NOT_IN_NAMES = late(r"[^a-zA-Z0-9_-]")
_NOT_IN_IDS = late(r"[^a-zA-Z0-9_.:-]")
_FIRST = late(r"[a-zA-Z_]")
_NAMESPACE = late(r"^(?:functions?|tools?|default_api|multi_tool_use)[.:/]")
_NUMBER = late(r":\d+$")


def fitted(call: ModelRequest, provider: str) -> ModelRequest:
    """Return the call with messages that `provider`, like any other, takes.

    Names of tools, ids and arguments get a form that is allowed. Each call of a tool has an id of its own and, right
    behind its message and in the order of the calls, one result. Thoughts stay where they came from this provider and
    this model. A call without tools gets what was called, and what came of it, as text: providers refuse tool calls in
    the conversation of a request that has no tools.
    """
    if all(message.role != "tool" and not message.tool_calls for message in call.messages):
        return call
    tools = frozenset(tool.name for tool in call.tools)
    used: set[str] = set()
    made: list[Message] = []
    for message, results in _rounds(call.messages):
        if not message.tool_calls:
            made.append(message)
            continue
        calls = [_fitted_call(asked, tools, used) for asked in message.tool_calls[:MOST_CALLS]]
        given = _in_order(message.tool_calls[:MOST_CALLS], calls, results)
        if not tools:
            made += _as_text(message, calls, given)
            continue
        thoughts = message.thoughts
        if thoughts is not None and not thoughts.suits(provider, call.model):
            thoughts = None
        made += [replace(message, tool_calls=tuple(calls), thoughts=thoughts), *given]
    return replace(call, messages=tuple(made))


def without_thoughts(call: ModelRequest) -> ModelRequest:
    """Return the call without thoughts; the call itself where it has none."""
    if all(message.thoughts is None for message in call.messages):
        return call
    return replace(call, messages=tuple(replace(message, thoughts=None) for message in call.messages))


def without_system(call: ModelRequest) -> ModelRequest:
    """Return the call with the system prompt at the beginning of its first message, for a model that takes none."""
    if not call.system.strip() or not call.messages:
        return call
    first, *others = call.messages
    return replace(call, system="", messages=(replace(first, text=f"{call.system}\n\n{first.text}"), *others))


def meant(calls: Sequence[ToolCall], tools: Sequence[ToolSpec]) -> tuple[ToolCall, ...]:
    """Return the calls of an answer, each by the name of the tool that is meant. Models write more around it than the
    name: what stands in their own language for calls (`functions.search`, `default_api.search`, Kimi's
    `functions.search:0`), a token that follows there (gpt-oss: `search<|channel|>json`, github.com/vllm-project/vllm,
    issue 32587; GLM: `search</arg_value>`, github.com/fw-ai-external/python-sdk, issue 119), or quotes. A name
    that is no tool's even so stays as it is."""
    names = {tool.name for tool in tools}
    return tuple(
        replace(call, name=bare) if call.name not in names and (bare := bare_name(call.name)) in names else call
        for call in calls
    )


def bare_name(name: str) -> str:
    """Return a name without what models write around it."""
    said = name.partition("<")[0].strip(" \t\r\n`\"'").removesuffix("()")
    return _NUMBER.sub("", _NAMESPACE.sub("", said))


def tool_name(name: str) -> str:
    """Return a name that every provider takes, for a tool that there is not."""
    made = _NOT_IN_NAMES.sub("_", name)
    return (made if _FIRST.match(made) else f"tool_{made}")[:LONGEST_NAME]


def _rounds(messages: Sequence[Message]) -> list[tuple[Message, list[Message]]]:
    """Return each message with the results behind it. A result that answers no message is left out."""
    rounds: list[tuple[Message, list[Message]]] = []
    for message in messages:
        if message.role != "tool":
            rounds.append((message, []))
        elif rounds:
            rounds[-1][1].append(message)
    return rounds


def _fitted_call(call: ToolCall, tools: frozenset[str], used: set[str]) -> ToolCall:
    name = call.name if call.name in tools else tool_name(call.name)
    arguments = call.arguments if call.arguments is None else _whole_characters(call.arguments)
    raw = call.raw.encode(errors="replace").decode()
    return replace(call, id=_own_id(call.id, used), name=name, arguments=arguments, raw=raw)


def _own_id(identifier: str, used: set[str]) -> str:
    """Return the id in a form that is taken, with a number behind it where another call has it. Dots and colons stay:
    Kimi's models want their `functions.search:0` back; dialects that do not take them make underscores of them."""
    form = _NOT_IN_IDS.sub("_", identifier)[:LONGEST_ID] or "call"
    made, number = form, 1
    while (key := _NOT_IN_NAMES.sub("_", made)) in used:
        number += 1
        made = f"{form[: LONGEST_ID - len(str(number)) - 1]}_{number}"
    used.add(key)
    return made


def _whole_characters(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments with a question mark for each half of a surrogate pair: JSON can write it, and no provider
    takes it."""
    text = exact_json.dumps(arguments, ascii_only=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        found: Mapping[str, Any] = exact_json.loads_kept(text.encode(errors="replace"))
        return found
    return arguments


def _in_order(asked: Sequence[ToolCall], calls: Sequence[ToolCall], results: Sequence[Message]) -> list[Message]:
    """Return a result for each call, in the order of the calls. Of calls with one id, the first has the first."""
    left: dict[str, list[Message]] = {}
    for result in results:
        left.setdefault(result.tool_call_id, []).append(result)
    given = []
    for before, call in zip(asked, calls, strict=True):
        found = left.get(before.id)
        given.append(replace(found.pop(0) if found else Message("tool", NO_RESULT), tool_call_id=call.id))
    return given


def _as_text(message: Message, calls: Sequence[ToolCall], results: Sequence[Message]) -> list[Message]:
    asked = "\n".join(f"[called {c.name} with {c.raw or exact_json.dumps(c.arguments)}]" for c in calls)
    given = "\n".join(f"[{c.name} gave: {result.text}]" for c, result in zip(calls, results, strict=True))
    stable = bool(results) and results[-1].stable
    return [Message("assistant", f"{message.text}\n{asked}".strip()), Message("user", given, stable=stable)]
