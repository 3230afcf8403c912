"""What bounds a model call: the time that it gets and the length of its answer, and who may change either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from loopllama.catalog.providers import is_own_server
from loopllama.llm.token_estimate import UNKNOWN_MAX_OUTPUT, prompt_tokens, thinking_budget

if TYPE_CHECKING:
    from loopllama.catalog.model import Model
    from loopllama.errors import ModelError
    from loopllama.llm.types import ModelRequest

_NEARLY = 0.95
"""A call that took this share of its time has used it up."""


class CallTime(NamedTuple):  # loads faster than a dataclass
    """The seconds that a call gets, and what they end by: this invocation's time, the agent's `timeoutSeconds`, or what
    a model gets while there is another one to try."""

    seconds: float
    bound: Literal["invocation", "step", "fallback"]


@dataclass(frozen=True, slots=True)
class Limits:
    """`call_ends` is when this invocation must have its answer and `turn_ends` when the step's own time is over, both
    by `time.monotonic()`; `shortest_call` (s) is the least time worth starting a model call with, `longest_call` (s)
    what a call gets while there is another model to try. `whole`: the invocation began with this step, so that another
    one has no more time for it."""

    call_ends: float
    turn_ends: float
    shortest_call: float
    max_turns: int
    longest_call: float = float("inf")
    whole: bool = True

    def time_for_call(self, now: float, last: bool) -> CallTime:
        """Return what a call gets that begins now. The last model of the attempt order has nobody to make room for,
        and an answer that comes late is worth more than none."""
        left = min(self.call_ends, self.turn_ends) - now
        if not last and self.longest_call < left:
            return CallTime(self.longest_call, "fallback")
        return CallTime(left, "step" if self.turn_ends < self.call_ends else "invocation")


def explain_timeout(error: ModelError, time: CallTime, took: float, step: str, whole: bool) -> None:
    """Let a time-out say what bounds the call and how to change it, where it took all of its time (`took`, s). `whole`:
    nobody had a part of the invocation's time before. Where another invocation would give it no more time, trying later
    is of no use, and the error says so."""
    if took < time.seconds * _NEARLY:
        return  # the provider gave up, or a proxy before it
    if time.bound == "fallback":
        why = (
            "that is what a model gets while there is another one to try, by the template's parameter "
            "ModelTimeoutSeconds (`loopllama --stack NAME deploy --parameter ModelTimeoutSeconds=SECONDS`)"
        )
    elif time.bound == "step":
        error.later = False
        why = (
            f"that is what timeoutSeconds of the agent {step!r} leaves to it: raise it in the workflow's file, then "
            "`loopllama --stack NAME workflows push FILE`"
        )
    elif whole:
        error.later = False
        why = (
            "that is all that an invocation has, so another one would not get an answer either: raise the template's "
            "parameter StepTimeoutSeconds (`loopllama --stack NAME deploy --parameter StepTimeoutSeconds=SECONDS`, at "
            "most 900), bound the answer by the agent's maxTokens, or name a faster model or a fallback"
        )
    else:
        return  # the next invocation has more time
    error.args = (f"{error}; {why}",)


def fallback_limit(model: Model, call: ModelRequest) -> int | None:
    """Return the limit of an answer for which nobody has set one: what the model's entry says, else
    `UNKNOWN_MAX_OUTPUT`, on a server of one's own, as far as its context window has room; `None` for a provider, which
    has limits itself.

    The prompt counts as half of its estimate: with a limit below the room that there is the answer would be cut off,
    while one above it does no harm. A server that minds refuses it, and is asked again without one."""
    if not is_own_server(model.provider):
        return None
    limit = model.max_output or UNKNOWN_MAX_OUTPUT + thinking_budget(call.options)
    if model.context_window is None:
        return limit
    room = model.context_window - prompt_tokens(call) // 2
    return min(limit, room) if room > 0 else limit
