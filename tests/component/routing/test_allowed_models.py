"""The models that a deployment allows: no layer, no table and no name of somebody's own leads to another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.api_client import InProcess
from support.deployment import Deployment
from typer.testing import CliRunner

from loopllama.aws import clients, dynamo
from loopllama.errors import RouteInvalid, RunFailed
from loopllama.routing.router import Router
from loopllama.routing.store import RouteStore
from loopllama_cli import target
from loopllama_cli.main import app
from loopllama_cli.target import Target

ALLOWED = ("test:good", "gpt-5-mini", "ollama:llama*")
WHY = "is not among the models that this deployment allows"


@pytest.fixture
def strict(live: Deployment) -> Deployment:
    live.settings = replace(live.settings, allowed_models=ALLOWED, default_model="test:good")
    return live


@pytest.fixture(autouse=True)
def models(live: Deployment) -> None:
    for name in ("good", "bad", "worse"):
        live.put_model(f"test:{name}", "test", name)


def row(workflow: str, **values: Any) -> None:
    item = dynamo.to_item({"workflow": workflow, **values})
    clients.client("dynamodb").put_item(TableName="RoutesTable", Item=item)


@pytest.mark.parametrize(
    ("agent", "override", "asked"),
    [
        ({"model": "test:bad"}, {}, None),
        ({"model": "test:bad", "fallbacks": ["test:worse"]}, {}, None),
        ({"policy": "cheapest", "candidates": ["test:bad", "test:worse"]}, {}, None),
        ({}, {"model": "test:bad"}, None),
        ({}, {"policy": "weighted", "candidates": ["test:bad"]}, None),
        ({}, {}, {"*": "test:bad"}),
        ({"model": "own"}, {}, None),
        ({"model": "off"}, {}, None),
    ],
)
@pytest.mark.parametrize("pin", [None, "run"])
def test_no_layer_leads_out(strict: Deployment, agent: Any, override: Any, asked: Any, pin: str | None) -> None:
    strict.put_model("own", "test", "bad")
    strict.put_model("off", "test", "good", enabled=False, replaced_by="test:bad")
    workflow = strict.push([{"name": "a", **agent}], model="test:good")
    if override:
        row(workflow, step="a", **override)
    run_id = strict.accept(workflow, models=asked, pin=pin)
    strict.play(run_id)
    assert [call.model for call in strict.provider.calls] == ["good"]
    step = strict.read(run_id)["steps"][0]
    assert [entry for entry in step["ignored"] if WHY in entry["reason"]] or pin, "the trace says why"


def test_a_pinned_and_a_recorded_decision_are_no_way_around(live: Deployment) -> None:
    """The list counts at once, for runs that were pinned before it too."""
    workflow = live.push([{"name": "a", "model": "test:bad", "fallbacks": ["test:good"]}])
    run_id = live.accept(workflow, pin="run")
    state = live.start(run_id)
    live.settings = replace(live.settings, allowed_models=ALLOWED)
    live.step(live.map(state)[0])
    assert [call.model for call in live.provider.calls] == ["good"]
    catalogued = {"attempt_order": ["test:bad"], "source": "agent", "policy": "fixed"}
    assert Router(live.settings).restore(catalogued) is None  # type: ignore[arg-type]


def test_a_step_that_has_no_other_model_fails_and_says_why(live: Deployment) -> None:
    live.settings = replace(live.settings, allowed_models=ALLOWED)
    run_id = live.accept(live.push([{"name": "a", "model": "test:bad"}]))
    with pytest.raises(RunFailed, match="NoEligibleModel"):
        live.play(run_id)
    assert WHY in live.read(run_id)["error"]
    assert live.provider.calls == []


@pytest.mark.parametrize("step", ["a", "*"])
def test_the_row_that_brings_a_step_back_has_its_expected_change(live: Deployment, step: str) -> None:
    """Since the list was made the step has no model left, and so no decision to compare with."""
    live.put_model("test:good", "test", "good")
    live.put_model("test:bad", "test", "bad")
    workflow = live.push([{"name": "a"}], model="test:bad")
    live.play(live.accept(workflow))
    live.settings = replace(live.settings, allowed_models=ALLOWED, default_model="test:worse")
    told = RouteStore(live.settings).expected_change(workflow, step, {"model": "test:good"})
    assert told is not None
    assert [moved["model_after"] for moved in told["steps"]] == ["test:good"]


def test_every_door_says_so(strict: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    api = InProcess(strict.settings)
    crew = [{"role": "A", "systemPrompt": "x", "model": "test:bad"}]
    status, answer = api.ask("POST", "/v1/workflows", {"name": "Doors", "model": "test:good", "crew": crew})
    assert status == 201, "as for a model that nobody knows: it is told, and may come"
    [warning] = answer["warnings"]
    assert warning["field"] == "crew.0.model"
    assert f"'test:bad' {WHY} (the template's parameter AllowedModels): {', '.join(ALLOWED)}" in warning["message"]
    assert "uses test:good" in warning["message"]
    for body in ({"model": "test:bad"}, {"model": "test:good", "fallbacks": ["test:bad"], "force": True}):
        status, answer = api.ask("PUT", "/v1/workflows/doors/routes/a", body)
        assert (status, WHY in answer["error"]) == (400, True)
    status, answer = api.ask("POST", "/v1/workflows/doors/runs", {"input": "x", "models": {"a": "test:bad"}})
    assert (status, answer["details"][0]["field"], WHY in answer["error"]) == (400, "models.a", True)
    strict.put_model("own", "test", "bad")
    with pytest.raises(RouteInvalid, match=WHY):
        RouteStore(strict.settings).set("doors", "a", {"model": "own"}, updated_by="me", reason="", force=True)
    models = {model["model"]: model["enabled"] for model in api.ask("GET", "/v1/models")[1]["data"]}
    assert models["gpt-5-mini"]
    assert not models["gpt-5"]

    monkeypatch.setattr(target, "connect", lambda _: Target("test", strict.settings, {}, False))
    for command in (
        "routes set doors a test:bad",
        "run doors --input x --model a=test:bad",
        "whatif doors --set a=test:bad",
    ):
        refused = CliRunner().invoke(app, command.split())
        assert refused.exit_code == 2, (command, refused.stderr)
        assert WHY in refused.stderr
