"""What is learnt of a step's models: the rule of `fastest` on simulated arrivals, and what samples say of a model."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from statistics import mean
from typing import Any

import pytest

from loopllama.catalog.model import Model, Speed
from loopllama.policies import samples
from loopllama.policies.registry import fastest
from loopllama.policies.samples import Sample
from loopllama.policies.step_stats import (
    ENOUGH,
    PRIOR_SAMPLES,
    Facts,
    Latency,
    expected_ms,
    lead,
    parse_facts,
    summary,
)

MOMENT = datetime(2027, 1, 15, tzinfo=UTC)
SEEN_SECONDS = 5
"""From a call's end to the decision that knows of it, but for the routes' cache."""


class Arrivals:
    """A step under `fastest`: runs arrive, each takes a model; every five seconds what settled is put together.

    `speeds` is model to its true mean latency (ms); a call's own varies by a half of it, as SPREAD assumes.
    """

    def __init__(self, speeds: dict[str, float], prior_ms: float = 800, seed: int = 1) -> None:
        self.speeds = dict(speeds)
        self.failing: set[str] = set()
        speed = Speed(int(prior_ms) - 400, 1000)
        self.models = [Model(name, "openai", name, speed=speed) for name in speeds]
        self.random = random.Random(seed)  # noqa: S311 - not for secrets
        self.groups: dict[str, samples.Group] = {}
        self.facts = Facts()
        self.now = 1_795_500_000
        self.run = 0

    def pass_time(self, runs: int, seconds: int = SEEN_SECONDS) -> Counter[str]:
        """So many seconds of arrivals and what is learnt of them; how many runs each model took."""
        taken: Counter[str] = Counter()
        candidates = [self.facts.candidate(model, 1.0, MOMENT) for model in self.models]
        fresh: dict[str, list[Sample]] = {}
        for place in range(runs):
            self.run += 1
            name = fastest(candidates, self.facts).tried(f"run_{self.run}/s")[0].model.id
            taken[name] += 1
            took = round(self.speeds[name] * self.random.gammavariate(4, 1 / 4))
            moment = self.now + place * seconds // runs
            turn = samples.turn_id(f"run_{self.run}", "s")
            fresh.setdefault(name, []).append(Sample(moment, took, name in self.failing, 9, 9, 0, turn, "0001"))
        self.now += seconds
        for name, calls in fresh.items():
            self.groups[name] = samples.merged(self.groups.get(name, ()), calls)
        item = {**summary(self.groups, {}, self.now), "leader": self.facts.leader}
        facts = parse_facts(item, self.now)
        expected = {}
        for model in self.models:
            latency = facts.latency.get(model.id)
            expected[model.id] = Latency(
                expected_ms(latency, facts.prior_ms(model)), (latency.samples if latency else 0) + PRIOR_SAMPLES
            )
        self.facts = parse_facts({**item, "leader": lead(facts.leader, expected)}, self.now)
        return taken

    def settle(self, runs: int = 20, times: int = 60) -> None:
        for _ in range(times):
            self.pass_time(runs)


SEEDS = range(1, 5)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_quickest_gets_the_traffic(seed: int) -> None:
    arrivals = Arrivals({"slow": 2000, "quick": 600, "middle": 1400}, seed=seed)
    arrivals.settle()
    assert arrivals.facts.leader == "quick"
    assert arrivals.pass_time(200)["quick"] >= 170


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("factor", "times"), [(3, 6), (10, 2)])
def test_a_model_that_turns_slow_loses_its_traffic_within_seconds(seed: int, factor: int, times: int) -> None:
    """Four calls a second: ten times as slow it is found out in ten seconds, three times as slow in thirty."""
    arrivals = Arrivals({"a": 600, "b": 700}, seed=seed)
    arrivals.settle()
    leader = str(arrivals.facts.leader)
    other = "b" if leader == "a" else "a"
    arrivals.speeds[leader] *= factor
    arrivals.settle(times=times)
    assert arrivals.facts.leader == other
    assert arrivals.pass_time(200)[other] >= 170


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_that_fails_loses_its_traffic_within_ten_seconds(seed: int) -> None:
    arrivals = Arrivals({"a": 600, "b": 1200}, seed=seed)
    arrivals.settle()
    assert arrivals.facts.leader == "a"
    arrivals.failing.add("a")
    arrivals.settle(times=2)
    assert arrivals.facts.leader == "b"


@pytest.mark.parametrize("seed", SEEDS)
def test_one_that_recovers_gets_its_traffic_back(seed: int) -> None:
    arrivals = Arrivals({"a": 500, "b": 1500}, seed=seed)
    arrivals.settle()
    arrivals.speeds["a"] = 8000
    arrivals.settle()
    assert arrivals.facts.leader == "b"
    arrivals.speeds["a"] = 500
    began = arrivals.now
    while arrivals.facts.leader != "a":
        arrivals.pass_time(20)
        assert arrivals.now - began <= 20 * 60
    arrivals.settle(times=10)
    assert arrivals.pass_time(200)["a"] >= 170


def test_one_never_tried_is_tried_within_the_stated_number_of_runs() -> None:
    for seed in SEEDS:
        arrivals = Arrivals({"known": 500, "new": 400, "newer": 400}, prior_ms=3000, seed=seed)
        arrivals.facts = Facts(latency={"known": Latency(500, 50)}, leader="known")
        taken = arrivals.pass_time(2 * 100)
        assert taken["new"]
        assert taken["newer"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("runs", [1, 20])
def test_it_never_flaps_between_equals(seed: int, runs: int) -> None:
    arrivals = Arrivals({"a": 700, "b": 700, "c": 720}, seed=seed)
    arrivals.settle(runs)
    leaders = []
    for _ in range(360):  # half an hour
        arrivals.pass_time(runs)
        leaders.append(arrivals.facts.leader)
    changes = sum(one != other for one, other in pairwise(leaders))
    assert changes <= 1


def test_what_is_explored_stays_bounded() -> None:
    arrivals = Arrivals({"a": 500, **{f"bad{n}": 20_000 for n in range(5)}}, prior_ms=800)
    arrivals.settle()
    shares = [1 - arrivals.pass_time(200)["a"] / 200 for _ in range(20)]
    assert max(shares) < 0.2
    assert mean(shares) < 0.11


# The parts


def facts_of(
    here: dict[str, samples.Group] | None = None,
    elsewhere: dict[str, samples.Group] | None = None,
    *,
    now: float = 1000,
    simulated: tuple[str, ...] = (),
    **item: Any,
) -> Facts:
    return parse_facts({**item, **summary(here or {}, elsewhere or {}, now)}, now, simulated)


def calls(count: int, ms: int, at: int = 1000, **more: Any) -> tuple[Sample, ...]:
    """So many samples of one latency."""
    fields = {"failed": False, "input_tokens": 0, "output_tokens": 100, "cached_tokens": 0, **more}
    return tuple(Sample(at, ms, turn=f"{ms}.{n:03}", attempt="0001", **fields) for n in range(count))


def test_what_a_model_did_elsewhere_is_a_prior_and_no_knowledge() -> None:
    enough, few = int(ENOUGH), int(ENOUGH) - 1
    elsewhere = {"m": calls(9, 900)}
    assert facts_of({"m": calls(enough, 100)}, elsewhere).latency["m"] == Latency(100, enough, None, tried=True)
    assert facts_of({"m": calls(few, 100)}, elsewhere).latency["m"] == Latency(100, few, 900, tried=True)
    assert facts_of(elsewhere=elsewhere).latency["m"] == Latency(0, 0, 900, tried=False)
    # Once tried is tried, also when what was seen of it is old.
    old = facts_of({"m": calls(3, 100, at=0)}, now=99_999)
    assert old.latency["m"] == Latency(0, 0, None, tried=True)
    model = Model("m", "openai", "m", speed=Speed(200, 1000))
    borrowed = facts_of(elsewhere=elsewhere).candidate(model, 1, MOMENT)
    assert (borrowed.latency_ms, borrowed.samples, borrowed.tried) == (900, 0, False)
    assert old.candidate(model, 1, MOMENT).tried
    assert expected_ms(Latency(100, 9, 1100), 5) == 200
    assert facts_of(elsewhere=elsewhere).candidate(Model("n", "openai", "n"), 1, MOMENT).tried is False


def test_what_is_known_grows_old_though_nobody_writes() -> None:
    item = summary({"m": calls(12, 100)}, {"n": calls(3, 900)}, 1000)
    assert parse_facts(item, 1000).latency == {"m": Latency(100, 12, None, True), "n": Latency(0, 0, 900, False)}
    half = parse_facts(item, 1000 + samples.WINDOW_SECONDS / 2).latency
    assert half["m"] == Latency(100, 6, None, True)
    late = parse_facts(item, 1000 + samples.WINDOW_SECONDS).latency
    assert late == {"m": Latency(0, 0, None, True), "n": Latency(0, 0, None, False)}
    assert parse_facts(item, 10**9).output_tokens == 100, "a step's tokens are what they were"
    assert parse_facts({**item, "observed_at": None}, 1000).latency == late


def test_a_simulated_call_is_no_figure_of_the_real_model_nor_the_other_way_round() -> None:
    both = {"m": calls(12, 4000), "m (simulated)": calls(12, 10, output_tokens=900)}
    model = Model("m", "openai", "m", speed=Speed(100, 10_000))
    real = facts_of(both, leader="m")
    assert real.candidate(model, 1, MOMENT).latency_ms == pytest.approx(4000, rel=0.2)
    assert not real.measured, "simulated tokens are none of its own either"
    assert facts_of({"m": both["m"]}).output_tokens == 100
    for providers in (("openai",), ("*",)):
        simulated = facts_of(both, simulated=providers)
        assert simulated.candidate(model, 1, MOMENT).latency_ms < 200
        assert simulated.name_of(model) == "m (simulated)"
    # A leader that simulated calls made leads no real ones.
    other = Model("n", "openai", "n", speed=Speed(1, 10_000))
    made_by = facts_of({"m (simulated)": calls(12, 10)}, leader="m (simulated)")
    ranked = fastest([made_by.candidate(one, 1, MOMENT) for one in (model, other)], made_by)
    assert [one.model.id for one in ranked.order] == ["n", "m"]
