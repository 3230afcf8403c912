"""A row of the routes table, read. People write rows, so every attribute may hold anything; what is invalid is
told apart by attribute, so that the rest of the row still counts where it can stand alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from loopllama.catalog.model import is_model_id
from loopllama.core import money
from loopllama.core.exact_json import STORABLE, storable
from loopllama.core.names import meant
from loopllama.core.numbers import written
from loopllama.policies.registry import FIXED, POLICIES, Need, Policy, find

if TYPE_CHECKING:
    from loopllama.routing.types import RouteRow
    from loopllama.workflows.types import CrewStep

MAX_FALLBACKS = 20
MAX_CANDIDATES = 100
CHOICE = ("model", "policy", "candidates", "fallbacks", "max_cost", "max_latency")
"""The attributes that travel together."""


class ChoiceInvalid(ValueError):
    """A choice that is invalid; `field` is the attribute to fix, which the message begins with."""

    def __init__(self, field: str, says: str) -> None:
        super().__init__(f"`{field}` {says}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Choice:
    """What one layer says about the model. A candidate is `(model, weight)`; `max_cost` (USD) and `max_latency` (ms)
    are the most that a turn may be expected to take."""

    model: str | None
    policy: Policy = FIXED
    candidates: tuple[tuple[str, float], ...] = ()
    fallbacks: tuple[str, ...] = ()
    max_cost: Decimal | None = None
    max_latency: int | None = None

    @property
    def needs(self) -> frozenset[Need]:
        """What it depends on of what has been observed of the step: for its policy and for its limits."""
        limits: list[Need] = []
        if self.max_cost is not None:
            limits.append("cost")
        if self.max_latency is not None:
            limits.append("latency")
        return self.policy.needs.union(limits)

    def names(self) -> list[str]:
        """Return every model it names."""
        return [name for name, _ in self.places()]

    def places(self) -> list[tuple[str, str]]:
        """Return every model it names, with the attribute that does."""
        chosen = [] if self.model is None else [(self.model, "model")]
        candidates = [(name, "candidates") for name, _ in self.candidates]
        return chosen + candidates + [(name, "fallbacks") for name in self.fallbacks]


@dataclass(frozen=True, slots=True)
class Override:
    """A row. `problems` is attribute (`row` for all of it) to reason; of the choice, whose attributes stand or fall
    together, there is one at most."""

    choice: Choice | None = None
    max_tokens: int | None = None
    temperature: Decimal | None = None
    pin: str | None = None
    expires_at: float | None = None
    version: int | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


NO_OVERRIDE = Override()


def parse_row(row: RouteRow) -> Override:
    """Read a row; never raises."""
    problems: dict[str, str] = {}
    attributes = cast("Mapping[str, Any]", row)

    def read(key: str, parse: Any) -> Any:
        if attributes.get(key) is None:
            return None
        try:
            return parse(attributes[key])
        except (ValueError, ArithmeticError) as error:
            problems[key] = f"`{key}` {error}"
            return None

    values = {
        "max_tokens": read("max_tokens", parse_max_tokens),
        "temperature": read("temperature", parse_temperature),
        "pin": read("pin", _pin),
        "expires_at": read("expires_at", _epoch),
        "version": read("version", _count),
    }
    if "expires_at" in problems:
        # Somebody wanted it to end; acting for ever would be worse than not acting.
        return Override(version=values["version"], problems={"row": problems["expires_at"]})
    choice = None
    try:
        choice = parse_choice(row)
    except ChoiceInvalid as error:
        problems[error.field] = str(error)
    return Override(choice=choice, problems=problems, **values)


def parse_choice(values: RouteRow | CrewStep) -> Choice | None:
    """Return what a row or an agent says about its model, or `None` where it says nothing. Raises `ChoiceInvalid`."""
    given: list[Any] = [values.get(key) for key in CHOICE]
    model, name, candidates, fallbacks, max_cost, max_latency = given
    if all(value is None for value in given):
        return None
    if model is not None and not is_model_id(model):
        raise ChoiceInvalid("model", f"must be the id of a model, not {written(model)}")
    policy = find(name)
    if policy is None:
        hint = meant(name, POLICIES) if isinstance(name, str) else ""
        raise ChoiceInvalid("policy", f"must be one of {', '.join(POLICIES)}, not {written(name)}{hint}")
    choice = Choice(
        model,
        policy,
        _candidates(candidates),
        _fallbacks(fallbacks),
        None if max_cost is None else _max_cost(max_cost),
        None if max_latency is None else _max_latency(max_latency),
    )
    if not policy.chooses and model is None:
        raise ChoiceInvalid(
            "model", f"is missing: the policy `{policy.name}` needs it; all else of the choice only travels with it"
        )
    if policy.takes_weights and choice.candidates and not sum(weight for _, weight in choice.candidates):
        raise ChoiceInvalid("candidates", "have weights that sum to 0: give one of them at least some weight")
    if policy.chooses and not choice.candidates:
        raise ChoiceInvalid("candidates", f"are missing: the policy `{policy.name}` needs them")
    return choice


def parse_max_tokens(value: object) -> int:
    """Raise `ValueError` where it is no number of tokens."""
    return _count(value)


def parse_temperature(value: object) -> Decimal:
    """Raise `ValueError` where it is no temperature, 0 to 2."""
    if isinstance(value, float) and math.isfinite(value):
        value = Decimal(str(value))
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 0 <= value <= 2:
        raise ValueError(f"must be a number from 0 to 2, not {written(value)}")
    if not storable(Decimal(value)):
        raise ValueError(f"must have {STORABLE}")
    return Decimal(value)


def _max_cost(value: object) -> Decimal:
    try:
        return money.per_turn(value)
    except ValueError as error:
        raise ChoiceInvalid("max_cost", str(error)) from error


def _max_latency(value: object) -> int:
    try:
        return _count(value)
    except (ValueError, ArithmeticError) as error:
        raise ChoiceInvalid("max_latency", f"must be a whole number of ms a turn, not {written(value)}") from error


def _weight(value: object) -> Decimal | None:
    """Return a weight as `Decimal`; definitions hold floats, rows `Decimal`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    number = Decimal(str(value))
    if number.is_finite() and not storable(number):
        raise ChoiceInvalid("candidates", f"must have {STORABLE}")
    return number if number.is_finite() else None


def _candidates(value: object) -> tuple[tuple[str, float], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not 0 < len(value) <= MAX_CANDIDATES:
        raise ChoiceInvalid("candidates", f"must be a list of 1 to {MAX_CANDIDATES} models, not {written(value)}")
    read: dict[str, float] = {}
    for entry in value:
        name, weight = (entry.get("model"), entry.get("weight", 1)) if isinstance(entry, Mapping) else (entry, 1)
        if not is_model_id(name):
            raise ChoiceInvalid("candidates", f"must hold ids of models or {{model, weight}}, not {written(entry)}")
        number = _weight(weight)
        if number is None or not 0 <= number < 10**9:
            problem = f"must have a number of at least 0 as the weight of {name!r}, not {written(weight)}"
            raise ChoiceInvalid("candidates", problem)
        if name in read:
            raise ChoiceInvalid("candidates", f"have {name!r} twice")
        read[str(name)] = float(number)
    return tuple(read.items())


def _fallbacks(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not 0 < len(value) <= MAX_FALLBACKS or not all(map(is_model_id, value)):
        raise ChoiceInvalid("fallbacks", f"must be a list of 1 to {MAX_FALLBACKS} ids of models, not {written(value)}")
    return tuple(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 1 <= value < 10**9 or value % 1:
        raise ValueError(f"must be a whole number of at least 1, not {written(value)}")
    return int(value)


def _epoch(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or not 0 <= value < 10**12:
        raise ValueError(f"must be a time in epoch seconds, not {written(value)}")
    return float(value)


def _pin(value: object) -> str:
    if value != "run":
        raise ValueError(f"must be `run`, not {written(value)}")
    return "run"
