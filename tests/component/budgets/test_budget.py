"""Budgets and what a step's calls may use of them, against the real table in moto."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from support.budgets import RUN, amount, fresh, item_of
from support.deployment import Deployment, deployment

from loopllama.aws import clients
from loopllama.budgets import budget
from loopllama.budgets.budget import held
from loopllama.errors import InvalidRequest, WorkflowInvalid
from loopllama.runs.records import RunBudget
from loopllama.workflows.schema import Workflow
from loopllama.workflows.store import DefinitionStore


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
        budget.of_day("RunsTable", RUN | {"run_id": name, "workflow_id": "shared"}, definition, "2026-11-23")
        for name in ("run_a", "run_b")
    )
    assert first is not None
    assert second is not None
    assert first.reserve("s/a", amount(60))[0]
    assert not second.reserve("s/a", amount(60))[0]
    assert second.reserve("s/a", amount(40))[0]
    assert first.reservations(item_of(first), "s") == {"s/a": amount(60)}
    assert item_of(first)["delete_at"] > 10**9


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
