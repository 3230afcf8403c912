"""Latency that is observed, recent and shared: the rule on simulated arrivals, the function on moto's CloudWatch."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from statistics import mean
from typing import Any

import boto3
import pytest
from support.cloudwatch import gather
from support.routing_tables import CONFIG, Clock, attempt_order, put, request, tables

from loopllama.aws import dynamo
from loopllama.catalog.model import Model, Speed
from loopllama.engine import metrics
from loopllama.jobs import observe_latency
from loopllama.jobs.observe_latency import FAILURE_MS, Minute, Observer, figure, recent, tokens_of
from loopllama.policies.registry import fastest
from loopllama.policies.step_stats import ENOUGH, PRIOR_SAMPLES, Facts, Latency, expected_ms, lead
from loopllama.routing.router import Router

MOMENT = datetime(2027, 1, 15, tzinfo=UTC)


class Arrivals:
    """A step under `fastest`: runs arrive, each takes a model, each minute what was seen is refreshed.

    `speeds` is model to its true mean latency (ms); a call's own varies by a half of it, as SPREAD assumes.
    """

    def __init__(self, speeds: dict[str, float], prior_ms: float = 800, seed: int = 1) -> None:
        self.speeds = dict(speeds)
        self.failing: set[str] = set()
        speed = Speed(int(prior_ms) - 400, 1000)
        self.models = [Model(name, "openai", name, speed=speed) for name in speeds]
        self.random = random.Random(seed)  # noqa: S311 - not for secrets
        self.minutes: dict[str, dict[int, Minute]] = {name: {} for name in speeds}
        self.facts = Facts()
        self.minute = 0
        self.run = 0

    def pass_minute(self, runs: int) -> Counter[str]:
        """One minute of arrivals and the refresh after it; how many runs each model took."""
        taken: Counter[str] = Counter()
        candidates = [self.facts.candidate(model, 1.0, MOMENT) for model in self.models]
        for _ in range(runs):
            self.run += 1
            name = fastest(candidates, self.facts).tried(f"run_{self.run}/s")[0].model.id
            taken[name] += 1
            seen = self.minutes[name].setdefault(self.minute * 60, Minute())
            if name in self.failing:
                seen.failed += 1
            else:
                seen.answered += 1
                seen.ms += self.speeds[name] * self.random.gammavariate(4, 1 / 4)
        self.minute += 1
        now = float(self.minute * 60)
        known = {name: latency for name in self.speeds if (latency := recent(self.minutes[name], now))}
        expected = {}
        for model in self.models:
            latency = known.get(model.id)
            samples = (latency.samples if latency else 0.0) + PRIOR_SAMPLES
            expected[model.id] = Latency(expected_ms(latency, self.facts.prior_ms(model)), samples)
        self.facts = Facts(latency=known, leader=lead(self.facts.leader, expected))
        return taken

    def settle(self, runs: int = 60, minutes: int = 10) -> None:
        for _ in range(minutes):
            self.pass_minute(runs)


SEEDS = range(1, 9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_quickest_gets_the_traffic(seed):
    arrivals = Arrivals({"slow": 2000, "quick": 600, "middle": 1400}, seed=seed)
    arrivals.settle()
    assert arrivals.facts.leader == "quick"
    assert arrivals.pass_minute(200)["quick"] >= 170


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("factor", [3, 10])
def test_a_model_that_turns_slow_loses_its_traffic_within_two_refreshes(seed, factor):
    arrivals = Arrivals({"a": 600, "b": 700}, seed=seed)
    arrivals.settle()
    leader = str(arrivals.facts.leader)
    other = "b" if leader == "a" else "a"
    arrivals.speeds[leader] *= factor
    arrivals.pass_minute(60)
    arrivals.pass_minute(60)
    assert arrivals.facts.leader == other
    assert arrivals.pass_minute(200)[other] >= 170


@pytest.mark.parametrize("seed", SEEDS)
def test_a_model_that_fails_loses_its_traffic_within_two_refreshes(seed):
    arrivals = Arrivals({"a": 600, "b": 1200}, seed=seed)
    arrivals.settle()
    assert arrivals.facts.leader == "a"
    arrivals.failing.add("a")
    arrivals.pass_minute(60)
    arrivals.pass_minute(60)
    assert arrivals.facts.leader == "b"


@pytest.mark.parametrize("seed", SEEDS)
def test_one_that_recovers_gets_its_traffic_back(seed):
    arrivals = Arrivals({"a": 500, "b": 1500}, seed=seed)
    arrivals.settle()
    arrivals.speeds["a"] = 8000
    arrivals.settle(minutes=5)
    assert arrivals.facts.leader == "b"
    arrivals.speeds["a"] = 500
    waited = 0
    while arrivals.facts.leader != "a":
        arrivals.pass_minute(60)
        waited += 1
        assert waited <= 20
    arrivals.settle(minutes=3)
    assert arrivals.pass_minute(200)["a"] >= 170


def test_one_never_tried_is_tried_within_the_stated_number_of_runs():
    for seed in SEEDS:
        arrivals = Arrivals({"known": 500, "new": 400, "newer": 400}, prior_ms=3000, seed=seed)
        arrivals.minutes["known"] = {0: Minute(50, 25_000)}
        arrivals.facts = Facts(latency={"known": Latency(500, 50)}, leader="known")
        taken = arrivals.pass_minute(2 * 100)
        assert taken["new"]
        assert taken["newer"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("runs", [4, 60])
def test_it_never_flaps_between_equals(seed, runs):
    arrivals = Arrivals({"a": 700, "b": 700, "c": 720}, seed=seed)
    arrivals.settle(runs)
    leaders = []
    for _ in range(120):
        arrivals.pass_minute(runs)
        leaders.append(arrivals.facts.leader)
    changes = sum(one != other for one, other in pairwise(leaders))
    assert changes <= 1


def test_what_is_explored_stays_bounded():
    arrivals = Arrivals({"a": 500, **{f"bad{n}": 20_000 for n in range(5)}}, prior_ms=800)
    arrivals.settle()
    shares = [1 - arrivals.pass_minute(200)["a"] / 200 for _ in range(60)]
    assert max(shares) < 0.2
    assert mean(shares) < 0.11


# The parts


def test_the_newest_minutes_count_and_old_ones_fade():
    now = 6_000.0
    busy = {5_940: Minute(25, 25 * 100.0), 5_880: Minute(100, 100 * 9_000.0)}
    latest = recent(busy, now)
    assert latest is not None
    assert latest.ms == 100
    quiet = {5_940: Minute(1, 100.0), 5_400: Minute(1, 1000.0), 0: Minute(50, 1.0)}
    found = recent(quiet, now)
    assert found is not None
    assert found.ms == pytest.approx((100 + 0.4 * 1000) / 1.4)
    assert found.samples == pytest.approx(1.4)
    assert recent({}, now) is None
    assert recent({5_940: Minute(0, 0, 2)}, now) == Latency(FAILURE_MS, 2)


def test_what_a_model_did_elsewhere_is_a_prior_and_no_knowledge():
    assert figure(Latency(100, ENOUGH), Latency(900, 50), 7) == Latency(100, ENOUGH, None, 7)
    assert figure(Latency(100, 5), Latency(900, 50), 7) == Latency(100, 5, 900, 7)
    assert figure(None, Latency(900, 50), 0) == Latency(900, 0, 900, 0)
    assert figure(None, None, 7) == Latency(0, 0, None, 7)
    assert figure(None, None, 0) is None
    model = Model("m", "openai", "m", speed=Speed(200, 1000))
    facts = Facts(output_tokens=100, latency={"m": Latency(0, 0, 900, 0)})
    borrowed = facts.candidate(model, 1, MOMENT)
    assert (borrowed.latency_ms, borrowed.samples, borrowed.tried) == (900, 0, False)
    assert expected_ms(Latency(100, 9, 1100, 7), 5) == 200
    assert facts.candidate(Model("n", "openai", "n"), 1, MOMENT).tried is False


def test_a_leader_that_is_known_makes_room_for_a_faster_one_that_only_other_steps_know(dynamodb, capsys):
    """As it was on a real stack: 41 runs on a model of 4 s beside one of 0.8 s without one try."""
    clock, cloudwatch, reader = Clock(), CountingCloudWatch(), Reader()
    reader.run["steps"][0]["attempts"][0]["model"] = "gpt-5"
    put(dynamodb, "routes", workflow="w", step="writer", policy="fastest", candidates=["gpt-5", "gpt-5-mini"])
    router = Router(CONFIG, dynamodb, clock)
    router.decide(request())
    observer = Observer(CONFIG, dynamodb, cloudwatch, reader, clock)
    emitted(capsys, cloudwatch, clock, [("gpt-5-mini", "ok", 4_200)] * 30, policy="fixed")
    emitted(capsys, cloudwatch, clock, [("gpt-5", "ok", 4_000)] * 12)
    observer.refresh()
    assert item(dynamodb)["leader"] == "gpt-5"
    assert "tried" not in item(dynamodb)["latency"]["gpt-5-mini"]
    clock.now += 5
    firsts = [attempt_order(router.decide(request(run_id=f"r{n}")))[0] for n in range(400)]
    assert firsts.index("gpt-5-mini") < 16
    assert 0.2 < firsts.count("gpt-5-mini") / 400 < 0.3
    # On this step it is quick.
    clock.now += 60
    emitted(capsys, cloudwatch, clock, [("gpt-5", "ok", 4_000)] * 6 + [("gpt-5-mini", "ok", 800)] * 3)
    observer.refresh()
    assert item(dynamodb)["leader"] == "gpt-5-mini"
    clock.now += 5
    firsts = [attempt_order(router.decide(request(run_id=f"r{n}")))[0] for n in range(400)]
    assert firsts.count("gpt-5-mini") > 350
    # Tried is tried, also once what was seen of it is old.
    clock.now += 3600
    observer.refresh()
    assert item(dynamodb)["latency"]["gpt-5-mini"]["tried"]


def test_tokens_are_means_of_answered_calls():
    def call(**fields):
        return {"outcome": "ok", "tokens_in": 100, "tokens_out": 10, "tokens_cached": 50} | fields

    steps = [{"step": "s", "attempts": [call(), call(tokens_in=300), call(outcome="ModelTimeout", tokens_in=9)]}]
    steps.append({"step": "s", "attempts": [call(tokens_out=None)]})
    steps.append({"step": "s", "attempts": []})
    told = tokens_of([{"steps": steps}], "s")
    assert told == {"input_tokens": 167, "output_tokens": 7, "cached_tokens": 50, "calls": Decimal("1.50")}
    assert tokens_of([{"steps": steps}], "other") == {}


# The function


@pytest.fixture
def dynamodb(monkeypatch):
    yield from tables(monkeypatch)


class Reader:
    """A reader of recorded runs."""

    def __init__(self):
        self.asked = 0
        call = {"model": "gpt-5", "outcome": "ok", "tokens_in": 5000, "tokens_out": 100, "tokens_cached": 0}
        self.run: Any = {"id": "r", "status": "completed", "created_at": "2027-01-15T00:00:00.000Z"}
        self.run["steps"] = [{"step": "writer", "attempts": [call]}]

    def ended(self, workflow, limit, cursor=None):
        self.asked += 1
        return [self.run], None

    def get(self, run_id, show=None):
        return self.run


class CountingCloudWatch:
    def __init__(self):
        self.client, self.metrics = boto3.client("cloudwatch", region_name="us-east-1"), 0

    def get_metric_data(self, **asked):
        self.metrics += len(asked["MetricDataQueries"])
        return self.client.get_metric_data(**asked)


def emitted(capsys, cloudwatch, clock, calls, policy="fastest"):
    """Write the metrics of a step's calls, as RunStep does and CloudWatch reads them."""
    for model, outcome, latency in calls:
        attempt = {"model": model, "outcome": outcome, "latency_ms": latency}
        record: Any = {"step": "writer", "model": model, "attempt_0001": attempt, "route": {"policy": policy}}
        metrics.step_ended("w", "r", record)
    gather(capsys.readouterr().out, cloudwatch.client, clock.now - 30)


def item(dynamodb):
    found = dynamodb.get_item(TableName="models", Key={"model": {"S": "observed#w#writer"}}).get("Item")
    dynamodb.taken()
    return dynamo.from_item(found) if found else None


def test_where_nobody_wants_figures_cloudwatch_is_not_read(dynamodb):
    clock, cloudwatch = Clock(), CountingCloudWatch()
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5")
    Router(CONFIG, dynamodb, clock).decide(request())
    assert item(dynamodb) is None
    assert Observer(CONFIG, dynamodb, cloudwatch, Reader(), clock).refresh()["steps"] == 0
    assert cloudwatch.metrics == 0


def test_figures_go_from_metrics_through_the_table_into_decisions(dynamodb, capsys):
    clock, cloudwatch, reader = Clock(), CountingCloudWatch(), Reader()
    put(dynamodb, "routes", workflow="w", step="writer", policy="fastest", candidates=["gpt-5", "gpt-5-mini"])
    router = Router(CONFIG, dynamodb, clock)
    router.decide(request())
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1, "update_item": 1}
    assert item(dynamodb)["latency_of"] == ["gpt-5", "gpt-5-mini"]
    clock.now += 5
    router.decide(request())
    assert dynamodb.taken() == {"query": 1, "batch_get_item": 1}

    observer = Observer(CONFIG, dynamodb, cloudwatch, reader, clock)
    emitted(capsys, cloudwatch, clock, [("gpt-5", "ok", 300)] * 12 + [("gpt-5-mini", "ok", 4000)] * 12)
    assert observer.refresh() == {"steps": 1, "changed": 1, "forgotten": 0}
    told = item(dynamodb)
    assert told["latency"]["gpt-5"]["ms"] == 300
    tried = {"tried": int(clock.now * 1000)}
    assert told["latency"]["gpt-5-mini"] == {"ms": 4000, "samples": Decimal("11.9"), **tried}
    assert (told["leader"], told["input_tokens"], told["calls"]) == ("gpt-5", 5000, 1)
    assert cloudwatch.metrics == 6
    clock.now += 5
    assert {attempt_order(router.decide(request(run_id=f"r{n}")))[0] for n in range(50)} == {"gpt-5"}

    # It turns slow: within a refresh it loses its traffic.
    clock.now += 60
    emitted(capsys, cloudwatch, clock, [("gpt-5", "ok", 20_000)] * 20 + [("gpt-5", "ModelTimeout", 60_000)] * 5)
    observer.refresh()
    assert item(dynamodb)["leader"] == "gpt-5-mini"
    clock.now += 5
    assert attempt_order(router.decide(request()))[0] == "gpt-5-mini"
    assert reader.asked == 1  # Tokens change slowly.
    clock.now += observe_latency.FORGOTTEN_MS / 1000
    assert observer.refresh()["forgotten"] == 1
    assert item(dynamodb) is None


def test_a_step_with_too_few_samples_reads_those_of_the_model(dynamodb, capsys):
    clock, cloudwatch = Clock(), CountingCloudWatch()
    put(dynamodb, "routes", workflow="w", step="writer", policy="fastest", candidates=["gpt-5", "gpt-5-mini"])
    Router(CONFIG, dynamodb, clock).decide(request())
    emitted(capsys, cloudwatch, clock, [("gpt-5", "ok", 300)] * 12 + [("gpt-5-mini", "ok", 100)] * 12, policy="fixed")
    Observer(CONFIG, dynamodb, cloudwatch, Reader(), clock).refresh()
    assert cloudwatch.metrics == 12
    assert item(dynamodb)["latency"]["gpt-5-mini"] == {"ms": 100, "samples": Decimal(0), "prior_ms": 100}
    assert item(dynamodb)["leader"] == "gpt-5-mini"


def test_rubbish_in_the_items_breaks_nothing(dynamodb):
    clock = Clock()
    now = int(clock.now * 1000)
    put(dynamodb, "models", model="observed#x", wanted_at=now, latency_of=["gpt-5"])
    put(dynamodb, "models", model="observed#y", wanted_at="soon", latency_of=5, workflow=5)
    put(dynamodb, "models", model="observed#z", wanted_at=now, workflow="w", step="s", latency_of=[5, "nosuch"],
        latency="fast", leader=7, tokens_at="x")  # fmt: skip
    told = Observer(CONFIG, dynamodb, CountingCloudWatch(), Reader(), clock).refresh()
    assert told["forgotten"] == 1


def test_wanting_facts_never_makes_a_step_fail(dynamodb):
    class Refusing:
        exceptions = dynamodb.exceptions

        def __getattr__(self, name):
            return getattr(dynamodb, name)

        def update_item(self, **_):
            raise RuntimeError("AccessDenied")

    put(dynamodb, "routes", workflow="w", step="writer", policy="cheapest", candidates=["gpt-5", "gpt-5-mini"])
    assert attempt_order(Router(CONFIG, Refusing(), Clock()).decide(request())) == ["gpt-5-mini", "gpt-5"]
