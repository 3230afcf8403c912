"""The ledger of a step: every model call and tool call, written before it is made and settled after it.

An attempt is one model call. Its entry is opened before the call, so that a process that dies in the middle leaves a
call whose cost is `unknown` instead of none at all; it is settled with the answer, so that a repeated invocation goes
on from there instead of paying again. Entries are flat attributes of the step's item (`attempt_0001`,
`tool_0000_00`), each written by one update that also takes or keeps the step's lease.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from loopllama import errors
from loopllama.catalog import pricing
from loopllama.core import clock
from loopllama.errors import BudgetExceeded, ModelError
from loopllama.llm import usage as figures
from loopllama.llm.types import ModelRequest, ModelResponse, Thoughts, ToolCall, Usage
from loopllama.runs.totals import (
    ATTEMPT,
    ATTEMPTS_BEFORE_RETRY,
    FIRST_TURN,
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
        begun: an invocation that takes over from another one goes on behind the models that have failed."""
        passed = int(self._writer.record.get(ATTEMPTS_BEFORE_RETRY, 0))
        failures: dict[str, ModelError] = {}
        for entry in list(self.attempts.values())[passed:]:
            kind = getattr(errors, entry["outcome"], None)
            if kind is not None and int(entry["turn"]) == turn:
                wait = entry.get("retry_after")
                failures[entry["model"]] = kind(
                    entry.get("error", ""), retry_after=None if wait is None else float(wait)
                )
        return failures

    def open_attempt(self, model: Model, turn: int, call: ModelRequest) -> tuple[str, ModelRequest]:
        """Write that a call is about to be made; returns the attempt's key, and the call, made smaller where the
        budget has not enough left for it. Raises `LeaseLost`, and `BudgetExceeded`: then there is no attempt."""
        key = f"{ATTEMPT}{len(self.attempts) + 1:04d}"
        entry: Attempt = {
            "model": model.id,
            "provider": model.provider,
            "turn": turn,
            "outcome": "open",
            "cost_basis": "unknown",
            "started_at": clock.now_text(),
        }
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
            passed_over: Ignored = {"layer": "budget", "model": model.id, "reason": str(error)}
            ignored = self._writer.record.get("ignored") or ()
            others_ignored = [
                skipped for skipped in ignored if (skipped["layer"], skipped.get("model")) != ("budget", model.id)
            ]
            self._writer.write({"ignored": [*others_ignored, passed_over]}, remove=[key])
            raise
        if smaller is not call:
            attempt_of(self._writer.record, key)["max_tokens"] = smaller.max_tokens
        return key, smaller

    def settle_answer(self, key: str, model: Model, answer: ModelResponse, started: float) -> None:
        """Write what the call gave: the answer for a replay, tokens, cost. `started` is `time.monotonic()` at its
        start."""
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
            **_bill(model, answer.usage),
            "answer": self._keep(f"{key}-answer", kept),
        }
        self._settle(key, entry)

    def settle_error(self, key: str, model: Model, error: ModelError, started: float) -> None:
        """Write how the call failed, and what it cost: what the provider says it charged; nothing where it answered
        with an error; `unknown` where the call may have been served without our seeing the answer."""
        entry: Attempt = {
            **attempt_of(self._writer.record, key),
            "outcome": cast("AttemptOutcome", type(error).__name__),
            "error": str(error)[:1000],
            "latency_ms": _elapsed_ms(started),
            "simulated": error.simulated or None,
        }
        if error.retry_after is not None:
            entry["retry_after"] = Decimal(str(error.retry_after))
        if isinstance(error.usage, Usage):
            entry = {**entry, **_bill(model, error.usage)}
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


def _bill(model: Model, usage: Usage) -> Bill:
    now = clock.now()
    cost = pricing.cost(model, usage, now)
    certain = not usage.estimated and not usage.uncertain and pricing.known(model, usage, now)
    return {
        **cast("Bill", figures.record_of(usage)),
        "cost_usd": cost,
        "unpriced": True if cost is None else None,
        "service_tier": usage.service_tier or None,
        "cache_saving_usd": pricing.cache_saving(model, usage, now)
        if usage.cached_tokens or usage.cache_write_tokens
        else None,
        "cost_basis": "measured" if certain else "estimated",
    }


def _elapsed_ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
