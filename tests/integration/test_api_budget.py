"""Budgets over HTTP against the local stack."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support.api_client import Client, ended

pytestmark = pytest.mark.aws

CREW = [{"role": name, "systemPrompt": "Say what is important.", "model": "openai:gpt-5-mini"} for name in ("A", "B")]


def make(api: Client, name: str, **fields: Any) -> dict[str, Any]:
    return api.post("/v1/workflows", {"name": name, "crew": CREW, **fields}, 201)


def test_a_workflows_budget_is_shown_and_survives_a_change_of_name(api: Client) -> None:
    limits = {"maxSteps": 9, "maxCostUsd": 0.25, "allowUnpriced": True, "daily": {"maxTokens": 1000000}}
    made = make(api, "Budget shown", budget=limits)
    shown = {"max_steps": 9, "max_cost_usd": 0.25, "allow_unpriced": True, "daily": {"max_tokens": 1000000}}
    assert made["budget"] == shown
    api.patch(f"/v1/workflows/{made['id']}", {"description": "Another"})
    assert api.get(f"/v1/workflows/{made['id']}")["budget"] == shown


def test_a_run_that_fits_shows_what_it_spent(api: Client) -> None:
    workflow = make(api, "Budget fits")
    started = api.post(f"/v1/workflows/{workflow['id']}/runs", {"input": "Hello.", "budget": {"maxCostUsd": 0.5}}, 202)
    assert started["budget"]["max_cost_usd"] == 0.5
    assert started["budget"]["spent"] == {"steps": 0, "tokens": 0, "cost_usd": 0}
    run = ended(api, started["id"])
    assert run["status"] == "completed"
    spent = run["budget"]["spent"]
    assert spent["steps"] == 2
    assert spent["tokens"] == run["tokens_in"] + run["tokens_out"]
    assert Decimal(str(spent["cost_usd"])) == Decimal(str(run["cost_usd"]))
    assert run["budget"]["reserved"] == {"steps": 0, "tokens": 0, "cost_usd": 0}


def test_a_run_over_its_budget_ends_with_what_it_has(api: Client) -> None:
    workflow = make(api, "Budget over", budget={"maxSteps": 9})
    started = api.post(f"/v1/workflows/{workflow['id']}/runs", {"input": "Hello.", "budget": {"maxSteps": 1}}, 202)
    run = ended(api, started["id"])
    assert run["status"] == "failed"
    assert "BudgetExceeded: The run's budget allows 1 step and has 0 steps left" in run["error"]
    assert [step["status"] for step in run["steps"]] == ["completed", "failed"]
    assert run["budget"]["left"] == {"steps": 0, "tokens": None, "cost_usd": None}


def test_branches_beside_one_another_do_not_pass_together(api: Client) -> None:
    crew = [{**CREW[0], "role": f"Branch {number}", "needs": []} for number in range(8)]
    workflow = make(api, "Budget branches", crew=crew)
    started = api.post(f"/v1/workflows/{workflow['id']}/runs", {"input": "Hello.", "budget": {"maxSteps": 3}}, 202)
    run = ended(api, started["id"])
    assert run["status"] == "failed"
    assert "BudgetExceeded" in run["error"]
    assert len([step for step in run["steps"] if step["status"] == "completed"]) == 3
    assert run["budget"]["spent"]["steps"] == 3


def test_wrong_limits_are_told_by_their_fields(api: Client) -> None:
    workflow = make(api, "Budget wrong")
    for limits, field in (
        ({"maxSteps": 0}, "budget.maxSteps"),
        ({"maxCostUsd": "much"}, "budget.maxCostUsd"),
        ({"max": 1}, "budget.max"),
        ({"daily": {}}, "budget.daily"),
    ):
        answer = api.raw("POST", f"/v1/workflows/{workflow['id']}/runs", {"input": "Hello.", "budget": limits})
        assert answer.status_code == 400
        assert [detail["field"] for detail in answer.json()["details"]] == [field]
