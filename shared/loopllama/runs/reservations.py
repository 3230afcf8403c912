"""What one step's model calls may use: an expectation reserved in each budget before a call, settled after it.

A reservation is what the call is expected to use, not the most it could: the prompt's tokens, estimated, and the mean
length of the answers that the step has given in this run. What does not fit is made smaller, or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from loopllama.aws import clients, dynamo
from loopllama.budgets.budget import (
    ITEM,
    KINDS,
    ZERO,
    Amount,
    Budget,
    held,
    of_day,
    of_deployment,
    of_key,
    of_run,
)
from loopllama.catalog import pricing
from loopllama.core import clock
from loopllama.errors import BudgetExceeded
from loopllama.llm.token_estimate import UNKNOWN_MAX_OUTPUT, most_tokens, prompt_tokens, thinking_budget
from loopllama.llm.types import ModelRequest, Usage
from loopllama.runs.totals import attempts_of

if TYPE_CHECKING:
    from loopllama.catalog.model import Model
    from loopllama.runs.records import Attempt, Run, StepRecord
    from loopllama.workflows.types import Definition

EXPECTED_OUTPUT = 1000
"""Tokens that an answer is expected to have where the step has given none yet."""
SMALLEST_OUTPUT = 128
"""A call that would have to make do with fewer tokens is not made."""
_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class _Need:
    """What a call is expected to use: all but the length of its answer is known."""

    model: str
    steps: int
    input_tokens: int
    input_usd: Decimal
    token_usd: Decimal
    """USD for a token of the answer."""
    smallest: int
    """Tokens of the shortest answer that the call is made for."""

    def amount(self, output: int) -> Amount:
        return {
            "steps": Decimal(self.steps),
            "tokens": Decimal(self.input_tokens + output),
            "usd": self.input_usd + self.token_usd * output,
        }

    def longest(self, remaining: Amount) -> int | None:
        """Return the longest answer for which the call fits into what is left, in tokens; below 0 where not even the
        prompt does, `None` where nothing bounds it."""
        fixed = self.amount(0)
        if not _fits(fixed, remaining):
            return -1
        return self.more({kind: remaining[kind] - fixed[kind] for kind in remaining})

    def more(self, remaining: Amount) -> int | None:
        """Return how many tokens of an answer fit into what is left, whatever else the call needs."""
        rates = {"tokens": Decimal(1), "usd": self.token_usd}
        return min(
            (int(remaining[kind] // rate) for kind, rate in rates.items() if rate and kind in remaining), default=None
        )


@dataclass(slots=True)
class Allowance:
    """Reserves for the calls of one step and settles them, in the run's budget and the day's.

    `step` is the step's item key; `budgets` gives what counts on a day; `outputs` are the lengths of the answers that
    the step has given in this run, in tokens. `patient`: what does not fit only because of other calls' open
    reservations is put off (`BudgetExceeded` with `later`) instead of made smaller or refused.
    """

    step: str
    budgets: Callable[[str], Sequence[Budget]]
    allow_unpriced: bool = False
    outputs: list[int] = field(default_factory=list)
    patient: bool = False
    _reserved: dict[str, list[tuple[Budget, Amount]]] = field(default_factory=dict)

    def reserve(self, attempt: str, entry: Attempt, model: Model, call: ModelRequest, first: bool) -> ModelRequest:
        """Reserve for an attempt that is about to be made, and return its call, `max_tokens` lowered where less fits.
        `first`: the step has made no call before, so that it counts as a step. Raises `BudgetExceeded`; nothing is
        reserved then."""
        budgets = self.budgets(_day_of(entry))
        need = self._need(budgets, model, call, first)
        longest = call.max_tokens or model.max_output or UNKNOWN_MAX_OUTPUT
        output, most = min(max(self._expected(), need.smallest), longest), longest
        mine = self._reserved[attempt] = []
        try:
            for budget in budgets:
                output, item = self._fit(budget, attempt, need, output)
                mine.append((budget, need.amount(output)))
                more = need.more(budget.left(item))
                if more is not None:
                    # An answer may be longer than expected, but no longer than the budget lasts.
                    most = min(most, output + max(0, more))
        except BudgetExceeded:
            for budget, amount in self._reserved.pop(attempt):
                budget.settle(self._name(attempt), amount, dict.fromkeys(KINDS, ZERO))
            raise
        return call if most >= longest else replace(call, max_tokens=min(most, longest))

    def settle(self, attempt: str, entry: Attempt) -> None:
        """Settle an attempt by its entry in the step's record; harmless where that has been done."""
        if entry.get("output_tokens"):
            self.outputs.append(int(entry["output_tokens"]))
        for budget, amount in self._reserved.pop(attempt, ()):
            budget.settle(self._name(attempt), amount, spent(entry, amount))

    def recover(self, record: StepRecord) -> None:
        """Settle what an invocation that died has left reserved: by its attempt where that was settled, else as spent
        but for the step itself, which the next call counts."""
        attempts = attempts_of(record)
        days = {_day_of(attempt) for attempt in attempts.values()}
        budgets = {budget.key: budget for day in sorted(days) for budget in self.budgets(day)}
        if not budgets:
            return
        keys = [{"run_id": key, "item": ITEM} for key in budgets]
        table = next(iter(budgets.values())).table
        for key, item in dynamo.batch_get(clients.client("dynamodb"), table, keys, by="run_id").items():
            for name, amount in budgets[key].reservations(item, self.step).items():
                attempt = attempts.get(name.rpartition("/")[2])
                lost = attempt is None or attempt["outcome"] == "open"
                used = amount if attempt is None else spent(attempt, amount)
                budgets[key].settle(name, amount, used | {"steps": ZERO} if lost else used)

    def _name(self, attempt: str) -> str:
        return f"{self.step}/{attempt}"

    def _expected(self) -> int:
        if not self.outputs:
            return EXPECTED_OUTPUT
        return max(SMALLEST_OUTPUT, -(-sum(self.outputs) // len(self.outputs)))

    def _need(self, budgets: Sequence[Budget], model: Model, call: ModelRequest, first: bool) -> _Need:
        tokens, now, million = prompt_tokens(call, most_tokens), clock.now(), 1_000_000
        prompt = pricing.cost(model, Usage(tokens, 0), now)
        with_answer = pricing.cost(model, Usage(tokens, million), now)
        if prompt is None or with_answer is None:
            in_usd = [budget for budget in budgets if "usd" in budget.limits]
            limited = next((budget for budget in in_usd if budget.strict or not self.allow_unpriced), None)
            if limited is not None:
                or_allow = "" if limited.strict else ", or set budget.allowUnpriced in the workflow"
                raise BudgetExceeded(
                    f"{limited.name} is limited in USD and model {model.id} has no price: give it one in the Models "
                    f"table{or_allow}{' or' if limited.strict else ','} use another model"
                )
            prompt = with_answer = ZERO
        # A limit below what the model is to think is refused by its provider.
        smallest = SMALLEST_OUTPUT + thinking_budget(call.options)
        return _Need(model.id, int(first), tokens, prompt, (with_answer - prompt) / million, smallest)

    def _fit(self, budget: Budget, attempt: str, need: _Need, output: int) -> tuple[int, dict[str, Any]]:
        """Reserve for an answer of `output` tokens, or as many as fit; returns how many, and the item."""
        smallest = min(need.smallest, output)
        for _ in range(_ROUNDS):
            done, item = budget.reserve(self._name(attempt), need.amount(output))
            if done:
                return output, item
            remaining, others = budget.left(item), held(item)
            # A step that has begun stays counted, so what others hold of steps does not come back.
            hoped = {kind: remaining[kind] + (ZERO if kind == "steps" else others[kind]) for kind in remaining}
            if self.patient and _fits(need.amount(output), hoped):
                raise BudgetExceeded(budget.refusal(item, need.amount(output), need.model), later=True)
            fits = need.longest(remaining)
            if fits is not None and fits < smallest:
                raise BudgetExceeded(budget.refusal(item, need.amount(smallest), need.model))
            output = output if fits is None else min(output, fits)
        raise BudgetExceeded(budget.refusal(item, need.amount(output), need.model), later=self.patient)


def of_step(
    table: str,
    run: Run,
    definition: Definition,
    step: str,
    records: Sequence[StepRecord],
    patient: bool,
    ceiling_usd: Decimal | None = None,
) -> Allowance | None:
    """Return the budgets of a step's calls; `None` where nothing is limited. `records` are the step's own record and,
    in a loop, that of the iteration before; `ceiling_usd` is what the deployment may cost in a day."""
    ours = of_run(table, run)

    def budgets(day: str) -> list[Budget]:
        of_others = (
            of_day(table, run, definition, day),
            of_key(table, run, day),
            of_deployment(table, run, ceiling_usd, day),
        )
        return [budget for budget in (ours, *of_others) if budget]

    if not budgets(""):
        return None

    attempts = [attempt for record in records for attempt in attempts_of(record).values()]
    outputs = [int(attempt["output_tokens"]) for attempt in attempts if "output_tokens" in attempt]
    allow_unpriced = bool((run.get("budget") or definition.get("budget") or {}).get("allow_unpriced"))
    return Allowance(step, budgets, allow_unpriced, [tokens for tokens in outputs if tokens], patient)


def spent(entry: Attempt, reserved: Amount) -> Amount:
    """Return what an attempt used by its entry in the record; what it had reserved where nobody knows."""
    if entry.get("input_tokens") is None:
        return reserved
    return {
        "steps": reserved["steps"],
        "tokens": Decimal(int(entry["input_tokens"]) + int(entry["output_tokens"])),
        "usd": entry.get("cost_usd") or ZERO,
    }


def _fits(amount: Amount, remaining: Amount) -> bool:
    """Return whether the limits allow it: what a call takes nothing of cannot stop it."""
    return all(not amount[kind] or amount[kind] <= remaining[kind] for kind in remaining)


def _day_of(attempt: Attempt) -> str:
    return str(attempt["started_at"])[:10]
