"""How many calls of a model are under way at once, for every Lambda together: a queue of ours before a server that
serves few calls, and fewer calls of a provider that throttles.

The limit of a model is its entry's `max_concurrent_calls`. A provider that throttles lowers it, for models without one
too, and time raises it again (additive increase, multiplicative decrease: Chiu and Jain, Analysis of the Increase and
Decrease Algorithms for Congestion Avoidance, 1989):

- `ModelThrottled` halves the limit that holds, at least to 1; a model without one counts as having `START` (16). Of
  calls side by side the first lowers it: what began before says nothing new.
- Where one call may be under way and the provider throttles all the same, none begins for as long as the provider
  asks, at least `PAUSE_MS` (5 s), at most `RAISE_MS`. So even short calls keep to a quota of a minute.
- Each `RAISE_MS` (30 s) without another one gives a sixteenth of the full limit back, at least 1. Once it is back where
  it was, nothing is left to know. No success is written for it.
- It is an attribute `c:<model id>` of the item in `routing.model_health`, so a decision reads it for nothing.

A call takes a slot first where its model has a limit: an attribute `s<number>` of the model's own item in the Models
table, `observed##<model id>`, with who holds it, since when and until when. One conditional write takes it, another one
gives it back. Two that want the same one cannot both have it; who comes too late learns from the refusal which are
free. The slot of a process that died is free once its call must be over. So a server never sees more calls of ours
than the limit says, but for those that were under way when the limit was lowered. DynamoDB deletes the item once its
model has not been called for three days (`delete_at`).

A call that finds no slot free waits here for `HERE_SECONDS` at most, and looks again after as long as the oldest call
has taken so far: looking often where calls are short, seldom where they are long. Then it raises `ModelBusy`: a
fallback is tried, or the step is put off, which uses none of its retries (`engine.step_ending`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopllama.aws import dynamo
from loopllama.catalog.entries import EXPIRES
from loopllama.core.numbers import natural
from loopllama.errors import ModelBusy
from loopllama.policies.step_stats import FORGOTTEN_MS, PREFIX
from loopllama.routing.model_health import UNCHANGED, ModelHealth, logged

if TYPE_CHECKING:
    from loopllama.catalog.model import Model

SLOTS = f"{PREFIX}#"
"""The key of a model's slots begins so: as that of figures, with a workflow that nobody can have."""
LEARNED = "c:"
START = 16
"""Calls at once that a model without a limit counts as having when it throttles first."""
RAISE_MS = 30_000
PAUSE_MS = 5_000
FORGET_MS = 30 * RAISE_MS
"""After so long every limit is back where it was: from 1 to 31 in steps of 1 takes longest."""
MARGIN_MS = 5_000
"""For how long a slot is held beyond the time of its call: until the answer is written."""
LONGEST_MS = 30 * 60 * 1000
"""Nobody holds a slot for longer: somebody wrote that by hand."""
HERE_SECONDS = 3.0
_SHORTEST_WAIT, _LONGEST_WAIT = 0.1, 30.0
_FREE = (
    "NOT attribute_type(#slot.#until, :number) OR #slot.#until < :now OR #slot.#until > :beyond OR #slot.#by = :holder"
)


@dataclass(frozen=True, slots=True)
class Learned:
    """What throttling has made of a model's limit: `limit` calls since `at` (epoch ms), none until then."""

    limit: int
    at: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A place among the calls of a model."""

    model_id: str
    name: str
    holder: str


def counted_as(model: Model) -> str:
    """Return the name under which a model's calls are counted: an entry's limit holds for all its efforts and service
    tiers together, and without one each of them is throttled by itself."""
    return model.id if model.max_concurrent_calls is None else model.entry


def allowed(full: int | None, learned: Learned | None, now: int) -> int | None:
    """Return how many calls may be under way now, `None` for any number. `full` is the limit of the model's entry."""
    if learned is None or learned.at > now + RAISE_MS:
        return full
    if learned.at > now:
        return 0
    most = full or START
    limit = learned.limit + (now - learned.at) // RAISE_MS * max(1, most // 16)
    return limit if limit < most else full


def lowered(full: int | None, learned: Learned | None, now: int, began: int, wait_ms: int = 0) -> Learned:
    """Return what a call that began at `began` and was throttled makes of the limit. `wait_ms` is for how long the
    provider asked to wait."""
    limit = allowed(full, learned, now)
    if learned is not None and limit != full and began < learned.at:
        return learned
    if limit is None or limit > 1:
        return Learned((limit or START) // 2, now)
    return Learned(1, now + min(RAISE_MS, max(PAUSE_MS, wait_ms)))


class CallSlots:
    """Slots in the Models table and limits in `health`, read and written; `clock` gives epoch seconds. Without a table
    nothing is limited."""

    def __init__(
        self, health: ModelHealth, clock: Callable[[], float], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._health, self._clock, self._sleep = health, clock, sleep

    def limit(self, model: Model) -> int | None:
        """Return how many calls of a model may be under way now, as far as this process knows; it costs nothing."""
        learned = learned_from(self._health.read().get(LEARNED + counted_as(model)))
        return allowed(model.max_concurrent_calls, learned, self._now())

    def take(self, model: Model, holder: str, call_seconds: float, wait_seconds: float) -> Slot | None:
        """Return a slot for a call of at most `call_seconds`, `None` where the model has no limit. `holder` is the
        step: it has one call under way at most, so a slot that it holds already is its own. Waits for one, at most
        `wait_seconds`. Raises `ModelBusy`, which says when to come back, and what the SDK raises."""
        waited = 0.0
        while (limit := self.limit(model) if self._health.table else None) is not None:
            if not limit:
                raise self._paused(model)
            taken = self._take(counted_as(model), limit, holder, call_seconds)
            if isinstance(taken, Slot):
                return taken
            # Up to half as much again: those who came together do not come back together.
            pause = max(_SHORTEST_WAIT, min(_LONGEST_WAIT, taken)) * random.uniform(1, 1.5)  # noqa: S311 - no secret
            if waited + pause > min(HERE_SECONDS, wait_seconds):
                calls = f"{limit} call is" if limit == 1 else f"{limit} calls are"
                raise ModelBusy(f"{model.id}: {calls} under way, as many as may be at once", retry_after=pause)
            self._sleep(pause)
            waited += pause
        return None

    def give_back(self, slot: Slot | None) -> None:
        """Let the next call have the slot. A write that fails is logged and no more: the slot is free in time."""
        if slot is None:
            return
        try:
            dynamo.update(
                self._health.dynamodb(),
                self._health.table,
                {"model": SLOTS + slot.model_id},
                {},
                remove=[slot.name],
                condition="#slot.#by = :holder",
                names={"#slot": slot.name, "#by": "by"},
                parameters={":holder": slot.holder},
                returning=(),
            )
        except Exception as error:
            logged(error, "a call's slot was not given back; it is free once the call's time is over")

    def throttled(self, model: Model, seconds: float, retry_after: float | None = None) -> None:
        """Report that a call was throttled after `seconds`: fewer may be under way from now on. `retry_after` is for
        how long (s) the provider asked to wait."""
        if not self._health.table:
            return
        began = self._now() - int(seconds * 1000)

        def decide(value: object) -> Mapping[str, int] | None:
            before = learned_from(value)
            after = lowered(model.max_concurrent_calls, before, self._now(), began, int((retry_after or 0) * 1000))
            return UNCHANGED if after == before else {"limit": after.limit, "at": after.at}

        self._health.change(LEARNED + counted_as(model), decide, self._is_spent)

    def _paused(self, model: Model) -> ModelBusy:
        learned = learned_from(self._health.read().get(LEARNED + counted_as(model)))
        left = (learned.at - self._now()) / 1000 if learned else 0.0
        pause = max(_SHORTEST_WAIT, left) * random.uniform(1, 1.5)  # noqa: S311 - no secret
        return ModelBusy(f"{model.id}: its provider throttles, so no call begins for {left:.0f} s", retry_after=pause)

    def _take(self, model_id: str, limit: int, holder: str, call_seconds: float) -> Slot | float:
        """Return a slot, or for how long (s) the oldest call has been under way where none is free."""
        number = random.randrange(limit)  # noqa: S311 - no secret
        while True:
            now = self._now()
            slot = Slot(model_id, f"s{number}", holder)
            done, item = dynamo.update(
                self._health.dynamodb(),
                self._health.table,
                {"model": SLOTS + model_id},
                {
                    slot.name: {"by": holder, "since": now, "until": now + int(call_seconds * 1000) + MARGIN_MS},
                    EXPIRES: (now + FORGOTTEN_MS) // 1000,
                },
                condition=_FREE,
                names={"#slot": slot.name, "#until": "until", "#by": "by"},
                parameters={":number": "N", ":now": now, ":beyond": now + LONGEST_MS, ":holder": holder},
                returning=(),
            )
            if done:
                return slot
            held = {name: since for name, value in item.items() if (since := _since(value, holder, now)) is not None}
            free = [other for other in range(limit) if f"s{other}" not in held]
            if not free or len(held) >= limit:
                return (now - min(held.values())) / 1000
            number = random.choice(free)  # noqa: S311 - no secret

    def _is_spent(self, value: object) -> bool:
        """Return whether nobody needs to know a limit any more."""
        learned = learned_from(value)
        return learned is None or not -RAISE_MS <= self._now() - learned.at <= FORGET_MS

    def _now(self) -> int:
        return int(self._clock() * 1000)


def _since(value: object, holder: str, now: int) -> int | None:
    """Return since when somebody else holds a slot, `None` where nobody does: the rule of `_FREE`."""
    if not isinstance(value, Mapping) or value.get("by") == holder:
        return None
    until = natural(value.get("until"))
    if until is None or not now <= until <= now + LONGEST_MS:
        return None
    since = natural(value.get("since"))
    return now if since is None else min(since, now)


def learned_from(value: object) -> Learned | None:
    """Read what is stored of a lowered limit; `None` where that is none."""
    if not isinstance(value, Mapping):
        return None
    limit, at = natural(value.get("limit")), natural(value.get("at"))
    return None if limit is None or at is None else Learned(max(1, limit), at)
