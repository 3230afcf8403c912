"""The ledger of a step: every model call and tool call, written before it is made and settled after it.

An attempt is one model call. Its entry is opened before the call, so that a process that dies in the middle leaves a
call whose cost is `unknown` instead of none at all; it is settled with the answer, so that a repeated invocation goes
on from there instead of paying again. Entries are flat attributes of the step's item (`attempt_0001`,
`tool_0000_00`), each written by one update that also takes or keeps the step's lease.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, cast

from loopllama import errors
from loopllama.catalog import pricing
from loopllama.core import clock
from loopllama.errors import BudgetExceeded, ModelBusy, ModelError
from loopllama.llm import usage as figures
from loopllama.llm.types import ModelRequest, ModelResponse, Thoughts, ToolCall, Usage
from loopllama.runs.totals import (
    ATTEMPT,
    ATTEMPTS_BEFORE_RETRY,
    FIRST_TURN,
    METRICS_REPORTED,
    QUEUED_AT,
    THROTTLED_AT,
    TOOL,
    TURNS,
    attempt_of,
    attempts_of,
    tool_call_of,
    tool_calls_of,
    totals,
)
from loopllama.runs.value_store import INLINE_BYTES, ValueStore

if TYPE_CHECKING:
    from loopllama.catalog.model import Model
    from loopllama.runs.records import (
        Attempt,
        AttemptOutcome,
        Bill,
        Ignored,
        KeptAnswer,
        KeptCall,
        ToolCallRecord,
        Totals,
    )
    from loopllama.runs.reservations import Allowance
    from loopllama.runs.step_writer import StepWriter

    PricedAs = Callable[[Model, str], tuple[Model, bool]]

_QUEUED_MS = 50
"""A wait that is worth telling."""
_INLINE_TOTAL = 200 * 1024
"""Bytes of answers and tool results that one step's item may hold inline, well below DynamoDB's 400 KB."""
_LONGEST_NAME = 256
"""Of a tool call's name and id as they are shown. A model can write any; the answer that is kept has the whole."""


class StepLedger:
    """The attempts and tool calls of one step, as one invocation sees and extends them.

    `writer` makes the conditional writes and holds the step's item; `allowance` reserves and settles what calls use,
    where a budget limits it.
    """

    def __init__(self, writer: StepWriter, values: ValueStore, allowance: Allowance | None = None) -> None:
        self._writer = writer
        self._values = values
        self._allowance = allowance
        # What earlier invocations have kept counts too: it is one item.
        kept = [entry for key, entry in writer.record.items() if key.startswith((ATTEMPT, TOOL))]
        self._inline_left = _INLINE_TOTAL - (len(str(kept).encode()) if kept else 0)

    @property
    def attempts(self) -> dict[str, Attempt]:
        """The step's attempts by their keys."""
        return attempts_of(self._writer.record)

    def turns(self, most: int) -> range:
        """Return the places of the conversation that the step may still use, settled ones included, `most` calls
        long."""
        record = self._writer.record
        return range(int(record.get(FIRST_TURN, 0)), int(record.get(TURNS, 0)) + most)

    # Model calls

    def settled_answer(self, turn: int) -> tuple[ModelResponse, str] | None:
        """Return the answer of the model call at place `turn` of the conversation with its attempt's model, if one has
        been settled by any invocation."""
        for entry in self.attempts.values():
            if entry["outcome"] == "ok" and int(entry["turn"]) == turn and "answer" in entry:
                kept: KeptAnswer = self._values.load(entry["answer"])
                answer = ModelResponse(
                    text=kept["text"],
                    usage=figures.of_record(entry),
                    stop_reason=kept["stop_reason"],
                    tool_calls=tuple(ToolCall(**call) for call in kept["tool_calls"]),
                    simulated=bool(entry.get("simulated")),
                    thoughts=Thoughts(**kept["thoughts"]) if "thoughts" in kept else None,
                )
                return answer, entry["model"]
        return None

    def failed(self, turn: int) -> dict[str, ModelError]:
        """Return the errors of the calls at place `turn`, by model, since the step was last put off, opened again or
        begun: an invocation that takes over from another one goes on behind the models that have failed.

        A model whose answer could not be used has failed with its second such answer to this call; waits between them
        do not count. What was lost in a crash was no answer.
        """
        record = self._writer.record
        put_off, opened = int(record.get(ATTEMPTS_BEFORE_RETRY, 0)), int(record.get(METRICS_REPORTED, 0))
        failures: dict[str, ModelError] = {}
        unusable: set[str] = set()
        for place, entry in enumerate(self.attempts.values()):
            kind = getattr(errors, entry["outcome"], None)
            if kind is None or int(entry["turn"]) != turn or place < opened:
                continue
            model, wait = entry["model"], entry.get("retry_after")
            first = "repeatable" in entry and model not in unusable
            if "repeatable" in entry:
                unusable.add(model)
            if place >= put_off and not first:
                failure = kind(entry.get("error", ""), retry_after=None if wait is None else float(wait))
                if entry.get("no_retry"):
                    failure.later = False
                failures[model] = failure
        return failures

    def busy(self, model: Model, error: ModelBusy, queued_at: int) -> None:
        """Let the step's next write say that no call of a model could be made yet, and since when one waits (epoch
        ms)."""
        self._pass_over("calls", model, error)
        if QUEUED_AT not in self._writer.record:
            self._writer.decide({QUEUED_AT: queued_at})

    def open_attempt(
        self, model: Model, turn: int, call: ModelRequest, queued_at: int | None = None
    ) -> tuple[str, ModelRequest]:
        """Write that a call is about to be made; returns the attempt's key, and the call, made smaller where the
        budget has not enough left for it. `queued_at` (epoch ms) is since when it has waited for its place among the
        model's calls, unless it had to come back for it. Raises `LeaseLost`, and `BudgetExceeded`: then there is no
        attempt."""
        key = f"{ATTEMPT}{len(self.attempts) + 1:04d}"
        entry: Attempt = {
            "model": model.id,
            "provider": model.provider,
            "turn": turn,
            "outcome": "open",
            "cost_basis": "unknown",
            "started_at": clock.now_text(),
        }
        if call.limit_unasked:
            entry["max_tokens"] = call.max_tokens
        since = self._writer.record.get(QUEUED_AT) or queued_at
        if since is not None and (queued_ms := clock.now_ms() - int(since)) >= _QUEUED_MS:
            entry["queued_ms"] = queued_ms
        if QUEUED_AT in self._writer.record:
            self._writer.decide({QUEUED_AT: None})
        self._writer.open(key, entry)
        if self._allowance is None:
            return key, call
        # Reserved after the attempt is written: its key is this invocation's alone, so the reservation is too.
        try:
            # A step counts with its first call that is not lost: that one may have died before it could reserve.
            others = [attempt for name, attempt in self.attempts.items() if name != key]
            first = all(attempt["outcome"] == "open" for attempt in others)
            smaller = self._allowance.reserve(key, entry, model, call, first=first)
        except BudgetExceeded as error:
            self._pass_over("budget", model, error)
            self._writer.write({}, remove=[key])
            raise
        if smaller is not call:
            attempt_of(self._writer.record, key)["max_tokens"] = smaller.max_tokens
        return key, smaller

    def settle_answer(
        self, key: str, model: Model, answer: ModelResponse, started: float, priced_as: PricedAs | None = None
    ) -> None:
        """Write what the call gave: the answer for a replay, tokens, cost. `started` is `time.monotonic()` at its
        start; `priced_as` finds the model by whose prices the call is charged."""
        kept: KeptAnswer = {
            "text": answer.text,
            "stop_reason": answer.stop_reason,
            "tool_calls": [_kept_call(call) for call in answer.tool_calls],
        }
        if answer.thoughts is not None:
            provider, given_by, value = answer.thoughts
            kept["thoughts"] = {"provider": provider, "model": given_by, "value": value}
        entry: Attempt = {
            **attempt_of(self._writer.record, key),
            "outcome": "ok",
            "latency_ms": _elapsed_ms(started),
            "simulated": answer.simulated or None,
            "stop_reason": "max_tokens" if answer.stop_reason == "max_tokens" else None,
            "output_mode": answer.output_mode,
            "mode_refused": answer.mode_refused or None,
            **_bill(model, answer.usage, answer.model, priced_as),
            "answer": self._keep(f"{key}-answer", kept),
        }
        if THROTTLED_AT in self._writer.record:
            self._writer.decide({THROTTLED_AT: None})
        self._settle(key, entry)

    def settle_error(
        self, key: str, model: Model, error: ModelError, started: float, priced_as: PricedAs | None = None
    ) -> None:
        """Write how the call failed, and what it cost: what the provider says it charged; nothing where it answered
        with an error; `unknown` where the call may have been served without our seeing the answer."""
        entry: Attempt = {
            **attempt_of(self._writer.record, key),
            "outcome": cast("AttemptOutcome", type(error).__name__),
            "error": str(error)[:1000],
            "latency_ms": _elapsed_ms(started),
            "simulated": error.simulated or None,
            "no_retry": True if type(error).later and not error.later else None,
        }
        if error.retry_after is not None:
            entry["retry_after"] = Decimal(str(error.retry_after))
        if error.repeatable:
            entry["repeatable"] = True
        if isinstance(error.usage, Usage):
            entry = {**entry, **_bill(model, error.usage, error.model, priced_as)}
        elif error.maybe_billed:
            entry["cost_basis"] = "unknown"
        else:
            entry |= {"input_tokens": 0, "output_tokens": 0, "cost_usd": Decimal(0), "cost_basis": "measured"}
        self._settle(key, entry)

    # Tool calls

    def tool_key(self, turn: int, index: int) -> str:
        """Return the key of the call at place `index` of the answer at `turn`; with the step's it is the tool's
        idempotency key."""
        return f"{TOOL}{turn:04d}_{index:02d}"

    def settled_tool(self, key: str) -> str | None:
        """Return what a settled tool call gave to the model."""
        entry = tool_call_of(self._writer.record, key)
        if entry is None or entry["outcome"] == "open":
            return None
        result: str = self._values.load(entry["result"])
        return result

    def open_tool(self, key: str, call: ToolCall) -> None:
        """Write that a tool is about to be called. A call that was open already is repeated under the same
        idempotency key. Raises `LeaseLost`."""
        entry: ToolCallRecord = {
            "name": call.name[:_LONGEST_NAME],
            "id": call.id[:_LONGEST_NAME],
            "arguments": self._keep(f"{key}-arguments", call.arguments if call.arguments is not None else call.raw),
            "outcome": "open",
            "started_at": clock.now_text(),
        }
        self._writer.open(key, entry)

    def settle_tool(self, key: str, result: str, failed: bool, started: float) -> None:
        """Write what the tool gave: text for the model, be it a result or what went wrong."""
        entry: ToolCallRecord = {
            **tool_calls_of(self._writer.record)[key],
            "outcome": "failed" if failed else "ok",
            "result": self._keep(f"{key}-result", result),
            "latency_ms": _elapsed_ms(started),
        }
        self._writer.settle(key, entry)

    # Together

    def closing(self) -> tuple[Totals, list[tuple[str, str]]]:
        """Return the totals for the step's completed record, and the paths of answers that nobody will replay any
        more."""
        attempts = self.attempts
        return totals(attempts.values()), [(key, "answer") for key, entry in attempts.items() if "answer" in entry]

    def _pass_over(self, layer: Literal["budget", "calls"], model: Model, error: Exception) -> None:
        """Let the step's next write say that a model was not called, and why."""
        passed_over: Ignored = {"layer": layer, "model": model.id, "reason": str(error)}
        ignored = self._writer.record.get("ignored") or ()
        others = [skipped for skipped in ignored if (skipped["layer"], skipped.get("model")) != (layer, model.id)]
        self._writer.decide({"ignored": [*others, passed_over]})

    def _settle(self, key: str, entry: Attempt) -> None:
        self._writer.settle(key, cast("Attempt", {name: value for name, value in entry.items() if value is not None}))
        if self._allowance is not None:
            self._allowance.settle(key, entry)

    def _keep(self, name: str, value: Any) -> Any:
        stored = self._values.store(
            self._writer.work.run_id, f"{self._writer.path}/{name}", value, min(INLINE_BYTES, max(0, self._inline_left))
        )
        text = stored if isinstance(stored, str) else str(stored)
        self._inline_left -= len(text.encode())
        return stored


def _kept_call(call: ToolCall) -> KeptCall:
    kept: KeptCall = {"id": call.id, "name": call.name, "arguments": call.arguments, "raw": call.raw}
    if call.signature:
        kept["signature"] = call.signature
    return kept


def _bill(model: Model, usage: Usage, answered_by: str, priced_as: PricedAs | None) -> Bill:
    now, certain = clock.now(), True
    other = answered_by[:_LONGEST_NAME] if answered_by != model.provider_model else ""
    if other and priced_as is not None:
        model, certain = priced_as(model, other)
    cost = pricing.cost(model, usage, now)
    certain = certain and not usage.estimated and not usage.uncertain and pricing.known(model, usage, now)
    if usage.said_usd is not None:
        cost, certain = usage.said_usd, not usage.estimated
    return {
        **cast("Bill", figures.record_of(usage)),
        "cost_usd": cost,
        "unpriced": True if cost is None else None,
        "service_tier": usage.service_tier or None,
        "cache_saving_usd": pricing.cache_saving(model, usage, now)
        if usage.cached_tokens or usage.cache_write_tokens
        else None,
        "cost_basis": "measured" if certain else "estimated",
        "answered_by": other or None,
    }


def _elapsed_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
