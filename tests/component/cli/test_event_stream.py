"""`loopllama runs watch`, and waiting for a run by its events."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.deployment import Deployment, deployment
from support.stream_records import TOTALS, moment, record, run_item, step_item
from typer.testing import CliRunner, Result

from loopllama.aws import clients, dynamo
from loopllama.core import exact_json
from loopllama.events.derive import events_of
from loopllama.events.log import EventLog
from loopllama_cli import target
from loopllama_cli.console import event_stream
from loopllama_cli.main import app
from loopllama_cli.target import Target

STARTED = run_item("r", "running", started_at=moment(1))
RUNNING = step_item("r", "a", "running", iteration=1, item_index=3)
FAILURE = {"type": "ModelRequestRejected", "message": "no", "step": "a"}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch) as running:
        monkeypatch.setattr(target, "connect", lambda _: Target("test", running.settings, {}, False))
        yield running


def keep(made: Deployment, status: str, *changes: tuple[Any, Any]) -> None:
    clients.client("dynamodb").put_item(
        TableName="RunsTable", Item=dynamo.to_item({**STARTED, "status": status, "created_at": moment(0)})
    )
    log = EventLog(made.settings)
    for change in changes:
        for event in events_of(record(*change)):
            log.append(event)


def watch(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["runs", "watch", *arguments])


def ended(status: str, **more: Any) -> dict[str, Any]:
    return {**STARTED, "status": status, "finished_at": moment(9), **TOTALS, **more}


BEGIN = (run_item("r", "queued"), STARTED)
STEP = (
    RUNNING,
    {**RUNNING, "status": "completed", "finished_at": moment(4), "model": "small", "latency_ms": 3000, **TOTALS},
)


def test_a_run_that_is_over_is_told_and_left(made: Deployment) -> None:
    keep(made, "completed", BEGIN, STEP, (STARTED, ended("completed")))
    result = watch("r")
    assert result.exit_code == 0, result.output
    first, second, third = result.stdout.splitlines()
    assert "1  RunStarted" in first
    assert "2  StepCompleted   a[3] #2  small  3.00 s  $0.0004500" in second
    assert "3  RunCompleted    8.00 s  $0.0004500" in third
    assert watch("r", "--after", "2").stdout.splitlines() == [third]


def test_a_line_of_json_is_an_event(made: Deployment) -> None:
    keep(made, "failed", BEGIN, (STARTED, ended("failed", error=FAILURE)))
    result = watch("r", "--json")
    assert result.exit_code == 1
    told = [exact_json.loads(line) for line in result.stdout.splitlines()]
    assert told == exact_json.loads(exact_json.dumps(EventLog(made.settings).after("r", 0, 10)))
    assert "ModelRequestRejected" in watch("r").stdout


def test_what_comes_behind_a_runs_end_leaves_its_end_as_it_was(made: Deployment) -> None:
    keep(made, "cancelled", BEGIN, (STARTED, ended("cancelled")), STEP)
    result = watch("r")
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 3)
    assert (watch("r", "--after", "3").exit_code, watch("r", "--after", "99").exit_code) == (1, 1)


def test_a_run_that_is_not_there_is_not_found(made: Deployment) -> None:
    assert watch("nobody").exit_code == 3


def test_events_are_shown_as_they_come(made: Deployment) -> None:
    keep(made, "running", BEGIN)
    coming = event_stream.events(made.settings, "r")
    assert next(coming)["type"] == "RunStarted"
    threading.Timer(0.1, keep, (made, "completed", STEP, (STARTED, ended("completed")))).start()
    assert [event["type"] for event in coming] == ["StepCompleted", "RunCompleted"]


def test_news_tell_of_each_event_once(made: Deployment) -> None:
    keep(made, "running", BEGIN, STEP)
    news = event_stream.News(made.settings, "r")
    news.wait(20)  # both at once
    news.wait(0.05)  # nothing more: it takes its time
    keep(made, "completed", (STARTED, ended("completed")))
    news.wait(20)
    news.wait(20)  # the run is over
