"""Recent model calls of a step, few and small, in a form that several writers can put together. Pure.

A sample is one settled call. Samples of the same call are the same wherever they were made, so putting groups of them
together gives the same whatever their order, however often one of them comes again, and whoever has put together what
before: a state-based CRDT (Shapiro et al., Conflict-free Replicated Data Types, 2011). So two consumers never lose or
double what the other one saw, and a record that is delivered twice counts once.

What is kept of a model: `NEWEST` samples, of the newest `SLOT_SECONDS` first. Which ones of the same time, their ids
alone decide, as in a bottom-k sketch: so a step with thousands of calls a second takes no more room than one with four,
and what is kept is a fair sample of the whole time, not of its last moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from hashlib import blake2b
from typing import Any

WINDOW_SECONDS = 15 * 60
"""A sample's weight falls from 1 to 0 over this time: what nobody has tried lately is unknown again."""
NEWEST = 20
SLOT_SECONDS = 5
FAILURE_MS = 30_000.0
"""A failed call counts as long as the longest answer of its step that is known, and at least so long."""
_LARGEST = 10**12
_FIELDS = 8


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """One settled call: when (epoch s), how long (ms), whether it failed, its tokens, the turn of the step that it
    belongs to, and its place in that turn."""

    at: int
    ms: int
    failed: bool
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    turn: str
    attempt: str

    def text(self) -> str:
        """Return it as an item holds it: about 50 bytes."""
        at, ms, failed, *rest = astuple(self)
        return " ".join(map(str, (at, ms, "failed" if failed else "ok", *rest)))


def turn_id(run_id: str, item: str) -> str:
    """Return a short id of a step's turn: 40 bits, among dozens of samples."""
    return blake2b(f"{run_id}/{item}".encode("utf-8", "surrogatepass"), digest_size=5).hexdigest()


def parse(text: object) -> Sample | None:
    """Read a sample; `None` where somebody wrote something else there."""
    fields = text.split(" ") if isinstance(text, str) else []
    if len(fields) != _FIELDS or fields[2] not in ("ok", "failed") or not fields[6] or not fields[7]:
        return None
    try:
        at, ms, given, taken, cached = (int(fields[place]) for place in (0, 1, 3, 4, 5))
    except ValueError:
        return None
    if not all(0 <= number <= _LARGEST for number in (at, ms, given, taken, cached)):
        return None
    return Sample(at, ms, fields[2] == "failed", given, taken, cached, fields[6][:20], fields[7][:20])


Group = tuple[Sample, ...]


def merged(*groups: Iterable[Sample]) -> Group:
    """Return what is kept of all samples together, newest first."""
    known: dict[tuple[str, str], Sample] = {}
    for group in groups:
        for sample in group:
            key = sample.turn, sample.attempt
            known[key] = max(sample, known.get(key, sample))
    slots: dict[int, list[Sample]] = {}
    for sample in known.values():
        slots.setdefault(sample.at // SLOT_SECONDS, []).append(sample)
    kept: list[Sample] = []
    for slot in sorted(slots, reverse=True):
        room = NEWEST - len(kept)
        if room <= 0:
            break
        kept += sorted(slots[slot], key=lambda sample: (sample.turn, sample.attempt))[:room]
    return tuple(sorted(kept, reverse=True))


def read(value: object, most: int) -> dict[str, Group]:
    """Return an item's samples by name, of at most `most` names; what is none is left out."""
    groups: dict[str, Group] = {}
    for name, texts in value.items() if isinstance(value, Mapping) else ():
        if isinstance(texts, list) and len(groups) < most:
            found = merged(sample for text in texts[: 10 * NEWEST] if (sample := parse(text)) is not None)
            if found:
                groups[str(name)] = found
    return groups


def written(groups: Mapping[str, Group]) -> dict[str, list[str]]:
    """Return samples by name as an item holds them."""
    return {name: [sample.text() for sample in group] for name, group in groups.items()}


def failure_ms(groups: Iterable[Group]) -> float:
    """Return how long a failed call of a step counts: a model that fails at once must not look faster than one that
    takes its time to answer."""
    answered = (sample.ms for group in groups for sample in group if not sample.failed)
    return max(FAILURE_MS, max(answered, default=0))


@dataclass(frozen=True, slots=True)
class Recent:
    """The mean (ms) of samples within the window, how many they are when older ones count less, and how many at all."""

    ms: float = 0.0
    weight: float = 0.0
    count: int = 0


def recent(group: Iterable[Sample], now: float, failed_ms: float) -> Recent:
    """Return what the samples say at `now`; all is 0 where they are old."""
    count, weight, total = 0, 0.0, 0.0
    for sample in group:
        share = 1 - max(0.0, now - sample.at) / WINDOW_SECONDS
        if share > 0:
            count += 1
            weight += share
            total += share * (max(failed_ms, sample.ms) if sample.failed else sample.ms)
    return Recent(total / weight, weight, count) if weight else Recent()


def tokens(groups: Iterable[Group]) -> dict[str, Any]:
    """Return the means of a step's newest answered calls: `calls` a turn, `input_tokens`, `output_tokens` and
    `cached_tokens` a call; nothing without any."""
    answered = sorted((sample for group in groups for sample in group if not sample.failed), reverse=True)[:NEWEST]
    if not answered:
        return {}
    names = ("input_tokens", "output_tokens", "cached_tokens")
    means = {name: round(math.fsum(getattr(sample, name) for sample in answered) / len(answered)) for name in names}
    return {**means, "calls": len(answered) / len({sample.turn for sample in answered})}
