"""Usage: sums of rows, by whatever one asks for, and as the command line shows them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from support.deployment import Deployment
from typer.testing import CliRunner

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.errors import InvalidRequest, WorkflowNotFound
from loopllama.queries import usage
from loopllama.queries.usage import summarise
from loopllama.workflows.store import DefinitionStore
from loopllama_cli import target
from loopllama_cli.main import app
from loopllama_cli.target import Target

TODAY = clock.now_text()[:10]


def played(live: Deployment, workflow: str, **options: Any) -> dict[str, Any]:
    run_id = live.accept(workflow, **options)
    live.play(run_id)
    return live.read(run_id)


def groups(told: dict[str, Any], *fields: str) -> dict[Any, tuple[Any, ...]]:
    return {
        tuple(one[field] for field in fields): (one["steps"], one["tokens_in"], one["cost_usd"])
        for one in told["groups"]
    }


def test_sums_are_to_the_digit_what_the_records_say(live: Deployment) -> None:
    crew = [{"name": "a"}, {"name": "b", "model": "test:b"}]
    first, second = live.push(crew, name="First"), live.push(crew[:1], name="Second")
    runs = [played(live, first, api_key="ann", tags={"team": "x"}), played(live, first), played(live, second)]
    told = summarise(live.settings)
    assert told["from"] < told["to"] == TODAY
    assert told["total"]["cost_usd"] == sum(run["cost_usd"] for run in runs)
    assert told["total"]["steps"] == 5
    cost = Decimal(100 * 3 + 10 * 15) / 10**6
    assert groups(told, "workflow") == {("first",): (4, 400, 4 * cost), ("second",): (1, 100, cost)}
    assert [one["workflow"] for one in told["groups"]] == ["first", "second"]  # the dearest first
    by_step = groups(summarise(live.settings, ["step"]), "workflow", "step")
    assert {key: value[0] for key, value in by_step.items()} == {
        ("first", "a"): 2,
        ("first", "b"): 2,
        ("second", "a"): 1,
    }
    by_model = groups(summarise(live.settings, ["model"]), "model")
    assert {key: value[0] for key, value in by_model.items()} == {("test:base",): 3, ("test:b",): 2}
    assert set(groups(summarise(live.settings, ["key", "day"]), "key", "day")) == {("ann", TODAY), (None, TODAY)}
    assert groups(summarise(live.settings, ["tag"]), "tag")["team=x",][0] == 2
    assert summarise(live.settings, workflow="second")["total"]["steps"] == 1


def test_what_has_no_price_is_told(live: Deployment) -> None:
    item = {"model": "test:free", "provider": "test", "provider_model": "free"}
    clients.client("dynamodb").put_item(TableName="ModelsTable", Item=dynamo.to_item(item))
    workflow = live.push([{"name": "a", "model": "test:free"}, {"name": "b"}])
    played(live, workflow)
    told = groups(summarise(live.settings, ["step"]), "step")
    assert told["a",][2] is None
    total = summarise(live.settings)["total"]
    assert total["unpriced"] is True
    assert total["cost_usd"] == told["b",][2]


def test_a_deleted_workflow_keeps_its_usage(live: Deployment) -> None:
    workflow = live.push([{"name": "a"}])
    cost = played(live, workflow)["cost_usd"]
    DefinitionStore(live.settings).delete(workflow)
    assert groups(summarise(live.settings), "workflow") == {(workflow,): (1, 100, cost)}
    live.push([{"name": "a"}])
    assert summarise(live.settings, workflow=workflow)["total"]["cost_usd"] == cost
    with pytest.raises(WorkflowNotFound):
        summarise(live.settings, workflow="nowhere")


def test_only_days_in_which_there_was_a_workflow_are_read(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    live.push([{"name": "a"}])
    asked: list[str] = []
    each = dynamo.each
    monkeypatch.setattr(dynamo, "each", lambda *a, **k: asked.append(a[3].get(":key")) or each(*a, **k))
    summarise(live.settings, first=None, last=None)
    assert asked[0] is None  # the marks
    assert set(asked[1:]) == {"days#test", "hours#test", f"{TODAY}#test"}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"by": []}, "by"),
        ({"by": ["cost"]}, "by"),
        ({"first": "today"}, "from"),
        ({"first": "20260101"}, "from"),
        ({"last": "2026-02-30"}, "to"),
        ({"first": "2026-02-02", "last": "2026-02-01"}, "from"),
        ({"first": "2024-01-01", "last": "2026-01-01"}, "from"),
    ],
)
def test_bad_ranges_are_refused(live: Deployment, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        summarise(live.settings, **options)
    assert caught.value.details[0]["field"] == field


def test_a_range_that_is_too_much_work_is_refused(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MAX_QUERIES", 1)
    live.push([{"name": "a"}], name="One")
    assert summarise(live.settings)["total"]["steps"] == 0
    live.push([{"name": "a"}], name="Two")
    with pytest.raises(InvalidRequest, match="name a workflow"):
        summarise(live.settings)
    assert summarise(live.settings, workflow="one")["total"]["steps"] == 0


def test_the_command_shows_the_same(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "connect", lambda choice: Target("test", live.settings, {}, local=True))
    run = CliRunner().invoke
    empty = run(app, ["usage"])
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "Nothing was used" in empty.stderr
    cost = played(live, live.push([{"name": "a"}, {"name": "b"}]))["cost_usd"]
    told = json.loads(run(app, ["usage", "--by", "step", "--json"]).stdout, parse_float=Decimal)
    assert told["total"]["cost_usd"] == cost
    shown = run(app, ["usage", "--by", "step"]).stdout
    for text in ("Workflow", "Step", "test", "a", "b", "total", "200", "$0.00090"):
        assert text in shown
    assert run(app, ["usage", "--by", "nothing"]).exit_code == 2


def test_more_groups_than_an_answer_holds_are_refused(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = live.push([{"name": "a"}])
    for order in ("1", "2", "3"):
        played(live, workflow, tags={"order": order})
    monkeypatch.setattr(usage, "MAX_GROUPS", 2)
    assert summarise(live.settings, ["workflow"])["total"]["steps"] == 3
    with pytest.raises(InvalidRequest, match="more than 2 groups"):
        summarise(live.settings, ["tag"])
