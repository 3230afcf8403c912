"""What the scheduled reconciler looks at first, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

import pytest
from support.deployment import Deployment, deployment
from support.scripts import reject
from support.waiting_runs import counted, wait_for_people

from loopllama.aws import clients
from loopllama.core import clock
from loopllama.engine import human_input, reconcile
from loopllama.engine.human_input import respond
from loopllama.errors import RunFailed
from loopllama.runs.step_ref import Work
from loopllama.runs.store import ACTIVE_SHARDS, RunStore

DAY = 86_400


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch, retention_days=30) as made:
        monkeypatch.setattr(reconcile, "_execution", lambda _: {"status": "RUNNING"})
        yield made


def waiting_run(live: Deployment, workflow: str) -> str:
    """A run whose only step waits for a person."""
    run_id = live.accept(workflow, "x")
    assert live.step(live.map(live.start(run_id))[0])["outcome"] == "waiting"
    return run_id


def looked_at_in(live: Deployment, run_id: str) -> float:
    """In how many seconds the reconciler looks at a run again."""
    at = datetime.fromisoformat(live.runs.run(run_id)["check_at"]).timestamp()
    return round(at - clock.now_ms() / 1000)


def test_runs_that_wait_for_people_keep_no_lost_start_waiting(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than one call looks at, all due for longer than the start, in every shard. The start is mended
    before any of them is looked at, and three times as many make it read no more
    (`benchmarks/waiting_runs.py` has 100,000)."""
    workflow = live.push([{"name": "one", "approval": True}])
    first = live.runs.run(waiting_run(live, workflow))
    wait_for_people(live.runs, first, range(1, 16 * ACTIVE_SHARDS))
    looked_at: list[str] = []
    monkeypatch.setattr(reconcile, "start_execution", lambda _, run_id: looked_at.append(run_id) or True)
    monkeypatch.setattr(reconcile, "_execution", lambda arn: looked_at.append(arn) or {"status": "RUNNING"})

    def reconciled() -> tuple[Any, Counter[str]]:
        live.wait(DAY + 60)
        lost = live.accept(workflow, "x")
        live.wait(61)
        with counted(clients.client("dynamodb")) as calls:
            counts = reconcile.reconcile_due(live.settings)
        assert looked_at[0] == lost
        looked_at.clear()
        live.start(lost)
        live.runs.close(lost, "cancelled", {}, settled=True)
        return counts, calls

    counts, calls = reconciled()
    assert counts["started"] == 1
    assert counts["checked"] == 4 * ACTIVE_SHARDS, "so many of the others that Step Functions can be asked"
    assert counts["failed"] == counts["closed"] == 0
    assert calls["query"] == 3 * ACTIVE_SHARDS, "one page of each list of each shard"
    wait_for_people(live.runs, first, range(16 * ACTIVE_SHARDS, 48 * ACTIVE_SHARDS))
    assert reconciled() == (counts, calls)


def test_a_start_that_is_tried_again_comes_after_the_others(live: Deployment) -> None:
    run_id = live.accept(live.push([{"name": "one"}]), "x")
    live.wait(61)
    assert reconcile.reconcile_run(live.settings, live.runs, run_id) == "started"
    assert looked_at_in(live, run_id) == 900
    assert live.runs.run(run_id)["active"].startswith("start-")
    live.start(run_id)
    assert live.runs.run(run_id)["active"].isdecimal()


@pytest.mark.parametrize(("days", "seconds"), [(30, DAY), (1, DAY // 8)])
def test_a_run_that_waits_is_looked_at_rarely_and_soon_after_it_is_answered(
    live: Deployment, monkeypatch: pytest.MonkeyPatch, days: int, seconds: int
) -> None:
    live.settings = replace(live.settings, retention_days=days)
    live.runs = RunStore(live.settings)
    workflow = live.push([{"name": "one", "approval": True}, {"name": "two"}])
    run_id = live.accept(workflow, "x")
    work = live.map(live.start(run_id))[0]
    assert live.step(work)["outcome"] == "waiting"
    assert looked_at_in(live, run_id) == seconds
    live.wait(seconds + 1)
    assert reconcile.reconcile_due(live.settings)["checked"] == 1
    assert looked_at_in(live, run_id) == seconds

    delivered: list[str] = []
    monkeypatch.setattr(human_input, "deliver", delivered.append)
    human_input.keep_token(live.runs, Work.from_payload(cast("Any", work)), "token")

    def die(_: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(human_input, "deliver", die)
        with pytest.raises(KeyboardInterrupt):
            respond(live.runs, run_id, {"approved": True})
    assert looked_at_in(live, run_id) == 60
    live.wait(61)
    assert reconcile.reconcile_due(live.settings)["checked"] == 1
    assert delivered == ["token"]
    assert not live.runs.run(run_id)["pending"]
    assert looked_at_in(live, run_id) == 900


def test_who_answers_while_the_reconciler_looks_keeps_the_early_look(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = waiting_run(live, live.push([{"name": "one", "approval": True}]))
    live.wait(DAY + 1)

    def answered_meanwhile(*_: object) -> bool:
        live.runs.watch(run_id, "run", 60)
        return False

    monkeypatch.setattr(reconcile, "redeliver", answered_meanwhile)
    assert reconcile.reconcile_due(live.settings)["checked"] == 1
    assert looked_at_in(live, run_id) == 60


def test_a_question_among_others_keeps_the_run_among_those_that_wait(live: Deployment) -> None:
    """One of two is answered: the run is looked at as one under way once, and then as one that waits."""
    crew = [{"name": name, "needs": [], "approval": True} for name in ("one", "two")]
    run_id = live.accept(live.push(crew), "x")
    for work in live.map(live.start(run_id)):
        assert live.step(work)["outcome"] == "waiting"
    respond(live.runs, run_id, {"approved": True}, question=live.read(run_id)["pending"]["id"])
    assert looked_at_in(live, run_id) == 900
    live.wait(901)
    assert reconcile.reconcile_due(live.settings)["checked"] == 1
    assert looked_at_in(live, run_id) == DAY
    assert [run["run_id"] for run in live.runs.active()] == [run_id]


def test_the_index_is_asked_for_few_runs_at_once(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []
    dynamodb = clients.client("dynamodb")

    def query(**request: object) -> dict[str, list[object]]:
        limits.append(int(str(request["Limit"])))
        return {"Items": []}

    monkeypatch.setattr(dynamodb, "query", query)
    reconcile.reconcile_due(live.settings)
    assert len(limits) == 3 * ACTIVE_SHARDS
    assert sum(limits) <= 15 * 60 / 2, "DescribeExecution's quota of a minute, and half of it for others"


def test_a_run_whose_state_machine_went_with_its_stack_is_closed(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stack was deleted, and the one that took over its tables has no permission to ask for its execution."""
    run_id = waiting_run(live, live.push([{"name": "one", "approval": True}]))
    arn = "arn:aws:states:eu-west-1:123456789012:execution:crews-RunWorkflow-of-before:" + run_id
    live.runs.change(run_id, {"execution_arn": arn}, only_from=("running",))

    def denied(_: str) -> None:
        raise AssertionError("it may not be asked for")

    monkeypatch.setattr(reconcile, "_execution", denied)
    live.wait(DAY + 60)
    assert reconcile.reconcile_due(live.settings)["closed"] == 1
    run = live.runs.run(run_id)
    assert (run["status"], run["error"]["type"]) == ("failed", "ExecutionEnded")
    assert "its stack was deleted" in run["error"]["message"]


def test_a_redriven_run_whose_execution_ends_before_its_step_begins_anew_is_closed(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = live.accept(live.push([{"name": "one"}]))
    state = live.start(run_id)
    live.provider.script = reject
    assert live.chain(live.map(state)[0])["outcome"] == "failed"
    with pytest.raises(RunFailed):
        live.advance(state)
    live.advance(state)  # redriven, and the execution is aborted before it comes to the step
    monkeypatch.setattr(reconcile, "_execution", lambda _: {"status": "ABORTED"})
    assert reconcile.reconcile_run(live.settings, live.runs, run_id) == "closed"
    run = live.read(run_id)
    assert (run["status"], run["failure"]["step"]) == ("cancelled", "one")
