"""What a step's calls may use of budgets, against the real table in moto."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.budgets import ENTRY, MODEL, amount, call, fresh, item_of, settled, step_of
from support.deployment import Deployment

from loopllama.budgets.budget import held
from loopllama.catalog.model import Model
from loopllama.errors import BudgetExceeded
from loopllama.llm.token_estimate import most_tokens, prompt_tokens
from loopllama.llm.types import Message, ModelRequest
from loopllama.runs import reservations
from loopllama.runs.reservations import Allowance

# A step's calls


def test_a_reservation_is_what_the_call_is_expected_to_take(live: Deployment) -> None:
    one = fresh(max_cost_usd=Decimal(1), max_steps=5)
    step = step_of(one)
    made = call(100, max_tokens=3000)
    assert step.reserve("attempt_0001", ENTRY, MODEL, made, first=True) is made
    expected = Decimal(3 * 100 + 15 * reservations.EXPECTED_OUTPUT) / 1_000_000
    assert held(item_of(one)) == {"steps": 1, "tokens": 1100, "usd": expected}
    step.settle("attempt_0001", settled(90, 200, "0.00327"))
    step.settle("attempt_0001", settled(90, 200, "0.00327"))
    after = item_of(one)
    assert (after["used_steps"], after["used_tokens"], after["used_usd"]) == (1, 290, Decimal("0.00327"))
    # The next answer is expected to be as long as the last, and does not count as a step again.
    step.reserve("attempt_0002", ENTRY, MODEL, made, first=False)
    assert held(item_of(one)) == {"steps": 0, "tokens": 300, "usd": Decimal(3 * 100 + 15 * 200) / 1_000_000}


def test_what_does_not_fit_is_made_smaller_and_then_refused(live: Deployment) -> None:
    one = fresh(max_tokens=500)
    step = step_of(one)
    smaller = step.reserve("attempt_0001", ENTRY, MODEL, call(100, max_tokens=2000), first=True)
    assert smaller.max_tokens == 400
    assert item_of(one)["used_tokens"] == 500
    step.settle("attempt_0001", settled(100, 150, "0"))  # 250 are left: 127 for an answer to 123 tokens
    with pytest.raises(BudgetExceeded) as refused:
        step.reserve("attempt_0002", ENTRY, MODEL, call(123), first=False)
    text = str(refused.value)
    for part in ("allows 500 tokens", "250 tokens left", "251 tokens", "budget.maxTokens or shorten"):
        assert part in text
    assert not refused.value.later
    assert held(item_of(one)) == amount(0)
    assert step.reserve("attempt_0002", ENTRY, MODEL, call(122), first=False).max_tokens == 128


def test_an_answer_may_be_longer_than_expected_but_no_longer_than_the_budget_lasts(live: Deployment) -> None:
    # 15 USD a million tokens of answer: 0.03 USD are 2,000 of them.
    one = fresh(max_cost_usd=Decimal("0.0303"))
    assert step_of(one).reserve("attempt_0001", ENTRY, MODEL, call(100), first=True).max_tokens == 2000
    assert held(item_of(one))["usd"] == Decimal("0.0153")


@pytest.mark.parametrize(
    "options",
    [
        {"thinking": {"type": "enabled", "budget_tokens": Decimal(4096)}},
        {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 4096}}},
        {"extra_body": {"google": {"thinking_config": {"thinking_budget": 4096}}}},
    ],
)
def test_a_call_is_not_made_with_less_room_than_the_model_is_to_think(live: Deployment, options: Any) -> None:
    """The provider would refuse it (400), and the run would fail for a reason that nobody understands."""
    thinking = replace(call(100, max_tokens=16_000), options=options)
    small, large = fresh(max_cost_usd=Decimal("0.03")), fresh(max_cost_usd=Decimal("0.0753"))
    with pytest.raises(BudgetExceeded):
        step_of(small).reserve("attempt_0001", ENTRY, MODEL, thinking, first=True)
    assert held(item_of(small)) == amount(0)
    assert step_of(small).reserve("attempt_0001", ENTRY, MODEL, call(100, max_tokens=16_000), first=True)
    assert step_of(large).reserve("attempt_0001", ENTRY, MODEL, thinking, first=True).max_tokens == 5000


def test_an_answer_with_a_short_limit_reserves_no_more(live: Deployment) -> None:
    one = fresh(max_tokens=110)
    made = call(100, max_tokens=10)
    assert step_of(one).reserve("attempt_0001", ENTRY, MODEL, made, first=True) is made


def test_where_one_budget_refuses_the_other_keeps_nothing(live: Deployment) -> None:
    wide, narrow = fresh(max_tokens=5000), fresh(max_tokens=150)
    with pytest.raises(BudgetExceeded):
        step_of(wide, narrow).reserve("attempt_0001", ENTRY, MODEL, call(100), first=True)
    assert held(item_of(wide)) == amount(0)
    assert item_of(wide)["used_tokens"] == item_of(wide)["used_steps"] == 0


def test_what_others_hold_is_waited_for_by_the_patient_only(live: Deployment) -> None:
    one = fresh(max_tokens=1500)
    step_of(one, step="STEP#a#0#0").reserve("attempt_0001", ENTRY, MODEL, call(100), first=True)
    with pytest.raises(BudgetExceeded) as put_off:
        step_of(one, patient=True).reserve("attempt_0001", ENTRY, MODEL, call(100), first=True)
    assert put_off.value.later
    assert "1,100 tokens more reserved" in str(put_off.value)
    assert step_of(one).reserve("attempt_0001", ENTRY, MODEL, call(100), first=True).max_tokens == 300
    # Waiting does not help what would not fit an empty budget either: it is made smaller at once.
    small = fresh(max_tokens=600)
    assert step_of(small, patient=True).reserve("attempt_0001", ENTRY, MODEL, call(100), first=True).max_tokens == 500


def test_a_model_without_a_price_is_refused_under_a_limit_in_usd(live: Deployment) -> None:
    unpriced = Model("free", "test", "free")
    with pytest.raises(BudgetExceeded, match=r"free has no price.*allowUnpriced"):
        step_of(fresh(max_cost_usd=Decimal(1))).reserve("attempt_0001", ENTRY, unpriced, call(), first=True)
    both = fresh(max_cost_usd=Decimal(1), max_tokens=2000)
    step = step_of(both, allow_unpriced=True)
    step.reserve("attempt_0001", ENTRY, unpriced, call(), first=True)
    assert held(item_of(both)) == amount(1100, steps=1)
    step.settle("attempt_0001", ENTRY | {"outcome": "ok", "input_tokens": 100, "output_tokens": 50, "unpriced": True})
    assert item_of(both)["used_tokens"] == 150
    step_of(fresh(max_tokens=2000)).reserve("attempt_0001", ENTRY, unpriced, call(), first=True)


def test_a_call_whose_cost_nobody_knows_counts_as_expected(live: Deployment) -> None:
    one = fresh(max_tokens=5000)
    step = step_of(one)
    step.reserve("attempt_0001", ENTRY, MODEL, call(100), first=True)
    step.settle("attempt_0001", ENTRY | {"outcome": "ModelTimeout", "cost_basis": "unknown"})
    assert item_of(one)["used_tokens"] == 1100
    assert held(item_of(one)) == amount(0)


def test_what_a_dead_process_has_left_is_settled_by_the_record(live: Deployment) -> None:
    one = fresh(max_tokens=50_000)
    dead, other = step_of(one), step_of(one, step="STEP#one#0#01")
    for attempt in ("attempt_0001", "attempt_0002"):
        dead.reserve(attempt, ENTRY, MODEL, call(100), first=attempt == "attempt_0001")
    other.reserve("attempt_0001", ENTRY, MODEL, call(100), first=True)
    record: Any = {"attempt_0001": settled(100, 50, "0.001"), "attempt_0002": {**ENTRY, "outcome": "open"}}
    for _ in range(2):
        step_of(one).recover(record)
        after = item_of(one)
        assert after["used_tokens"] == 150 + 1100 + 1100
        assert after["used_steps"] == 2
        assert [name for name in after if name.startswith("open_")] == ["open_STEP#one#0#01/attempt_0001"]


def test_prompts_count_with_everything_that_goes_to_the_model() -> None:
    plain = prompt_tokens(call(100), most_tokens)
    assert plain == 100
    full = ModelRequest("m", "m", "s" * 300, [Message("user", "x" * 300)], 10, output_schema={"type": "x" * 300})
    assert prompt_tokens(full, most_tokens) >= 300


# Interleavings

ACTIONS = st.tuples(
    st.sampled_from(["call", "finish", "die", "retry", "repeat"]), st.integers(0, 3), st.integers(0, 400)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ACTIONS, max_size=40), st.integers(150, 3000), st.booleans())
def test_no_interleaving_passes_the_limit_by_more_than_the_overruns(
    live: Deployment, actions: list[tuple[str, int, int]], limit: int, patient: bool
) -> None:
    """Four steps call, finish, die and are taken over in any order; `finish` with any actual use."""
    one = fresh(max_tokens=limit)
    records: list[Any] = [{} for _ in range(4)]
    alive: list[Allowance | None] = [None] * 4
    open_: list[str | None] = [None] * 4
    overruns, spent = 0, 0
    reserved: dict[tuple[int, str], Decimal] = {}

    def make(number: int) -> Allowance:
        made = step_of(one, step=f"STEP#s{number}#0#0", patient=patient)
        made.recover(records[number])
        nonlocal spent
        for key in [key for key in reserved if key[0] == number]:
            spent += int(reserved.pop(key))  # nobody knows: as expected
        return made

    for action, number, used in actions:
        if action == "call" and open_[number] is None:
            step = alive[number] = alive[number] or make(number)
            attempt = f"attempt_{len(records[number]) + 1:04d}"
            try:
                step.reserve(attempt, ENTRY, MODEL, call(20), first=attempt == "attempt_0001")
            except BudgetExceeded:
                continue
            records[number][attempt] = {**ENTRY, "outcome": "open"}
            open_[number] = attempt
            reserved[number, attempt] = item_of(one)[f"open_STEP#s{number}#0#0/{attempt}"]["tokens"]
        elif action in ("finish", "repeat") and open_[number] is not None and alive[number] is not None:
            attempt, holder = str(open_[number]), alive[number]
            assert holder is not None
            entry = records[number][attempt] = settled(20, used, "0")
            for _ in range(2 if action == "repeat" else 1):
                holder.settle(attempt, entry)
            overruns += max(0, 20 + used - int(reserved.pop((number, attempt))))
            spent += 20 + used
            open_[number] = None
        elif action == "die":
            alive[number] = None
        elif action == "retry" and alive[number] is None:
            alive[number] = make(number)
            open_[number] = None
        item = item_of(one)
        assert item.get("used_tokens", 0) == spent + sum(reserved.values())
        assert item.get("used_tokens", 0) <= limit + overruns
        assert held(item)["tokens"] == sum(reserved.values())
    for number in range(4):
        make(number)
    assert held(item_of(one)) == amount(0)
    assert item_of(one).get("used_tokens", 0) == spent
