"""What the adapters share in reading answers and writing requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from loopllama.core import exact_json
from loopllama.llm.types import ModelRequest, ToolCall

UNKNOWN_MAX_OUTPUT = 8192
"""Tokens that a model whose longest answer nobody knows is asked for: every current one can give them."""
LONGEST_UNASKED = 20_000
"""Tokens of an answer that nobody has set a limit for. Longer ones may take more than the ten minutes that Anthropic
advises against waiting for without streaming (https://docs.claude.com/en/api/errors, long requests; its SDK counts
128,000 tokens an hour), and Bedrock's quota is charged with the limit before the answer is known."""
MOST_TOKENS = 10**9
"""More than any call takes. What a broken server counts beyond it is estimated: its sums would not fit the record."""
_NO_ID = re.compile(r"[^a-zA-Z0-9_-]")


def read_object(body: bytes | str) -> dict[str, Any] | None:
    """The JSON object that a body is, `None` where it is none. Numbers are `int` or `Decimal`; one that is not taken is
    a `jsontext.Literal`, so that only what it belongs to is unusable, and not an answer that was paid for."""
    try:
        value = exact_json.loads_around(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def member(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside an object; empty where there is none."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def count(value: Any) -> int | None:
    """A number of tokens, `None` where it is none or no call can have had as many. Some servers write `12.0`."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value < MOST_TOKENS or value % 1:
        return None
    return int(value)


def answer_limit(call: ModelRequest) -> int:
    """The limit of the answer, in tokens, for a provider that asks for one."""
    return call.max_tokens or min(call.max_output or UNKNOWN_MAX_OUTPUT, LONGEST_UNASKED)


def tool_call(identifier: Any, name: Any, arguments: Any, position: int) -> ToolCall:
    """A tool call from its parts as they stand in an answer. `arguments` may be text that should be JSON, or the
    object itself; none at all means no arguments. A missing id becomes `call_<position>`. What
    `jsontext.loads` does not take are no arguments: the model is told why, and asked again."""
    raw = arguments if isinstance(arguments, str) else exact_json.dumps({} if arguments is None else arguments)
    try:
        read = exact_json.loads(raw if raw.strip() else "{}")
    except ValueError:
        read = None
    return ToolCall(
        id=identifier if isinstance(identifier, str) and identifier else f"call_{position}",
        name=name if isinstance(name, str) else "",
        arguments=read if isinstance(read, dict) else None,
        raw=raw,
    )


def arguments_object(call: ToolCall) -> Mapping[str, Any]:
    """Arguments for a wire format that takes nothing but objects: those that were no JSON go back as text in one."""
    return call.arguments if call.arguments is not None else {"not_json": call.raw}


def tool_id(identifier: str) -> str:
    """An id that every provider takes: a turn may go on with another provider than the one that gave it.
    Bedrock's is the narrowest, `[a-zA-Z0-9_-]{1,64}`."""
    return _NO_ID.sub("_", identifier)[:64] or "call"


def cached_messages(call: ModelRequest) -> list[int]:
    """The places of the messages to put cache points behind: the last stable ones, three of the four points that
    Anthropic and Bedrock allow, as one is behind the system prompt.

    Writing to a cache costs more than not caching, so there are none unless this turn has, or will likely have,
    another call with the same beginning.
    """
    several = len(call.messages) > 1 or (bool(call.tools) and not call.forced_tool)
    if not (call.prompt_cache and several):
        return []
    return [place for place, message in enumerate(call.messages) if message.stable][-3:]
