"""How long the calls of a run would take with other models, and how long its longest line of steps takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from loopllama.catalog.model import Model
from loopllama.llm import usage


def critical_path(needs: Mapping[str, Sequence[str]], durations: Mapping[str, float]) -> float:
    """Return how long the longest line of steps takes, each starting when all that it needs are done. `needs` is in an
    order in which every step comes after some beginning; loops are none, as a crew has none."""
    return max(_ends(needs, durations).values(), default=0.0)


def slack(needs: Mapping[str, Sequence[str]], durations: Mapping[str, float]) -> dict[str, float]:
    """Return how much longer each step could take before the longest line of steps gets longer: the total float of the
    critical path method (Kelley and Walker, Critical-path planning and scheduling, 1959), in the unit of `durations`.
    """
    waiting: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed in needs.items():
        for other in needed:
            waiting.setdefault(other, []).append(name)
    before, behind = _ends(needs, durations), _ends(waiting, durations)
    longest = max(before.values(), default=0.0)
    # A step's own time is in both the line that ends with it and the one that begins with it.
    return {
        name: max(0.0, longest - before[name] - behind[name] + max(0.0, durations.get(name, 0.0))) for name in needs
    }


def _ends(needs: Mapping[str, Sequence[str]], durations: Mapping[str, float]) -> dict[str, float]:
    """Return when each step ends at the earliest, counted from the beginning of the first."""
    done: dict[str, float] = {}
    for name in needs:
        stack = [] if name in done else [name]
        while stack:
            begin, waits = 0.0, False
            for other in needs.get(stack[-1], ()):
                end = done.get(other)
                if end is None:
                    stack.append(other)
                    waits = True
                    break
                begin = max(begin, end)
            if not waits:
                top = stack.pop()
                done[top] = begin + max(0.0, durations.get(top, 0.0))
    return done


class Speeds:
    """What was observed of each model: on a step, and elsewhere."""

    def __init__(self, runs: Iterable[Mapping[str, Any]]) -> None:
        self._on_step: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._elsewhere: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for run in runs:
            for record in run["steps"]:
                for call in record["attempts"]:
                    if call["outcome"] == "ok" and call.get("latency_ms") is not None:
                        ms, tokens = float(call["latency_ms"]), usage.of_shown(call).output_tokens
                        self._on_step[record["step"], call["model"]].append(ms)
                        self._elsewhere[call["model"]].append((ms, tokens))

    def expect(self, step: str, model: Model, output_tokens: int) -> tuple[float, str]:
        """Return how long a call is expected to take (ms), and by what: `this step`, `other steps` or `the catalog`."""
        seen = self._on_step.get((step, model.id))
        if seen:
            return median(seen), "this step"
        prior = _prior(model, output_tokens)
        others = self._elsewhere.get(model.id)
        if others:
            return prior * median(ms / max(1.0, _prior(model, tokens)) for ms, tokens in others), "other steps"
        return prior, "the catalog"


def _prior(model: Model, output_tokens: int) -> float:
    return model.speed.first_token_ms + output_tokens / max(1, model.speed.tokens_per_second) * 1000
