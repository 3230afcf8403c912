"""Policies: what they choose, how the choice holds, and what is left out beforehand."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.catalog.catalog import bundled
from loopllama.catalog.model import Model, Price, Speed
from loopllama.errors import NoModelLeft
from loopllama.routing.decision import RouteRequest, plan
from loopllama.routing.overrides import NO_OVERRIDE, parse_row
from loopllama.routing.policies import ENOUGH, EXPLORED, cheapest, fastest, share_of, weighted
from loopllama.routing.step_stats import NOTHING, Candidate, Facts, Latency, parse_facts

NOW = 1_800_000_000.0
MOMENT = datetime.fromtimestamp(NOW, UTC)
NOW_DATE = date(2020, 1, 1)
SHARED = Path(__file__).parents[3] / "shared"


def model(name, **fields):
    return Model(name, "openai", name, **fields)


def candidate(name, **fields):
    return Candidate(model(name), **fields)


def names(candidates):
    return [one.model.id for one in candidates]


def planned(row, *, agent=None, catalog=None, facts=NOTHING, aside=None, due=frozenset(), prompt_tokens=0):
    step: Any = {"name": "s"} | (agent or {})
    request = RouteRequest("w", None, step, {}, frozenset(), prompt_tokens, "run-1")
    rows = parse_row(row) if row is not None else NO_OVERRIDE, NO_OVERRIDE
    return plan(request, *rows, "small", catalog or bundled(), NOW, facts=facts, aside=aside, due=due)


def chain(route):
    return [one.id for one in route.chain]


# weighted


def test_shares_hold_over_ten_thousand_runs_and_each_run_keeps_its_model():
    shares = {"a": 70.0, "b": 25.0, "c": 5.0, "d": 0.0}
    candidates = [candidate(name, weight=weight) for name, weight in shares.items()]
    runs = 10_000
    chosen = [weighted(candidates, NOTHING).tried(f"run_{number}/draft")[0].model.id for number in range(runs)]
    counts = Counter(chosen)
    for name, share in shares.items():
        expected = share / 100
        deviation = (expected * (1 - expected) / runs) ** 0.5
        assert abs(counts[name] / runs - expected) <= 4 * deviation
    again = [weighted(candidates, NOTHING).tried(f"run_{number}/draft")[0].model.id for number in range(runs)]
    assert again == chosen


def test_steps_of_one_run_are_split_apart_from_each_other():
    candidates = [candidate("a"), candidate("b")]
    both = Counter(
        tuple(weighted(candidates, NOTHING).tried(f"run_{n}/{step}")[0].model.id for step in ("one", "two"))
        for n in range(4000)
    )
    assert all(800 < count < 1200 for count in both.values())
    assert len(both) == 4


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20).filter(any), st.text())
def test_a_weight_of_nothing_gets_nothing(weights, key):
    candidates = [candidate(str(place), weight=weight) for place, weight in enumerate(weights)]
    order = weighted(candidates, NOTHING).tried(key)
    assert order[0].weight > 0
    assert sorted(names(order)) == sorted(names(candidates))


def test_the_same_key_means_the_same_share_in_every_process():
    keys = [f"run_{number}/s" for number in range(20)]
    script = f"from loopllama.routing.policies import share_of; print([share_of(k) for k in {keys!r}])"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": str(SHARED), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str([share_of(key) for key in keys])


# cheapest


def test_cheapest_takes_the_steps_own_tokens_into_account():
    reader = model("reader", prices=(Price(NOW_DATE, Decimal(1), Decimal(20)),))
    writer = model("writer", prices=(Price(NOW_DATE, Decimal(3), Decimal(4)),))
    cacher = model("cacher", prices=(Price(NOW_DATE, Decimal(3), Decimal(20), cache_read=Decimal("0.1")),))

    def first(**tokens):
        facts = replace(NOTHING, measured=True, **tokens)
        made = [facts.candidate(one, 1.0, MOMENT) for one in (cacher, reader, writer)]
        return cheapest(made, facts).tried("k")[0].model.id

    assert first(tokens_in=10_000, tokens_out=100) == "reader"
    assert first(tokens_in=1_000, tokens_out=1_000) == "writer"
    assert first(tokens_in=10_000, tokens_out=100, tokens_cached=9_900) == "cacher"


def test_cheapest_leaves_out_what_has_no_price():
    route = planned({"policy": "cheapest", "candidates": ["openai:house", "gpt-5", "gpt-5-nano"]}).route("k")
    assert chain(route) == ["gpt-5-nano", "gpt-5"]
    assert route.ignored[0]["reason"] == "has no price, so its cost cannot be compared"
    with pytest.raises(NoModelLeft):
        planned({"policy": "cheapest", "candidates": ["openai:house"]}, catalog=disabled("small"))


# fastest


def known(name, ms, samples=100.0):
    return candidate(name, latency_ms=ms, samples=samples)


def test_fastest_uses_the_leader_and_the_quickest_without_one():
    candidates = [known("slow", 900), known("quick", 500), known("middle", 600)]
    assert names(fastest(candidates, NOTHING).tried("k")) == ["quick", "middle", "slow"]
    assert names(fastest(candidates, Facts(leader="middle")).tried("k")) == ["middle", "quick", "slow"]
    assert names(fastest(candidates, Facts(leader="gone")).tried("k"))[0] == "quick"


def test_the_unknown_get_a_bounded_share_and_each_is_tried_soon():
    candidates = [known("quick", 500), *(known(f"new{n}", 2_000, samples=ENOUGH - 1) for n in range(3))]
    firsts = [names(fastest(candidates, Facts(leader="quick")).tried(f"run_{n}/s"))[0] for n in range(10_000)]
    explored = [name for name in firsts if name != "quick"]
    assert abs(len(explored) / 10_000 - EXPLORED) < 0.015
    for new in ("new0", "new1", "new2"):
        assert firsts.index(new) < 300
        assert abs(explored.count(new) / len(explored) - 1 / 3) < 0.06
    # Once everything is known, nothing is explored.
    everything = [known("quick", 500), known("slow", 2_000)]
    assert {names(fastest(everything, NOTHING).tried(f"run_{n}/s"))[0] for n in range(1000)} == {"quick"}


def test_a_model_without_samples_has_its_prior():
    facts = Facts(tokens_out=100, latency={"seen": Latency(5_000, 99)})
    quick = Model("quick", "openai", "quick", speed=Speed(200, 100))
    seen = Model("seen", "openai", "seen", speed=Speed(200, 100))
    assert facts.candidate(quick, 1, MOMENT).latency_ms == 1_200
    assert facts.candidate(quick, 1, MOMENT).samples == 0
    assert facts.candidate(seen, 1, MOMENT).latency_ms == pytest.approx((99 * 5_000 + 1_200) / 100)


# What is out beforehand


def test_a_chosen_model_is_followed_by_fallbacks_and_the_other_candidates():
    row: dict[str, Any] = {"policy": "cheapest", "candidates": ["gpt-5", "gpt-5-nano", "gpt-5-mini"]}
    row["fallbacks"] = ["small", "gpt-5"]
    assert chain(planned(row).route("k")) == ["gpt-5-nano", bundled().aliases()["small"], "gpt-5", "gpt-5-mini"]
    row = {"policy": "weighted", "candidates": [{"model": "gpt-5-mini", "weight": 1}], "model": "gpt-5-nano"}
    assert chain(planned(row).route("k")) == ["gpt-5-mini", "gpt-5-nano"]


def disabled(*models):
    return bundled().with_entries([{"model": bundled().resolve(name).id, "enabled": False} for name in models])


def test_limits_leave_out_what_is_expected_to_exceed_them():
    facts = replace(NOTHING, measured=True, tokens_in=100_000, tokens_out=1_000)
    row = {"policy": "weighted", "candidates": ["gpt-5", "gpt-5-nano"], "max_cost": Decimal("0.02")}
    route = planned(row, facts=facts).route("k")
    assert chain(route) == ["gpt-5-nano"]
    assert route.ignored[0]["model"] == "gpt-5"
    assert "more than `max_cost` 0.02" in route.ignored[0]["reason"]
    assert route.invalid_overrides == 0
    slow = replace(facts, latency={"gpt-5": Latency(9_000, 50), "gpt-5-nano": Latency(800, 50)})
    row = {"model": "gpt-5", "fallbacks": ["gpt-5-nano"], "max_latency": Decimal(5_000)}
    route = planned(row, facts=slow).route("k")
    assert chain(route) == ["gpt-5-nano"]
    assert "more than `max_latency` 5000" in route.ignored[0]["reason"]


def test_candidates_that_stand_for_the_same_model_count_once():
    route = planned({"policy": "weighted", "candidates": ["gpt-5", "openai:gpt-5", "gpt-5-mini"]}).route("k")
    assert sorted(chain(route)) == ["gpt-5", "gpt-5-mini"]
    assert "a candidate already" in route.ignored[0]["reason"]


def test_a_model_set_aside_is_passed_over_unless_nothing_else_is_left():
    aside = {"gpt-5": "set aside"}
    route = planned({"model": "gpt-5", "fallbacks": ["gpt-5-mini"]}, aside=aside).route("k")
    assert chain(route) == ["gpt-5-mini"]
    assert route.ignored == ({"layer": "step", "model": "gpt-5", "reason": "set aside"},)
    alone = planned({"model": "gpt-5"}, aside=aside).route("k")
    assert (alone.source, chain(alone)) == ("step", ["gpt-5"])
    assert alone.ignored
    row = {"policy": "weighted", "candidates": ["gpt-5", "gpt-5-mini"]}
    assert chain(planned(row, aside=aside).route("k")) == ["gpt-5-mini"]
    both = planned(row, aside=aside | {"gpt-5-mini": "set aside"}).route("k")
    assert sorted(chain(both)) == ["gpt-5", "gpt-5-mini"]


def test_an_agents_definition_may_have_a_policy_with_weights_as_floats():
    agent = {
        "policy": "weighted",
        "candidates": [{"model": "gpt-5", "weight": 0.5}, {"model": "gpt-5-mini", "weight": 0}],
    }
    route = planned(None, agent=agent).route("k")
    assert (route.source, route.policy, chain(route)) == ("agent", "weighted", ["gpt-5"])


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
    assert route.source == "deployment"
    assert says in route.ignored[0]["reason"]
    assert route.invalid_overrides == 1


odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(["ms"]), inner),
    max_leaves=6,
)


@given(
    st.none()
    | st.dictionaries(
        st.sampled_from(["latency", "leader", "calls", "tokens_in", "tokens_out", "wanted_at", "latency_of"]), odd
    )
)
def test_facts_that_make_no_sense_count_as_unknown(item):
    facts = parse_facts(item)
    made = [facts.candidate(bundled().resolve(name), 1.0, MOMENT) for name in ("gpt-5", "gpt-5-mini")]
    for policy in (weighted, cheapest, fastest):
        assert sorted(names(policy(made, facts).tried("k"))) == ["gpt-5", "gpt-5-mini"]
