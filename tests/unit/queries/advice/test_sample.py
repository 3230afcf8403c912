"""How many runs advice rests on: counted, read whole, and where reading ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from support.recorded import NOW, call, run, step

from loopllama.errors import RunNotFound
from loopllama.queries.advice import sample
from loopllama.runs.value_store import ValueStore

DAY = timedelta(days=1)


class Reader:
    """Runs by their days ago, newest first, in pages; how often it was asked for what."""

    def __init__(self, runs: list[Any], seconds: float = 0.0) -> None:
        self.runs = [{**one, "id": f"r{number}"} for number, one in enumerate(runs)]
        self.gone: set[str] = set()
        self.pages, self.read, self.clock, self._seconds = 0, 0, 0.0, seconds

    def ended(self, _: str, limit: int = 20, cursor: str | None = None) -> tuple[list[Any], str | None]:
        start = int(cursor or 0)
        self.pages += 1
        return self.runs[start : start + limit], str(start + limit) if start + limit < len(self.runs) else None

    def get(self, run_id: str, show: Any = None) -> Any:
        assert show is ValueStore.fingerprint
        self.read += 1
        self.clock += self._seconds
        if run_id in self.gone:
            raise RunNotFound(run_id)
        return next(one for one in self.runs if one["id"] == run_id)

    def now(self) -> float:
        return self.clock


def daily(count: int, **fields: Any) -> list[Any]:
    return [run(step("s", call()), ago=DAY * number, **fields) for number in range(count)]


def read(reader: Reader, limit: int = 5) -> sample.Sample:
    return sample.read(reader, "w", NOW, limit, reader.now)


def test_all_runs_of_the_window_are_counted_and_the_newest_are_read() -> None:
    reader = Reader(daily(50))
    found = read(reader)
    assert ([one["id"] for one in found.runs], reader.read) == (["r0", "r1", "r2", "r3", "r4"], 5)
    assert (len(found.begun), found.all_of_window) == (31, True)
    assert not read(Reader(daily(20))).all_of_window


def test_runs_from_before_the_window_are_read_where_there_are_no_newer_ones() -> None:
    old = [run(step("s", call()), ago=DAY * (40 + number)) for number in range(8)]
    found = read(Reader(old))
    assert (len(found.runs), found.begun, found.rate(NOW)) == (5, [], None)


def test_replays_are_left_out_and_unfinished_runs_are_counted_apart() -> None:
    runs = [
        run(status="failed"),
        run(replayed_from={"run_id": "r9", "from_step": "s"}),
        run(status="running"),
        run(step("s", call())),
        run(status="cancelled", ago=DAY * 31),
    ]
    found = read(Reader(runs))
    assert (len(found.runs), len(found.begun), found.unfinished) == (1, 1, 2)


def test_a_run_that_is_gone_is_passed_over() -> None:
    reader = Reader(daily(7))
    reader.gone = {"r1"}
    assert [one["id"] for one in read(reader).runs] == ["r0", "r2", "r3", "r4", "r5"]


def test_counting_ends() -> None:
    reader = Reader(daily(1) * (sample.MAX_COUNTED + 500))
    found = read(reader)
    assert (len(found.begun), reader.pages) == (sample.MAX_COUNTED, sample.MAX_COUNTED / 100)


def test_reading_ends_when_its_time_is_over() -> None:
    reader = Reader(daily(30), seconds=5)
    found = read(reader, 20)
    assert (len(found.runs), reader.read) == (3, 3)
    assert "12 s" in found.stopped
    assert len(found.begun) == 30


def test_reading_ends_when_the_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "MAX_CALLS", 100)
    found = read(Reader([run(step("s", *[call()] * 40)) for _ in range(10)]), 10)
    assert len(found.runs) == 3
    assert "100 model calls" in found.stopped


@pytest.fixture(scope="module")
def kept() -> ValueStore:
    from loopllama.settings import Settings

    class Bucket:
        def put_object(self, **_: Any) -> None: ...

    return ValueStore(Settings(values_bucket="b"), Bucket())


@pytest.mark.parametrize("value", ["text", "x" * 50_000, {"a": [1, 2.5]}, {"a": "y" * 50_000}, ["x"]])
def test_equal_values_of_different_runs_have_equal_fingerprints(kept: ValueStore, value: Any) -> None:
    first, second = (kept.store(run_id, "s-output", value) for run_id in ("run_1", "run_2"))
    assert ValueStore.fingerprint(first) == ValueStore.fingerprint(second) is not None
    assert ValueStore.fingerprint(first) != ValueStore.fingerprint(kept.store("run_1", "s-output", [value]))


def test_a_prompt_of_parts_has_a_fingerprint_by_its_parts(kept: ValueStore) -> None:
    def prompt(run_id: str, last: str) -> Any:
        return {"$parts": ["# Input\n\n", kept.store(run_id, "input", "z" * 50_000), last], "bytes": 50_100}

    assert ValueStore.fingerprint(prompt("run_1", "a")) == ValueStore.fingerprint(prompt("run_2", "a"))
    assert ValueStore.fingerprint(prompt("run_1", "a")) != ValueStore.fingerprint(prompt("run_2", "b"))
    whole = {"$parts": ["one ", "text"], "bytes": 8}
    assert ValueStore.fingerprint(whole) == ValueStore.fingerprint({"$parts": ["one text"], "bytes": 8})
    assert ValueStore.fingerprint(None) is None
