"""What the adapters share in reading answers and writing requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from loopllama.core import exact_json
from loopllama.llm.token_estimate import UNKNOWN_MAX_OUTPUT
from loopllama.llm.types import STANDARD, Message, ModelRequest, ToolCall

LONGEST_UNASKED = 20_000
"""Tokens of an answer that nobody has set a limit for. Longer ones may take more than the ten minutes that Anthropic
advises against waiting for without streaming (https://docs.claude.com/en/api/errors, long requests; its SDK counts
128,000 tokens an hour), and Bedrock's quota is charged with the limit before the answer is known."""
MOST_TOKENS = 10**9
"""More than any call takes. What a broken server counts beyond it is estimated: its sums would not fit the record."""
Asked = tuple[Any, Any, Any]
"""A tool call as it stands in an answer: id, name and arguments, whatever they are."""
_SERVICE_TIERS = {
    **dict.fromkeys(("default", "standard", "on_demand"), STANDARD),
    **{name: name for name in ("flex", "priority", "batch", "scale", "reserved")},
    "fast": "priority",
}
_NO_ID = re.compile(r"[^a-zA-Z0-9_-]")


def read_object(body: bytes | str) -> dict[str, Any] | None:
    """Return the JSON object that a body is, `None` where it is none. Numbers are `int` or `Decimal`; one that is not
    taken is an `exact_json.Literal`, so that only what it belongs to is unusable, not an answer that was paid for."""
    try:
        value = exact_json.loads_around(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def member(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object inside an object; empty where there is none."""
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def count(value: Any) -> int | None:
    """Return a number of tokens, `None` where it is none or no call can have had as many. Some servers write `12.0`."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value < MOST_TOKENS or value % 1:
        return None
    return int(value)


_COSTS_OF_TOKENS = {
    *(f"{kind}_cost" for kind in ("input", "output", "cache_creation", "cache_read", "total")),
    *("input_tokens_cost", "output_tokens_cost"),
}
"""Members of Perplexity's `usage.cost` that are no fee, in Chat Completions and in its Agent API."""
_MOST_USD = 10**6


def fees(usage: Mapping[str, Any]) -> bool:
    """Return whether the `usage` of an answer names a fee that no price of a token holds."""
    amounts = (amount for name, amount in member(usage, "cost").items() if name not in _COSTS_OF_TOKENS)
    return any(isinstance(amount, int | float | Decimal) and amount > 0 for amount in amounts)


def said_usd(usage: Any) -> Decimal | None:
    """Return what the `usage` of an answer says that the call costs, fees included; `None` where it does not.

    OpenRouter's `cost` is what it charges: its credits are USD. With a key of one's own for the upstream
    (`is_byok`) that is its own fee only, and the upstream's charge comes on top; without one, the upstream's is a part
    of it (https://openrouter.ai/docs/use-cases/usage-accounting, cost breakdown; github.com/Kilo-Org/kilocode, pull
    request 13841). Perplexity says `cost.total_cost`, in the `currency` beside it.
    """
    if not isinstance(usage, dict):
        return None
    cost = usage.get("cost")
    if isinstance(cost, dict):
        return _amount(cost.get("total_cost")) if cost.get("currency", "USD") == "USD" else None
    own = _amount(cost)
    if own is None or usage.get("is_byok") is not True:
        return own
    upstream = _amount(member(usage, "cost_details").get("upstream_inference_cost"))
    return None if upstream is None else own + upstream


def _amount(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value < _MOST_USD:
        return None
    return round(Decimal(value), 12)


def service_tier(value: Any) -> str:
    """Return the service tier that an answer names, by our names; empty where it names none that has a price.
    OpenAI calls the priority tier `fast` too (https://openai.com/api-fast-mode), Groq the standard one `on_demand`."""
    return _SERVICE_TIERS.get(value, "") if isinstance(value, str) else ""


def answer_limit(call: ModelRequest) -> int:
    """Return the limit of the answer, in tokens, for a provider that asks for one."""
    most = call.forms.most_output or LONGEST_UNASKED
    return call.max_tokens or min(call.max_output or UNKNOWN_MAX_OUTPUT, LONGEST_UNASKED, most)


def tool_call(identifier: Any, name: Any, arguments: Any, position: int) -> ToolCall:
    """Return a tool call from its parts as they stand in an answer. `arguments` may be text that should be JSON, or the
    object itself; none at all means no arguments. A missing id becomes `call_<position>`. What
    `exact_json.loads` does not take are no arguments: the model is told why, and asked again. Of a call without
    arguments Groq writes `null` (github.com/langchain-ai/langchain, pull request 33896), gateways in PHP an empty list;
    some models write the JSON text of a JSON text (github.com/huggingface/smolagents, pull request 267)."""
    raw = arguments if isinstance(arguments, str) else exact_json.dumps({} if arguments is None else arguments)
    try:
        read = exact_json.loads(raw if raw.strip() else "{}", last_wins=True)
        if isinstance(read, str):
            read = exact_json.loads(read if read.strip() else "{}", last_wins=True)
    except ValueError:
        read = None
    else:
        read = {} if read is None or read == [] else read
    return ToolCall(
        id=identifier if isinstance(identifier, str) and identifier else f"call_{position}",
        name=name if isinstance(name, str) else "",
        arguments=read if isinstance(read, dict) else None,
        raw=raw,
    )


def tool_calls(
    blocks: Sequence[Mapping[str, Any]], asked: Callable[[Mapping[str, Any]], Asked | None], cut: bool
) -> tuple[ToolCall, ...]:
    """Return the tool calls of an answer in blocks; `asked` is `None` for a block that is none. `cut`: the answer ended
    at its limit. Where that fell into a tool call, what is there of the arguments is not what the model meant."""
    calls = []
    for position, block in enumerate(blocks):
        if (parts := asked(block)) is not None:
            call = tool_call(*parts, position)
            if cut and position == len(blocks) - 1:
                call = ToolCall(call.id, call.name, None, call.raw)
            calls.append(call)
    return tuple(calls)


def arguments_object(call: ToolCall) -> Mapping[str, Any]:
    """Arguments for a wire format that takes nothing but objects: those that were no JSON go back as text in one."""
    return call.arguments if call.arguments is not None else {"not_json": call.raw}


def tool_id(identifier: str) -> str:
    """Return an id that every provider takes: a turn may go on with another provider than the one that gave it.
    Bedrock's is the narrowest, `[a-zA-Z0-9_-]{1,64}`."""
    return _NO_ID.sub("_", identifier)[:64] or "call"


def cached_messages(call: ModelRequest) -> list[int]:
    """Return the places of the messages to put cache points behind: the last stable ones, three of the four points that
    Anthropic and Bedrock allow, as one is behind the system prompt.

    Writing to a cache costs more than not caching, so there are none unless this turn has, or will likely have,
    another call with the same beginning.
    """
    several = len(call.messages) > 1 or (bool(call.tools) and not call.forced_tool)
    if not (call.prompt_cache and several):
        return []
    return [place for place, message in enumerate(call.messages) if message.stable][-3:]


def alternating(
    call: ModelRequest,
    blocks_of: Callable[[Message], list[dict[str, Any]]],
    mark: Callable[[list[dict[str, Any]]], None],
) -> list[dict[str, Any]]:
    """Return the messages as blocks for a wire format whose roles alternate: tool results and what the user says belong
    to one message. `mark` puts a cache point behind the blocks of a message."""
    messages: list[dict[str, Any]] = []
    cached = cached_messages(call)
    for place, message in enumerate(call.messages):
        role = "assistant" if message.role == "assistant" else "user"
        blocks = blocks_of(message)
        if place in cached:
            mark(blocks)
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    return messages


def thought_blocks(
    blocks: Sequence[Mapping[str, Any]], thought: Callable[[Mapping[str, Any]], Any], call: Callable[[Any], Any]
) -> list[list[Any]]:
    """Return the thoughts of an answer in blocks, each with its place in the message that goes back: all of the text in
    one block, and then the calls. A message that has any must begin with one. `thought` returns what is to go back of a
    block of thoughts, nothing for any other; `call` says whether a block is a call."""
    found: list[list[Any]] = []
    others, text = 0, False
    for block in blocks:
        if held := thought(block):
            found.append([others + len(found) if found else 0, held])
        elif call(block):
            others += 1
        elif not text and isinstance(said := block.get("text"), str) and said.strip():
            others, text = others + 1, True
    return found


def with_thoughts(blocks: list[dict[str, Any]], message: Message) -> list[dict[str, Any]]:
    """Return a message's blocks with its thoughts where `thought_blocks` found them."""
    for place, block in message.thoughts.value if message.thoughts else ():
        blocks.insert(int(place), block)
    return blocks
