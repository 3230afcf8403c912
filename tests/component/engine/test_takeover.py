"""An invocation that takes over a step from one that died, and a step that is tried again: which models are called."""

from __future__ import annotations

from typing import Any

import pytest
from support.deployment import Deployment, Killed

from loopllama.aws import clients, dynamo
from loopllama.errors import ModelRequestRejected, ModelUnavailable
from loopllama.llm.types import ModelRequest, ModelResponse


def prepared(live: Deployment, **step: Any) -> dict[str, Any]:
    """A run of one step with a fallback; its work."""
    workflow = live.push([{"name": "one", "model": "test:a", "fallbacks": ["test:b"], **step}])
    return live.map(live.start(live.accept(workflow)))[0]


def called(live: Deployment) -> list[str]:
    return [call.model for call in live.provider.calls]


def fails(*, models: set[str], dies: set[str], error: type[Exception] = ModelUnavailable) -> Any:
    def script(call: ModelRequest) -> ModelResponse | str:
        if call.model in dies:
            dies.remove(call.model)
            raise Killed
        if call.model in models:
            raise error("no")
        return "answer"

    return script


def test_goes_on_behind_the_models_that_have_failed(live: Deployment) -> None:
    work = prepared(live)
    live.provider.script = fails(models={"a"}, dies={"b"})
    with pytest.raises(Killed):
        live.step(work, "first")
    live.wait(61)
    assert live.step(work, "second")["outcome"] == "done"
    assert called(live) == ["a", "b", "b"]


def test_all_models_failed_before_it_died_so_the_step_is_put_off_without_a_call(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = prepared(live)
    live.provider.script = fails(models={"a", "b"}, dies=set())
    update = dynamo.update

    def dies_putting_off(*args: Any, **kwargs: Any) -> Any:
        if "tries" in args[3]:
            raise Killed
        return update(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(dynamo, "update", dies_putting_off)
        with pytest.raises(Killed):
            live.step(work, "first")
    live.wait(61)
    assert live.step(work, "second")["outcome"] == "retry_later"
    assert called(live) == ["a", "b"]
    live.provider.script = fails(models=set(), dies=set())
    assert live.step(work, "third")["outcome"] == "done"
    assert called(live) == ["a", "b", "a"]  # put off is over: the chain from its beginning


def test_a_step_opened_again_asks_the_models_that_had_rejected_it(live: Deployment) -> None:
    work = prepared(live)
    live.provider.script = fails(models={"a", "b"}, dies=set(), error=ModelRequestRejected)
    assert live.step(work, "first")["outcome"] == "failed"
    with pytest.raises(Exception, match="one"):
        live.advance(work)
    live.provider.script = fails(models=set(), dies=set())
    state = live.advance(work)
    assert live.step(live.map(state)[0], "second")["outcome"] == "done"
    assert called(live) == ["a", "b", "a"]


def test_items_that_were_turned_away_together_do_not_come_back_together(live: Deployment) -> None:
    run_id = live.accept(live.push([{"name": "one", "forEach": "input.list", "needs": []}]), {"list": [*range(8)]})
    fork = live.step(live.map(live.start(run_id))[0])
    live.provider.script = fails(models={"base"}, dies=set())
    waits = {}
    for tries, usual in enumerate((2, 4, 8), 1):
        waits[usual] = [live.step(work, f"{tries}")["seconds"] for work in live.map(fork, 1)]
        assert all(usual <= seconds <= 1.5 * usual for seconds in waits[usual])
    assert sum(len(set(spread)) for spread in waits.values()) > 4


def test_a_route_that_is_decided_anew_keeps_nothing_of_the_one_before(live: Deployment) -> None:
    work = prepared(live)
    row = {"workflow": work["workflow"], "step": "one", "model": "test:base", "version": 3, "temperature": "hot"}
    clients.client("dynamodb").put_item(TableName=live.settings.routes_table, Item=dynamo.to_item(row))
    live.provider.script = fails(models={"base"}, dies=set())
    assert live.step(work, "first")["outcome"] == "retry_later"
    record = live.read(work["run_id"])["steps"][0]
    assert (record["source"], record["route_version"], len(record["ignored"])) == ("step-override", 3, 1)
    key = {name: row[name] for name in ("workflow", "step")}
    clients.client("dynamodb").delete_item(TableName=live.settings.routes_table, Key=dynamo.to_item(key))
    assert live.step(work, "second")["outcome"] == "done"
    record = live.read(work["run_id"])["steps"][0]
    assert (record["source"], record["route_version"], record["ignored"]) == ("agent", None, [])
    assert "invalid_overrides" not in live.runs.items(work["run_id"], ["STEP#one#0#0"])["STEP#one#0#0"]
