"""Numbering and sending events: each once, in order, without gaps, whatever is delivered how often and dies where."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from support.deployment import Deployment
from support.memory_table import Crash, MemoryTable
from support.stream_records import TOTALS, moment, record, run_item, step_item

from loopllama.aws import clients, dynamo
from loopllama.core import clock, exact_json
from loopllama.errors import InvalidRequest, RunNotFound
from loopllama.events.derive import events_of
from loopllama.events.log import EventLog, event_key
from loopllama.events.types import ShownEvent
from loopllama.jobs.publish_events import Publisher
from loopllama.settings import Settings

SETTINGS = Settings(runs_table="Runs", event_bus_name="bus")


def history(run_id: str, steps: int, failing: bool) -> list[dict[str, Any]]:
    """The stream records of a run: redriven after a failure where it is failing, noise between."""
    queued, started = run_item(run_id, "queued"), run_item(run_id, "running", started_at=moment(1), check_at=moment(60))
    records = [record(None, queued), record(queued, started)]
    for place in range(steps):
        name, at = f"s{place}", moment(2 + place)
        running = step_item(run_id, name, "running")
        records += [record(None, running), record(running, {**running, "tries": 1})]
        records.append(record(running, {**running, "status": "completed", "finished_at": at, **TOTALS}))
    if failing:
        failed = {**started, "status": "failed", "finished_at": moment(50), "error": {"type": "X", "message": "m"}}
        reopened = {**started, "check_at": moment(70)}
        records += [record(started, failed), record(failed, reopened)]
    ended = {**started, "status": "completed", "finished_at": moment(55), **TOTALS}
    return [*records, record(started, ended), record(ended, {**ended, "input_tokens": 200})]


class Bus:
    """An event bus that refuses or loses what a random source says."""

    def __init__(self, chance: random.Random, trouble: float) -> None:
        self.chance, self.trouble = chance, trouble
        self.taken: list[dict[str, Any]] = []

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert 0 < len(Entries) <= 10
        if self.chance.random() < self.trouble / 2:
            raise EndpointConnectionError(endpoint_url="bus")
        results = []
        for entry in Entries:
            if self.chance.random() < self.trouble:
                results.append({"ErrorCode": "ThrottlingException", "ErrorMessage": "slower"})
            else:
                detail = exact_json.loads(entry["Detail"])
                assert entry["DetailType"] == detail["type"]
                assert (entry["Source"], entry["EventBusName"]) == ("loopllama", "bus")
                self.taken.append(detail)
                results.append({"EventId": "x"})
        return {"FailedEntryCount": 0, "Entries": results}


class Shard:
    """Lambda's event source mapping over one shard, its processes and everything that may go wrong around them."""

    def __init__(self, table: MemoryTable, bus: Bus, chance: random.Random, trouble: float) -> None:
        self.table, self.bus, self.chance, self.trouble = table, bus, chance, trouble
        self.processes = [self.process() for _ in range(3)]
        table.before = self.maybe
        table.after = self.maybe
        self.batch: list[dict[str, Any]] = []
        self.nested = False

    def process(self) -> Publisher:
        return Publisher(SETTINGS, EventLog(SETTINGS, self.table), sleep=lambda _: None)

    def maybe(self) -> None:
        """Around a write: this process dies, or the batch is with another process too."""
        if self.chance.random() < self.trouble / 2:
            raise Crash
        if not self.nested and self.chance.random() < self.trouble:
            self.nested = True
            with contextlib.suppress(Crash):
                self.chance.choice(self.processes).handle(self.batch)
            self.nested = False

    def deliver(self, records: list[dict[str, Any]]) -> None:
        """Deliver a batch until it is taken."""
        self.batch = records
        while self.batch:
            place = self.chance.randrange(len(self.processes))
            try:
                answer = self.processes[place].handle(self.batch)
            except Crash:
                self.nested = False
                self.processes[place] = self.process()
                continue
            failed = [one["itemIdentifier"] for one in answer["batchItemFailures"]]
            numbers = [one["dynamodb"]["SequenceNumber"] for one in self.batch]
            self.batch = self.batch[min(numbers.index(one) for one in failed) :] if failed else []


def kept(table: MemoryTable, run_id: str) -> list[dict[str, Any]]:
    found = [item for key, item in sorted(table.items.items()) if key[0] == run_id and key[1].startswith("EVENT#")]
    return [dynamo.from_item(item) for item in found]


@given(
    seed=st.integers(0, 2**32),
    runs=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=4),
    trouble=st.sampled_from([0.0, 0.1, 0.3]),
)
@examples(max_examples=150, deadline=None)
def test_each_event_once_in_order_without_gaps(seed: int, runs: list[tuple[int, bool]], trouble: float) -> None:
    chance = random.Random(seed)  # noqa: S311 - replayed by its seed
    histories = {f"run_{place}": history(f"run_{place}", *shape) for place, shape in enumerate(runs)}
    left = {run_id: list(records) for run_id, records in histories.items()}
    stream = []
    while any(left.values()):
        stream.append(left[chance.choice([run_id for run_id in left if left[run_id]])].pop(0))
    table = MemoryTable()
    for run_id in histories:
        table.items[run_id, "RUN"] = dynamo.to_item(run_item(run_id, "running"))
    with pytest.MonkeyPatch.context() as patch:
        bus = Bus(chance, trouble)
        patch.setattr(clients, "client", lambda service: bus)
        shard = Shard(table, bus, chance, trouble)
        delivered: list[list[dict[str, Any]]] = []
        while stream:
            size = chance.randint(1, 12)
            delivered.append(stream[:size])
            shard.deliver(stream[:size])
            stream = stream[size:]
            if chance.random() < trouble:  # Lambda gives a batch again that it gave before.
                shard.deliver(chance.choice(delivered))
    for run_id, records in histories.items():
        expected = [event.change for one in records for event in events_of(one)]
        items = kept(table, run_id)
        assert [item["item"] for item in items] == [event_key(number) for number in range(1, len(items) + 1)]
        assert [item["change"] for item in items] == expected
        assert items[-1]["type"] == "RunCompleted"
        sent = {int(one["id"]): one for one in bus.taken if one["run_id"] == run_id}
        assert sorted(sent) == list(range(1, len(items) + 1))
        for item in items:
            told = {name: value for name, value in sent[int(item["item"][6:])].items() if name not in ("id", "run_id")}
            assert told == {"type": item["type"], "at": item["at"], **item["detail"]}
        # The same event never went out in two forms.
        assert len({exact_json.dumps(one) for one in bus.taken if one["run_id"] == run_id}) == len(items)


@pytest.mark.parametrize("write", range(1, 6))
@pytest.mark.parametrize("when", ["before", "after"])
def test_dying_around_any_write_loses_and_doubles_nothing(
    write: int, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, bus = MemoryTable(), Bus(random.Random(0), 0)  # noqa: S311
    monkeypatch.setattr(clients, "client", lambda service: bus)
    records, writes = history("r", 3, failing=False), 0

    def crash() -> None:
        nonlocal writes
        writes += 1
        if writes == write:
            raise Crash

    setattr(table, when, crash)
    with pytest.raises(Crash):
        Publisher(SETTINGS, EventLog(SETTINGS, table)).handle(records)
    assert len(kept(table, "r")) == write - (when == "before")
    assert not bus.taken
    Publisher(SETTINGS, EventLog(SETTINGS, table)).handle(records)
    assert [item["type"] for item in kept(table, "r")] == ["RunStarted", *["StepCompleted"] * 3, "RunCompleted"]
    assert [one["id"] for one in bus.taken] == ["1", "2", "3", "4", "5"]


def test_a_record_whose_event_cannot_be_kept_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    table, bus = MemoryTable(), Bus(random.Random(0), 0)  # noqa: S311
    monkeypatch.setattr(clients, "client", lambda service: bus)
    records = history("r", 2, failing=False)

    def throttle() -> None:
        if len(table.items) == 2:
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slower"}}, "PutItem")

    table.before = throttle
    answer = Publisher(SETTINGS, EventLog(SETTINGS, table)).handle(records)
    second_step = [one for one in records if [event.type for event in events_of(one)] == ["StepCompleted"]][1]
    assert answer == {"batchItemFailures": [{"itemIdentifier": second_step["dynamodb"]["SequenceNumber"]}]}
    # What was kept has been sent, so that only the rest is late.
    assert [one["type"] for one in bus.taken] == ["RunStarted", "StepCompleted"]


def test_events_that_the_bus_refuses_are_tried_and_then_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    table = MemoryTable()
    calls: list[int] = []

    class Refusing:
        def put_events(self, Entries: list[Any]) -> dict[str, Any]:  # noqa: N803
            calls.append(len(Entries))
            return {"Entries": [{"EventId": "x"}] + [{"ErrorCode": "InternalFailure"}] * (len(Entries) - 1)}

    monkeypatch.setattr(clients, "client", lambda service: Refusing())
    records = history("r", 4, failing=False)
    answer = Publisher(SETTINGS, EventLog(SETTINGS, table), sleep=lambda _: None).handle(records)
    assert calls == [6, 5, 4]
    # Three of the six got through, one a call: the fourth is the third step's.
    fourth = [one for one in records if events_of(one)][3]
    assert answer == {"batchItemFailures": [{"itemIdentifier": fourth["dynamodb"]["SequenceNumber"]}]}


def test_a_record_that_makes_no_sense_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    table, bus = MemoryTable(), Bus(random.Random(0), 0)  # noqa: S311
    monkeypatch.setattr(clients, "client", lambda service: bus)
    started = run_item("r", "running", started_at=moment(1))
    broken = record(started, {**started, "pending": ["by", "hand"]})
    answer = Publisher(SETTINGS, EventLog(SETTINGS, table)).handle([broken, *history("r", 1, failing=False)])
    assert answer == {"batchItemFailures": []}
    assert len(kept(table, "r")) == 3


def test_a_mistake_of_ours_is_no_partial_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    table = MemoryTable()
    table.before = lambda: (_ for _ in ()).throw(RuntimeError("a bug"))
    with pytest.raises(RuntimeError):
        Publisher(SETTINGS, EventLog(SETTINGS, table)).handle(history("r", 1, failing=False))


# With DynamoDB's own expressions


def keep(live: Deployment, records: list[dict[str, Any]]) -> list[ShownEvent]:
    log = EventLog(live.settings)
    return [log.append(event) for one in records for event in events_of(one)]


def put_run(live: Deployment, run_id: str, status: str, **more: Any) -> None:
    clients.client("dynamodb").put_item(
        TableName="RunsTable", Item=dynamo.to_item(run_item(run_id, status, created_at=moment(0), **more))
    )


def test_readers_see_what_was_kept(live: Deployment) -> None:
    put_run(live, "r", "running")
    told = keep(live, history("r", 3, failing=False))
    log = EventLog(live.settings)
    assert log.after("r", 0, 100) == told
    assert log.after("r", 2, 2) == told[2:4]
    assert log.after("r", 5, 10) == []
    assert log.after("r", 99_999_999, 10) == []
    assert log.after("other", 0, 10) == []


def test_two_processes_agree(live: Deployment) -> None:
    put_run(live, "r", "running")
    records = history("r", 2, failing=True)
    first = keep(live, records[:6])
    assert keep(live, records)[: len(first)] == first
    assert [one["id"] for one in EventLog(live.settings).after("r", 0, 100)] == ["1", "2", "3", "4", "5", "6"]


def test_a_steps_event_names_the_runs_workflow(live: Deployment) -> None:
    put_run(live, "r", "running")
    running = step_item("r", "a", "running")
    done = record(running, {**running, "status": "completed", "finished_at": moment(3), **TOTALS})
    (event,) = keep(live, [done])
    assert (event["workflow_id"], event["workflow_version"]) == ("support", 3)


def test_kept_events_are_no_steps_and_expire_with_their_run(live: Deployment) -> None:
    put_run(live, "r", "running")
    keep(live, history("r", 1, failing=False))
    item = clients.client("dynamodb").get_item(
        TableName="RunsTable", Key=dynamo.to_item({"run_id": "r", "item": event_key(1)})
    )
    found = dynamo.from_item(item["Item"])
    assert set(found) == {"run_id", "item", "type", "at", "change", "detail", "delete_at"}
    assert found["delete_at"] == 1_800_000_000


def test_waiting_ends_with_the_next_event(live: Deployment) -> None:
    put_run(live, "r", "running")
    records = history("r", 1, failing=False)
    keep(live, records[:2])
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            keep(live, records)

    assert EventLog(live.settings, sleep=sleep).wait("r", 1, 20)
    assert len(pauses) == 3
    assert all(0 < pause <= 1 for pause in pauses)


def test_waiting_ends_in_time(live: Deployment) -> None:
    put_run(live, "r", "running")
    assert not EventLog(live.settings).wait("r", 0, 0.3)


def test_nobody_waits_for_a_run_that_is_over(live: Deployment) -> None:
    put_run(live, "r", "completed")
    keep(live, history("r", 1, failing=False))

    def sleep(seconds: float) -> None:
        raise AssertionError("there is nothing to wait for")

    log = EventLog(live.settings, sleep=sleep)
    assert log.wait("r", 2, 20)
    assert not log.wait("r", 3, 20)


def test_the_last_event_of_a_run_that_has_ended_is_waited_for(live: Deployment) -> None:
    put_run(live, "r", "completed")
    records = history("r", 1, failing=False)
    keep(live, records[:5])
    assert EventLog(live.settings, sleep=lambda _: keep(live, records).clear()).wait("r", 2, 20)


CALLS = [
    record(
        step_item("r", name, "running"),
        {**step_item("r", name, "running"), "status": status, "finished_at": moment(90 + place), **TOTALS},
    )
    for place, (name, status) in enumerate((("x", "completed"), ("y", "failed")))
]
"""Calls that were under way when their run was closed."""


@pytest.mark.parametrize("stragglers", [0, 1, 2])
@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_every_reader_is_told_that_the_run_is_over(live: Deployment, status: str, stragglers: int) -> None:
    """At its end, behind it and behind what came later: nobody waits, or comes back for ever."""
    started = run_item("r", "running", started_at=moment(1), check_at=moment(60))
    closed = {**started, "status": status, "finished_at": clock.now_text(), **TOTALS}
    put_run(live, "r", status)
    keep(live, [record(run_item("r", "queued"), started), record(started, closed), *CALLS[:stragglers]])
    log = EventLog(live.settings, sleep=lambda _: pytest.fail("there is nothing to wait for"))
    events = log.after("r", 0, 10)
    assert [event.get("late") for event in events] == [None, None, *[True] * stragglers]
    for seen in (2 + stragglers, 3 + stragglers, 99, 99_999_999):
        assert log.is_over("r", seen)
        assert not log.wait("r", seen, 20)
    assert [log.is_over("r", seen) for seen in range(2 + stragglers)] == [False] * (2 + stragglers)


def test_what_comes_again_is_as_late_as_it_was(live: Deployment) -> None:
    """Whoever is sent an event again is told the same, by this process or another; once a run was redriven, nothing of
    it is late."""
    started = run_item("r", "running", started_at=moment(1), check_at=moment(60))
    failed = {**started, "status": "failed", "finished_at": moment(50), **TOTALS}
    keep(live, [record(run_item("r", "queued"), started), record(started, failed)])
    log = EventLog(live.settings)
    first = [log.append(event) for event in events_of(CALLS[0])]
    assert [event.get("late") for event in first] == [True]
    keep(live, [record(failed, {**started, "check_at": moment(70)})])
    assert [event.get("late") for event in map(log.append, events_of(CALLS[1]))] == [False]
    for again in (log, EventLog(live.settings)):
        assert [again.append(event) for event in events_of(CALLS[0])] == first


def test_a_run_whose_closing_event_was_given_up_is_over(live: Deployment) -> None:
    put_run(live, "r", "failed", finished_at=clock.now_text())
    keep(live, history("r", 1, failing=False)[:5])
    log = EventLog(live.settings)
    assert not log.is_over("r", 2), "its closing event may still come"
    put_run(live, "r", "failed", finished_at=clock.now_text(clock.now_seconds() - 6 * 3600 - 1))
    assert (log.is_over("r", 2), log.is_over("r", 1)) == (True, False)


def test_an_event_that_a_run_has_not_come_to_is_refused_while_it_goes_on(live: Deployment) -> None:
    put_run(live, "r", "running")
    keep(live, history("r", 1, failing=False)[:5])
    log = EventLog(live.settings, sleep=lambda _: None)
    with pytest.raises(InvalidRequest, match="Event 9 is no event of the run, which has come to 2"):
        log.wait("r", 9, 20)
    assert not log.wait("r", 2, 0)


def test_a_run_that_is_not_there_has_no_events_to_wait_for(live: Deployment) -> None:
    with pytest.raises(RunNotFound):
        EventLog(live.settings).wait("nobody", 0, 20)
