"""Budgets and what a step's calls may use of them, against the real table in moto."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.deployment import Deployment, deployment

from loopllama.aws import clients, dynamo
from loopllama.budgets import budget
from loopllama.budgets.budget import Budget, held
from loopllama.catalog.model import Model, Price
from loopllama.errors import BudgetExceeded, InvalidRequest, WorkflowInvalid
from loopllama.llm.token_estimate import most_tokens, prompt_tokens
from loopllama.llm.types import Message, ModelCall
from loopllama.runs import reservations
from loopllama.runs.records import RunBudget
from loopllama.runs.reservations import Allowance
from loopllama.workflows.schema import Workflow
from loopllama.workflows.store import DefinitionStore

PRICE = Price(date(2020, 1, 1), Decimal(3), Decimal(15))
MODEL = Model("m", "test", "m", (PRICE,), max_output=4000)
ENTRY: Any = {"started_at": "2026-11-23T10:00:00.000Z"}
RUN: Any = {"run_id": "run_1", "workflow_id": "w", "delete_at": 1}


@pytest.fixture(scope="module")
def live() -> Iterator[Deployment]:
    with pytest.MonkeyPatch.context() as patch, deployment(patch) as made:
        yield made


@pytest.fixture
def one_request_at_a_time(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB makes each write whole; moto's threads do not. Several requests may still come between one another."""
    client, lock = clients.client("dynamodb"), threading.Lock()
    make = client._make_api_call

    def alone(name: str, arguments: dict[str, Any]) -> Any:
        with lock:
            return make(name, arguments)

    monkeypatch.setattr(client, "_make_api_call", alone)


_made = iter(range(10**9))


def fresh(**limits: Any) -> Budget:
    """A budget of its own item."""
    run: Any = {**RUN, "run_id": f"run_{next(_made)}", "budget": limits}
    made = budget.of_run("RunsTable", run)
    assert made is not None
    return made


def item_of(one: Budget) -> dict[str, Any]:
    key = dynamo.to_item({"run_id": one.key, "item": budget.ITEM})
    found = clients.client("dynamodb").get_item(TableName="RunsTable", Key=key, ConsistentRead=True)
    return dynamo.from_item(found.get("Item", {}))


def amount(tokens: int, usd: str = "0", steps: int = 0) -> dict[str, Decimal]:
    return {"steps": Decimal(steps), "tokens": Decimal(tokens), "usd": Decimal(usd)}


def step_of(*budgets: Budget, step: str = "STEP#one#0#0", **options: Any) -> Allowance:
    return Allowance(step, lambda day: budgets, **options)


def call(prompt_tokens: int = 100, max_tokens: int | None = None) -> ModelCall:
    return ModelCall("m", "m", "", [Message("user", "x" * 3 * prompt_tokens)], 10, max_tokens=max_tokens)


def settled(tokens_in: int, tokens_out: int, usd: str) -> Any:
    return {**ENTRY, "outcome": "ok", "tokens_in": tokens_in, "tokens_out": tokens_out, "cost_usd": Decimal(usd)}


# Limits as people write them


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        (None, None),
        ({}, None),
        ({"max_steps": None}, None),
        ({"maxCostUsd": 0.1}, {"max_cost_usd": Decimal("0.1")}),
        ({"max_cost_usd": Decimal("0.000001"), "maxSteps": 3}, {"max_cost_usd": Decimal("0.000001"), "max_steps": 3}),
        ({"max_tokens": Decimal(1000)}, {"max_tokens": 1000}),
        ({"maxCostUsd": "0.10"}, {"max_cost_usd": Decimal("0.1")}),
    ],
)
def test_limits_are_taken_as_they_are_written(written: Any, stored: Any) -> None:
    assert budget.check(written) == stored


@pytest.mark.parametrize(
    ("written", "field"),
    [
        (5, "budget"),
        ({"max_usd": 1}, "budget.max_usd"),
        ({"daily": {"maxSteps": 1}}, "budget.daily"),
        ({"maxSteps": 0}, "budget.maxSteps"),
        ({"maxSteps": True}, "budget.maxSteps"),
        ({"maxSteps": 1.5}, "budget.maxSteps"),
        ({"maxTokens": "many"}, "budget.maxTokens"),
        ({"maxTokens": Decimal("NaN")}, "budget.maxTokens"),
        ({"maxTokens": Decimal("Infinity")}, "budget.maxTokens"),
        ({"maxCostUsd": 0}, "budget.maxCostUsd"),
        ({"maxCostUsd": -1}, "budget.maxCostUsd"),
        ({"maxCostUsd": "much"}, "budget.maxCostUsd"),
        ({"maxCostUsd": "1e3"}, "budget.maxCostUsd"),
        ({"maxCostUsd": "0.0"}, "budget.maxCostUsd"),
        ({"maxCostUsd": float("nan")}, "budget.maxCostUsd"),
        ({"maxCostUsd": float("inf")}, "budget.maxCostUsd"),
        ({"maxCostUsd": Decimal("1e-400")}, "budget.maxCostUsd"),
        ({"maxCostUsd": Decimal(10) ** 400}, "budget.maxCostUsd"),
    ],
)
def test_limits_that_make_no_sense_are_refused_with_their_field(written: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        budget.check(written)
    assert [one["field"] for one in error.value.details] == [field]


def test_a_runs_own_limits_replace_its_workflows_one_by_one() -> None:
    definition: Any = {
        "budget": {"max_steps": 9, "max_cost_usd": "0.5", "allow_unpriced": True, "daily": {"max_steps": 1}}
    }
    assert budget.merged(definition, {"max_steps": 3}) == {
        "max_steps": 3,
        "max_cost_usd": Decimal("0.5"),
        "allow_unpriced": True,
    }
    assert budget.merged({"crew": [], "budget": {"daily": {"max_steps": 1}, "allow_unpriced": True}}, None) is None
    assert budget.merged({"crew": []}, None) is None


def workflow(**limits: Any) -> Workflow:
    return Workflow.model_validate({"name": "W", "crew": [{"role": "A", "systemPrompt": "Do."}], "budget": limits})


def test_a_workflows_budget_keeps_its_money_exactly_through_the_table(live: Deployment) -> None:
    written = workflow(maxCostUsd=0.1, maxSteps=3, allowUnpriced=True, daily={"maxCostUsd": "10.000000000001"})
    store = DefinitionStore(live.settings)
    definition = store.get(store.push(written)["workflow_id"])["definition"]
    assert definition["budget"] == {
        "max_steps": 3,
        "max_cost_usd": "0.1",
        "allow_unpriced": True,
        "daily": {"max_cost_usd": "10.000000000001"},
    }
    shown = budget.of_definition(definition)
    assert shown is not None
    assert (shown["max_cost_usd"], shown["daily"]["max_cost_usd"]) == (Decimal("0.1"), Decimal("10.000000000001"))
    # What is stored can be read again as it was written.
    again = Workflow.model_validate({**definition, "name": "W"})
    assert again.to_definition() == definition


@pytest.mark.parametrize("limits", [{}, {"maxSteps": None}, {"daily": {}}, {"daily": {"maxSteps": None}}])
def test_a_budget_that_limits_nothing_is_none(limits: dict[str, Any]) -> None:
    assert "budget" not in workflow(**limits).to_definition()


@pytest.mark.parametrize(
    ("limits", "field", "message"),
    [
        ({"maxSteps": 0}, "budget.maxSteps", "greater than or equal to 1"),
        ({"maxSteps": 1.5}, "budget.maxSteps", "whole number"),
        ({"maxCostUsd": -1}, "budget.maxCostUsd", "must be more than 0"),
        ({"maxCostUsd": "much"}, "budget.maxCostUsd", "must be a number of USD"),
        ({"maxUsd": 1}, "budget.maxUsd", "is unknown"),
        ({"daily": {"maxTokens": "x"}}, "budget.daily.maxTokens", "whole number"),
        ({"daily": {"allowUnpriced": True}}, "budget.daily.allowUnpriced", "known are maxSteps, maxTokens, maxCostUsd"),
        ({"daily": 5}, "budget.daily", "must be a mapping"),
    ],
)
def test_a_workflows_wrong_budget_is_told_by_its_field(limits: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(WorkflowInvalid) as error:
        workflow(**limits)
    (detail,) = error.value.details
    assert detail["field"] == field
    assert message in str(detail["message"])


# The item


def test_what_fits_is_reserved_once_and_settled_once(live: Deployment) -> None:
    one = fresh(max_tokens=100)
    for _ in range(2):  # the same request, sent again because its answer was lost
        assert one.reserve("s/a", amount(40))[0]
        assert one.left(item_of(one)) == {"tokens": 60}
    assert not one.reserve("s/b", amount(61))[0]
    for _ in range(2):
        one.settle("s/a", amount(40), amount(75))
    assert item_of(one)["used_tokens"] == 75
    assert held(item_of(one)) == amount(0)
    assert one.reserve("s/b", amount(25))[0]
    assert not one.reserve("s/c", amount(1))[0]


def test_after_an_overrun_nothing_fits_but_what_takes_nothing(live: Deployment) -> None:
    one = fresh(max_cost_usd=Decimal("0.01"))
    assert one.reserve("s/a", amount(10, "0.01"))[0]
    one.settle("s/a", amount(10, "0.01"), amount(10, "0.03"))
    assert one.left(item_of(one)) == {"usd": Decimal("-0.02")}
    assert not one.reserve("s/b", amount(10, "0.000001"))[0]
    assert one.reserve("s/c", amount(10, "0"))[0]


def test_the_first_reservation_must_fit_too(live: Deployment) -> None:
    one = fresh(max_steps=1, max_tokens=10)
    assert not one.reserve("s/a", amount(11, steps=1))[0]
    assert item_of(one) == {}


@pytest.mark.usefixtures("one_request_at_a_time")
def test_of_twenty_at_once_exactly_those_that_fit_pass(live: Deployment) -> None:
    one = fresh(max_cost_usd=Decimal("0.05"))
    gate = threading.Barrier(20)

    def reserve(number: int) -> bool:
        gate.wait()
        return one.reserve(f"s{number}/a", amount(1, "0.01"))[0]

    with ThreadPoolExecutor(20) as pool:
        passed = list(pool.map(reserve, range(20)))
    assert sum(passed) == 5
    assert item_of(one)["used_usd"] == Decimal("0.05")


def test_runs_of_a_workflow_share_the_days_item_and_keep_their_reservations_apart(live: Deployment) -> None:
    definition: Any = {"crew": [], "budget": {"daily": {"max_tokens": 100}}}
    first, second = (
        budget.of_day("RunsTable", {**RUN, "run_id": name, "workflow_id": "shared"}, definition, "2026-11-23")
        for name in ("run_a", "run_b")
    )
    assert first is not None
    assert second is not None
    assert first.reserve("s/a", amount(60))[0]
    assert not second.reserve("s/a", amount(60))[0]
    assert second.reserve("s/a", amount(40))[0]
    assert first.reservations(item_of(first), "s") == {"s/a": amount(60)}
    assert item_of(first)["delete_at"] > 10**9


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
    step.settle("attempt_0001", ENTRY | {"outcome": "ok", "tokens_in": 100, "tokens_out": 50, "unpriced": True})
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
    full = ModelCall("m", "m", "s" * 300, [Message("user", "x" * 300)], 10, output_schema={"type": "x" * 300})
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


def test_the_view_of_a_budget(live: Deployment) -> None:
    one = fresh(max_tokens=5000, max_cost_usd=Decimal("0.5"))
    limits: RunBudget = {"max_tokens": 5000, "max_cost_usd": Decimal("0.5")}
    one.reserve("s/a", amount(100, "0.1", 1))
    one.settle("s/a", amount(100, "0.1", 1), amount(80, "0.08", 1))
    one.reserve("s/b", amount(10, "0.01"))
    shown = budget.shown(limits, item_of(one), final=False)
    assert shown == {
        "max_steps": None,
        **limits,
        "spent": {"steps": 1, "tokens": 80, "cost_usd": Decimal("0.08")},
        "reserved": {"steps": 0, "tokens": 10, "cost_usd": Decimal("0.01")},
        "left": {"steps": None, "tokens": 4910, "cost_usd": Decimal("0.41")},
    }
    ended = budget.shown(limits, item_of(one), final=True)
    assert ended is not None
    assert (ended["spent"]["tokens"], ended["reserved"]["tokens"]) == (90, 0)
    assert budget.shown(limits, None, final=False) == {"max_steps": None, **limits}
    assert budget.shown(None, {}, final=False) is None
