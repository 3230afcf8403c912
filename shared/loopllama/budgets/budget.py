"""Budgets: what a run, and a workflow in a day, may use in steps, tokens and USD; and what all runs of an API key, or
of the deployment, may cost in a day.

A budget is one item of the Runs table: a run's is (`run_id`, `BUDGET`), a day's (`budget#<whose>#<UTC date>`,
`BUDGET`); whose is a workflow's id, or what no workflow's id can be: `key:<id>`, `deployment:`. `used_steps`,
`used_tokens` and `used_usd` hold what is spent and what is reserved; each reservation is an attribute of its own,
`open_<step>/<attempt>`. A call reserves what it is expected to use and settles what it used:

    reserve   if used + expected <= limit and it is not reserved yet:  used += expected, set open_…
    settle    if it is reserved:                                       used += actual - expected, remove open_…

Each is one conditional update, so that parallel branches cannot pass together and a repeated update changes nothing.
Limits are not in the item: they are the run's and its workflow's own, so that changing them takes effect at once. A
process that dies leaves its reservation behind; whoever goes on with the step settles it as spent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from loopllama.aws import clients, dynamo
from loopllama.core import clock, money
from loopllama.core.money import MOST_USD, usd
from loopllama.errors import InvalidRequest

if TYPE_CHECKING:
    from loopllama.runs.records import Run, RunBudget
    from loopllama.workflows.types import DefinedLimits, Definition

ITEM = "BUDGET"
DAYS_KEPT = 7
KINDS = {"steps": "max_steps", "tokens": "max_tokens", "usd": "max_cost_usd"}
"""What is counted, and the limit's name in definitions and on the run."""
MOST = {"steps": 1_000_000, "tokens": 10**12, "usd": MOST_USD}
_OPEN = "open_"
ZERO = Decimal(0)

Amount = dict[str, Decimal]
"""By kind; `usd` is USD."""


# Limits


def check(value: Any, where: str = "budget") -> RunBudget | None:
    """Return the limits of a run as somebody hands them in, `{"max_steps", "max_tokens", "max_cost_usd"}` (or
    camelCase), in the form that is stored; `None` where nothing is limited. Raises `InvalidRequest`."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _invalid(where, "must be an object with maxSteps, maxTokens or maxCostUsd")
    limits: dict[str, Any] = {}
    kinds = {spelling: kind for kind, name in KINDS.items() for spelling in (name, _camel(name))}
    for name, limit in value.items():
        kind = kinds.get(name)
        if kind is None:
            raise _invalid(f"{where}.{str(name)[:60]}", "is unknown; known are maxSteps, maxTokens and maxCostUsd")
        if limit is None:
            continue
        try:
            limits[KINDS[kind]] = usd(limit) if kind == "usd" else _whole(limit, MOST[kind])
        except ValueError as error:
            raise _invalid(f"{where}.{_camel(KINDS[kind])}", str(error)) from None
    return cast("RunBudget", limits) if limits else None


def merged(definition: Definition, limits: RunBudget | None) -> RunBudget | None:
    """Return what counts for a run: its own limits over those of its workflow's definition."""
    ours = {name: value for name, value in (of_definition(definition) or {}).items() if name != "daily"}
    both = {**ours, **(limits or {})}
    return cast("RunBudget", both) if any(name in both for name in KINDS.values()) else None


def of_definition(definition: Definition) -> dict[str, Any] | None:
    """Return a workflow's budget as the API shows it, amounts of money as numbers."""
    budget = definition.get("budget")
    if not budget:
        return None
    shown_: dict[str, Any] = {**budget, "daily": dict(budget["daily"])} if "daily" in budget else dict(budget)
    for part in (shown_, shown_.get("daily", {})):
        if "max_cost_usd" in part:
            part["max_cost_usd"] = Decimal(part["max_cost_usd"])
    return shown_


def limits_of(budget: RunBudget | DefinedLimits | None) -> Amount:
    """Return the limits by kind; those that are not set are absent."""
    amounts = cast("Mapping[str, int | Decimal | str]", budget or {})
    return {kind: Decimal(amounts[name]) for kind, name in KINDS.items() if amounts.get(name) is not None}


# The item


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget's item. Messages call it `name` and its limits fields of `where`; `delete_at` (epoch s) is its TTL."""

    table: str
    key: str
    name: str
    where: str
    limits: Amount
    delete_at: int
    prefix: str = ""
    """Goes before the names of reservations, where several runs share the item."""
    advice: str = ""
    """What somebody can do whose call does not fit; by default raise the limit in `where`."""
    strict: bool = False
    """Whether it takes no models without a price, whatever the workflow allows: nobody could say when it is reached."""

    def reserve(self, entry: str, amount: Amount) -> tuple[bool, dict[str, Any]]:
        """Reserve under the name `entry`; whether it is reserved, and the item that says so or why not. What is
        reserved already under this name stays as it is."""
        mine = self._attribute(entry)
        conditions, parameters = ["attribute_not_exists(#open)"], {}
        for kind, limit in self.limits.items():
            if not amount[kind]:
                continue  # What adds nothing is not stopped by a limit that is passed already.
            fits = f"used_{kind} <= :room_{kind}"
            parameters[f":room_{kind}"] = limit - amount[kind]
            conditions.append(
                f"(attribute_not_exists(used_{kind}) OR {fits})" if limit >= amount[kind] else f"({fits})"
            )
        done, item = dynamo.update(
            clients.client("dynamodb"),
            self.table,
            {"run_id": self.key, "item": ITEM},
            {mine: amount, "delete_at": self.delete_at},
            add=_used(amount),
            condition=" AND ".join(conditions),
            names={"#open": mine},
            parameters=parameters,
        )
        return done or mine in item, item

    def settle(self, entry: str, reserved: Amount, actual: Amount) -> None:
        """Replace a reservation by what was used; harmless where that has been done."""
        mine = self._attribute(entry)
        dynamo.update(
            clients.client("dynamodb"),
            self.table,
            {"run_id": self.key, "item": ITEM},
            {},
            remove=[mine],
            add=_used({kind: actual[kind] - reserved[kind] for kind in KINDS}),
            condition="attribute_exists(#open)",
            names={"#open": mine},
        )

    def left(self, item: Mapping[str, Any]) -> Amount:
        """Return what is neither spent nor reserved, of what is limited; below 0 where calls used more than
        expected."""
        return {kind: limit - item.get(f"used_{kind}", ZERO) for kind, limit in self.limits.items()}

    def refusal(self, item: Mapping[str, Any], amount: Amount, model: str) -> str:
        """Return why a call of `model` that takes `amount` does not fit, in a sentence."""
        remaining, others = self.left(item), held(item)
        kind = next((kind for kind in remaining if amount[kind] > remaining[kind]), next(iter(remaining)))
        smaller = {"steps": "", "tokens": " or shorten prompts and answers", "usd": " or use a cheaper model"}[kind]
        waiting = f" ({_figure(kind, others[kind])} more reserved by calls under way)" if others[kind] else ""
        advice = self.advice or f"raise {self.where}.{_camel(KINDS[kind])}"
        return (
            f"{self.name} allows {_figure(kind, self.limits[kind])} and has {_figure(kind, remaining[kind])} left"
            f"{waiting}; the next call of {model} is expected to take {_figure(kind, amount[kind])}: {advice}{smaller}"
        )

    def reservations(self, item: Mapping[str, Any], step: str) -> dict[str, Amount]:
        """Return a step's open reservations by their names."""
        start = self._attribute(f"{step}/")
        skip = len(self._attribute(""))
        return {name[skip:]: item[name] for name in item if name.startswith(start)}

    def _attribute(self, entry: str) -> str:
        return f"{_OPEN}{self.prefix}{entry}"


def _used(amount: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {f"used_{kind}": value for kind, value in amount.items() if value}


def held(item: Mapping[str, Any]) -> Amount:
    """Return what an item's open reservations hold together."""
    open_ = [value for name, value in item.items() if name.startswith(_OPEN)]
    return {kind: sum((reservation[kind] for reservation in open_), ZERO) for kind in KINDS}


def of_run(table: str, run: Run) -> Budget | None:
    """Return the run's own budget, if it has one. `run` is its `RUN` item."""
    limits = limits_of(run.get("budget"))
    if not limits:
        return None
    return Budget(table, run["run_id"], "The run's budget", "budget", limits, int(run["delete_at"]))


def of_day(table: str, run: Run, definition: Definition, day: str) -> Budget | None:
    """Return the budget of the run's workflow for a day (UTC, `2026-11-23`), if it has one."""
    limits = limits_of((definition.get("budget") or {}).get("daily"))
    if not limits:
        return None
    name = f"The budget of workflow {run['workflow_id']} for {day} (UTC)"
    return _daily(table, run, run["workflow_id"], day, name, limits, where="budget.daily")


def of_key(table: str, run: Run, day: str) -> Budget | None:
    """Return the budget of the API key that started the run, if the key has one."""
    most, key_id = run.get("key_max_usd"), run.get("api_key")
    if most is None:
        return None
    name = f"API key {key_id} on {day} (UTC)"
    advice = "wait for the next day, make a key with a higher --max-usd-per-day (loopllama keys create)"
    return _daily(table, run, f"key:{key_id}", day, name, {"usd": Decimal(most)}, advice=advice, strict=True)


def of_deployment(table: str, run: Run, most_usd: Decimal | None, day: str) -> Budget | None:
    """Return the budget of all runs of the deployment, if it has one."""
    if most_usd is None:
        return None
    name = f"The deployment's ceiling on {day} (UTC)"
    advice = "wait for the next day, let who deploys raise the template's parameter DailyCostLimit"
    return _daily(table, run, "deployment:", day, name, {"usd": most_usd}, advice=advice, strict=True)


def _daily(table: str, run: Run, whose: str, day: str, name: str, limits: Amount, **options: Any) -> Budget:
    return Budget(
        table,
        f"budget#{whose}#{day}",
        name,
        limits=limits,
        delete_at=clock.now_ms() // 1000 + DAYS_KEPT * 86400,
        prefix=f"{run['run_id']}/",
        **{"where": "", **options},
    )


def shown(run_budget: RunBudget | None, item: Mapping[str, Any] | None, final: bool) -> dict[str, Any] | None:
    """Return a run's budget as the run object shows it: the limits, and `spent`, `reserved` and `left` by kind, absent
    without the budget's `item`. In a run that has ended, what calls without an answer had reserved counts as spent."""
    limits = limits_of(run_budget)
    if not limits:
        return None

    def figures(amount: Mapping[str, Decimal]) -> dict[str, Any]:
        counts = {kind: int(amount[kind]) if kind in amount else None for kind in ("steps", "tokens")}
        return {**counts, "cost_usd": amount.get("usd")}

    caps = {name: figures(limits)["cost_usd" if kind == "usd" else kind] for kind, name in KINDS.items()}
    if item is None:
        return caps
    reserved = dict.fromkeys(KINDS, ZERO) if final else held(item)
    used = {kind: item.get(f"used_{kind}", ZERO) for kind in KINDS}
    return {
        **caps,
        "spent": figures({kind: used[kind] - reserved[kind] for kind in KINDS}),
        "reserved": figures(reserved),
        "left": figures({kind: limit - used[kind] for kind, limit in limits.items()}),
    }


def _figure(kind: str, value: Decimal) -> str:
    if kind == "usd":
        return money.shown(value)
    return f"{int(value):,} {kind if value != 1 else kind[:-1]}"


def _whole(value: Any, most: int) -> int:
    number = Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else ZERO
    if not number.is_finite() or not 1 <= number <= most or number != int(number):
        raise ValueError(f"must be a whole number from 1 to {most:,}")
    return int(number)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def _invalid(field_: str, message: str) -> InvalidRequest:
    return InvalidRequest.of(field_, message, subject=field_)
