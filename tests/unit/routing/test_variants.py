"""Decisions on models whose names say an effort and a service tier."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from loopllama.catalog import pricing
from loopllama.catalog.catalog import bundled
from loopllama.llm.types import Usage
from loopllama.routing.decision import Route, RouteRequest, plan
from loopllama.routing.overrides import NO_OVERRIDE, parse_row

NOW = 1_800_000_000.0
DAY = date(2027, 1, 15)
LAYERS = ("run", "step-override", "agent", "workflow-override", "workflow-default", "deployment-default")


def route(said, open_breakers=None):
    """Decide where `said` is what each layer says: a model, or for rows a map of attributes."""

    def row(value):
        return NO_OVERRIDE if value is None else parse_row({"model": value} if isinstance(value, str) else value)

    step: Any = {"name": "writer", "role": "Writer"} | ({"model": said["agent"]} if "agent" in said else {})
    run_models = {"writer": said["run"]} if "run" in said else {}
    request = RouteRequest("w", said.get("workflow-default"), step, run_models, frozenset(), run_id="r1")
    rows = row(said.get("step-override")), row(said.get("workflow-override"))
    default = said.get("deployment-default", "small")
    return plan(request, *rows, default, bundled(), NOW, open_breakers=open_breakers).route(request.key)


def ids(decided):
    return [model.id for model in decided.attempt_order]


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_may_say_an_effort_and_a_tier(layer):
    decided = route({layer: "gpt-5@flex@low"})
    assert (decided.source, ids(decided)) == (layer, ["gpt-5@low@flex", "gpt-5@low"])
    model = decided.attempt_order[0]
    assert (model.provider_model, model.effort, model.service_tier) == ("gpt-5", "low", "flex")


def test_a_tier_falls_back_to_the_standard_one_and_a_place_of_its_own_is_kept():
    said = {"model": "gpt-5@flex", "fallbacks": ["claude-sonnet-5", "gpt-5"]}
    assert ids(route({"step-override": said})) == ["gpt-5@flex", "claude-sonnet-5", "gpt-5"]
    said = {"model": "gpt-5@flex", "fallbacks": ["claude-sonnet-5", "gpt-5@priority"]}
    assert ids(route({"step-override": said})) == ["gpt-5@flex", "gpt-5", "claude-sonnet-5", "gpt-5@priority"]


def test_what_a_model_does_not_have_is_skipped_with_what_it_has():
    decided = route({"step-override": "gpt-5@max", "agent": "gpt-5-mini@low"})
    assert ids(decided) == ["gpt-5-mini@low"]
    assert decided.ignored == (
        {
            "layer": "step-override",
            "model": "gpt-5@max",
            "reason": "gpt-5 has no effort 'max': its efforts are minimal, low, medium, high",
        },
    )
    assert decided.invalid_overrides == 1


def test_the_cheapest_of_one_model_at_its_tiers():
    said = {"policy": "cheapest", "candidates": ["gpt-5", "gpt-5@priority", "gpt-5@flex", "claude-opus-5"]}
    assert ids(route({"step-override": said})) == ["gpt-5@flex", "gpt-5", "gpt-5@priority", "claude-opus-5"]


@pytest.mark.parametrize("said", [{"model": "gpt-5@flex"}, {"policy": "cheapest", "candidates": ["gpt-5@flex"]}])
def test_while_a_tiers_breaker_is_open_the_standard_one_answers(said):
    made = route({"step-override": said}, {"gpt-5@flex": "it is open"})
    assert ids(made) == ["gpt-5"]
    assert [entry["model"] for entry in made.ignored] == ["gpt-5@flex"]


def test_a_decision_comes_back_from_its_record_with_effort_and_tier():
    decided = route({"agent": "gpt-5@low@flex"})
    assert Route.from_record(decided.to_record(), bundled().resolve).attempt_order == decided.attempt_order


@pytest.mark.parametrize("said", [{"model": "gpt-5@flex"}, {"policy": "cheapest", "candidates": ["gpt-5@flex"]}])
def test_what_a_limit_or_a_breaker_keeps_out_does_not_come_in_behind_a_tier(said):
    names, limit = ("gpt-5@flex", "gpt-5"), Decimal("0.004")
    flex, usual = (pricing.cost(bundled().resolve(name), Usage(2000, 400), DAY) or Decimal(0) for name in names)
    assert flex < limit < usual
    made = route({"step-override": said | {"max_cost": limit, "fallbacks": ["gpt-5-mini"]}})
    assert ids(made) == ["gpt-5@flex", "gpt-5-mini"]
    assert [(entry["model"], "more than `max_cost`" in entry["reason"]) for entry in made.ignored] == [("gpt-5", True)]
    made = route({"step-override": said | {"fallbacks": ["gpt-5-mini"]}}, {"gpt-5": "it is open"})
    assert ids(made) == ["gpt-5@flex", "gpt-5-mini"]
    assert [entry["model"] for entry in made.ignored] == ["gpt-5"]
    # Where both are open the layer has nothing else.
    made = route({"step-override": said}, {"gpt-5@flex": "it is open", "gpt-5": "it is open"})
    assert set(ids(made)) == {"gpt-5@flex", "gpt-5"}


def test_what_is_pinned_keeps_its_order():
    said = {"step-override": {"model": "gpt-5@flex", "max_cost": Decimal("0.004")}}
    record = route(said).to_record()
    step: Any = {"name": "writer", "role": "Writer"}
    request = RouteRequest("w", None, step, {}, frozenset(), pinned=record)
    again = plan(request, NO_OVERRIDE, NO_OVERRIDE, "small", bundled(), NOW).route(request.key)
    assert [model.id for model in again.attempt_order] == record["attempt_order"] == ["gpt-5@flex"]
