"""Policies: what they choose, and how the choice holds."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopllama.catalog.catalog import bundled
from loopllama.catalog.model import Model, Price, Speed
from loopllama.policies.registry import (
    EXPLORED,
    FIXED,
    MAX_NAME,
    POLICIES,
    UNTRIED,
    Policy,
    cheapest,
    fastest,
    find,
    register,
    share_of,
    weighted,
)
from loopllama.policies.step_stats import ENOUGH, NOTHING, Candidate, Facts, Latency, parse_facts

NOW = 1_800_000_000.0
MOMENT = datetime.fromtimestamp(NOW, UTC)
NOW_DATE = date(2020, 1, 1)
ROOT = Path(__file__).parents[3]
SHARED = ROOT / "shared"


def model(name, **fields):
    return Model(name, "openai", name, **fields)


def candidate(name, **fields):
    return Candidate(model(name), **fields)


def names(candidates):
    return [one.model.id for one in candidates]


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
    script = f"from loopllama.policies.registry import share_of; print([share_of(k) for k in {keys!r}])"
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

    assert first(input_tokens=10_000, output_tokens=100) == "reader"
    assert first(input_tokens=1_000, output_tokens=1_000) == "writer"
    assert first(input_tokens=10_000, output_tokens=100, cached_tokens=9_900) == "cacher"


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
    # One that the step has never called goes first, and gets more until it was.
    candidates.append(replace(known("untried", 100), tried=False))
    firsts = [names(fastest(candidates, Facts(leader="quick")).tried(f"run_{n}/s"))[0] for n in range(10_000)]
    assert set(firsts) == {"quick", "untried"}
    assert abs(firsts.count("untried") / 10_000 - UNTRIED) < 0.02
    assert firsts.index("untried") < 16
    # Once everything is known, nothing is explored.
    everything = [known("quick", 500), known("slow", 2_000)]
    assert {names(fastest(everything, NOTHING).tried(f"run_{n}/s"))[0] for n in range(1000)} == {"quick"}


def test_a_model_without_samples_has_its_prior():
    facts = Facts(output_tokens=100, latency={"seen": Latency(5_000, 99)})
    quick = Model("quick", "openai", "quick", speed=Speed(200, 100))
    seen = Model("seen", "openai", "seen", speed=Speed(200, 100))
    assert facts.candidate(quick, 1, MOMENT).latency_ms == 1_200
    assert facts.candidate(quick, 1, MOMENT).samples == 0
    assert facts.candidate(seen, 1, MOMENT).latency_ms == pytest.approx((99 * 5_000 + 1_200) / 100)


# All of them

RANKING = pytest.mark.parametrize(
    "policy", [one for one in POLICIES.values() if one.rank is not None], ids=lambda policy: policy.name
)
EVERY = pytest.mark.parametrize("policy", POLICIES.values(), ids=lambda policy: policy.name)

expected = st.builds(
    Candidate,
    model=st.integers(0, 50).map(lambda number: model(str(number))),
    weight=st.floats(0, 1e6),
    cost_usd=st.none() | st.decimals(0, 9, places=6),
    latency_ms=st.floats(0, 1e6),
    samples=st.floats(0, 100),
)
several = st.lists(expected, min_size=1, max_size=8, unique_by=lambda one: one.model.id)


@RANKING
@given(candidates=several, leader=st.none() | st.integers(0, 50).map(str), key=st.text(max_size=20))
def test_every_candidate_is_tried_once_and_each_retry_keeps_the_order(policy, candidates, leader, key):
    """Also where one has no price, no weight or no samples: such a one is left where the layer has nothing else."""
    facts = Facts(leader=leader)
    order = names(policy.rank(candidates, facts).tried(key))
    assert sorted(order) == sorted(names(candidates))
    assert names(policy.rank(list(candidates), facts).tried(key)) == order


@RANKING
def test_what_a_policy_does_not_need_has_no_say(policy):
    """So that what it rests on is measured, in every step that uses it."""

    def ranked(**fields):
        made = [candidate(name, **{field: values[place] for field, values in fields.items()})
                for place, name in enumerate("abc")]  # fmt: skip
        return names(policy.rank(made, NOTHING).tried("r/s"))

    known = {"samples": [ENOUGH] * 3}
    facts: dict[str, dict[str, Any]] = {
        "cost": {"cost_usd": [Decimal(3), Decimal(1), Decimal(2)]},
        "latency": {"latency_ms": [3.0, 1.0, 2.0]},
    }
    for need, values in facts.items():
        other = {field: figures for name, one in facts.items() if name != need for field, figures in one.items()}
        assert (ranked(**known, **other, **values) == ranked(**known, **other)) is (need not in policy.needs)


@EVERY
def test_a_policy_admits_what_it_can_compare(policy):
    unpriced, weightless = candidate("a"), candidate("a", weight=0.0, cost_usd=Decimal(1))
    assert policy.refusal(candidate("a", cost_usd=Decimal(0))) is None
    assert (policy.refusal(unpriced) is None) is ("cost" not in policy.needs)
    assert (policy.refusal(weightless) is None) is (not policy.takes_weights)


@EVERY
def test_a_policy_is_found_by_its_name_and_by_nothing_else(policy: Policy) -> None:
    assert find(policy.name) is policy
    assert policy.name == policy.name.lower()
    assert policy.by
    assert policy.chooses or not (policy.needs or policy.takes_weights)
    assert find(policy.name.upper()) is None


def test_where_none_is_named_it_is_the_one_that_chooses_nothing():
    assert find(None) is FIXED
    assert not FIXED.chooses
    assert [find(other) for other in ("", "none", 7, ["fixed"], {"fixed"}, b"fixed")] == [None] * 6


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (Policy("cheapest", "x"), "already"),
        (Policy("", "x"), "identifier"),
        (Policy("as cheap", "x"), "identifier"),
        (Policy("x" * (MAX_NAME + 1), "x"), "identifier"),
        (
            Policy("pleasant", "x", needs=frozenset({cast("Any", "mood")})),
            "nobody gathers mood; a policy may need cost, latency",
        ),
    ],
)
def test_what_cannot_be_a_policy_is_not_registered(policy, says):
    before = dict(POLICIES)
    with pytest.raises(ValueError, match=says):
        register(policy)
    assert before == POLICIES


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
        st.sampled_from(
            ["latency", "leader", "calls", "input_tokens", "output_tokens", "wanted_at", "latency_of", "observed_at"]
        ),
        odd,
    )
)
def test_facts_that_make_no_sense_count_as_unknown(item):
    facts = parse_facts(item, 0.0, ("openai",))
    made = [facts.candidate(bundled().resolve(name), 1.0, MOMENT) for name in ("gpt-5", "gpt-5-mini")]
    for policy in POLICIES.values():
        if policy.rank is not None:
            assert sorted(names(policy.rank(made, facts).tried("k"))) == ["gpt-5", "gpt-5-mini"]


def asked_by_name(source):
    """The lines that compare with the name of a policy, or take one as a key or a `Literal`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare | ast.Subscript | ast.MatchValue):
            of = node.slice if isinstance(node, ast.Subscript) else node
            texts = {one.value for one in ast.walk(of) if isinstance(one, ast.Constant) and isinstance(one.value, str)}
            if texts & POLICIES.keys():
                yield node.lineno


@pytest.mark.parametrize("layer", ["shared", "cli"])
def test_nobody_asks_for_a_policy_by_its_name(layer):
    """They ask the object, so that another policy is another entry of the registry and no more."""
    files = sorted((ROOT / layer).rglob("*.py"))
    asked = [(str(path.relative_to(ROOT)), line) for path in files for line in asked_by_name(path.read_text())]
    assert asked == []


def test_what_counts_as_asking_for_a_name():
    name = max(POLICIES)
    source = f"""a == "{name}"
a not in (None, "{name}")
x: Literal["{name}", "other"]
POLICIES["{name}"]
"{name}"
f(policy="{name}")
"""
    assert sorted(asked_by_name(source)) == [1, 2, 3, 4]
