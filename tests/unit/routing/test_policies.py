"""Policies in decisions: what is left out beforehand, and what follows the chosen model."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from loopllama.catalog.catalog import bundled
from loopllama.errors import NoEligibleModel
from loopllama.policies.step_stats import NOTHING, Latency
from loopllama.routing.decision import RouteRequest, plan
from loopllama.routing.overrides import NO_OVERRIDE, parse_row

NOW = 1_800_000_000.0


def planned(row, *, agent=None, catalog=None, facts=NOTHING, open_breakers=None, due=frozenset(), prompt_tokens=0):
    step: Any = {"name": "s"} | (agent or {})
    request = RouteRequest("w", None, step, {}, frozenset(), prompt_tokens, "run-1")
    rows = parse_row(row) if row is not None else NO_OVERRIDE, NO_OVERRIDE
    return plan(request, *rows, "small", catalog or bundled(), NOW, facts=facts, open_breakers=open_breakers, due=due)


def attempt_order(route):
    return [one.id for one in route.attempt_order]


def test_cheapest_leaves_out_what_has_no_price():
    route = planned({"policy": "cheapest", "candidates": ["openai:house", "gpt-5", "gpt-5-nano"]}).route("k")
    assert attempt_order(route) == ["gpt-5-nano", "gpt-5"]
    assert route.ignored[0]["reason"] == "has no price, so its cost cannot be compared"
    with pytest.raises(NoEligibleModel):
        planned({"policy": "cheapest", "candidates": ["openai:house"]}, catalog=disabled("small"))


def test_a_chosen_model_is_followed_by_fallbacks_and_the_other_candidates():
    row: dict[str, Any] = {"policy": "cheapest", "candidates": ["gpt-5", "gpt-5-nano", "gpt-5-mini"]}
    row["fallbacks"] = ["small", "gpt-5"]
    assert attempt_order(planned(row).route("k")) == ["gpt-5-nano", bundled().aliases()["small"], "gpt-5", "gpt-5-mini"]
    row = {"policy": "weighted", "candidates": [{"model": "gpt-5-mini", "weight": 1}], "model": "gpt-5-nano"}
    assert attempt_order(planned(row).route("k")) == ["gpt-5-mini", "gpt-5-nano"]


def disabled(*models):
    return bundled().with_entries([{"model": bundled().resolve(name).id, "enabled": False} for name in models])


def test_limits_leave_out_what_is_expected_to_exceed_them():
    facts = replace(NOTHING, measured=True, input_tokens=100_000, output_tokens=1_000)
    row = {"policy": "weighted", "candidates": ["gpt-5", "gpt-5-nano"], "max_cost": Decimal("0.02")}
    route = planned(row, facts=facts).route("k")
    assert attempt_order(route) == ["gpt-5-nano"]
    assert route.ignored[0]["model"] == "gpt-5"
    assert "more than `max_cost` $0.02" in route.ignored[0]["reason"]
    assert route.invalid_overrides == 0
    slow = replace(facts, latency={"gpt-5": Latency(9_000, 50), "gpt-5-nano": Latency(800, 50)})
    row = {"model": "gpt-5", "fallbacks": ["gpt-5-nano"], "max_latency": Decimal(5_000)}
    route = planned(row, facts=slow).route("k")
    assert attempt_order(route) == ["gpt-5-nano"]
    assert "more than `max_latency` 5000" in route.ignored[0]["reason"]


def test_candidates_that_stand_for_the_same_model_count_once():
    route = planned({"policy": "weighted", "candidates": ["gpt-5", "openai:gpt-5", "gpt-5-mini"]}).route("k")
    assert sorted(attempt_order(route)) == ["gpt-5", "gpt-5-mini"]
    assert "a candidate already" in route.ignored[0]["reason"]


def test_a_model_set_aside_is_passed_over_unless_nothing_else_is_left():
    open_breakers = {"gpt-5": "set aside"}
    route = planned({"model": "gpt-5", "fallbacks": ["gpt-5-mini"]}, open_breakers=open_breakers).route("k")
    assert attempt_order(route) == ["gpt-5-mini"]
    assert route.ignored == ({"layer": "step-override", "model": "gpt-5", "reason": "set aside"},)
    alone = planned({"model": "gpt-5"}, open_breakers=open_breakers).route("k")
    assert (alone.source, attempt_order(alone)) == ("step-override", ["gpt-5"])
    assert alone.ignored
    row = {"policy": "weighted", "candidates": ["gpt-5", "gpt-5-mini"]}
    assert attempt_order(planned(row, open_breakers=open_breakers).route("k")) == ["gpt-5-mini"]
    both = planned(row, open_breakers=open_breakers | {"gpt-5-mini": "set aside"}).route("k")
    assert sorted(attempt_order(both)) == ["gpt-5", "gpt-5-mini"]


def test_an_agents_definition_may_have_a_policy_with_weights_as_floats():
    agent = {
        "policy": "weighted",
        "candidates": [{"model": "gpt-5", "weight": 0.5}, {"model": "gpt-5-mini", "weight": 0}],
    }
    route = planned(None, agent=agent).route("k")
    assert (route.source, route.policy, attempt_order(route)) == ("agent", "weighted", ["gpt-5"])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"policy": "weighted"}, "`candidates` are missing"),
        ({"policy": "weighted", "candidates": [{"model": "gpt-5", "weight": Decimal(0)}]}, "sum to 0"),
        ({"policy": "weighted", "candidates": [{"model": "gpt-5", "weight": "7"}]}, "weight"),
        ({"policy": "weighted", "candidates": [{"model": "gpt-5", "weight": Decimal(-1)}]}, "weight"),
        ({"policy": "fastest", "candidates": ["gpt-5", "gpt-5"]}, "twice"),
        ({"policy": "cheapest", "candidates": ["gpt-5"], "max_cost": "0.1"}, "`max_cost`"),
        ({"policy": "cheapest", "candidates": ["gpt-5"], "max_cost": Decimal(0)}, "`max_cost`"),
        ({"model": "gpt-5", "max_latency": Decimal("NaN")}, "`max_latency`"),
        ({"max_cost": Decimal(1)}, "`model` is missing"),
    ],
)
def test_what_makes_no_sense_is_told(row, says):
    route = planned(row).route("k")
    assert route.source == "deployment-default"
    assert says in route.ignored[0]["reason"]
    assert route.invalid_overrides == 1


def test_names_of_one_model_have_their_shares_together():
    catalog = bundled().with_entries(
        [
            {"model": "gpt-5", "enabled": False, "replaced_by": "gpt-5-mini"},
            {"model": "cheap-one", "alias_of": "gpt-5-mini"},
        ]
    )
    names = {"gpt-5-mini": 5, "gpt-5-nano": 5, "gpt-5": 50, "cheap-one": 40}
    row = {"policy": "weighted", "candidates": [{"model": name, "weight": share} for name, share in names.items()]}
    decision = planned(row, catalog=catalog)
    assert {one.model.id: one.weight for one in decision.candidates} == {"gpt-5-mini": 95, "gpt-5-nano": 5}
    open_breakers = dict.fromkeys(("gpt-5-mini", "gpt-5-nano"), "open")
    decision = planned(row, catalog=catalog, open_breakers=open_breakers)
    assert {one.model.id: one.weight for one in decision.candidates} == {"gpt-5-mini": 95, "gpt-5-nano": 5}
