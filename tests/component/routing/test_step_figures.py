"""Figures of steps: the rule on simulated arrivals, and the stream's consumer on moto's tables."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from statistics import mean
from typing import Any, cast

import pytest
from support.routing_tables import CONFIG, Clock, Counting, attempt_order, put, request, tables
from support.stream_records import record, step_item

from loopllama.aws import dynamo
from loopllama.catalog.model import Model, Speed
from loopllama.jobs.publish_events import Publisher
from loopllama.policies import samples
from loopllama.policies.registry import fastest
from loopllama.policies.samples import NEWEST, Sample
from loopllama.policies.step_stats import (
    ENOUGH,
    FORGOTTEN_MS,
    MAX_NAMES,
    PRIOR_SAMPLES,
    Facts,
    Latency,
    expected_ms,
    lead,
    parse_facts,
)
from loopllama.routing.router import Router
from loopllama.routing.step_figures import BURST, BURST_SECONDS, STEPS, StepFigures, settled_calls
from loopllama.settings import Settings

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
        item = {"samples": samples.written(self.groups), "leader": self.facts.leader}
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
@pytest.mark.parametrize(("factor", "times"), [(3, 4), (10, 2)])
def test_a_model_that_turns_slow_loses_its_traffic_within_seconds(seed: int, factor: int, times: int) -> None:
    """Four calls a second: ten times as slow it is found out in ten seconds, three times as slow in twenty."""
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


def facts_of(now: float = 1000, simulated: tuple[str, ...] = (), **item: Any) -> Facts:
    groups = {name: samples.written(value) for name, value in item.items() if isinstance(value, dict)}
    return parse_facts({**item, **groups}, now, simulated)


def calls(count: int, ms: int, at: int = 1000, **more: Any) -> tuple[Sample, ...]:
    """So many samples of one latency."""
    fields = {"failed": False, "input_tokens": 0, "output_tokens": 100, "cached_tokens": 0, **more}
    return tuple(Sample(at, ms, turn=f"{ms}.{n:03}", attempt="0001", **fields) for n in range(count))


def test_what_a_model_did_elsewhere_is_a_prior_and_no_knowledge() -> None:
    enough, few = int(ENOUGH), int(ENOUGH) - 1
    elsewhere = {"m": calls(9, 900)}
    assert facts_of(samples={"m": calls(enough, 100)}, elsewhere=elsewhere).latency["m"] == Latency(
        100, enough, None, tried=True
    )
    assert facts_of(samples={"m": calls(few, 100)}, elsewhere=elsewhere).latency["m"] == Latency(
        100, few, 900, tried=True
    )
    assert facts_of(elsewhere=elsewhere).latency["m"] == Latency(0, 0, 900, tried=False)
    # Once tried is tried, also when what was seen of it is old.
    old = facts_of(samples={"m": calls(3, 100, at=0)}, now=99_999)
    assert old.latency["m"] == Latency(0, 0, None, tried=True)
    model = Model("m", "openai", "m", speed=Speed(200, 1000))
    borrowed = facts_of(elsewhere=elsewhere).candidate(model, 1, MOMENT)
    assert (borrowed.latency_ms, borrowed.samples, borrowed.tried) == (900, 0, False)
    assert old.candidate(model, 1, MOMENT).tried
    assert expected_ms(Latency(100, 9, 1100), 5) == 200
    assert facts_of(elsewhere=elsewhere).candidate(Model("n", "openai", "n"), 1, MOMENT).tried is False


def test_a_simulated_call_is_no_figure_of_the_real_model_nor_the_other_way_round() -> None:
    item: dict[str, Any] = {
        "samples": {"m": calls(12, 4000), "m (simulated)": calls(12, 10, output_tokens=900)},
        "leader": "m",
    }
    model = Model("m", "openai", "m", speed=Speed(100, 10_000))
    real = facts_of(**item)
    assert real.candidate(model, 1, MOMENT).latency_ms == pytest.approx(4000, rel=0.2)
    assert real.output_tokens == 100
    for providers in (("openai",), ("*",)):
        simulated = facts_of(simulated=providers, **item)
        assert simulated.candidate(model, 1, MOMENT).latency_ms < 200
        assert simulated.name_of(model) == "m (simulated)"
    # A leader that simulated calls made leads no real ones.
    other = Model("n", "openai", "n", speed=Speed(1, 10_000))
    made_by = facts_of(samples={"m (simulated)": calls(12, 10)}, leader="m (simulated)")
    ranked = fastest([made_by.candidate(one, 1, MOMENT) for one in (model, other)], made_by)
    assert [one.model.id for one in ranked.order] == ["n", "m"]


# The consumer


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    yield from tables(monkeypatch)


class Stream:
    """The Runs table's stream: runs whose steps call models."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.runs = clock, 0

    def calls(
        self, model: str, ms: int, count: int = 1, outcome: str = "ok", step: str = "writer", **more: Any
    ) -> list[dict[str, Any]]:
        """Records of so many runs, in each of which a call settles now."""
        made = []
        for _ in range(count):
            self.runs += 1
            call = {"model": model, "outcome": "open", "started_at": "…"}
            settled = {**call, "outcome": outcome, "latency_ms": ms, "input_tokens": 5000, "output_tokens": 100, **more}
            made.append(self.change(step, {"attempt_0001": call}, {"attempt_0001": settled}))
        return made

    def change(self, step: str, old: dict[str, Any], new: dict[str, Any], **fields: Any) -> dict[str, Any]:
        """The record of a change of a running step of workflow `w`."""
        item = step_item(f"r{self.runs}", step, "running", **{"workflow_id": "w", **fields})
        del item["attempt_0001"]
        made = record({**item, **old}, {**item, **new})
        made["dynamodb"]["ApproximateCreationDateTime"] = self.clock.now
        return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream(clock: Clock) -> Stream:
    return Stream(clock)


def wished(dynamodb: Counting, clock: Clock, **row: Any) -> Router:
    """A router whose step has said that it wants figures."""
    chosen = {"policy": "fastest", "candidates": ["gpt-5", "gpt-5-mini"]} | row
    put(dynamodb, "routes", workflow="w", step="writer", **chosen)
    router = Router(CONFIG, dynamodb, clock)
    router.decide(request())
    dynamodb.taken()
    return router


def item(dynamodb: Counting) -> dict[str, Any]:
    found = dynamodb.get_item(TableName="models", Key={"model": {"S": "observed#w#writer"}}).get("Item")
    dynamodb.taken()
    return dynamo.from_item(found) if found else {}


def test_figures_go_from_the_stream_through_the_table_into_decisions(
    dynamodb: Counting, clock: Clock, stream: Stream
) -> None:
    router = wished(dynamodb, clock)
    wish = item(dynamodb)
    assert wish["latency_of"] == ["gpt-5", "gpt-5-mini"]
    assert wish["delete_at"] == int(clock.now + FORGOTTEN_MS / 1000)
    figures = StepFigures(CONFIG, dynamodb, clock)
    figures.take([*stream.calls("gpt-5", 300, 12), *stream.calls("gpt-5-mini", 4000, 12)])
    assert dynamodb.taken() == {"batch_get_item": 2, "update_item": 1}, "the item, the models' priors; one write"
    told = parse_facts(item(dynamodb), clock.now)
    assert told.latency == {"gpt-5": Latency(300, 12, None, True), "gpt-5-mini": Latency(4000, 12, None, True)}
    assert (told.leader, told.input_tokens, told.calls) == ("gpt-5", 5000, 1)
    clock.now += 5
    assert {attempt_order(router.decide(request(run_id=f"r{n}")))[0] for n in range(50)} == {"gpt-5"}

    # It turns slow: when the routes' cache is over, it has lost its traffic.
    figures.take([*stream.calls("gpt-5", 20_000, 6), *stream.calls("gpt-5", 60_000, 2, "ModelTimeout")])
    assert item(dynamodb)["leader"] == "gpt-5-mini"
    clock.now += 5
    assert attempt_order(router.decide(request()))[0] == "gpt-5-mini"


def test_where_nobody_wants_figures_there_is_a_read_and_no_write(
    dynamodb: Counting, clock: Clock, stream: Stream
) -> None:
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5")
    Router(CONFIG, dynamodb, clock).decide(request())
    dynamodb.taken()
    figures = StepFigures(CONFIG, dynamodb, clock)
    figures.take(stream.calls("gpt-5", 300, 50))
    assert dynamodb.taken() == {"batch_get_item": 1}
    figures.take([])
    figures.take([stream.change("writer", {}, {"tries": 1})])
    assert dynamodb.taken() == {}, "nobody has called a model"
    assert item(dynamodb) == {}
    StepFigures(Settings(), dynamodb, clock).take(stream.calls("gpt-5", 300))
    assert dynamodb.taken() == {}


def test_what_was_seen_before_the_wish_counts(dynamodb: Counting, clock: Clock, stream: Stream) -> None:
    """Runs that name a model, whichever layer did, are calls of the step like others."""
    figures = StepFigures(CONFIG, dynamodb, clock)
    figures.take(stream.calls("gpt-5", 300, 12))
    wished(dynamodb, clock)
    figures.take(stream.calls("gpt-5-mini", 900))
    assert {name: round(one.samples) for name, one in parse_facts(item(dynamodb), clock.now).latency.items()} == {
        "gpt-5": 12,
        "gpt-5-mini": 1,
    }


def test_a_batch_that_comes_again_to_whomever_counts_once(dynamodb: Counting, clock: Clock, stream: Stream) -> None:
    wished(dynamodb, clock)
    batch = stream.calls("gpt-5", 300, 9)
    first, second = StepFigures(CONFIG, dynamodb, clock), StepFigures(CONFIG, dynamodb, clock)
    first.take(batch)
    before = item(dynamodb)
    first.take(batch)
    second.take(batch[4:])
    second.take(list(reversed(batch)))
    assert item(dynamodb) == before
    assert parse_facts(before, clock.now).latency["gpt-5"].samples == 9


def test_consumers_side_by_side_lose_and_double_nothing(dynamodb: Counting, clock: Clock, stream: Stream) -> None:
    """Each has the item as it was before the other has written, as on two shards."""
    wished(dynamodb, clock)
    meet = threading.Barrier(2, timeout=20)

    class Meeting:
        exceptions = dynamodb.exceptions

        def __init__(self) -> None:
            self.met = False

        def __getattr__(self, name: str) -> Any:
            return getattr(dynamodb, name)

        def update_item(self, **asked: Any) -> Any:
            if not self.met:
                self.met = True
                meet.wait()
            return dynamodb.update_item(**asked)

    batches = [stream.calls("gpt-5", 300, 7), stream.calls("gpt-5", 500, 6)]
    threads = [
        threading.Thread(target=StepFigures(CONFIG, cast("Any", Meeting()), clock).take, args=(batch,))
        for batch in batches
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = item(dynamodb)
    assert len(kept["samples"]["gpt-5"]) == 13
    assert kept["revision"] == 2


def test_a_busy_step_is_written_once_each_few_seconds(dynamodb: Counting, clock: Clock, stream: Stream) -> None:
    wished(dynamodb, clock)
    figures = StepFigures(CONFIG, dynamodb, clock)
    writes = Counter[str]()
    for _ in range(240):  # a minute, four batches a second
        figures.take(stream.calls("gpt-5", 300, 10))
        writes += dynamodb.taken()
        clock.now += 0.25
    assert writes["update_item"] <= 60 / BURST_SECONDS * BURST + BURST
    assert writes["batch_get_item"] <= writes["update_item"] + 2
    assert len(item(dynamodb)["samples"]["gpt-5"]) == NEWEST
    # What was held back is written with the next batch, whatever it brings.
    figures.take(stream.calls("gpt-5", 7777))
    clock.now += BURST_SECONDS
    figures.take([])
    assert " 7777 ok " in " ".join(item(dynamodb)["samples"]["gpt-5"])


def size(value: Any) -> int:
    """Bytes of an item, as DynamoDB counts them.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html"""
    if isinstance(value, dict):
        return 3 + sum(1 + len(name.encode()) + size(inner) for name, inner in value.items())
    if isinstance(value, list):
        return 3 + sum(1 + size(inner) for inner in value)
    return len(str(value).encode())


def test_the_largest_item_that_there_can_be_has_less_than_400_kb(
    dynamodb: Counting, clock: Clock, stream: Stream
) -> None:
    names = [f"openai:{'x' * 240}{n:03}" for n in range(200)]
    group = calls(NEWEST, 10**12, at=10**9, failed=True, input_tokens=10**12, output_tokens=10**12)
    wished(dynamodb, clock)
    figures = StepFigures(CONFIG, dynamodb, clock)
    figures._seen["observed#w#writer"] = dict.fromkeys(names[:MAX_NAMES], group)
    figures._seen["observed#w#other"] = dict.fromkeys(names, group)
    asked = {**item(dynamodb), "latency_of": names[:100], "revision": 10**9}
    changes = figures._changes("observed#w#writer", asked, clock.now)
    assert len(changes["samples"]) == MAX_NAMES
    assert len(changes["elsewhere"]) == 100
    assert 300_000 < size({**asked, **changes}) < 350_000


def test_a_process_remembers_so_many_steps(dynamodb: Counting, clock: Clock, stream: Stream) -> None:
    figures = StepFigures(CONFIG, dynamodb, clock)
    for number in range(STEPS + 50):
        figures.take(stream.calls("gpt-5", 1, step=f"s{number}"))
    assert len(figures._seen) == STEPS
    assert len(figures._written) == STEPS
    assert not figures._due


def test_a_step_with_too_few_samples_borrows_those_of_others(dynamodb: Counting, clock: Clock, stream: Stream) -> None:
    """As it was on a real stack: 41 runs on a model of 4 s beside one of 0.8 s without one try."""
    router = wished(dynamodb, clock)
    figures = StepFigures(CONFIG, dynamodb, clock)
    figures.take(stream.calls("gpt-5-mini", 4_200, 30, step="other"))
    figures.take(stream.calls("gpt-5", 4_000, 12))
    kept = parse_facts(item(dynamodb), clock.now)
    assert kept.leader == "gpt-5"
    assert kept.latency["gpt-5-mini"] == Latency(0, 0, 4_200, tried=False)
    clock.now += 5
    firsts = [attempt_order(router.decide(request(run_id=f"r{n}")))[0] for n in range(400)]
    assert firsts.index("gpt-5-mini") < 16
    assert 0.2 < firsts.count("gpt-5-mini") / 400 < 0.3
    # On this step it is quick.
    figures.take([*stream.calls("gpt-5", 4_000, 6), *stream.calls("gpt-5-mini", 800, 4)])
    assert item(dynamodb)["leader"] == "gpt-5-mini"
    clock.now += 5
    firsts = [attempt_order(router.decide(request(run_id=f"r{n}")))[0] for n in range(400)]
    assert firsts.count("gpt-5-mini") > 350


def test_what_counts_as_a_call_of_which_step(clock: Clock, stream: Stream) -> None:
    def found(change: dict[str, Any]) -> list[tuple[str, str, int, bool]]:
        return [(key, name, one.ms, one.failed) for key, name, one in settled_calls(change)]

    ok = {"model": "gpt-5@low@flex", "outcome": "ok", "latency_ms": 7}
    lost = {"model": "gpt-5", "outcome": "open"}
    (plain,) = stream.calls("gpt-5", 5)
    assert found(plain) == [("observed#w#writer", "gpt-5", 5, False)]
    (failed,) = stream.calls("gpt-5", 3, outcome="ModelThrottled")
    assert found(failed) == [("observed#w#writer", "gpt-5", 3, True)]
    (simulated,) = stream.calls("gpt-5", 3, simulated=True)
    assert found(simulated) == [("observed#w#writer", "gpt-5 (simulated)", 3, False)]
    # Rounds and items are their step's, an effort and a tier the model's; what had settled before is not seen again,
    # and what was lost in a crash has no latency.
    old = {"attempt_0001": ok, "attempt_0002": lost, "attempt_0003": lost}
    of_item = stream.change("writer", old, {**old, "attempt_0003": {**ok, "latency_ms": 8}}, iteration=2, item_index=4)
    assert found(of_item) == [("observed#w#writer", "gpt-5@low@flex", 8, False)]
    for more in ({"replayed_from": "r9"}, {"workflow_id": None}):
        assert found(stream.change("writer", {}, {"attempt_0001": ok}, **more)) == [], "kept by a replay; of old"
    run = record(None, {"run_id": "r", "item": "RUN", "workflow_id": "w", "step": "writer", "attempt_0001": ok})
    assert found(run) == []
    for odd in ("ok", {"model": 5, "outcome": "ok"}, {**ok, "latency_ms": "soon"}, {**ok, "latency_ms": -1}):
        assert found(stream.change("writer", {}, {"attempt_0001": odd})) == []


def test_rubbish_in_an_item_breaks_nothing(dynamodb: Counting, clock: Clock, stream: Stream) -> None:
    wished(dynamodb, clock)
    spoilt = {"samples": {"gpt-5": ["?", 5], "x": 7}, "elsewhere": "x", "leader": 7, "revision": "x"}
    put(dynamodb, "models", **{**item(dynamodb), **spoilt, "latency_of": ["gpt-5", "nosuch", 5]})
    StepFigures(CONFIG, dynamodb, clock).take(stream.calls("gpt-5", 300))
    kept = item(dynamodb)
    assert (kept["leader"], kept["revision"], list(kept["samples"])) == ("gpt-5", 1, ["gpt-5"])


def test_what_cannot_be_written_waits_and_holds_up_no_event(
    dynamodb: Counting, clock: Clock, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    wished(dynamodb, clock)

    class Refusing:
        exceptions = dynamodb.exceptions
        refuses = True

        def __getattr__(self, name: str) -> Any:
            return getattr(dynamodb, name)

        def update_item(self, **asked: Any) -> Any:
            if self.refuses:
                raise RuntimeError("AccessDenied")
            return dynamodb.update_item(**asked)

    client = Refusing()
    figures = StepFigures(CONFIG, cast("Any", client), clock)
    publisher = Publisher(Settings(runs_table="runs"), figures=figures)
    monkeypatch.setattr(publisher, "_put", lambda entries: [])
    assert publisher.handle(stream.calls("gpt-5", 300, 3)) == {"batchItemFailures": []}
    assert "samples" not in item(dynamodb)
    client.refuses = False
    figures.take([])
    assert len(item(dynamodb)["samples"]["gpt-5"]) == 3


def test_nobody_writes_into_an_item_that_is_gone(dynamodb: Counting, clock: Clock, stream: Stream) -> None:
    wished(dynamodb, clock)
    figures = StepFigures(CONFIG, dynamodb, clock)
    held = item(dynamodb)
    dynamodb.delete_item(TableName="models", Key={"model": {"S": "observed#w#writer"}})
    figures._remember(stream.calls("gpt-5", 300)[0])
    assert figures._put_together("observed#w#writer", held, clock.now)
    assert item(dynamodb) == {}


def test_wanting_facts_never_makes_a_step_fail(dynamodb: Counting) -> None:
    class Refusing:
        exceptions = dynamodb.exceptions

        def __getattr__(self, name: str) -> Any:
            return getattr(dynamodb, name)

        def update_item(self, **_: Any) -> Any:
            raise RuntimeError("AccessDenied")

    put(dynamodb, "routes", workflow="w", step="writer", policy="cheapest", candidates=["gpt-5", "gpt-5-mini"])
    assert attempt_order(Router(CONFIG, Refusing(), Clock()).decide(request())) == ["gpt-5-mini", "gpt-5"]


def test_the_whole_way_takes_less_than_fifteen_seconds() -> None:
    """A call's record is in the stream within a second or so and Lambda asks for it four times a second; then the
    figures wait at most as long as a busy step's do, and a decision as long as the routes' cache.
    https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html"""
    stream, poll, reserve = 2.0, 0.25, 2.0
    held = BURST_SECONDS / BURST
    assert stream + poll + held + Settings().route_cache_seconds + reserve < 15
