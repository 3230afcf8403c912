"""Replay and cancel: what is kept, what is done again, what nothing happens to."""

from __future__ import annotations

from typing import Any

import pytest
from support.deployment import Deployment

from loopllama.aws import clients
from loopllama.engine.cancel import cancel_run
from loopllama.engine.replay import kept_steps, replay_run
from loopllama.errors import Conflict, InvalidRequest, ModelRequestRejected, RunFailed, RunNotFound, WorkflowPaused
from loopllama.workflows.store import DefinitionStore

LINE = [{"name": "a"}, {"name": "b"}, {"name": "c"}]


def crew(**needs: list[str]) -> list[dict[str, Any]]:
    return [{"name": name, "needs": before} for name, before in needs.items()]


@pytest.mark.parametrize(
    ("steps", "start", "kept"),
    [
        (crew(a=[], b=["a"], c=["b"]), "a", set()),
        (crew(a=[], b=["a"], c=["b"]), "c", {"a", "b"}),
        (crew(a=[], b=[], c=["a", "b"]), "b", {"a"}),
        (crew(a=[], b=[], c=["a", "b"]), "c", {"a", "b"}),
        # Listed before, but it needs what is redone.
        (crew(b=["a"], c=["b"], a=[]), "a", set()),
        (crew(z=[], b=["a"], a=[]), "a", {"z"}),
        (
            [*crew(a=[], b=["a"]), {"name": "c", "needs": ["b"], "repeat": {"back_to": "b", "until": "x", "max": 2}}],
            "c",
            {"a"},
        ),
    ],
)
def test_what_is_kept(steps: Any, start: str, kept: set[str]) -> None:
    assert kept_steps(steps, start) == kept


def test_a_replay_calls_no_model_for_what_it_keeps(live: Deployment) -> None:
    workflow = live.push(LINE)
    first = live.accept(workflow, "hello", models={"b": "test:b"})
    live.play(first)
    calls = len(live.provider.calls)
    second = replay_run(live.settings, first, "c", models={"c": "test:a"}, system_prompts={"c": "Other words."})
    live.play(second)
    [call] = live.provider.calls[calls:]
    assert call.model == "a"
    assert call.system == "Other words."
    old, new = live.read(first), live.read(second)
    assert [step["output"] for step in new["steps"][:2]] == [step["output"] for step in old["steps"][:2]]
    assert [step["cost_usd"] for step in new["steps"][:2]] == [0, 0]
    assert [step["replayed_from"] for step in new["steps"]] == [first, first, None]
    assert new["models"] == {"b": "test:b", "c": "test:a"}
    assert new["cost_usd"] == new["steps"][2]["cost_usd"] > 0
    assert sorted(row["step"] for row in live.usage_rows() if row["run_id"] == second) == ["c"]


def test_large_outputs_get_a_life_of_their_own(live: Deployment) -> None:
    large = "word " * 20_000
    live.provider.script = lambda call: large
    first = live.accept(live.push(LINE), large)
    live.play(first)
    second = replay_run(live.settings, first, "b")
    s3 = clients.client("s3")
    for item in s3.list_objects_v2(Bucket="values", Prefix=f"runs/{first}/")["Contents"]:
        s3.delete_object(Bucket="values", Key=item["Key"])
    live.play(second)
    assert live.read(second)["steps"][0]["output"] == large
    assert live.read(second)["input"] == large


def test_a_failed_run_is_replayed_from_where_it_failed(live: Deployment) -> None:
    def refuse(call: Any) -> str:
        if len(live.provider.calls) > 1:
            raise ModelRequestRejected("no")
        return "fine"

    live.provider.script = refuse
    first = live.accept(live.push(LINE), "hello")
    with pytest.raises(RunFailed):
        live.play(first)
    with pytest.raises(Conflict, match="'b'"):
        replay_run(live.settings, first, "c")
    live.provider.script = lambda call: "better"
    second = replay_run(live.settings, first, "b", run_input="other")
    live.play(second)
    assert [step["output"] for step in live.read(second)["steps"]] == ["fine", "better", "better"]
    assert live.read(second)["input"] == "other"


def test_a_replay_keeps_the_version_of_its_run(live: Deployment) -> None:
    workflow = live.push(LINE)
    first = live.accept(workflow)
    live.play(first)
    live.push(LINE[:1])
    second = replay_run(live.settings, first, "c")
    live.play(second)
    assert [step["step"] for step in live.read(second)["steps"]] == ["a", "b", "c"]


def test_a_key_makes_it_one_replay(live: Deployment) -> None:
    first = live.accept(live.push(LINE))
    live.play(first)
    second = replay_run(live.settings, first, "c", key="k")
    assert replay_run(live.settings, first, "c", key="k") == second
    with pytest.raises(Conflict, match="another request"):
        replay_run(live.settings, first, "b", key="k")


def test_what_is_refused(live: Deployment) -> None:
    workflow = live.push(LINE)
    first = live.accept(workflow)
    live.play(first)
    with pytest.raises(RunNotFound):
        replay_run(live.settings, "run_nowhere", "a")
    for options in (
        {"from_step": "x"},
        {"from_step": "b", "models": {"x": "test:a"}},
        {"from_step": "b", "system_prompts": {"a": "kept"}},
        {"from_step": "b", "system_prompts": {"x": "unknown"}},
        {"from_step": "b", "system_prompts": {"b": ""}},
        {"from_step": "b", "system_prompts": {"b": "x" * 8001}},
    ):
        with pytest.raises(InvalidRequest):
            replay_run(live.settings, first, **options)
    DefinitionStore(live.settings).set_status(workflow, "paused")
    with pytest.raises(WorkflowPaused):
        replay_run(live.settings, first, "b")


def test_a_cancelled_run_begins_nothing_more(live: Deployment) -> None:
    run_id = live.accept(live.push(LINE))
    state = live.start(run_id)
    gone = live.settings.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{run_id}"
    live.runs.change(run_id, {"execution_arn": gone}, only_from=("running",))
    live.step(live.map(state)[0])
    calls = len(live.provider.calls)
    cancel_run(live.settings, run_id, by="ann")
    run = live.read(run_id)
    assert (run["status"], run["error"]) == ("cancelled", "Cancelled: cancelled by ann")
    assert run["steps"][0]["status"] == "completed"
    assert run["cost_usd"] == run["steps"][0]["cost_usd"] > 0
    work = {**live.map(state)[0], "step": "b"}
    assert live.step(work)["outcome"] == "stopped"
    assert live.advance(state)["outcome"] == "done"
    assert len(live.provider.calls) == calls
    cancel_run(live.settings, run_id)
    assert live.read(run_id) == run


def test_a_run_that_was_never_started_is_cancelled_too(live: Deployment) -> None:
    run_id = live.accept(live.push(LINE))
    cancel_run(live.settings, run_id)
    assert live.read(run_id)["status"] == "cancelled"
    with pytest.raises(RunFailed):
        live.start(run_id)


def test_what_has_ended_is_not_cancelled(live: Deployment) -> None:
    run_id = live.accept(live.push(LINE))
    live.play(run_id)
    with pytest.raises(Conflict, match="completed"):
        cancel_run(live.settings, run_id)
    with pytest.raises(RunNotFound):
        cancel_run(live.settings, "run_nowhere")
