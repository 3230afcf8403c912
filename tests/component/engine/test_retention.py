"""A run that goes on for longer than runs are kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from moto.backends import get_backend
from support.deployment import Deployment, deployment

from loopllama.aws import dynamo
from loopllama.core import clock
from loopllama.engine import reconcile
from loopllama.engine.human_input import respond

DAY = 86_400
LARGE = "word " * 8_000
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    with deployment(monkeypatch, retention_days=3) as made:
        monkeypatch.setattr(reconcile, "_execution", lambda _: {"status": "RUNNING"})
        yield made


def waiting_run(live: Deployment) -> tuple[str, dict[str, Any]]:
    """A run with large values, whose second step waits for a person; and that step's work."""
    run_id = live.accept(live.push([{"name": "one"}, {"name": "two", "approval": True}]), LARGE)
    live.provider.script = lambda _: LARGE
    work = live.step(live.map(live.start(run_id))[0])
    assert live.step(work)["outcome"] == "waiting"
    return run_id, work


def objects() -> list[Any]:
    """The objects in the bucket, as moto has them."""
    return list(get_backend("s3")["123456789012"]["global"].buckets["values"].keys.values())


def ends(live: Deployment, run_id: str) -> dict[str, float]:
    """In how many days each of the run's items is deleted."""
    now = clock.now_ms() / 1000
    return {one["item"]: round((float(one["delete_at"]) - now) / DAY, 2) for one in live.runs.everything(run_id)}


def test_a_run_that_waits_for_longer_than_runs_are_kept_loses_nothing(live: Deployment) -> None:
    run_id, work = waiting_run(live)
    for made in objects():
        made.last_modified = LONG_AGO
    for _ in range(4):  # days
        live.wait(DAY + 60)
        reconcile.reconcile_run(live.settings, live.runs, run_id)
        assert set(ends(live, run_id).values()) == {3}
        old = [made.name for made in objects() if made.last_modified == LONG_AGO]
        assert len(objects()) - len(old) == 2  # the input and the first output
        assert [name.split("/")[-1][:19] for name in old] == ["attempt_0001-answer"]  # which nobody needs any more
    live.provider.script = lambda _: "fine"
    respond(live.runs, run_id, {"approved": True})
    assert live.step(work)["outcome"] == "done"
    live.advance({"contract": 1, "run_id": run_id})
    assert live.read(run_id)["status"] == "completed"
    live.wait(DAY + 60)
    reconcile.reconcile_run(live.settings, live.runs, run_id)
    assert set(ends(live, run_id).values()) == {2}  # what has ended is kept no longer


def test_a_run_of_usual_length_is_left_alone(live: Deployment) -> None:
    run_id, _ = waiting_run(live)
    for made in objects():
        made.last_modified = LONG_AGO
    live.wait(DAY - 60)
    reconcile.reconcile_run(live.settings, live.runs, run_id)
    assert set(ends(live, run_id).values()) == {2}
    assert {made.last_modified for made in objects()} == {LONG_AGO}


def test_what_breaks_off_is_done_again_and_a_value_that_is_gone_is_no_matter(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, _ = waiting_run(live)
    get_backend("s3")["123456789012"]["global"].buckets["values"].keys.clear()
    live.wait(DAY + 60)
    update = dynamo.update
    count = 0

    def breaking(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise ConnectionError
        return update(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(dynamo, "update", breaking)
        with pytest.raises(ConnectionError):
            reconcile.reconcile_run(live.settings, live.runs, run_id)
    kept = ends(live, run_id)
    assert (kept["RUN"], sorted(kept.values())) == (2, [*[2] * (len(kept) - 1), 3])
    with monkeypatch.context() as patch:
        patch.setattr(dynamo, "update", breaking)
        live.wait(60)
        reconcile.reconcile_run(live.settings, live.runs, run_id)
    assert count == 2 + len(kept) - 1 + 1, "what was done is not done again; the last one is the reconciler's own"
    assert set(ends(live, run_id).values()) == {3}
