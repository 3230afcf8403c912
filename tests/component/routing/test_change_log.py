"""Who changed what: history entries of stream records, events, rollback."""

from __future__ import annotations

import itertools
import threading
from decimal import Decimal
from typing import Any, cast

import pytest
from support.routing_tables import CONFIG, put

from loopllama.aws import clients, dynamo
from loopllama.core import exact_json
from loopllama.errors import NotFound, RouteInvalid, VersionConflict
from loopllama.jobs.record_route_change import RouteRecorder
from loopllama.routing.change_log import History, differences, entry_of, plain, shown
from loopllama.routing.store import RouteStore
from loopllama.routing.types import Change

SETTINGS = CONFIG.__class__(
    **{name: getattr(CONFIG, name) for name in ("routes_table", "models_table", "default_model")},
    route_history_table="history",
    event_bus_name="bus",
)
NUMBERS = itertools.count(900)


def told(change: Any) -> Any:
    """The entry of a change that is one."""
    entry = entry_of(change)
    assert entry is not None
    return entry


def record(before, after, keys=None, by_ttl=False):
    keys = keys or {"workflow": "w", "step": "writer"}

    def image(row):
        return None if row is None else dynamo.to_item(keys | row)

    change = {"Keys": dynamo.to_item(keys), "SequenceNumber": str(next(NUMBERS)), "ApproximateCreationDateTime": 1.8e9}
    change |= {name: image(row) for name, row in (("OldImage", before), ("NewImage", after)) if row is not None}
    made = {"dynamodb": change, "eventName": "REMOVE" if after is None else "MODIFY" if before else "INSERT"}
    if by_ttl:
        made["userIdentity"] = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    return made


STAMP = {"version": 2, "updated_by": "ann", "reason": "cheaper", "updated_at": "then"}


def test_a_write_of_ours_is_told_with_who_and_why():
    entry = told(record({"model": "a", **STAMP, "version": 1}, {"model": "b", **STAMP}))
    assert (entry["route"], entry["change"], entry["version"]) == ("w#writer", "set", 2)
    assert (entry["updated_by"], entry["reason"], entry["at"]) == ("ann", "cheaper", "2027-01-15T08:00:00.000Z")
    assert (entry["before"]["model"], entry["after"]["model"]) == ("a", "b")


def test_an_edit_by_hand_is_nobodys_whatever_the_row_says():
    entry = told(record({"model": "a", **STAMP}, {"model": "b", **STAMP}))
    assert (entry["updated_by"], entry["version"], entry["reason"]) == ("unknown", None, None)
    assert told(record(None, {"model": "b"}))["updated_by"] == "unknown"
    assert told(record(None, {"model": "b", "version": "x", "updated_by": "me"}))["updated_by"] == "unknown"


def test_removals_tell_who():
    emptied = told(record({"model": "a", **STAMP}, STAMP | {"version": 3, "updated_by": "bob"}))
    assert (emptied["change"], emptied["version"], emptied["updated_by"], emptied["after"]) == (
        "removed",
        3,
        "bob",
        None,
    )
    assert entry_of(record(STAMP | {"version": 3}, None)) is None
    by_hand = told(record({"model": "a", **STAMP}, None))
    assert (by_hand["change"], by_hand["updated_by"]) == ("removed", "unknown")
    by_ttl = told(record({"model": "a", **STAMP}, None, by_ttl=True))
    assert (by_ttl["change"], by_ttl["updated_by"]) == ("expired", "expired")


def test_tools_are_told_like_routes():
    first, second = ({"definition": text, "checked": text[::-1]} for text in ('{"a": 1}', '{"a": 2}'))
    entry = told(record({**first, **STAMP, "version": 1}, {**second, **STAMP}, {"tool": "lookup"}))
    assert (entry["route"], entry["change"], entry["updated_by"]) == ("tool:lookup", "set", "ann")
    seen = shown(entry)
    assert (seen["tool"], seen["after"]["definition"]) == ("lookup", '{"a": 2}')
    assert seen["differences"] == [{"field": "definition", "from": '{"a": 1}', "to": '{"a": 2}'}]
    assert "workflow" not in seen
    by_hand = told(record({**first, **STAMP}, {**second, **STAMP}, {"tool": "lookup"}))
    assert by_hand["updated_by"] == "unknown"
    gone = told(record({**first, **STAMP}, {**STAMP, "version": 3, "updated_by": "bob"}, {"tool": "lookup"}))
    assert (gone["change"], gone["updated_by"], gone["after"]) == ("removed", "bob", None)
    assert entry_of(record({**STAMP, "version": 3}, None, {"tool": "lookup"})) is None


def test_what_changes_nothing_is_no_entry():
    assert entry_of(record({"model": "a"}, {"model": "a"})) is None
    assert entry_of(record(None, {"failures": 3}, {"model": "health#"})) is None
    assert entry_of(record(None, {"leader": "a"}, {"model": "observed#w#s"})) is None


def test_rows_of_any_size_and_kind_can_be_kept():
    entry = told(record(None, {"model": "a", "note": "x" * 200_000, "set": {Decimal(1)}, "bytes": b"\x00"}))
    assert entry["after"]["model"] == "a"
    assert entry["after"]["too_long_to_keep"] > 200_000
    dynamo.to_item({name: value for name, value in entry.items() if value is not None})
    assert plain({"set": {Decimal(2), Decimal(1)}, "bytes": b"\x01"}) == {"set": [1, 2], "bytes": "01"}


def test_differences_leave_out_who_and_when():
    before = {"model": "a", "fallbacks": ["x"], **STAMP}
    after = {"model": "a", "max_tokens": 5, **STAMP, "version": 9}
    assert differences(before, after) == [
        {"field": "fallbacks", "from": ["x"], "to": None},
        {"field": "max_tokens", "from": None, "to": 5},
    ]


class Bus:
    """EventBridge's client."""

    def __init__(self):
        self.entries, self.refuses = [], False

    def put_events(self, Entries):  # noqa: N803 - botocore's name
        if self.refuses:
            return {"FailedEntryCount": len(Entries)}
        self.entries += Entries
        return {"FailedEntryCount": 0}

    def kinds(self):
        return [entry["DetailType"] for entry in self.entries]


@pytest.fixture
def bus(monkeypatch):
    made, others = Bus(), clients.client
    monkeypatch.setattr(clients, "client", lambda service, **_: made if service == "events" else others(service))
    return made


def test_changes_reach_history_and_bus_once(dynamodb, clock, bus):
    recorder = RouteRecorder(SETTINGS, dynamodb, clock)
    records = [record(None, {"model": "gpt-5", **STAMP}), record({"model": "gpt-5", **STAMP}, {"model": "gtp-5"})]
    records.append(record(None, {"enabled": False}, {"model": "gpt-5"}))
    records.append(record(None, {"definition": "{"}, {"tool": "lookup"}))
    assert recorder.handle(records) == {"batchItemFailures": []}
    recorder.handle(records[:1])
    newest, first = History(SETTINGS, dynamodb).entries("w#writer")
    assert first["version"] == 2
    assert "problems" not in first
    assert "did you mean" in (newest["problems"] or [""])[0]
    assert bus.kinds() == [
        "RouteChanged",
        "RouteChanged",
        "InvalidOverride",
        "ModelChanged",
        "ToolChanged",
        "RouteChanged",
    ]
    assert exact_json.loads(bus.entries[4]["Detail"])["tool"] == "lookup"
    assert History(SETTINGS, dynamodb).entries("model:gpt-5")[0]["after"] == {"enabled": False}


def test_what_fails_comes_again_with_all_that_follows(dynamodb, clock, bus):
    bus.refuses = True
    records = [record(None, {"model": "gpt-5"}), record({"model": "gpt-5"}, {"model": "gpt-4.1"})]
    told = RouteRecorder(SETTINGS, dynamodb, clock).handle(records)
    assert told == {"batchItemFailures": [{"itemIdentifier": records[0]["dynamodb"]["SequenceNumber"]}]}


class Streamed:
    """A store whose writes reach the history at once, as through the table's stream."""

    def __init__(self, dynamodb, clock):
        self.dynamodb, self.store = dynamodb, RouteStore(SETTINGS, dynamodb, clock)
        self.history = History(SETTINGS, dynamodb)
        self.last = None

    def sync(self):
        now = self.store.get("w", "writer")

        def values(row):
            return None if row is None else {k: v for k, v in row.items() if k not in ("workflow", "step")}

        entry = told(record(values(self.last), values(now)))
        if entry is not None:
            self.history.put(entry)
        self.last = now

    def set(self, **values):
        row = self.store.set("w", "writer", cast("Any", values), updated_by="ann", reason="r")
        self.sync()
        return row

    def rollback(self, to=None):
        row = self.store.rollback("w", "writer", to, updated_by="bob", reason="back")
        self.sync()
        return row


@pytest.fixture
def streamed(dynamodb, clock):
    return Streamed(dynamodb, clock)


def test_rollback_makes_an_earlier_version_the_newest(streamed):
    streamed.set(model="gpt-5", max_tokens=9)
    streamed.set(model="gpt-5-mini")
    streamed.set(model="gpt-5-nano")
    row = streamed.rollback()
    assert (row["model"], row["version"], row["updated_by"]) == ("gpt-5-mini", 4, "bob")
    row = streamed.rollback(1)
    assert (row["model"], row["max_tokens"], row["version"]) == ("gpt-5", 9, 5)
    with pytest.raises(NotFound, match="no version 77"):
        streamed.rollback(77)


def test_rollback_says_what_it_went_back_to_unless_somebody_says_why(streamed):
    streamed.set(model="gpt-5")
    streamed.set(model="gpt-5-mini")
    for to, reason in ((1, "back to version 1"), (None, "back to before the last change")):
        row = streamed.store.rollback("w", "writer", to, updated_by="bob")
        assert row["reason"] == reason
        streamed.sync()
    with pytest.raises(RouteInvalid, match="step"):
        streamed.store.rollback("w", "", updated_by="bob")


def test_the_history_is_read_in_pages_and_told_with_what_differs(streamed, dynamodb):
    for number in range(1, 6):
        streamed.set(model="gpt-5", max_tokens=number)
    # By hand, and with a type that JSON has not.
    item = {"workflow": "w", "step": "writer", "version": 5, "note": {"a", "b"}}
    dynamodb.put_item(TableName="routes", Item=dynamo.to_item(item))
    streamed.sync()
    pages, before = [], None
    while page := [shown(entry) for entry in streamed.history.entries("w#writer", 4, before)]:
        pages.append(page)
        before = page[-1]["sequence"]
    assert [len(page) for page in pages] == [4, 2]
    newest, first = pages[0][0], pages[-1][-1]
    assert (newest["version"], newest["updated_by"], newest["after"]["note"]) == (None, "unknown", ["a", "b"])
    assert {"field": "max_tokens", "from": 5, "to": None} in newest["differences"]
    assert (first["workflow"], first["step"], first["before"], first["problems"]) == ("w", "writer", None, [])
    assert {"field": "max_tokens", "from": None, "to": 1} in first["differences"]
    entry: Change = {"route": "model:openai:a#b", "sequence": "1", "change": "set", "at": "t"}
    assert shown(entry)["model"] == "openai:a#b"


def test_rollback_undoes_edits_by_hand_and_removals(streamed, dynamodb):
    streamed.set(model="gpt-5")
    put(dynamodb, "routes", workflow="w", step="writer", model="gpt-5-nano")
    streamed.sync()
    assert streamed.rollback()["model"] == "gpt-5"
    streamed.dynamodb.delete_item(TableName="routes", Key=dynamo.to_item({"workflow": "w", "step": "writer"}))
    streamed.sync()
    row = streamed.rollback()
    assert row["model"] == "gpt-5"
    # Versions go on where they were, also for a row that is made anew.
    assert row["version"] == 3
    assert streamed.set(model="gpt-5-mini")["version"] == 4


def test_rollback_to_nothing_removes_the_row(streamed):
    streamed.set(model="gpt-5")
    assert streamed.rollback() is None
    assert streamed.store.get("w", "writer") is None


def test_rollback_waits_for_the_history(streamed):
    with pytest.raises(NotFound, match="empty"):
        streamed.rollback()
    streamed.set(model="gpt-5")
    streamed.store.set("w", "writer", {"model": "gpt-5-mini"}, updated_by="ann", reason="r")
    with pytest.raises(VersionConflict, match="repeat in a moment"):
        streamed.rollback()


def test_rollback_checks_what_it_restores(streamed, dynamodb):
    streamed.set(model="gpt-5")
    streamed.set(model="gpt-5-mini")
    put(dynamodb, "models", model="gpt-5", enabled=False)
    with pytest.raises(RouteInvalid, match="disabled"):
        streamed.rollback()


def test_twenty_writers_one_wins_each_version_and_history_has_each_once(streamed, dynamodb, clock):
    for expected in range(3):
        results = []

        def write(number, expected=expected, results=results):
            store = RouteStore(SETTINGS, dynamodb, clock)
            try:
                row = store.set("w", "writer", {"model": "gpt-5", "max_tokens": number + 1 + 100 * expected},
                                expected_version=expected, updated_by=f"writer {number}", reason="r")  # fmt: skip
                results.append(int(row["version"]))
            except VersionConflict:
                results.append(None)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        streamed.sync()
        assert sorted(filter(None, results)) == [expected + 1]
        assert results.count(None) == 19
    versions = [int(entry["version"]) for entry in streamed.history.entries("w#writer")]
    assert versions == [3, 2, 1]
