"""Sums of ended hours and days of usage: to the digit what the rows say, whoever makes them, dies, or comes late."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.deployment import Deployment, Killed
from support.usage_rows import (
    DAYS,
    HOURS,
    TABLE,
    WORKFLOWS,
    check,
    empty,
    ended,
    ended_whole,
    items,
    mark_ended,
    plenty,
    put,
    rows_there,
    usage_row,
    workflows,
)

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.errors import InvalidRequest, ModelRequestRejected, RunFailed
from loopllama.queries import usage, usage_days, usage_documents, usage_sums
from loopllama.queries.usage import BY, summarise
from loopllama.queries.usage_days import sum_due
from loopllama.runs import bill, usage_periods


@pytest.fixture
def stood(live: Deployment) -> Deployment:
    """A deployment with workflows, but without usage."""
    workflows()
    return live


def read_partitions(monkeypatch: pytest.MonkeyPatch, read: Callable[[], Any]) -> set[str]:
    """Which partitions reading asks for."""
    asked: set[str] = set()
    each = dynamo.each
    with monkeypatch.context() as patch:
        patch.setattr(dynamo, "each", lambda *a, **k: asked.add(a[3].get(":key", "marks")) or each(*a, **k))
        read()
    return asked


figures = st.integers(0, 10**6)
costs = st.none() | st.decimals(0, 10**6, places=12)
one_row = st.fixed_dictionaries(
    {
        "day": st.sampled_from(DAYS),
        "workflow": st.sampled_from(WORKFLOWS),
        "hour": st.sampled_from(HOURS),
        "step": st.sampled_from(("a", "b")),
        "model": st.sampled_from(("m", "n@flex")),
        "key": st.sampled_from((None, "ann", "böb")),
        "tags": st.none() | st.dictionaries(st.sampled_from("xyz"), st.sampled_from(("1", "2 = 3")), max_size=3),
        "steps": st.integers(0, 1),
        "input_tokens": figures,
        "output_tokens": figures,
        "cached_tokens": figures,
        "cost_usd": costs,
        "cost_basis": st.sampled_from(("measured", "estimated", "unknown")),
        "unpriced": st.booleans(),
        "simulated": st.booleans(),
    }
)
some_by = st.lists(st.lists(st.sampled_from(BY), min_size=1, unique=True), min_size=3, max_size=3)


@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(one_row, max_size=25), st.lists(one_row, max_size=4), some_by)
def test_sums_are_to_the_digit_what_the_rows_say(
    stood: Deployment, rows: list[dict[str, Any]], late: list[dict[str, Any]], bys: list[list[str]]
) -> None:
    empty()
    put([usage_row(number, **row) for number, row in enumerate(rows)])
    check(stood, bys)  # from rows
    ended(stood)
    check(stood, bys)  # from sums
    written: Any = [usage_row(number, **row) for number, row in enumerate(late, 1000)]
    put(written)
    usage_periods.mark_late(clients.client("dynamodb"), TABLE, written)
    check(stood, bys)  # from hours, and the rows of those that got late ones
    sum_due(stood.settings, plenty)
    check(stood, bys)


def test_ended_days_are_read_without_their_rows(stood: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    put([usage_row(number, DAYS[0], "desk", number % 24) for number in range(30)])
    read = lambda: summarise(stood.settings, ["model"], DAYS[0], DAYS[1])  # noqa: E731
    rows = {f"{day}#{workflow}" for day in DAYS for workflow in WORKFLOWS}
    assert read_partitions(monkeypatch, read) >= rows
    ended_whole(stood)
    assert read_partitions(monkeypatch, read) == {"marks", "days#desk", "days#shop"}
    assert read()["total"]["steps"] == 30
    # A late row has its own hour read, and no other.
    late: Any = [usage_row(99, DAYS[0], "desk", 5)]
    put(late)
    usage_periods.mark_late(clients.client("dynamodb"), TABLE, late)
    asked: list[tuple[str, str]] = []
    read_rows = usage_days.read_rows
    with monkeypatch.context() as patch:
        patch.setattr(usage_days, "read_rows", lambda *a: asked.append(a[3:5]) or read_rows(*a))
        assert read()["total"]["steps"] == 31
        assert sorted(asked) == [("05", "06"), ("24", "~")]
        asked.clear()
        assert sum_due(stood.settings, plenty) == {"summed": 2, "unsummed": 0}
        assert sorted(asked) == [("05", "05~"), ("24", "~")]
    assert read_partitions(monkeypatch, read) == {"marks", "days#desk", "days#shop"}
    assert read()["total"]["steps"] == 31


def two_days_pass_in_a_call(live: Deployment) -> None:
    """Let the next call's answer come when its day has been summed."""

    def pass_once(_: Any) -> str:
        live.provider.script = lambda _: "fine"
        live.wait(2 * 86_400)
        for _ in range(3):
            sum_due(live.settings, plenty)
        assert usage_periods.read(live.runs.dynamodb, TABLE).tokens == {}
        return "fine"

    live.provider.script = pass_once


def test_steps_mark_what_they_bill_late(live: Deployment) -> None:
    workflow = live.push([{"name": "a"}])
    live.play(live.accept(workflow))
    assert usage_periods.read(live.runs.dynamodb, TABLE).tokens == {}
    sum_due(live.settings, plenty)  # from this hour on
    two_days_pass_in_a_call(live)
    live.play(live.accept(workflow))
    day = rows_there()[0]["day_workflow"][:10]
    assert any(item["day_workflow"] == f"days#{workflow}" and item["run_step_model"] == day for item in items())
    assert {period[:10] for period, _ in usage_periods.read(live.runs.dynamodb, TABLE).tokens} == {day}
    for _ in range(2):
        told = summarise(live.settings, workflow=workflow)["total"]
        assert (told["steps"], told["cost_usd"]) == (2, 2 * Decimal("0.00045"))
        sum_due(live.settings, plenty)
    assert usage_periods.read(live.runs.dynamodb, TABLE).tokens == {}


def test_of_two_makers_none_leaves_sums_that_miss_a_row(stood: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    put([usage_row(1, DAYS[0], "desk", 5), usage_row(2, DAYS[0], "desk", 6)])
    ended(stood)
    read_rows = usage_days.read_rows
    number = itertools.count(10)
    for second_makes in (False, True):
        again: Any = [usage_row(next(number), DAYS[0], "desk", 5)]
        put(again)
        usage_periods.mark_late(stood.runs.dynamodb, TABLE, again)
        meanwhile: list[Any] = [usage_row(next(number), DAYS[0], "desk", 5)]

        def read_then_another_comes(*args: Any, late: list[Any] = meanwhile, second: bool = second_makes) -> Any:
            read = read_rows(*args)
            if args[3] == "05" and late:
                row = late.pop()
                put([row])
                usage_periods.mark_late(stood.runs.dynamodb, TABLE, [row])
                if second:
                    sum_due(stood.settings, plenty)
            return read

        with monkeypatch.context() as patch:
            patch.setattr(usage_days, "read_rows", read_then_another_comes)
            sum_due(stood.settings, plenty)
        check(stood)
        sum_due(stood.settings, plenty)
        assert usage_periods.read(stood.runs.dynamodb, TABLE).tokens == {}
        check(stood)


def killed_at_each_write(monkeypatch: pytest.MonkeyPatch, stood: Deployment) -> Iterator[Callable[[], bool]]:
    """Yield a call for each write that summing makes, and dies after it; whether it died."""
    client = clients.client("dynamodb")
    for place in itertools.count():
        died: list[bool] = []

        def die(place: int = place, died: list[bool] = died) -> bool:
            count = itertools.count()

            def dying(real: Any) -> Any:
                def write(**arguments: Any) -> Any:
                    answer = real(**arguments)
                    if next(count) == place:
                        died.append(True)
                        raise Killed
                    return answer

                return write

            with monkeypatch.context() as patch:
                for name in ("put_item", "delete_item", "batch_write_item"):
                    patch.setattr(client, name, dying(getattr(client, name)))
                with contextlib.suppress(Killed):
                    sum_due(stood.settings, plenty)
            return bool(died)

        yield die
        if not died:
            return


def test_who_dies_while_summing_leaves_nothing_half_made(stood: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_documents, "PART_BYTES", 40)  # so that every document has parts
    put([usage_row(1, DAYS[0], "desk", 5, tags={"x": "1"}), usage_row(2, DAYS[0], "desk", 6)])
    ended(stood)
    deaths = 0
    for number, die in enumerate(killed_at_each_write(monkeypatch, stood), 10):
        late: Any = [usage_row(number, DAYS[0], "desk", 5, tags={"x": "1", "y": str(number)})]
        put(late)
        usage_periods.mark_late(stood.runs.dynamodb, TABLE, late)
        deaths += die()
        check(stood)
        sum_due(stood.settings, plenty)
        check(stood)
        marks = usage_periods.read(stood.runs.dynamodb, TABLE)
        assert marks.tokens == {}
    assert deaths > 10
    heads = [item for item in items() if "make" in item]
    parts = [item for item in items() if "sums" in item and "make" not in item]
    assert len(parts) == sum(int(head["parts"]) for head in heads) > 0  # nothing of the dead is left


def test_periods_that_ended_unseen_are_marked_whoever_died(stood: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    put([usage_row(1, DAYS[0], "desk", 5)])
    usage_periods.set_listed(stood.runs.dynamodb, TABLE, usage_periods.after(usage_periods.last_closed(), -1))
    with monkeypatch.context() as patch:
        patch.setattr(usage_periods, "set_listed", lambda *a: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            sum_due(stood.settings, plenty)
    check(stood)
    sum_due(stood.settings, plenty)
    marks = usage_periods.read(stood.runs.dynamodb, TABLE)
    assert (marks.listed, marks.tokens) == (usage_periods.last_closed(), {})


def test_a_maker_without_time_leaves_it_to_the_next(stood: Deployment) -> None:
    put([usage_row(number, DAYS[0], "desk", HOURS[number % 3]) for number in range(9)])
    mark_ended(stood)
    before = len(usage_periods.read(stood.runs.dynamodb, TABLE).tokens)
    rounds = 0
    while left := len(usage_periods.read(stood.runs.dynamodb, TABLE).tokens):
        time_left = itertools.count(10_010, -1)
        sum_due(stood.settings, time_left.__next__)
        check(stood)
        rounds += 1
        assert left <= before, "it goes on"
        assert rounds < 20
    assert rounds > 1


def test_rows_go_and_their_sums_stay(stood: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    gone_at = clock.now_ms() // 1000 + 10 * 86_400
    put([usage_row(n, DAYS[0], "desk", HOURS[n], delete_at=gone_at, tags={"x": str(n)}) for n in range(5)])
    rows = rows_there()
    ended(stood)
    stood.wait(11 * 86_400)
    usage_periods.set_listed(stood.runs.dynamodb, TABLE, usage_periods.last_closed())
    # Time to live deletes rows, and the sums of hours, some at a time, up to days later.
    for some in (rows[:2], rows[2:]):
        keys = [{name: row[name] for name in ("day_workflow", "run_step_model")} for row in some]
        dynamo.batch_delete(stood.runs.dynamodb, TABLE, keys)
        check(stood, rows=rows)
        # A row that comes now cannot have the day summed again: what is left of the rows is not all of them.
        late: Any = [usage_row(70, DAYS[0], "desk", 5, delete_at=gone_at)]
        put(late)
        usage_periods.mark_late(stood.runs.dynamodb, TABLE, late)
        check(stood, rows=rows)
        sum_due(stood.settings, plenty)
        assert usage_periods.read(stood.runs.dynamodb, TABLE).tokens == {}
        check(stood, rows=rows)
    expiring = [item for item in items() if item["day_workflow"].startswith("hours")]
    assert expiring
    assert all("delete_at" in item for item in expiring if item["run_step_model"].startswith(DAYS[0]))
    assert not any("delete_at" in item for item in items() if item["day_workflow"].startswith("days"))


def test_rows_of_a_day_go_at_one_time(live: Deployment) -> None:
    live.play(live.accept(live.push([{"name": "a"}, {"name": "b"}])))
    (row, _) = rows_there()
    day = datetime.fromisoformat(f"{row['day_workflow'][:10]}T00:00:00+00:00")
    assert {int(one["delete_at"]) for one in rows_there()} == {int((day + timedelta(days=401)).timestamp())}
    assert bill._gone_at(live.runs, "2026-02-28T23:59:59.999Z") == bill._gone_at(live.runs, "2026-02-28T00:00:00.000Z")


def test_tags_that_name_every_order_are_not_kept(stood: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_sums, "MAX_TAGS", 3)
    monkeypatch.setattr(usage, "MAX_GROUPS", 3)
    put([usage_row(number, DAYS[0], "desk", number % 2, tags={"order": str(number)}) for number in range(4)])
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="more than 3 groups"):
            summarise(stood.settings, ["tag"], DAYS[0], DAYS[1])
        check(stood, [("workflow",), ("model", "day")])
        ended(stood)


def begun_before_hours(live: Deployment, run_id: str) -> None:
    """Make of a run what a version left that did not know of hours."""
    for row in rows_there():
        dynamo.batch_delete(
            live.runs.dynamodb, TABLE, [{name: row[name] for name in ("day_workflow", "run_step_model")}]
        )
        put([{**row, "run_step_model": row["run_step_model"].partition("#")[2]}])
    for step in live.runs.steps(run_id):
        live.runs.dynamodb.update_item(
            TableName="RunsTable",
            Key=dynamo.to_item({"run_id": run_id, "item": step["item"]}),
            UpdateExpression="REMOVE usage_by_hour",
        )


@pytest.mark.parametrize("days_later", [0, 2])
def test_a_run_over_the_upgrade_to_hours_is_billed_once(live: Deployment, days_later: int) -> None:
    live.provider.script = lambda call: "fine" if len(live.provider.calls) == 1 else refuse()
    workflow = live.push([{"name": "a"}, {"name": "b"}])
    sum_due(live.settings, plenty)  # from this hour on
    run_id = live.accept(workflow)
    with pytest.raises(RunFailed):
        live.play(run_id)
    begun_before_hours(live, run_id)
    live.wait(days_later * 86_400)
    for _ in range(3):
        sum_due(live.settings, plenty)
    live.provider.script = lambda call: "fine"
    bill.settle_totals(live.runs, live.runs.run(run_id), last=True)
    state: dict[str, Any] = {"contract": 1, "run_id": run_id, "round": 0}
    live.chain(live.map(live.advance(state))[0])
    live.advance(state)
    run = live.read(run_id)
    assert run["status"] == "completed"
    for _ in range(2):
        told = summarise(live.settings, workflow=workflow)["total"]
        assert (told["steps"], told["cost_usd"]) == (2, run["cost_usd"])
        sum_due(live.settings, plenty)
    assert usage_periods.read(live.runs.dynamodb, TABLE).tokens == {}


def refuse() -> Any:
    raise ModelRequestRejected("no such model: base", status=404)


def test_a_row_whose_writer_died_before_its_mark_is_counted(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = live.push([{"name": "a"}, {"name": "b"}])
    live.play(live.accept(workflow))
    sum_due(live.settings, plenty)  # from this hour on
    two_days_pass_in_a_call(live)
    deaths: list[bool] = []
    mark_late = usage_periods.mark_late

    def die_once(*args: Any) -> None:
        if not deaths:
            deaths.append(True)
            raise Killed
        mark_late(*args)

    monkeypatch.setattr(usage_periods, "mark_late", die_once)
    live.play(live.accept(workflow))  # who died is invoked again
    assert deaths
    assert usage_periods.read(live.runs.dynamodb, TABLE).tokens
    for _ in range(2):
        told = summarise(live.settings, workflow=workflow)["total"]
        assert (told["steps"], told["cost_usd"]) == (4, 4 * Decimal("0.00045"))
        sum_due(live.settings, plenty)
