"""The engine of a run against the real tables in moto: order, joins, crashes, replays, redrives."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from support.deployment import Deployment, Killed, dies_once_settled

from loopllama.aws import clients
from loopllama.engine import step as step_module
from loopllama.engine.step import StepRunner
from loopllama.engine.step_ending import StepEnding
from loopllama.errors import (
    Conflict,
    ContextTooLong,
    InvalidRequest,
    ModelRequestRejected,
    ModelThrottled,
    ModelTimeout,
    ModelUnavailable,
    RunFailed,
    WorkflowNotFound,
)
from loopllama.llm.types import ModelResponse, Usage
from loopllama.runs.store import RunStore
from loopllama.telemetry import metrics


def test_a_sequential_crew_runs_in_order_and_adds_up(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}, {"name": "two"}, {"name": "three"}])
    run_id = live.accept(workflow, "the input")
    live.play(run_id)

    run = live.read(run_id)
    assert run["status"] == "completed"
    assert [step["step"] for step in run["steps"]] == ["one", "two", "three"]
    assert run["output"] == "answer 3"
    assert len(live.provider.calls) == 3
    # 100 tokens in at 3 USD and 10 out at 15 USD a million, three times.
    assert run["cost_usd"] == Decimal("0.00135")
    assert run["cost_usd"] == sum(attempt["cost_usd"] for step in run["steps"] for attempt in step["attempts"])
    assert (run["tokens_in"], run["tokens_out"], run["cost_basis"]) == (300, 30, "measured")
    # Each agent sees the input and what the agents before it said, under their roles.
    last = live.provider.calls[-1].messages[0].text
    assert last.index("the input") < last.index("# one (one)\n\nanswer 1") < last.index("# two (two)\n\nanswer 2")


def test_dynamodb_calls_of_a_step_are_few_and_do_not_grow(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = live.push([{"name": f"s{n}"} for n in range(4)])
    state = live.start(live.accept(workflow))
    runner = step_module.StepRunner(live.settings)
    work: Any = live.map(state)[0]
    counts = []
    client = clients.client("dynamodb")
    made = client._make_api_call
    calls: list[str] = []
    monkeypatch.setattr(
        client, "_make_api_call", lambda name, arguments: (calls.append(name), made(name, arguments))[1]
    )
    for place in range(4):
        calls.clear()
        work = runner.run_step(work, f"i{place}", 60_000)
        # The routes of the workflow and the models they name: what a warm decision does without.
        counts.append([name for name in calls if name not in ("Query",)])
    assert work["outcome"] == "done"
    warm = ["BatchGetItem", "UpdateItem", "UpdateItem", "UpdateItem", "BatchWriteItem"]
    assert [sorted(names) for names in counts[1:]] in (
        [sorted(warm)] * 3,
        [sorted([*warm, "BatchGetItem"])] * 3,  # the cache is off in this test, so each decision reads the models
    )


def test_an_input_of_a_megabyte_comes_back_whole(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}])
    text = "x" * 1_000_000
    live.provider.script = lambda call: ModelResponse(text[::-1], Usage(1, 1))
    run_id = live.accept(workflow, text)
    live.play(run_id)
    run = live.read(run_id)
    assert run["input"] == text
    assert run["output"] == text[::-1]
    assert text in live.provider.calls[0].messages[0].text
    item = RunStore(live.settings).run(run_id)
    assert len(str(item)) < 3000


def test_a_crash_in_the_middle_of_a_call_leaves_an_unknown_cost_and_the_step_completes(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}])
    run_id = live.accept(workflow)
    work = live.map(live.start(run_id))[0]

    def die(call: Any) -> str:
        raise Killed

    live.provider.script = die
    with pytest.raises(Killed):
        live.step(work, "first")
    assert live.step(work, "second")["outcome"] == "retry_later"
    live.wait(60)
    live.provider.script = lambda call: "done"
    assert live.step(work, "second")["outcome"] == "done"
    step = live.read(run_id)["steps"][0]
    assert [(a["outcome"], a["cost_basis"]) for a in step["attempts"]] == [("lost", "unknown"), ("ok", "measured")]
    assert step["cost_basis"] == "unknown"
    assert step["cost_usd"] == Decimal("0.00045")


def test_a_crash_right_after_an_attempt_is_settled_does_not_pay_again(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}])
    run_id = live.accept(workflow)
    work = live.map(live.start(run_id))[0]
    with dies_once_settled(), pytest.raises(Killed):
        live.step(work, "first")
    live.wait(60)
    assert live.step(work, "second")["outcome"] == "done"
    run = live.read(run_id)
    assert run["steps"][0]["output"] == "answer 1"
    assert len(run["steps"][0]["attempts"]) == len(live.provider.calls) == 1


def test_a_crash_right_after_the_record_is_written_goes_on_with_the_next_step(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = live.push([{"name": "one"}, {"name": "two"}])
    run_id = live.accept(workflow)
    work = live.map(live.start(run_id))[0]

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(StepEnding, "go_on", die)
        with pytest.raises(Killed):
            live.step(work, "first")
    assert live.step(work, "second") | {"outcome": "continue"} == live.step(work, "third")
    live.chain(work)
    live.advance({"contract": 1, "run_id": run_id, "round": 0})
    run = live.read(run_id)
    assert run["status"] == "completed"
    assert len(live.provider.calls) == 2
    rows = live.usage_rows()
    assert sum(row["cost_usd"] for row in rows) == run["cost_usd"]


def test_a_step_that_another_invocation_holds_is_left_alone(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}])
    work = live.map(live.start(live.accept(workflow)))[0]
    outcomes: list[dict[str, Any]] = []

    def meanwhile(call: Any) -> str:
        if not outcomes:
            outcomes.append(live.step(work, "second"))
        return "done"

    live.provider.script = meanwhile
    assert live.step(work, "first")["outcome"] == "done"
    assert outcomes[0]["outcome"] == "retry_later"
    assert 1 <= outcomes[0]["seconds"] <= 60
    assert len(live.provider.calls) == 1


def test_an_answer_after_the_lease_is_lost_is_in_the_bill_and_changes_nothing_else(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}])
    run_id = live.accept(workflow)
    state = live.start(run_id)
    work = live.map(state)[0]

    def overtaken(call: Any) -> str:
        if len(live.provider.calls) == 1:
            live.wait(60)
            assert live.step(work, "second")["outcome"] == "done"
            live.advance(state)
            return "late"
        return "in time"

    live.provider.script = overtaken
    assert live.step(work, "first")["outcome"] == "done"
    run = live.read(run_id)
    assert (run["status"], run["output"]) == ("completed", "in time")
    assert [a["outcome"] for a in run["steps"][0]["attempts"]] == ["ok", "ok"]
    assert run["cost_usd"] == Decimal("0.0009")
    assert RunStore(live.settings).run(run_id)["cost_usd"] == Decimal("0.0009")
    rows = live.usage_rows()
    assert sum(row["cost_usd"] for row in rows) == run["cost_usd"]
    assert sum(row["steps"] for row in rows) == 1


def test_a_step_that_fails_for_good_fails_the_run_and_a_redrive_pays_only_for_what_is_missing(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}, {"name": "two"}])
    run_id = live.accept(workflow)

    def refuse_second(call: Any) -> str:
        if len(live.provider.calls) == 2:
            raise ModelRequestRejected("no such model: base", status=404)
        return "fine"

    live.provider.script = refuse_second
    with pytest.raises(RunFailed, match="step 'two' failed: ModelRequestRejected; the run's record"):
        live.play(run_id)
    run = live.read(run_id)
    assert run["status"] == "failed"
    assert run["error"] == "step 'two': ModelRequestRejected: no such model: base"
    state: dict[str, Any] = {"contract": 1, "run_id": run_id, "round": 0}
    with pytest.raises(RunFailed):
        live.advance(state, retry=1)

    state = live.advance(state)
    assert [work["step"] for work in state["ready"]] == ["two"]
    assert live.chain(live.map(state)[0])["outcome"] == "done"
    assert live.advance(state)["outcome"] == "done"
    run = live.read(run_id)
    assert (run["status"], run["error"]) == ("completed", None)
    assert len(live.provider.calls) == 3
    assert run["cost_usd"] == Decimal("0.0009")


def test_a_crashed_chain_fails_the_run_with_the_step(live: Deployment) -> None:
    run_id = live.accept(live.push([{"name": "one"}]))
    state = live.start(run_id)
    with pytest.raises(RunFailed, match=r"step 'one' failed: Runtime\.ExitError"):
        live.advance(state, [{"step": "one", "outcome": "crashed", "error": "Runtime.ExitError"}])
    assert live.read(run_id)["status"] == "failed"


def test_trouble_that_passes_is_tried_later_and_then_fails(live: Deployment) -> None:
    workflow = live.push([{"name": "one", "retries": 2}])
    run_id = live.accept(workflow)
    work = live.map(live.start(run_id))[0]

    def busy(call: Any) -> str:
        raise ModelUnavailable("slow down", retry_after=7, status=503)

    live.provider.script = busy
    for _ in range(2):
        answer = live.step(work)
        assert (answer["outcome"], answer["seconds"]) == ("retry_later", 7)
    assert live.step(work)["outcome"] == "failed"
    step = live.read(run_id)["steps"][0]
    assert step["error"] == "ModelUnavailable: slow down"
    assert [a["outcome"] for a in step["attempts"]] == ["ModelUnavailable"] * 3
    assert step["cost_usd"] == 0


def test_what_a_simulated_call_cost_is_marked_when_it_fails_too(live: Deployment) -> None:
    run_id = live.accept(live.push([{"name": "one", "retries": 0}]))
    work = live.map(live.start(run_id))[0]

    def slow(call: Any) -> str:
        raise ModelTimeout("it needs an hour", usage=Usage(1000, 0), simulated=True)

    live.provider.script = slow
    assert live.step(work)["outcome"] == "failed"
    step = live.read(run_id)["steps"][0]
    assert step["simulated"] is True
    assert step["attempts"][0]["simulated"] is True


def test_fallbacks_are_tried_in_order(live: Deployment) -> None:
    workflow = live.push([{"name": "one", "model": "test:a", "fallbacks": ["test:b", "test:base"]}])
    run_id = live.accept(workflow)

    def down_but_base(call: Any) -> str:
        if call.model != "base":
            raise ModelThrottled("down", status=529)
        return "here"

    live.provider.script = down_but_base
    live.play(run_id)
    step = live.read(run_id)["steps"][0]
    assert [(a["model"], a["outcome"]) for a in step["attempts"]] == [
        ("test:a", "ModelThrottled"),
        ("test:b", "ModelThrottled"),
        ("test:base", "ok"),
    ]
    assert step["model"] == "test:base"
    assert len(live.provider.calls) == 3


def test_a_silent_model_leaves_time_to_its_fallbacks(live: Deployment) -> None:
    runner = StepRunner(replace(live.settings, model_timeout_seconds=20))
    run_id = live.accept(live.push([{"name": "one", "model": "test:a", "fallbacks": ["test:b"]}]))

    def silent(call: Any) -> str:
        raise ModelTimeout(f"{call.model}: no whole answer within {call.timeout:.1f} s", maybe_billed=True)

    live.provider.script = silent
    work: Any = live.map(live.start(run_id))[0]
    assert runner.run_step(work, "one", 60_000)["outcome"] == "retry_later"
    first, last = live.provider.calls
    assert (first.model, last.model) == ("a", "b")
    assert first.timeout == 20
    assert 50 < last.timeout < 55  # nobody comes after it: all that the invocation has


def test_a_prompt_that_is_too_long_is_told_with_both_sizes(live: Deployment) -> None:
    live.put_model("test:small", "test", "small", context_window=100)
    run_id = live.accept(live.push([{"name": "one", "model": "test:small"}]), "word " * 200)

    def refuse(call: Any) -> str:
        raise ContextTooLong("too long")

    live.provider.script = refuse
    with pytest.raises(RunFailed, match="ContextTooLong"):
        live.play(run_id)
    assert " tokens and test:small a context window of 100: shorten it" in live.read(run_id)["error"]
    (step,) = live.read(run_id)["steps"]
    assert [attempt["model"] for attempt in step["attempts"]] == ["test:small"]
    assert [one["model"] for one in step["ignored"]] == ["test:small"]


def test_branches_fork_join_once_and_siblings_stop_when_one_fails(live: Deployment) -> None:
    crew = [
        {"name": "plan"},
        {"name": "left", "needs": ["plan"]},
        {"name": "right", "needs": ["plan"]},
        {"name": "join", "needs": ["left", "right"]},
    ]
    workflow = live.push(crew)
    run_id = live.accept(workflow)
    live.play(run_id)
    run = live.read(run_id)
    assert run["status"] == "completed"
    assert len(live.provider.calls) == 4

    failing = live.accept(workflow)
    fork = live.step(live.map(live.start(failing))[0])
    assert fork["outcome"] == "fork"

    def refuse(call: Any) -> str:
        raise ModelRequestRejected("no")

    live.provider.script = refuse
    assert live.step(live.map(fork, 1)[0])["outcome"] == "failed"
    assert live.step(live.map(fork, 1)[1])["outcome"] == "stopped"
    assert len(live.provider.calls) == 6


def test_the_same_key_is_the_same_run(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}])
    first = live.accept(workflow, "a", key="event/1")
    assert live.accept(workflow, "a", key="event/1") == first
    with pytest.raises(Conflict, match="was used for another request"):
        live.accept(workflow, "b", key="event/1")


def test_bad_requests_are_refused_before_anything_is_stored(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}])
    with pytest.raises(WorkflowNotFound):
        live.accept("nothing")
    with pytest.raises(InvalidRequest, match="empty"):
        live.accept(workflow, "")
    with pytest.raises(InvalidRequest, match="no step 'two'"):
        live.accept(workflow, "x", models={"two": "small"})
    with pytest.raises(InvalidRequest, match="at most 16,777,216"):
        live.accept(workflow, "x" * 17_000_000)
    assert clients.client("dynamodb").scan(TableName=live.settings.runs_table)["Count"] == 0


def test_metrics_of_a_step_hold_figures_and_no_text(
    live: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = live.accept(live.push([{"name": "one"}]), "a secret input")
    live.provider.script = lambda call: "a secret answer"
    live.play(run_id)
    lines = [line for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert len(lines) == 2
    assert "secret" not in "".join(lines)
    from loopllama.core import exact_json

    step = exact_json.loads(lines[0])
    sets = {tuple(d["Dimensions"][0]): [m["Name"] for m in d["Metrics"]] for d in step["_aws"]["CloudWatchMetrics"]}
    assert sets[("workflow", "step", "model")] == ["Cost", "InputTokens", "OutputTokens", "StepLatency"]
    assert sets[("model",)] == ["ModelLatency", "ModelCalls", "ModelErrors"]
    assert (step["workflow"], step["step"], step["model"]) == ("test", "one", "test:base")
    assert step["Cost"] == Decimal("0.00045")
    assert metrics.namespace() == "LoopLlama"
