"""An agent's turn: prompt, model call, tool calls, results back, until the answer or the turn's limits.

The turn is a replayable conversation. Each model call has a place in it, `turn` (from 0), and each tool call a place in
its answer; what the ledger has settled at a place is taken from there, so a repeated invocation walks the same way
and makes only the calls that are missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from loopllama.agent.call_bounds import CallTime, Limits, explain_timeout, fallback_limit
from loopllama.agent.tool_calls import ToolCalls, Tools
from loopllama.catalog import takes
from loopllama.catalog.variants import standard
from loopllama.core import clock
from loopllama.errors import (
    BudgetExceeded,
    ContentFiltered,
    ContextTooLong,
    InvalidModelResponse,
    ModelBusy,
    ModelError,
    ModelThrottled,
    ModelTimeout,
    OutputInvalid,
    TurnLimitExceeded,
)
from loopllama.llm import structured_output
from loopllama.llm.token_estimate import most_tokens, prompt_tokens
from loopllama.llm.types import Message, ModelRequest, ModelResponse, Provider, ToolCall
from loopllama.runs.attempt_log import StepLedger

if TYPE_CHECKING:
    from loopllama.catalog.model import Model
    from loopllama.runs.records import HumanAnswer
    from loopllama.workflows.types import CrewStep

MAX_TURNS = 10
"""Model calls of a turn where the agent sets no `maxTurns`."""


class RetryLater(Exception):
    """Every model of the attempt order is in trouble that passes; `seconds` is what the longest asked to wait, if any
    did. Where one waits for a place among its calls, whatever became of the others, `error` is that; `throttled` says
    whether one was turned away by its provider, `failed` whether one was in any other trouble."""

    def __init__(self, *trouble: ModelError | BudgetExceeded) -> None:
        self.error = max(trouble, key=lambda error: (isinstance(error, ModelBusy), error.retry_after or 0))
        turned_away = [error for error in trouble if isinstance(error, ModelThrottled)]
        self.throttled = not all(isinstance(error, ModelBusy) for error in turned_away)
        self.failed = len(turned_away) < len(trouble)
        self.seconds = self.error.retry_after
        super().__init__(str(self.error))


class OutOfTime(Exception):
    """This invocation's time is too short for another model call; the next invocation goes on from here."""


class Stopped(Exception):
    """The run has ended, or is about to, since this invocation looked: nothing more may begin."""


class CircuitBreaker(Protocol):
    """What the turn tells about models, so that the breaker of one that keeps failing opens
    (`routing.circuit_breaker`)."""

    def failed(self, model_id: str, error: ModelError, seconds: float) -> None:
        """Note that a call failed after `seconds`."""
        ...

    def succeeded(self, model_id: str) -> None:
        """Note that a call gave an answer."""
        ...


class CallSlots(Protocol):
    """Where a call of a model with a limit of calls at once takes its place (`routing.call_slots`)."""

    def take(self, model: Model, holder: str, call_seconds: float, wait_seconds: float) -> Any:
        """Return a place, `None` where none is needed. Raises `ModelBusy`."""
        ...

    def give_back(self, slot: Any) -> None:
        """Let the next call have the place."""
        ...

    def throttled(self, model: Model, seconds: float, retry_after: float | None = None) -> None:
        """Note that a call was throttled after `seconds`, and for how long (s) the provider asks to wait."""
        ...


def _least(wanted: int | None, limit: int | None) -> int | None:
    """Return a token limit as the model takes it: some refuse a call that asks for more than they can give, and the
    step may have been moved here from a model that could."""
    return wanted if wanted is None or limit is None else min(wanted, limit)


def _sizes(model: Model, call: ModelRequest) -> str:
    return (
        f"the prompt has about {prompt_tokens(call, most_tokens):,} tokens and {model.id} a context window of "
        f"{model.context_window:,}: shorten it, or name a fallback with a larger window"
    )


class AgentLoop:
    """An agent's loop of model calls and tool calls. `attempt_order` holds the route's models in the order in which
    they are tried; `provider_for` gives a model's adapter; `answers` are what people have answered to the questions
    that the turn has waited for, by their keys; `priced_as` says by which model's prices a call is charged that a
    model of this name answered, and whether that is certain; `stops` looks whether nothing more may begin."""

    def __init__(
        self,
        step: CrewStep,
        attempt_order: Sequence[Model],
        *,
        max_tokens: int | None,
        temperature: float | None,
        ledger: StepLedger,
        tools: Tools | None,
        provider_for: Callable[[Model], Provider],
        circuit_breaker: CircuitBreaker,
        call_slots: CallSlots,
        priced_as: Callable[[Model, str], tuple[Model, bool]],
        limits: Limits,
        idempotency_key: str,
        stops: Callable[[], bool],
        answers: Mapping[str, HumanAnswer] | None = None,
    ) -> None:
        self._step = step
        self._attempt_order = list(attempt_order)
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._ledger = ledger
        self._provider_for = provider_for
        self._circuit_breaker = circuit_breaker
        self._call_slots = call_slots
        self._priced_as = priced_as
        self._idempotency_key = idempotency_key
        self._stops, self._looked = stops, True
        """Whether the run was looked at since anything took its time."""
        self._limits = limits
        self._untouched = limits.whole
        """Whether nothing has been answered in this invocation yet, so that its time was this turn's next call's."""
        ends = min(limits.call_ends, limits.turn_ends)
        self._tool_calls = ToolCalls(step, ledger, tools, ends, idempotency_key, answers or {})
        self._schema: Mapping[str, Any] | None = step.get("output_schema")
        self._at = 0
        """The model in use: its place in the attempt order."""
        self.model: str | None = None
        """The model that answered last."""
        self._shortened = False
        """Whether what was left of a budget bounded the last answer."""

    def take(self, text: str) -> Any:
        """Go through the turn on the given prompt; returns the step's output: text, or the parsed object where the
        agent has an `outputSchema`.

        Raises `RetryLater`, `OutOfTime`, `Waiting`, `Stopped`, `LeaseLost`, and for good: `ModelError`,
        `OutputInvalid`, `TurnLimitExceeded`, `BudgetExceeded`.
        """
        opening = [Message("user", text, stable=True)]
        messages = list(opening)
        repaired = False
        for turn in self._ledger.turns(self._limits.max_turns):
            answer = self._answer(turn, messages)
            asked = [call for call in answer.tool_calls if not self._is_answer(call)]
            if asked:
                messages.append(
                    Message("assistant", answer.text, tool_calls=answer.tool_calls, thoughts=answer.thoughts)
                )
                self._look()
                messages += self._tool_calls.make(turn, answer.tool_calls)
                self._looked = False
                continue
            try:
                return self._read(answer)
            except OutputInvalid as invalid:
                if not repaired:
                    repaired = True
                    messages += self._repair(answer, invalid)
                elif self._at + 1 < len(self._attempt_order):
                    # Another model starts afresh: the first one's broken answers would only mislead it.
                    self._at, repaired, messages = self._at + 1, False, list(opening)
                else:
                    raise
        raise TurnLimitExceeded(
            f"the agent made {self._limits.max_turns} model calls without a final answer; raise maxTurns or give it "
            "fewer tools"
        )

    # The model

    def _answer(self, turn: int, messages: Sequence[Message]) -> ModelResponse:
        settled = self._ledger.settled_answer(turn)
        if settled is not None:
            answer, self.model = settled
            if self._schema is not None:
                # An earlier version kept it as the call that it came in.
                answer = structured_output.from_answer_tool(answer)
            self._at = next((at for at, model in enumerate(self._attempt_order) if model.id == self.model), self._at)
            return answer
        trouble: list[ModelError | BudgetExceeded] = []
        queues: set[str] = set()
        """Entries whose places are all taken: efforts and tiers of one share them."""
        for at in range(self._at, len(self._attempt_order)):
            model = self._attempt_order[at]
            if model.entry in queues or self._same_refusal(at, trouble):
                continue
            try:
                answer = self._ask(model, turn, messages, last=at + 1 == len(self._attempt_order))
            except ModelError as error:
                if not error.next_model:
                    raise
                if isinstance(error, ModelBusy) and model.max_concurrent_calls is not None:
                    queues.add(model.entry)
                trouble.append(error)
                continue
            except BudgetExceeded as error:
                trouble.append(error)  # a cheaper model behind it may fit
                continue
            self._at, self.model, self._untouched = at, model.id, False
            return answer
        passing = [error for error in trouble if error.later]
        if passing:
            raise RetryLater(*passing)
        raise next((error for error in reversed(trouble) if isinstance(error, BudgetExceeded)), trouble[-1])

    def _ask(self, model: Model, turn: int, messages: Sequence[Message], last: bool) -> ModelResponse:
        """Return the model's answer. The same request is made once more where the first answer to it could not be used
        and the next may be: as it was, because a word about it would have no place that every provider takes."""
        while (failed := self._ledger.failed(turn).get(model.id)) is None:
            try:
                return self._call(model, turn, messages, last)
            except ModelError as error:
                if not error.repeatable or model.id in self._ledger.failed(turn):
                    raise
        raise failed

    def _same_refusal(self, at: int, trouble: Sequence[ModelError | BudgetExceeded]) -> bool:
        """Return whether the model is the one before it at the standard tier, and what went wrong there was about the
        prompt, of which it would say, and charge, the same."""
        before = self._attempt_order[at - 1] if at > self._at else None
        if before is None or before.service_tier is None or self._attempt_order[at].id != standard(before).id:
            return False
        return isinstance(trouble[-1], ContextTooLong | ContentFiltered) if trouble else False

    def _call(self, model: Model, turn: int, messages: Sequence[Message], last: bool) -> ModelResponse:
        now = time.monotonic()
        if now >= self._limits.turn_ends:
            raise TurnLimitExceeded("the step's timeoutSeconds are used up")
        if self._limits.call_ends - now < self._limits.shortest_call:
            raise OutOfTime
        given = self._limits.time_for_call(now, last)
        queued_at = clock.now_ms()
        try:
            slot = self._call_slots.take(
                model, self._idempotency_key, given.seconds, given.seconds - self._limits.shortest_call
            )
        except ModelBusy as busy:
            self._ledger.busy(model, busy, queued_at)
            raise
        try:
            # Waiting for a place has taken its time.
            given = self._limits.time_for_call(time.monotonic(), last)
            return self._called(model, turn, self._model_call(model, messages, given.seconds), given, queued_at)
        finally:
            self._call_slots.give_back(slot)

    def _look(self) -> None:
        """Raise `Stopped` where the run has been cancelled, or a step of it has failed, while a call was under way."""
        if not self._looked and self._stops():
            raise Stopped
        self._looked = True

    def _called(self, model: Model, turn: int, call: ModelRequest, given: CallTime, queued_at: int) -> ModelResponse:
        """Make the call and write how it went."""
        self._look()
        self._looked = False
        provider = self._provider_for(model)
        wanted = call.max_tokens
        key, call = self._ledger.open_attempt(model, turn, call, queued_at)
        self._shortened = call.max_tokens != wanted
        started = time.monotonic()
        try:
            answer = provider.complete(call)
            if not answer.text and not answer.tool_calls:
                again = answer.stop_reason != "max_tokens"
                raise InvalidModelResponse(f"{model.id} gave an empty answer", usage=answer.usage, repeatable=again)
        except ModelError as error:
            took = time.monotonic() - started
            if isinstance(error, ContextTooLong) and model.context_window:
                error.args = (f"{error} ({_sizes(model, call)})",)
            if isinstance(error, ModelTimeout):
                explain_timeout(error, given, took, self._step["name"], self._untouched)
            self._ledger.settle_error(key, model, error, started, self._priced_as)
            self._circuit_breaker.failed(model.id, error, took)
            if isinstance(error, ModelThrottled) and error.later:
                self._call_slots.throttled(model, took, error.retry_after)
            raise
        self._ledger.settle_answer(key, model, answer, started, self._priced_as)
        self._circuit_breaker.succeeded(model.id)
        return answer

    def _model_call(self, model: Model, messages: Sequence[Message], timeout: float) -> ModelRequest:
        call = ModelRequest(
            model=model.provider_model,
            catalog_id=model.id,
            system=self._step["system_prompt"],
            messages=tuple(messages),
            timeout=timeout,
            tools=tuple(self._tool_calls.specs()),
            output_schema=self._schema,
            output_mode=structured_output.mode_for(model.capabilities, self._schema),
            max_tokens=_least(self._max_tokens, model.max_output),
            temperature=self._temperature if takes.takes_temperature(model) else None,
            max_output=model.max_output,
            options=model.options or {},
            stands_for=model.stands_for,
            can_call_tools=model.capabilities is None or "tools" in model.capabilities,
            effort=model.effort or "",
            service_tier=model.service_tier or "",
            prompt_cache=model.capabilities is not None and "prompt_cache" in model.capabilities,
        )
        if call.max_tokens is None and (limit := fallback_limit(model, call)) is not None:
            return replace(call, max_tokens=limit, limit_unasked=True)
        return call

    # Structured output

    def _read(self, answer: ModelResponse) -> Any:
        if self._schema is None:
            return answer.text
        if answer.stop_reason == "max_tokens":
            raise OutputInvalid(
                "the answer was cut off by what is left of the budget; raise the budget or ask for less"
                if self._shortened
                else "the answer was cut off by its token limit; raise maxTokens or ask for less"
            )
        return structured_output.parse_answer(answer.text, self._schema)

    def _is_answer(self, call: ToolCall) -> bool:
        """Return whether it is the answer itself, which an agent with an `outputSchema` may give by calling a tool."""
        return self._schema is not None and call.name in structured_output.ANSWER_TOOLS

    @staticmethod
    def _repair(answer: ModelResponse, invalid: OutputInvalid) -> list[Message]:
        again = f"{invalid}\nAnswer again with nothing but JSON that follows the schema."
        return [Message("assistant", answer.text), Message("user", again)]
