"""The models of one layer: which of those that it names may be used, and why the others may not. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from loopllama.catalog import variants
from loopllama.catalog.allowed import NOT_ALLOWED
from loopllama.catalog.catalog import MAX_HOPS, Catalog
from loopllama.catalog.model import Model
from loopllama.errors import ModelUnknown
from loopllama.policies.step_stats import Candidate, Facts
from loopllama.routing.overrides import Choice

if TYPE_CHECKING:
    from loopllama.runs.records import Ignored, Source

SOFT = frozenset({"structured_output", "prompt_cache"})
"""Capabilities that a step likes to have and can do without."""


def too_long(model: Model, tokens: int) -> str:
    """Return what is said of a prompt of `tokens`, an estimate, that is longer than the model's context window."""
    return f"its context window of {model.context_window:,} tokens is too small for a prompt of about {tokens:,}"


def _as_asked(other: Model, model: Model) -> tuple[Model, str]:
    """Return what replaces a model, at the effort and the tier that were asked for, and what is said of those that it
    does not have. What the replacement's own name says stays."""
    lost = []
    if model.effort and not other.effort:
        with contextlib.suppress(ModelUnknown):
            other = variants.of(other, model.effort, other.service_tier or "")
        lost += [] if other.effort else [f"effort {model.effort!r}"]
    if model.service_tier and not other.service_tier:
        with contextlib.suppress(ModelUnknown):
            other = variants.of(other, other.effort or "", model.service_tier)
        lost += [] if other.service_tier else [f"service tier {model.service_tier!r}"]
    return other, f", which has no {' and no '.join(lost)}" if lost else ""


def _is_limited(choice: Choice) -> bool:
    return choice.max_cost is not None or choice.max_latency is not None


class AttemptOrderBuilder:
    """Sorts out a layer's models. What it skips is appended to `ignored`.

    After `build`: `candidates` are the policy's, `models` the fallbacks (the whole attempt order where it chooses among
    nothing) by id, `barred` those that may not stand behind a service tier; `invalid` says that somebody has to fix
    the layer, `only_unknown` that nobody knows any of its models.
    """

    def __init__(
        self,
        source: Source,
        catalog: Catalog,
        ignored: list[Ignored],
        required: frozenset[str],
        prompt_tokens: int,
        open_breakers: Mapping[str, str],
        facts: Facts,
        at: datetime,
        behind: Callable[[Model], Model] | None = None,
    ) -> None:
        """`behind` fills in what is known of a model that an inference profile stands for. Asking takes a call, so only
        what a policy or a limit needs it for is asked about."""
        self._behind = behind
        self._source, self._catalog, self._ignored = source, catalog, ignored
        self._required, self._prompt_tokens = required - SOFT, prompt_tokens
        self._open, self._facts, self._at = open_breakers, facts, at
        self._in_need: dict[str, tuple[Model, float | None]] = {}
        """Models whose circuit breaker is open, and those whose window seems too small, with their weight where they
        are candidates: used where the layer has nothing else."""
        self.candidates: list[Candidate] = []
        self.models: dict[str, Model] = {}
        self.barred: set[str] = set()
        self.only_unknown = True
        self.invalid = False

    def build(self, choice: Choice) -> None:
        """Go through the choice's models."""
        if not choice.policy.chooses:
            for position, name in enumerate([*filter(None, [choice.model]), *choice.fallbacks]):
                if not self._fallback(name, choice) and position == 0 and choice.model is not None:
                    return
        else:
            for name, weight in choice.candidates:
                self._candidate(name, weight, choice)
            for name in (*filter(None, [choice.model]), *choice.fallbacks):
                self._fallback(name, choice)
        if not self.candidates and not self.models:
            for model, weight_or_none in self._in_need.values():
                if weight_or_none is None:
                    self.models[model.id] = model
                else:
                    self.candidates.append(self._facts.candidate(model, weight_or_none, self._at))

    def _fallback(self, name: str, choice: Choice) -> bool:
        """Add a model that is tried in its order; whether it is known."""
        model = self._resolve(name)
        if model is None:
            return False
        usable = self._enabled(model)
        if usable is not None:
            self._add_fallback(self._known(usable) if _is_limited(choice) else usable, choice)
        return True

    def _add_fallback(self, usable: Model, choice: Choice) -> None:
        if usable.id in self.models or not self._able(usable, None):
            return
        if _is_limited(choice) and not self._within(self._facts.candidate(usable, 1.0, self._at), choice):
            return
        if not self._is_open(usable, None):
            self.models[usable.id] = usable
            self._judge_standard(usable, choice)
        elif usable.service_tier is not None:
            # A call that is refused falls back to the standard tier; while the breaker is open it does so beforehand.
            self._add_fallback(variants.standard(usable), choice)

    def _candidate(self, name: str, weight: float, choice: Choice) -> None:
        model = self._resolve(name)
        usable = None if model is None else self._enabled(model)
        if usable is not None:
            asked = choice.needs or _is_limited(choice)
            self._add_candidate(name, self._known(usable) if asked else usable, weight, choice)

    def _known(self, model: Model) -> Model:
        return model if self._behind is None else self._behind(model)

    def _add_candidate(self, name: str, usable: Model, weight: float, choice: Choice) -> None:
        if not self._able(usable, weight):
            return
        candidate = self._facts.candidate(usable, weight, self._at)
        if not self._within(candidate, choice):
            return
        if (refusal := choice.policy.refusal(candidate)) is not None:
            self._skip(usable.id, refusal)
        elif any(other.model.id == usable.id for other in self.candidates):
            self._skip(name, f"stands for {usable.id}, which is a candidate already")
            # Its share goes with it: what somebody has split must not shift because two names lead to one model.
            self.candidates = [
                replace(other, weight=other.weight + weight) if other.model.id == usable.id else other
                for other in self.candidates
            ]
        elif not self._is_open(usable, weight):
            self.candidates.append(candidate)
            self._judge_standard(usable, choice)
        elif usable.service_tier is not None:
            self._add_candidate(usable.id, variants.standard(usable), weight, choice)

    def _judge_standard(self, usable: Model, choice: Choice) -> None:
        """Say where a model at a service tier may not be followed by itself at the standard one."""
        if usable.service_tier is None:
            return
        usual = variants.standard(usable)
        within = not _is_limited(choice) or self._within(self._facts.candidate(usual, 1.0, self._at), choice)
        if not within or self._is_open(usual, None):
            self.barred.add(usual.id)

    def _resolve(self, name: str) -> Model | None:
        try:
            model = self._catalog.resolve(name)
        except ModelUnknown as error:
            self._skip(name, str(error), invalid=True)
            return None
        self.only_unknown = False
        for problem in self._catalog.problems:
            if problem["model"] in (name, model.id, model.entry):
                self._skip(problem["model"], f"its entry in the Models table: {problem['reason']}")
        return model

    def _enabled(self, model: Model) -> Model | None:
        """Return the model, or what replaces it while it is disabled."""
        path = [model.id]
        while not model.enabled:
            if model.barred:
                self._skip(model.id, NOT_ALLOWED, invalid=True)
                return None
            if model.replaced_by is None or len(path) > MAX_HOPS:
                self._skip(model.id, "disabled")
                return None
            try:
                other = self._catalog.resolve(model.replaced_by)
            except ModelUnknown as error:
                self._skip(model.id, f"disabled, and what replaces it is unknown: {error}")
                return None
            if other.id in path and not other.enabled:
                self._skip(model.id, f"disabled, and its replacements go round in a circle: {', '.join(path)}")
                return None
            other, without = _as_asked(other, model)
            self._skip(model.id, f"disabled; replaced by {other.id}{without}")
            path.append(other.id)
            model = other
        return model

    def _able(self, model: Model, weight: float | None) -> bool:
        lacking = model.lacks(self._required)
        if lacking:
            self._skip(model.id, f"lacks {', '.join(lacking)}", invalid=True)
        elif model.context_window is not None and self._prompt_tokens > model.context_window:
            self._skip(model.id, too_long(model, self._prompt_tokens))
            # The size is an estimate. Where the layer has no larger window it is the model's own to refuse: what
            # somebody chose is not left for another layer's model, at another provider and price.
            self._keep_in_need(model, weight)
        else:
            return True
        return False

    def _within(self, candidate: Candidate, choice: Choice) -> bool:
        if choice.max_cost is not None and candidate.cost_usd is None:
            self._skip(candidate.model.id, "has no price, so it cannot be held against `max_cost`")
        elif choice.max_cost is not None and candidate.cost_usd is not None and candidate.cost_usd > choice.max_cost:
            cost = f"${candidate.cost_usd:.6f}" + ("" if self._facts.measured else " for a turn of usual length")
            self._skip(candidate.model.id, f"expected to cost {cost}, more than `max_cost` ${choice.max_cost}")
        elif choice.max_latency is not None and candidate.latency_ms > choice.max_latency:
            reason = f"expected to take {candidate.latency_ms:.0f} ms, more than `max_latency` {choice.max_latency}"
            self._skip(candidate.model.id, reason)
        else:
            return True
        return False

    def _is_open(self, model: Model, weight: float | None) -> bool:
        if model.id not in self._open:
            return False
        self._skip(model.id, self._open[model.id])
        self._keep_in_need(model, weight)
        return True

    def _keep_in_need(self, model: Model, weight: float | None) -> None:
        _, before = self._in_need.get(model.id, (model, None))
        if before is not None and weight is not None:
            weight += before
        self._in_need[model.id] = (model, before if weight is None else weight)

    def _skip(self, name: str, reason: str, invalid: bool = False) -> None:
        self.invalid = self.invalid or invalid
        entry: Ignored = {"layer": self._source, "model": name, "reason": reason}
        if entry not in self._ignored:
            self._ignored.append(entry)
