"""A circuit breaker for each model: it opens for a model that keeps failing, for every Lambda at once, and one probe
tries the model again (Nygard, Release It!).

The rule, per model:

- A failure is `ModelUnavailable`, `ModelTimeout` of whatever length, `ModelThrottled`, or what an error says of itself
  (`ModelError.against`). What is the request's fault, the key's or the account's is none.
- `FAILURES` (3) in a row open the breaker for `FIRST_MS` (30 s). In a row means: without a success in between, and
  each call began at most `WINDOW_MS` (15 min) after the failure before it. It is the beginning that counts, and the
  window is as long as the longest call, so that a server that never answers is found whatever time its calls are given,
  be they made one after the other or side by side.
- When that time is over, the breaker is half-open: one invocation claims the probe and uses the model; all others still
  skip it. Success closes the breaker; failure opens it for twice as long, at most `LONGEST_MS` (10 min). A probe whose
  process died is claimed anew after `PROBE_MS`, which outlives the probe's call. Calls from before the breaker opened
  say nothing new when they fail at last.
- A model whose breaker is open is skipped with the reason in `ignored`; where no other model of the layer is left, it
  is used.

Successes are far more than failures, so they cost no call of DynamoDB: a process remembers when each model answered it
last. It writes what it knows only where the item says that the model has failed: at once where it knows that already,
else when it reads the item next (after `ROUTE_CACHE_SECONDS`) or fails itself. So the failures of a model that answers
most calls never come to be three in a row (tests/unit/routing/test_circuit_breaker.py simulates it, with figures).
Counting failures in a row is what Envoy's outlier detection does (`consecutive_5xx`) and Polly's first breaker did; a
share of all calls, as resilience4j has it, would need every success written.

A model has an attribute `m:<model id>` of the item in `routing.model_health`, gone once the model answers again, or was
not used for a day. Whatever somebody writes into it by hand opens no breaker for longer than the rule does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from loopllama.core.numbers import natural
from loopllama.errors import ModelError, ModelThrottled, ModelTimeout, ModelUnavailable
from loopllama.routing.model_health import UNCHANGED, ModelHealth

_PREFIX = "m:"
FAILURES = 3
WINDOW_MS = 900_000
"""As long as the longest call: Lambda ends every invocation after 15 minutes."""
FIRST_MS = 30_000
LONGEST_MS = 600_000
PROBE_MS = 135_000
"""For how long a probe is claimed at least; `probe_length` says for how long where calls may take longer."""
FORGET_MS = 24 * 3600 * 1000
_MARGIN_MS = 15_000
_BEYOND_MS = 2 * LONGEST_MS
"""The rule writes no moment that is so far ahead: somebody else did."""
_COUNTED = (ModelUnavailable, ModelTimeout, ModelThrottled)
_REMEMBERED = 2048
"""Models of which a process remembers when they answered."""


@dataclass(frozen=True, slots=True)
class BreakerState:
    """A model's circuit breaker. Times are epoch ms; 0 is never."""

    failures: int = 0
    last: int = 0
    """When the last of `failures` was."""
    open_until: int = 0
    open_ms: int = 0
    """For how long it was opened last."""
    probe_until: int = 0

    @property
    def failing(self) -> bool:
        return bool(self.failures or self.open_until)

    def is_open(self, now: int) -> bool:
        """Return whether the model is to be skipped: open, or half-open while its probe is under way."""
        return now < self.until(now)

    def until(self, now: int) -> int:
        """Return until when (epoch ms) the model is to be skipped; in the past where it is not."""
        return max(_believed(self.open_until, now), _believed(self.probe_until, now))

    def due(self, now: int) -> bool:
        """Return whether it is half-open and waits for somebody to claim its probe."""
        return bool(self.open_until) and not self.is_open(now)

    def forgotten(self, now: int) -> bool:
        """Return whether it says nothing any more."""
        if self.open_until:
            return now - max(self.open_until, self.probe_until) > FORGET_MS
        return not self.failures or abs(now - self.last) > FORGET_MS


CLOSED = BreakerState()


def _believed(moment: int, now: int) -> int:
    return moment if moment <= now + _BEYOND_MS else 0


def probe_length(call_seconds: float) -> int:
    """Return for how long a probe is claimed (ms), where a call that has a fallback is given `call_seconds`."""
    return max(PROBE_MS, int(call_seconds * 1000) + _MARGIN_MS)


def counts(error: ModelError) -> bool:
    """Return whether an error speaks against the model that was called."""
    return isinstance(error, _COUNTED) if error.against is None else error.against


def after_failure(state: BreakerState, now: int, began: int | None = None, probing: bool = False) -> BreakerState:
    """Return the state after a call that began at `began` (`None`: just now) and has failed now; `probing` says that it
    was the model's probe."""
    began = now if began is None else began
    open_until = _believed(state.open_until, now)
    if open_until > now:
        return state  # the call began before the breaker opened, or for want of another model
    if state.open_until:
        if began < open_until - state.open_ms and not probing:
            return state
        twice = state.open_ms * 2 if began - open_until <= LONGEST_MS else FIRST_MS
        return _open(replace(state, last=now, probe_until=0), now, max(FIRST_MS, min(LONGEST_MS, twice)))
    in_a_row = state.failures if abs(began - state.last) <= WINDOW_MS else 0
    counted = BreakerState(in_a_row + 1, now)
    return counted if counted.failures < FAILURES else _open(counted, now, FIRST_MS)


def _open(state: BreakerState, now: int, length: int) -> BreakerState:
    return replace(state, open_until=now + length, open_ms=length)


def parse_states(item: Mapping[str, Any] | None) -> dict[str, BreakerState]:
    """Return every model's state in the item; never raises."""
    states = {}
    for name, value in (item or {}).items():
        if name.startswith(_PREFIX) and isinstance(value, Mapping):
            states[name.removeprefix(_PREFIX)] = _state(value)
    return states


class CircuitBreaker:
    """The breakers in `health`, read and written. `clock` gives epoch seconds; `probe_ms` is for how long a probe is
    claimed. Without a table it does nothing."""

    def __init__(self, health: ModelHealth, clock: Callable[[], float], probe_ms: int = PROBE_MS) -> None:
        self._health, self._clock = health, clock
        self._probe_ms = probe_ms
        self._answered: dict[str, int] = {}
        """When each model answered this process last."""
        self._probing: set[str] = set()
        """Models whose probe this process has claimed."""

    def failed(self, model_id: str, error: ModelError, seconds: float | None = None) -> None:
        """Report that a call of the model failed with `error` after `seconds` (`None`: at once). Errors that say
        nothing about the model are skipped. At most one write, repeated where others write too."""
        if not self._health.table or not counts(error):
            return
        began = self._now() - int((seconds or 0) * 1000)
        probing = model_id in self._probing
        self._probing.discard(model_id)
        self._change(
            model_id, lambda state: after_failure(self._judged(model_id, state), self._now(), began, probing=probing)
        )

    def succeeded(self, model_id: str) -> None:
        """Report that a call of the model gave an answer. Costs nothing unless the model was failing as far as this
        process knows."""
        if not self._health.table:
            return
        if len(self._answered) >= _REMEMBERED:
            self._answered.clear()
        self._answered[model_id] = self._now()
        self._probing.discard(model_id)
        if self.state(model_id).failing:
            self._change(model_id, lambda _: CLOSED)

    def claim_probe(self, model_id: str) -> bool:
        """Return whether this invocation is the one that tries a model whose breaker is half-open."""
        won = False

        def claim(state: BreakerState) -> BreakerState:
            nonlocal won
            won = state.due(self._now()) or not state.failing
            return replace(state, probe_until=self._now() + self._probe_ms) if won and state.failing else state

        if not self._change(model_id, claim) or not won:
            return False
        self._probing.add(model_id)
        return True

    def states(self, write: bool = False) -> dict[str, BreakerState]:
        """Return each failing model's state as this process knows it. A model that has answered this process since it
        failed is well; with `write` the others are told."""
        states = parse_states(self._health.read())
        for model_id, state in list(states.items()):
            if self._judged(model_id, state) is CLOSED:
                del states[model_id]
                if write and state.failing:
                    self._change(model_id, partial(self._judged, model_id))
        return states

    def state(self, model_id: str) -> BreakerState:
        """Return a model's state in the item as this process has read it."""
        return _state(self._health.read().get(_PREFIX + model_id))

    def _judged(self, model_id: str, state: BreakerState) -> BreakerState:
        """Return what the state of the item is worth to this process."""
        return CLOSED if not state.failing or self._answered.get(model_id, 0) > state.last else state

    def _change(self, model_id: str, change: Callable[[BreakerState], BreakerState]) -> bool:
        """Change the state; whether it is as `change` has it now."""

        def decide(value: object) -> Mapping[str, int] | None:
            before = _state(value)
            after = change(before)
            if after == before:
                return UNCHANGED
            return _written(after) if after.failing else None

        return self._health.change(_PREFIX + model_id, decide, lambda value: _state(value).forgotten(self._now()))

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _written(state: BreakerState) -> dict[str, int]:
    values = {name: getattr(state, name) for name in BreakerState.__dataclass_fields__}
    return {name: value for name, value in values.items() if value}


def _state(value: object) -> BreakerState:
    if not isinstance(value, Mapping):
        return CLOSED
    return BreakerState(**{name: natural(value.get(name)) or 0 for name in BreakerState.__dataclass_fields__})
