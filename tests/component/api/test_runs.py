"""Runs as answers hold them: values that do not fit, and more steps than an answer may have."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from support.api_client import InProcess
from support.deployment import Deployment

from loopllama.api.resources import runs
from loopllama.aws import clients, dynamo
from loopllama.core import exact_json

ITEMS = 150
OUTPUT = "x" * 4000
"""All of them together do not fit into an answer, each of them lies in the record."""


@pytest.fixture
def asked(live: Deployment) -> Any:
    """Asks the API; the answer's status and its JSON."""
    return InProcess(live.settings).ask


@pytest.fixture
def large(live: Deployment) -> str:
    """A run with a step of many items: one that was played, and as many records like its own."""
    schema = {"type": "object", "properties": {"list": {"type": "array"}}, "required": ["list"]}
    crew = [{"name": "plan", "outputSchema": schema}, {"name": "work", "forEach": "steps.plan.output.list"}]
    live.provider.script = lambda call: '{"list": [1]}' if len(live.provider.calls) == 1 else "fine"
    run_id = live.accept(live.push(crew))
    live.play(run_id)
    record = live.runs.items(run_id, ["STEP#work#0#1"])["STEP#work#0#1"]
    for number in range(1, ITEMS + 1):
        item = record | {"item": f"STEP#work#0#{number}", "item_index": number, "output": f"{number} {OUTPUT}"}
        clients.client("dynamodb").put_item(TableName="RunsTable", Item=dynamo.to_item(item))
    return run_id


def stored(link: str) -> Any:
    """What a signed link leads to."""
    key = "runs/" + unquote(urlsplit(link).path).partition("/runs/")[2]
    return exact_json.loads(clients.client("s3").get_object(Bucket="values", Key=key)["Body"].read())


def test_what_does_not_fit_is_stored_once_however_often_it_is_asked_for(
    live: Deployment, asked: Any, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts: list[str] = []
    s3 = clients.client("s3")
    monkeypatch.setattr(s3, "put_object", lambda put=s3.put_object, **what: puts.append(what["Key"]) or put(**what))
    code, first = asked("GET", f"/v1/runs/{large}")
    steps = [one for one in first["data"]["steps"] if one["item"]]
    whole = [one for one in steps if isinstance(one["output"], str)]
    links = [one for one in steps if isinstance(one["output"], dict)]
    assert (code, len(steps)) == (200, ITEMS)
    assert sum(len(one["output"]) for one in whole) <= runs.MAX_SHOWN_BYTES
    assert len(links) > ITEMS / 2
    behind = {stored(one["output"]["url"]) for one in links}
    assert len(behind) == len(links)
    assert behind.isdisjoint(one["output"] for one in whole)
    assert len(puts) == len(set(puts)) >= len(links)
    before = len(puts)
    again = asked("GET", f"/v1/runs/{large}")[1]
    assert len(puts) == before
    assert len(again["data"]["steps"]) == len(first["data"]["steps"])


def test_more_steps_than_an_answer_holds_are_a_link(asked: Any, large: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = asked("GET", f"/v1/runs/{large}")[1]["data"]
    monkeypatch.setattr(runs, "MAX_STEPS_BYTES", 20_000)
    run = asked("GET", f"/v1/runs/{large}")[1]["data"]
    assert [one["id"] for one in stored(run["steps"]["url"])] == [one["id"] for one in whole["steps"]]
    assert run["tokens_in"] == whole["tokens_in"] > 0


def test_a_key_finds_its_run_though_the_workflow_is_gone(live: Deployment, asked: Any) -> None:
    workflow = live.push([{"name": "a"}])
    path, key = f"/v1/workflows/{workflow}/runs", {"idempotency-key": "k"}
    started = asked("POST", path, {"input": "x"}, **key)
    assert started[0] == 202
    live.play(started[1]["data"]["id"])
    assert asked("DELETE", f"/v1/workflows/{workflow}")[0] == 200
    code, again = asked("POST", path, {"input": "x"}, **key)
    assert (code, again["data"]["id"]) == (202, started[1]["data"]["id"])
    assert asked("POST", path, {"input": "x"})[0] == 404
