"""What Claude takes together, whoever serves it: thinking, its budget, the limit of the answer, sampling.

https://platform.claude.com/docs/en/build-with-claude/extended-thinking says of thinking that it needs a budget of at
least 1,024 tokens that is smaller than `max_tokens`, which counts both; that it goes with no other temperature than its
own, with no `top_k`, and with `top_p` from 0.95 to 1 only; that no tool may be forced beside it; and that the calls of
a turn must begin with the thoughts that led to them. From Opus 4.7 on there is no budget, and nothing of sampling may
be said. Bedrock says the same:
https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-extended-thinking.html.

Whoever stands before Claude and speaks OpenAI's formats hands on what Claude then refuses. LiteLLM takes `thinking`
under Claude's own name (https://docs.litellm.ai/docs/reasoning_content), OpenRouter `reasoning` with `max_tokens` or an
`effort` (https://openrouter.ai/docs/guides/best-practices/reasoning-tokens), both `reasoning_effort`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from loopllama.catalog.takes import refused
from loopllama.llm.token_estimate import UNKNOWN_MAX_OUTPUT
from loopllama.llm.types import ModelRequest, Thoughts
from loopllama.providers import wire

LEAST_BUDGET = 1024
"""Tokens of the smallest budget for thinking."""
_LEAST_TOP_P = Decimal("0.95")
"""While thinking."""
_BUDGETS = (("thinking", "budget_tokens"), ("reasoning", "max_tokens"))
"""Where options say how much it thinks, in tokens."""
_EFFORTS = {"max": 16_384, "xhigh": 8192, "high": 4096, "medium": 2048, "low": 1024, "minimal": 1024}
"""The budget that LiteLLM makes of an effort where the model takes no effort, whatever the answer's limit is: its
`DEFAULT_REASONING_EFFORT_…_THINKING_BUDGET`, github.com/BerriAI/litellm, pull request 27051."""


class Fitted(NamedTuple):
    """`options` as they can be sent, `limit` of the answer in tokens, and the call's `temperature` where it is sent."""

    options: dict[str, Any]
    limit: int | None
    temperature: float | None


def thinks(options: Mapping[str, Any]) -> bool:
    """Return whether options turn thinking on."""
    reasoning = wire.member(options, "reasoning")
    efforts = (reasoning.get("effort"), options.get("reasoning_effort"))
    return (
        wire.member(options, "thinking").get("type") in ("enabled", "adaptive")
        or any(isinstance(effort, str) and effort not in ("", "none") for effort in efforts)
        or (reasoning.get("enabled", "max_tokens" in reasoning) is True)
    )


def fitted(call: ModelRequest, options: Mapping[str, Any], name: Callable[[], str], limit: int | None) -> Fitted:
    """Return what of a call goes together. `options` are those of Claude's own API, or what stands for them elsewhere,
    `name` gives the model's, `limit` is that of the answer.

    A budget for thinking that the answer's limit leaves no room for becomes half of the limit: the limit is the
    agent's, or what the run's budget has left, and counts more. Below the least budget the model does not think.
    """
    made = dict(options)
    if wire.member(made, "thinking").get("type") == "enabled" and refused("thinking budget", name()):
        # How much it thinks is left to it, or to the effort that the call's name or its options ask for.
        others = {key: value for key, value in made["thinking"].items() if key != "budget_tokens"}
        made["thinking"] = {**others, "type": "adaptive"}
    if "max_tokens" in (reasoning := wire.member(made, "reasoning")) and refused("thinking budget", name()):
        made["reasoning"] = {"enabled": True, **{key: said for key, said in reasoning.items() if key != "max_tokens"}}
    for group, inside in _BUDGETS:
        made, limit = _with_budget(call, made, limit, group, inside)
    if {"reasoning", "reasoning_effort"} & made.keys() and _has_budgets(name()):
        _lower_effort(call, made, limit)
    if {"top_p", "top_k"} & made.keys() and refused("top_p and top_k", name()):
        made = {key: value for key, value in made.items() if key not in ("top_p", "top_k")}
    temperature = call.temperature
    if thinks(made) and refused("temperature while thinking", name()):
        temperature = None
        made.pop("top_k", None)
        if not _may_stand(made.get("top_p")):
            made.pop("top_p", None)
    if temperature is not None and "top_p" in made and refused("top_p beside temperature", name()):
        del made["top_p"]
    return Fitted(made, limit, temperature)


def fitted_elsewhere(call: ModelRequest, options: Mapping[str, Any]) -> Fitted:
    """Return the same in a wire format that serves all models: what is not for Claude stays as it is."""
    if "claude" not in call.known_as:
        return Fitted(dict(options), call.max_tokens, call.temperature)
    return fitted(call, options, lambda: call.known_as, call.max_tokens)


def _with_budget(
    call: ModelRequest, options: dict[str, Any], limit: int | None, group: str, inside: str
) -> tuple[dict[str, Any], int | None]:
    thinking = wire.member(options, group)
    if thinking.get("type") != "enabled" if group == "thinking" else inside not in thinking:
        return options, limit
    budget = thinking.get(inside)
    if isinstance(budget, Decimal) and budget % 1 == 0:
        budget = int(budget)
    limit = _raised_limit(call, limit, budget)
    if isinstance(budget, int) and limit is not None and limit <= max(budget, LEAST_BUDGET):
        budget = limit // 2
        options[group] = {**thinking, inside: budget}
    if (isinstance(budget, int) and budget < LEAST_BUDGET) or _without_first_thoughts(call):
        del options[group]
    return options, limit


def _has_budgets(name: str) -> bool:
    """Return whether a model is Claude, and thinks by a budget whatever it is asked with."""
    return "claude" in name and refused("thinking budget", name) is None


def _lower_effort(call: ModelRequest, options: dict[str, Any], limit: int | None) -> None:
    """Lower an effort to one whose budget is below the limit. Where there is none, the model does not think."""
    none = _without_first_thoughts(call) or (limit is not None and limit <= LEAST_BUDGET)
    reasoning = dict(wire.member(options, "reasoning"))
    for holder, key in ((options, "reasoning_effort"), (reasoning, "effort")):
        effort = holder.get(key)
        if none:
            holder.pop(key, None)
        elif isinstance(effort, str) and limit is not None and limit <= _EFFORTS.get(effort, 0):
            holder[key] = next(lower for lower, budget in _EFFORTS.items() if budget < limit)
    if none:
        reasoning.pop("enabled", None)
    if "reasoning" in options:
        options["reasoning"] = reasoning
        if not reasoning:
            del options["reasoning"]


def _raised_limit(call: ModelRequest, limit: int | None, budget: Any) -> int | None:
    """Return the limit of an answer that nobody has set one for, with room for what is thought before it."""
    asked = call.max_tokens is not None and not call.limit_unasked
    if limit is None or asked or not isinstance(budget, int) or limit > budget:
        return limit
    wanted = budget + UNKNOWN_MAX_OUTPUT
    return wanted if call.max_output is None else min(wanted, call.max_output)


def _without_first_thoughts(call: ModelRequest) -> bool:
    """Return whether the first calls of tools since somebody else spoke came from another model, or without thoughts:
    with thinking on, such a request is refused."""
    since = 1 + max((place for place, one in enumerate(call.messages) if one.role == "user"), default=-1)
    first = next((one for one in call.messages[since:] if one.role == "assistant"), None)
    return first is not None and bool(first.tool_calls) and not _signed(first.thoughts)


def _signed(held: Thoughts | None) -> bool:
    """Return whether thoughts hold what Claude checks: blocks of its own, or what OpenAI's formats carry them in. Their
    plain text alone is none."""
    value = held.value if held else None
    if not isinstance(value, dict):
        return bool(value)
    return bool(value.get("thinking_blocks") or value.get("reasoning_details")) or isinstance(
        value.get("reasoning"), list
    )


def _may_stand(top_p: Any) -> bool:
    return isinstance(top_p, int | float | Decimal) and Decimal(str(top_p)) >= _LEAST_TOP_P
