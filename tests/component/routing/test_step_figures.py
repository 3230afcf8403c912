"""Figures of steps: the stream's consumer on moto's tables."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest
from support.routing_tables import CONFIG, Clock, Counting, attempt_order, put, request, tables
from support.stream_records import record, step_item

from loopllama.aws import dynamo
from loopllama.jobs.publish_events import Publisher
from loopllama.policies.samples import NEWEST, Sample
from loopllama.policies.step_stats import (
    FORGOTTEN_MS,
    MAX_NAMES,
    Latency,
    parse_facts,
)
from loopllama.routing.router import Router
from loopllama.routing.step_figures import BURST, STEPS, WRITE_SECONDS, StepFigures, settled_calls
from loopllama.settings import Settings


def calls(count: int, ms: int, at: int = 1000, **more: Any) -> tuple[Sample, ...]:
    """So many samples of one latency."""
    fields = {"failed": False, "input_tokens": 0, "output_tokens": 100, "cached_tokens": 0, **more}
    return tuple(Sample(at, ms, turn=f"{ms}.{n:03}", attempt="0001", **fields) for n in range(count))


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
    assert 60 / WRITE_SECONDS <= writes["update_item"] <= 60 / WRITE_SECONDS + BURST
    assert writes["batch_get_item"] <= writes["update_item"] + 2
    assert len(item(dynamodb)["samples"]["gpt-5"]) == NEWEST
    # What was held back is written with the next batch, whatever it brings.
    clock.now += 60
    for ms in (1, 2, 3, 4, 7777):
        figures.take(stream.calls("gpt-5", ms))
    assert " 7777 ok " not in " ".join(item(dynamodb)["samples"]["gpt-5"])
    clock.now += WRITE_SECONDS
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
    assert 300_000 < size({**asked, **changes}) < 390_000


def test_a_process_remembers_so_many_steps(dynamodb: Counting, clock: Clock, stream: Stream) -> None:
    figures = StepFigures(CONFIG, dynamodb, clock)
    for number in range(STEPS + 50):
        figures.take(stream.calls("gpt-5", 1, step=f"s{number}"))
    assert len(figures._seen) == STEPS
    assert len(figures._allowance) == STEPS
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
    assert stream + poll + WRITE_SECONDS + Settings().route_cache_seconds + reserve < 15
