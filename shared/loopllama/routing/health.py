"""Models that keep failing are set aside for a while, for every Lambda at once, and tried again by one probe.

The rule, per model. A failure is `ModelUnavailable`, `ModelTimeout` or `ModelThrottled`. `FAILURES` (3) of them within
`WINDOW_MS` (60 s), without a success that anybody noticed in between, set the model aside for `FIRST_MS` (30 s). When
that is over, one invocation claims the probe (`PROBE_MS`, 60 s) and uses the model; all others still pass it over.
Success clears everything; failure sets it aside for twice as long, at most `LONGEST_MS` (10 min). A probe whose process
died is claimed anew. This is the circuit breaker (Nygard, Release It!), its half-open state held by a claim. A model
set aside is passed over with the reason in `ignored`; where no other model of the layer is left, it is used anyway.

All of it is one item of the Models table, key `health#`: an attribute a model, named `m:<model id>`, gone once the
model answers again. One item, so that a decision over many candidates reads one key more and not twice as many. A
success costs no call of DynamoDB unless what was read says that the model was failing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from loopllama import aws, tracing
from loopllama.errors import ModelError, ModelThrottled, ModelTimeout, ModelUnavailable

KEY = "health#"
FAILURES = 3
WINDOW_MS = 60_000
FIRST_MS = 30_000
LONGEST_MS = 600_000
PROBE_MS = 60_000
SHORT_CALL_SECONDS = 20.0
"""A time-out of a call that was given less says nothing about the model."""
_COUNTED = (ModelUnavailable, ModelTimeout, ModelThrottled)
_ATTEMPTS = 6


@dataclass(frozen=True, slots=True)
class State:
    """A model's health. Times are epoch ms; 0 is never."""

    failures: int = 0
    since: int = 0
    """When the first of `failures` was."""
    aside_until: int = 0
    aside_ms: int = 0
    """For how long it was set aside last."""
    probe_until: int = 0

    @property
    def failing(self) -> bool:
        return bool(self.failures or self.aside_until)

    def aside(self, now: int) -> bool:
        """Whether it is to be passed over."""
        return max(self.aside_until, self.probe_until) > now

    def due(self, now: int) -> bool:
        """Whether it waits for somebody to claim its probe."""
        return bool(self.aside_until) and not self.aside(now)


WELL = State()


def after_failure(state: State, now: int) -> State:
    """The state after a failure."""
    if state.aside_until > now:
        return state  # a call that began before the model was set aside
    if state.aside_until:
        twice = state.aside_ms * 2 if now - state.aside_until <= LONGEST_MS else FIRST_MS
        length = max(FIRST_MS, min(LONGEST_MS, twice))
        return replace(state, aside_until=now + length, aside_ms=length, probe_until=0)
    fresh = not 0 <= now - state.since <= WINDOW_MS
    counted = State(1, now) if fresh else replace(state, failures=state.failures + 1)
    if counted.failures < FAILURES:
        return counted
    return replace(counted, aside_until=now + FIRST_MS, aside_ms=FIRST_MS)


def parse_states(item: Mapping[str, Any] | None) -> dict[str, State]:
    """Every model's state in the item; never raises."""
    states = {}
    for name, value in (item or {}).items():
        if name.startswith("m:") and isinstance(value, Mapping):
            states[name[2:]] = _state(value)
    return states


class Health:
    """The item, read and written. `read` gives it as this process has it, `keep` takes it as it is now; `clock` gives
    epoch seconds. Without a table it does nothing. A write that fails is logged and no more: the item serves the steps
    to come, and must not fail the one that has its answer."""

    def __init__(
        self,
        table: str,
        dynamodb: Callable[[], Any],
        clock: Callable[[], float],
        read: Callable[[], Mapping[str, Any] | None],
        keep: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._table, self._dynamodb, self._clock = table, dynamodb, clock
        self._read, self._keep = read, keep

    def failed(self, model_id: str, error: ModelError, seconds: float | None = None) -> None:
        """A call of the model failed with `error`; `seconds` is the time that the call was given. Errors that say
        nothing about the model's health are passed over. At most one write, repeated where others write too."""
        if not self._table or not isinstance(error, _COUNTED):
            return
        if isinstance(error, ModelTimeout) and seconds is not None and seconds < SHORT_CALL_SECONDS:
            return
        self._change(model_id, lambda state: after_failure(state, self._now()))

    def succeeded(self, model_id: str) -> None:
        """A call of the model gave an answer. Costs nothing unless the model was failing as far as this process
        knows."""
        if not self._table or not self.state(model_id).failing:
            return
        self._change(model_id, lambda _: WELL)

    def claim_probe(self, model_id: str) -> bool:
        """Whether this invocation is the one that tries a model whose time aside is over."""
        won = False

        def claim(state: State) -> State:
            nonlocal won
            won = state.due(self._now()) or not state.failing
            return replace(state, probe_until=self._now() + PROBE_MS) if won and state.failing else state

        return self._change(model_id, claim) and won

    def state(self, model_id: str) -> State:
        """As this process knows it."""
        value = (self._read() or {}).get(f"m:{model_id}")
        return _state(value) if isinstance(value, Mapping) else WELL

    def _change(self, model_id: str, change: Callable[[State], State]) -> bool:
        """Change the state; whether DynamoDB could be asked."""
        try:
            self._compare_and_set(model_id, change)
        except Exception as error:
            if (trouble := aws.trouble(error)) is None:
                raise
            tracing.logger().warning("a model's health was not written", extra={"error": str(trouble)})
            return False
        return True

    def _compare_and_set(self, model_id: str, change: Callable[[State], State]) -> None:
        """The state is written only where it is still the one that the change was made from."""
        name = f"m:{model_id}"
        value = (self._read() or {}).get(name)
        for _ in range(_ATTEMPTS):
            before = _state(value) if isinstance(value, Mapping) else WELL
            after = change(before)
            if after == before:
                return
            names, parameters = {"#m": name}, {}
            if value is None:
                condition = "attribute_not_exists(#m)"
            else:
                condition, parameters = "#m = :before", {":before": value}
            done, item = aws.update(
                self._dynamodb(),
                self._table,
                {"model": KEY},
                {name: _written(after)} if after.failing else {},
                remove=() if after.failing else (name,),
                condition=condition,
                names=names,
                parameters=parameters,
            )
            self._keep(item or {"model": KEY})
            if done:
                return
            value = item.get(name)
        # Others write the same state at the same moment; what they say is as good.

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _written(state: State) -> dict[str, int]:
    values = {name: getattr(state, name) for name in State.__dataclass_fields__}
    return {name: value for name, value in values.items() if value}


def _state(value: Mapping[str, Any]) -> State:
    def number(name: str) -> int:
        found = value.get(name, 0)
        try:
            return max(0, min(int(found), 10**15)) if not isinstance(found, (str, bool)) else 0
        except (TypeError, ValueError, ArithmeticError):
            return 0

    return State(**{name: number(name) for name in State.__dataclass_fields__})
