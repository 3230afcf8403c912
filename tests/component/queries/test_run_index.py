"""Lists of runs over the real index: what each filter finds, and that pages together are the list."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.api_client import InProcess
from support.deployment import Deployment

from loopllama.aws import clients, dynamo
from loopllama.core import clock, exact_json, pagination
from loopllama.queries import run_index
from loopllama.queries.run_index import Filter
from loopllama.queries.runs import RunReader

START = 1_795_000_000
"""Seconds since the epoch of the first run."""


def put(live: Deployment, number: int, second: float, workflow: str = "w", **fields: Any) -> str:
    """Write a run's item as if it had been accepted `second` seconds after the start."""
    run = {
        "run_id": f"run_{number:04}",
        "item": "RUN",
        "workflow_id": workflow,
        "workflow_version": 1,
        "status": "completed",
        "input": f"number {number}",
        "total_steps": 0,
        "input_tokens": 0,
        "created_at": clock.now_text(START + second),
        **fields,
    }
    clients.client("dynamodb").put_item(TableName=live.settings.runs_table, Item=dynamo.to_item(run))
    return str(run["run_id"])


def ids(live: Deployment, which: Filter, limit: int = 100) -> list[str]:
    """All runs of a list, in as many pages as it takes."""
    reader, found, cursor = RunReader(live.settings), [], None
    for _ in range(200):
        page, cursor = reader.list(limit=limit, cursor=cursor, which=which)
        assert len(page) <= limit
        found += [run["id"] for run in page]
        if cursor is None:
            return found
    raise AssertionError("the pages do not end")


@pytest.fixture
def asked(live: Deployment) -> Any:
    client = InProcess(live.settings)

    def ask(code: int = 200, **query: str) -> Any:
        given, answer = client.ask("GET", f"/v1/runs?{urlencode(query)}")
        assert given == code, answer
        return answer

    return ask


def test_every_filter_finds_its_runs_and_no_others(live: Deployment, asked: Any) -> None:
    first, second = live.push([{"name": "a"}], "First"), live.push([{"name": "a"}], "Second")
    question = {"STEP#a#0#0": {"key": "k", "kind": "input", "prompt": "?", "asked_at": "t", "expires_at": "t"}}
    long = "Long é" + "x" * run_index.MAX_INPUTS * 200
    runs = {
        "old": put(live, 1, 0, first, tags={"team": "red", "a=b": "c"}, input="Hello, world"),
        "failed": put(live, 2, 10, second, status="failed", tags={"team": "blue"}),
        "waits": put(
            live, 3, 20, first, status="running", pending=question, input={"$json": exact_json.dumps({"order": 4411})}
        ),
        "runs": put(live, 4, 30, second, status="running", pending={}),
        "queued": put(live, 5, 40, first, status="queued", input=long[:10]),
        "cancelled": put(live, 6, 50, second, status="cancelled"),
        "large": put(live, 7, 60, first),
        "large object": put(live, 8, 70, second),
    }
    for name, value in (("large", long), ("large object", {"note": long})):
        stored = RunReader(live.settings)._values.store(runs[name], "input", value)
        assert "$s3" in stored
        put(
            live,
            list(runs).index(name) + 1,
            60 + 10 * (name != "large"),
            first if name == "large" else second,
            input=stored,
        )
    names = {run_id: name for name, run_id in runs.items()}

    def found(**query: str) -> list[str]:
        answer = asked(**query)
        assert answer["next_cursor"] is None
        return [names[run["id"]] for run in answer["data"]]

    everything = list(reversed(list(runs)))
    assert found() == everything
    assert found(workflow=first) == ["large", "queued", "waits", "old"]
    for status, right in (
        ("failed", ["failed"]),
        ("waiting_input", ["waits"]),
        ("running", ["runs"]),
        ("queued", ["queued"]),
        ("cancelled", ["cancelled"]),
        ("completed", ["large object", "large", "old"]),
    ):
        assert found(status=status) == right
    assert found(since=clock.now_text(START + 60)) == ["large object", "large"]
    assert found(until=clock.now_text(START + 10)) == ["old"]
    assert found(since=clock.now_text(START + 10), until=clock.now_text(START + 10.001)) == ["failed"]
    assert found(tag="team") == ["failed", "old"]
    assert found(tag="team=red") == found(tag="a=b=c") == found(tag="a=b") == ["old"]
    assert found(tag="a") == found(tag="team=re") == []
    assert found(q="Hello, w") == ["old"]
    assert found(q="hello") == found(q="ello") == []
    assert found(q='{"order":4') == ["waits"]
    assert found(q="Long é") == ["large", "queued"]
    assert found(q='{"note":"Long') == ["large object"]
    assert found(q='"Long') == []
    assert found(workflow=second, status="completed", q='{"note"', since="2020") == ["large object"]
    shown = asked(tag="team=red")["data"][0]
    assert (shown["input"], shown["tags"]) == ("Hello, world", {"team": "red", "a=b": "c"})


def test_an_input_that_is_gone_from_the_bucket_begins_with_nothing(live: Deployment, asked: Any) -> None:
    put(live, 1, 0, live.push([{"name": "a"}]), input={"$s3": "runs/run_0001/input-gone.json", "bytes": 40_000})
    assert asked(q="x") == {"data": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "field", "right"),
    [
        ({"status": "done"}, "status", "waiting_input"),
        ({"since": "2h"}, "since", "2026-11-28T06:00:00Z"),
        ({"until": "soon"}, "until", "2026-11-28T06:00:00Z"),
        ({"since": "2026-11-28", "until": "2026-11-28"}, "until", "later than since"),
        ({"cursor": "abc"}, "cursor", "next_cursor"),
        ({"q": "x" * 201}, "q", "200"),
        ({"limit": "0"}, "limit", "1"),
    ],
)
def test_a_bad_value_is_told_with_what_is_right(asked: Any, query: dict[str, str], field: str, right: str) -> None:
    (detail,) = asked(400, **query)["details"]
    assert detail["field"] == field
    assert right in detail["message"]


def test_no_such_workflow_is_not_found_but_one_that_was_deleted_has_its_runs(live: Deployment, asked: Any) -> None:
    asked(404, workflow="nobody")
    workflow = live.push([{"name": "a"}])
    run_id = put(live, 1, clock.now_seconds() - START, workflow)
    RunReader(live.settings)._definitions.delete(workflow)
    assert [run["id"] for run in asked(workflow=workflow)["data"]] == [run_id]
    assert [run["id"] for run in asked()["data"]] == [run_id]


def test_a_cursor_is_of_its_list_only(live: Deployment, asked: Any) -> None:
    first, second = live.push([{"name": "a"}], "First"), live.push([{"name": "a"}], "Second")
    for number in range(4):
        put(live, number, number, first if number % 2 else second)
    cursor = asked(limit="1")["next_cursor"]
    assert [run["id"] for run in asked(limit="3", cursor=cursor)["data"]] == ["run_0002", "run_0001", "run_0000"]
    for other in ({"status": "completed"}, {"workflow": first}, {"since": "2020"}, {"q": "n"}, {"tag": "a"}):
        asked(400, cursor=cursor, **other)
    which = Filter.of(since=clock.now_text(START + 1), until=clock.now_text(START + 3))
    binding = pagination.bound("runs", *vars(which).values())
    for second_ in (0, 3):  # DynamoDB would refuse a place outside of the range with an error of its own
        place = (first, "run_0001", clock.now_text(START + second_))
        asked(400, cursor=pagination.write(binding, *place), since=which.since or "", until=which.until or "")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seconds=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), max_size=14),
    limit=st.integers(1, 5),
    looked_at=st.integers(1, 6),
    inputs=st.integers(1, 3),
    which=st.sampled_from([{}, {"status": "failed"}, {"workflow": "w1"}, {"tag": "t"}, {"beginning": "no"}]),
    since=st.sampled_from([None, 1]),
    until=st.sampled_from([None, 3]),
)
def test_pages_of_any_size_are_together_the_list(
    live: Deployment,
    monkeypatch: Any,
    seconds: Any,
    limit: int,
    looked_at: int,
    inputs: int,
    which: Any,
    since: Any,
    until: Any,
) -> None:
    """Many runs of one moment, in several workflows, looked at a few at a time."""
    dynamodb = clients.client("dynamodb")
    for item in dynamodb.scan(TableName=live.settings.runs_table)["Items"]:
        key = {"run_id": item["run_id"], "item": item["item"]}
        dynamodb.delete_item(TableName=live.settings.runs_table, Key=key)
    for number in range(3):
        live.push([{"name": "a"}], f"W{number}")
    right = []
    for number, (second, workflow, failed) in enumerate(seconds):
        fields: dict[str, Any] = {"status": "failed", "tags": {"t": "x"}, "input": "no"} if failed else {}
        run_id = put(live, number, second, f"w{workflow}", **fields)
        good = failed if which.keys() & {"status", "tag", "beginning"} else workflow == 1 if which else True
        if good and second >= (since or 0) and second < (until or 9):
            right.append((second, workflow, run_id))
    moment = {"since": since and clock.now_text(START + since), "until": until and clock.now_text(START + until)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_index, "MAX_LOOKED_AT", looked_at)
        patch.setattr(run_index, "MAX_INPUTS", inputs)
        patch.setattr(run_index, "_PAGE", 3)
        found = ids(live, Filter.of(**which, **moment), limit)
    assert sorted(found) == sorted(run_id for *_, run_id in right)
    assert len(found) == len(set(found))
    seconds_of = {run_id: second for second, _, run_id in right}
    assert [seconds_of[run_id] for run_id in found] == sorted((seconds_of[run_id] for run_id in found), reverse=True)


def test_a_filter_that_no_run_meets_looks_at_a_limited_number(live: Deployment, asked: Any, monkeypatch: Any) -> None:
    workflow = live.push([{"name": "a"}])
    for number in range(60):
        put(live, number, number, workflow)
    monkeypatch.setattr(run_index, "MAX_LOOKED_AT", 25)
    monkeypatch.setattr(run_index, "_PAGE", 5)
    read: list[int] = []
    dynamodb = clients.client("dynamodb")

    def counted(query: Any = dynamodb.query, **request: Any) -> Any:
        answer = query(**request)
        if request.get("IndexName") == "by_workflow":
            read.append(answer["ScannedCount"])
        return answer

    monkeypatch.setattr(dynamodb, "query", counted)
    answer = asked(status="failed")
    assert answer["data"] == []
    assert answer["next_cursor"]
    assert 25 <= sum(read) <= 30
    assert run_index.reached(answer["next_cursor"]) == clock.now_text(START + 35)
    assert asked(status="failed", cursor=asked(status="failed", cursor=answer["next_cursor"])["next_cursor"]) == {
        "data": [],
        "next_cursor": None,
    }


def test_more_workflows_than_are_put_together(live: Deployment, asked: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(run_index, "MAX_WORKFLOWS", 2)
    for number in range(2):
        put(live, number, number, live.push([{"name": "a"}], f"W{number}"))
    assert len(asked()["data"]) == 2
    live.push([{"name": "a"}], "W2")
    (detail,) = asked(400)["details"]
    assert detail["field"] == "workflow"
    assert len(asked(workflow="w1")["data"]) == 1


def test_the_command_reads_on_until_it_has_found_enough(live: Deployment, monkeypatch: Any) -> None:
    from support.command_line import invoke

    from loopllama_cli import target
    from loopllama_cli.commands import runs

    monkeypatch.setattr(target, "connect", lambda choice: target.Target("s", live.settings, {}, local=True))
    monkeypatch.setattr(run_index, "MAX_LOOKED_AT", 3)
    workflow = live.push([{"name": "a"}])
    for number in range(12):
        put(live, number, number, workflow, status="completed" if number else "failed", tags={"n": str(number)})
    since = clock.now_text(START)

    def listed(*options: str, **how: Any) -> list[str]:
        return [run["id"] for run in json.loads(invoke("runs", "list", *options, "--json", **how).stdout)]

    assert listed("--status", "failed", "--since", since) == ["run_0000"]
    assert listed("--workflow", workflow, "--tag", "n=7") == listed(workflow, "--q", "number 7") == ["run_0007"]
    assert listed("--until", clock.now_text(START + 2)) == ["run_0001", "run_0000"]
    assert listed("--limit", "5") == [f"run_{number:04}" for number in range(11, 6, -1)]
    assert listed("--since", "1s") == []
    assert len(listed("--since", "9999d")) == 12
    monkeypatch.setattr(runs, "MAX_PAGES", 2)
    reached = clock.now_text(START + 6)
    assert f"add --until {reached}" in invoke("runs", "list", "--status", "failed").stderr
    for options in (("--status", "done"), ("--since", "soon"), ("--until", "2026-99"), ("other", "--workflow", "w")):
        assert invoke("runs", "list", *options, code=2).stderr.startswith("error: ")
