"""What all runs of the deployment, and those of an API key, may cost in a day: nothing that a key can do changes it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from support.api_client import InProcess, gateway_event
from support.deployment import Deployment

from loopllama.api.auth import Grant, KeyStore
from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.errors import RunFailed
from loopllama.llm.types import ModelResponse, Usage

ONE = Decimal("0.0108")
"""USD of a call: 100 and 700 tokens at 3 and 15 USD a million."""
ROOM = Decimal("0.0262")
"""For one call, and for the expectation of another (0.0153) only before it."""


@pytest.fixture(autouse=True)
def answers(live: Deployment) -> None:
    live.provider.script = lambda call: ModelResponse("fine", Usage(100, min(700, call.max_tokens or 700)))


def limited(live: Deployment, limit: Decimal) -> None:
    live.settings = replace(live.settings, daily_cost_limit=limit)


def failure(live: Deployment, run_id: str) -> str:
    with pytest.raises(RunFailed):
        live.play(run_id)
    assert live.read(run_id)["steps"][-1]["attempts"] == [], "refused before it was paid"
    return str(live.read(run_id)["error"])


def unpriced(name: str) -> str:
    item = {"model": name, "provider": "test", "provider_model": name}
    clients.client("dynamodb").put_item(TableName="ModelsTable", Item=dynamo.to_item(item))
    return name


def test_runs_of_all_workflows_stop_at_the_deployments_ceiling(live: Deployment) -> None:
    limited(live, ONE)
    one, other = (live.push([{"name": "a", "maxTokens": 700}], name=name) for name in ("one", "other"))
    live.play(live.accept(one))
    error = failure(live, live.accept(other))
    assert "BudgetExceeded: The deployment's ceiling on " in error
    assert "allows $0.0108 and has $0 left" in error
    assert "let who deploys raise the template's parameter DailyCostLimit or use a cheaper model" in error
    limited(live, Decimal(0))
    live.play(live.accept(other))


def test_a_day_has_a_ceiling_of_its_own(live: Deployment) -> None:
    limited(live, ONE)
    workflow = live.push([{"name": "a", "maxTokens": 700}])
    live.play(live.accept(workflow))
    live.wait(86_400)
    live.play(live.accept(workflow))


def test_no_workflow_opens_the_ceiling(live: Deployment) -> None:
    """Neither a budget of its own nor `allowUnpriced`, nor a model of which nobody knows the price, nor a workflow
    whose id is the ceiling's."""
    limited(live, ONE)
    crew = [{"name": "a", "model": unpriced("free")}]
    generous = {"maxCostUsd": 1000, "allowUnpriced": True}
    error = failure(live, live.accept(live.push(crew, budget=generous)))
    assert "The deployment's ceiling" in error
    assert "model free has no price: give it one in the Models table or use another model" in error
    same = live.push([{"name": "a", "maxTokens": 700}], name="Deployment", budget={"daily": {"maxCostUsd": 1000}})
    assert same == "deployment"
    live.play(live.accept(same, budget={"maxCostUsd": Decimal(1000)}))
    assert "The deployment's ceiling" in failure(live, live.accept(same))


def test_a_key_has_what_it_may_cost_in_a_day_and_another_key_its_own(live: Deployment) -> None:
    workflow = live.push([{"name": "a", "maxTokens": 700}])
    api = InProcess(live.settings)
    store = KeyStore(api.settings)

    def start(secret: str, path: str = f"/v1/workflows/{workflow}/runs", **body: Any) -> str:
        status, answer = api.answer(gateway_event(secret, "POST", path, body or {"input": "hello"}))
        assert status == 202, answer
        return str(answer["data"]["id"])

    (first, kept), (second, _) = (store.create("one", Grant(max_usd_per_day=ONE)) for _ in range(2))
    done = start(first)
    live.play(done)
    error = failure(live, start(first))
    assert f"BudgetExceeded: API key {kept['id']} on {clock.now_text()[:10]} (UTC) allows $0.0108 " in error
    assert "make a key with a higher --max-usd-per-day (loopllama keys create)" in error
    assert "API key" in failure(live, start(first, f"/v1/runs/{done}/replay", fromStep="a"))
    live.play(start(second))
    live.play(start(api.secret))


@pytest.mark.parametrize("ceiling", [False, True])
def test_no_key_lowers_the_price_by_which_it_is_held(live: Deployment, ceiling: bool) -> None:
    live.put_model("dear", "test", "dear")
    api = InProcess(live.settings, daily_cost_limit=Decimal(5 if ceiling else 0))
    grant = Grant() if ceiling else Grant(max_usd_per_day=Decimal(5))
    secret, _ = KeyStore(api.settings).create("one", grant)

    def ask(method: str, body: Any = None) -> tuple[int, Any]:
        return api.answer(gateway_event(secret, method, "/v1/models/dear", body))

    free = [{"effectiveFrom": "2026-01-01", "input": 0, "output": 0}]
    for body in ({"prices": free}, {"prices": None}, {"providerModel": "cheap"}, {"sameAs": "gpt-5-nano"}):
        status, answer = ask("PUT", body)
        assert (status, "no such key changes" in answer["error"]) == (403, True), body
    assert ask("DELETE")[0] == 403
    assert ask("PUT", {"enabled": False})[0] == 200, "the kill switch is nobody's money"
    if not ceiling:
        other = api.answer(
            gateway_event(api.secret, "PUT", "/v1/models/dear", {"context_window": 1000, "prices": None})
        )
        assert other[0] == 200
