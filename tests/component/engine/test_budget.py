"""Runs under budgets, against the real tables in moto: where they stop, what they keep, what a crash leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.deployment import Deployment, Killed

from loopllama.aws import clients, dynamo
from loopllama.core import clock, exact_json
from loopllama.engine.replay import replay_run
from loopllama.errors import BudgetExceeded, Conflict, InvalidRequest, ModelThrottled, ModelUnavailable, RunFailed
from loopllama.llm.types import ModelRequest, ModelResponse, ToolCall, Usage
from loopllama.runs.reservations import Allowance
from loopllama.runs.totals import attempt_of

TEXTS = {"type": "object", "properties": {"list": {"type": "array"}}}


def model(name: str, rate: str | None) -> None:
    """Put a model of one price for prompt and answer, in USD per million tokens, or of none."""
    price = {"effective_from": "2020-01-01", "input": Decimal(rate or 0), "output": Decimal(rate or 0)}
    item = {"model": name, "provider": "test", "provider_model": name, "prices": [price] if rate else []}
    clients.client("dynamodb").put_item(TableName="ModelsTable", Item=dynamo.to_item(item))


def uses(tokens_in: int, tokens_out: int) -> Any:
    """A script whose answers have so many tokens, or as many as they may."""
    return lambda call: ModelResponse("fine", Usage(tokens_in, min(tokens_out, call.max_tokens or tokens_out)))


def three(**fields: Any) -> list[dict[str, Any]]:
    return [{"name": name, **fields} for name in ("one", "two", "three")]


def statuses(run: dict[str, Any]) -> list[str]:
    return [step["status"] for step in run["steps"]]


def test_a_run_stops_at_its_budget_in_usd_with_what_it_has(live: Deployment) -> None:
    # Each call takes 0.0108 USD; expected are 1,000 tokens of answer: 0.015 USD and the prompt.
    live.provider.script = uses(100, 700)
    run_id = live.accept(live.push(three(maxTokens=1000)), budget={"maxCostUsd": Decimal("0.0225")})
    with pytest.raises(RunFailed, match="BudgetExceeded"):
        live.play(run_id)
    run = live.read(run_id)
    assert run["status"] == "failed"
    assert run["error"].startswith("step 'three': BudgetExceeded: The run's budget allows $0.0225")
    assert "budget.maxCostUsd" in run["error"]
    assert statuses(run) == ["completed", "completed", "failed"]
    assert run["steps"][0]["output"] == "fine"
    assert run["steps"][2]["attempts"] == []
    assert run["cost_usd"] == Decimal("0.0216")
    budget = run["budget"]
    assert budget["max_cost_usd"] == Decimal("0.0225")
    assert budget["spent"] == {"steps": 2, "tokens": 1600, "cost_usd": Decimal("0.0216")}
    assert budget["left"]["cost_usd"] == Decimal("0.0009")
    assert budget["reserved"] == {"steps": 0, "tokens": 0, "cost_usd": 0}


def test_the_spent_is_what_the_record_says(live: Deployment) -> None:
    run_id = live.accept(live.push(three()), budget={"max_tokens": 100_000})
    live.play(run_id)
    run = live.read(run_id)
    assert run["status"] == "completed"
    spent = run["budget"]["spent"]
    assert spent == {"steps": 3, "tokens": run["tokens_in"] + run["tokens_out"], "cost_usd": run["cost_usd"]}


def test_without_a_budget_no_item_is_made_and_none_is_shown(live: Deployment) -> None:
    run_id = live.accept(live.push([{"name": "one"}]))
    live.play(run_id)
    assert live.read(run_id)["budget"] is None
    assert live.runs.items(run_id, ["BUDGET"]) == {}


def test_steps_are_turns_whatever_calls_they_make(live: Deployment) -> None:
    asks = ModelResponse("", Usage(1, 1), "tool_calls", (ToolCall("1", "now", {}),))
    answers: Iterator[Any] = iter([asks, "done", ModelThrottled("wait"), "done", "too many"])

    def script(call: ModelRequest) -> ModelResponse | str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    live.provider.script = script
    run_id = live.accept(live.push(three(tools=["now"])), budget={"maxSteps": 2})
    with pytest.raises(RunFailed, match="BudgetExceeded"):
        live.play(run_id)
    assert re.search(r"budget allows 2 steps and has 0 steps left.*budget\.maxSteps", live.read(run_id)["error"])
    assert statuses(live.read(run_id)) == ["completed", "completed", "failed"]
    assert len(live.provider.calls) == 4


def test_a_call_that_does_not_fit_is_made_smaller(live: Deployment) -> None:
    live.provider.script = lambda call: ModelResponse("cut", Usage(50, call.max_tokens or 0), "max_tokens")
    run_id = live.accept(live.push([{"name": "one", "maxTokens": 2000}]), budget={"maxTokens": 400})
    live.play(run_id)
    (call,) = live.provider.calls
    assert call.max_tokens is not None
    assert 300 < call.max_tokens < 400
    run = live.read(run_id)
    assert run["budget"]["left"]["tokens"] == 400 - 50 - call.max_tokens
    record = live.runs.items(run_id, ["STEP#one#0#0"])["STEP#one#0#0"]
    assert attempt_of(record, "attempt_0001").get("max_tokens") == call.max_tokens


def test_a_cut_off_object_says_that_the_budget_cut_it(live: Deployment) -> None:
    live.provider.script = lambda call: ModelResponse('{"li', Usage(50, 5), "max_tokens")
    crew = [{"name": "one", "outputSchema": TEXTS, "maxTokens": 2000}]
    run_id = live.accept(live.push(crew), budget={"maxTokens": 700})
    with pytest.raises(RunFailed, match="OutputInvalid"):
        live.play(run_id)
    assert "left of the budget" in live.read(run_id)["error"]


def test_a_cheaper_model_behind_it_is_tried_before_giving_up(live: Deployment) -> None:
    model("test:dear", "1000")
    model("test:cheap", "1")
    crew = [{"name": "one", "model": "test:dear", "fallbacks": ["test:cheap"]}]
    run_id = live.accept(live.push(crew), budget={"maxCostUsd": Decimal("0.05")})
    live.play(run_id)
    (step,) = live.read(run_id)["steps"]
    assert step["model"] == "test:cheap"
    assert [attempt["model"] for attempt in step["attempts"]] == ["test:cheap"]
    (passed_over,) = step["ignored"]
    assert (passed_over["layer"], passed_over["model"]) == ("budget", "test:dear")
    assert live.read(run_id)["budget"]["spent"]["steps"] == 1


def test_where_no_model_fits_the_step_fails_with_the_budget_not_with_the_other_trouble(live: Deployment) -> None:
    model("test:dear", "1000")
    crew = [{"name": "one", "model": "test:dear", "fallbacks": ["test:a"], "retries": 0}]
    run_id = live.accept(live.push(crew), budget={"maxCostUsd": Decimal("0.001")})
    with pytest.raises(RunFailed, match="BudgetExceeded"):
        live.play(run_id)
    assert live.provider.calls == []
    layers = [(one["layer"], one["model"]) for one in live.read(run_id)["steps"][0]["ignored"]]
    assert layers == [("budget", "test:dear"), ("budget", "test:a")]


def test_a_model_in_passing_trouble_is_waited_for_where_the_other_does_not_fit(live: Deployment) -> None:
    model("test:dear", "1000")
    crew = [{"name": "one", "model": "test:a", "fallbacks": ["test:dear"]}]
    troubles = iter([ModelUnavailable("down")])

    def script(call: ModelRequest) -> str:
        for trouble in troubles:
            raise trouble
        return "up"

    live.provider.script = script
    run_id = live.accept(live.push(crew), budget={"maxCostUsd": Decimal("0.05")})
    live.play(run_id)
    assert live.read(run_id)["output"] == "up"
    assert [call.model for call in live.provider.calls] == ["a", "a"]


def test_a_days_budget_holds_across_runs_and_not_across_days(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    live.provider.script = uses(100, 700)
    workflow = live.push([{"name": "one"}], budget={"daily": {"maxTokens": 2000}})
    first, second, third, over = (live.accept(workflow) for _ in range(4))
    for run_id in (first, second, third):
        live.play(run_id)
    assert [live.read(run_id)["tokens_out"] for run_id in (first, second)] == [700, 700]
    assert 128 < live.read(third)["tokens_out"] < 400  # made smaller
    with pytest.raises(RunFailed):
        live.play(over)
    said = r"The budget of workflow test for 20..-..-.. \(UTC\).*budget\.daily\.maxTokens"
    assert re.search(said, live.read(over)["error"])
    assert live.read(over)["budget"] is None
    now = clock.now_text
    monkeypatch.setattr(clock, "now_text", lambda at=None: "2090-01-01T00:00:00.000Z" if at is None else now(at))
    tomorrow = live.accept(workflow)
    live.play(tomorrow)
    assert live.read(tomorrow)["tokens_out"] == 700


def test_a_limit_that_is_raised_counts_at_once_with_what_was_used(live: Deployment) -> None:
    live.provider.script = uses(100, 700)
    crew = [{"name": "one"}]
    live.play(live.accept(live.push(crew, budget={"daily": {"maxTokens": 850}})))
    with pytest.raises(RunFailed):
        live.play(live.accept(live.push(crew, budget={"daily": {"maxTokens": 860}})))
    live.play(live.accept(live.push(crew, budget={"daily": {"maxTokens": 2000}})))


def test_an_unpriced_model_is_refused_unless_it_is_allowed(live: Deployment) -> None:
    model("test:gift", None)
    crew = [{"name": "one", "model": "test:gift"}]
    refused = live.accept(live.push(crew, budget={"maxCostUsd": 1}))
    with pytest.raises(RunFailed, match="BudgetExceeded"):
        live.play(refused)
    assert "test:gift has no price" in live.read(refused)["error"]
    allowed = live.accept(live.push(crew, budget={"maxCostUsd": 1, "allowUnpriced": True}))
    live.play(allowed)
    run = live.read(allowed)
    assert (run["status"], run["unpriced"]) == ("completed", True)
    assert run["budget"]["spent"] == {"steps": 1, "tokens": 110, "cost_usd": 0}
    daily = live.accept(live.push(crew, budget={"allowUnpriced": True, "daily": {"maxCostUsd": 1}}))
    live.play(daily)
    # A limit in tokens needs no price.
    live.play(live.accept(live.push(crew), budget={"maxTokens": 5000}))


def test_a_crash_in_a_call_counts_as_what_it_had_reserved(live: Deployment) -> None:
    def die(call: ModelRequest) -> str:
        raise Killed

    live.provider.script = die
    workflow = live.push([{"name": "one"}], budget={"daily": {"maxSteps": 5}})
    run_id = live.accept(workflow, budget={"maxTokens": 10_000})
    (work,) = live.map(live.start(run_id))
    with pytest.raises(Killed):
        live.step(work, "first")
    reserved = live.read(run_id)["budget"]["reserved"]
    assert reserved["steps"] == 1
    assert reserved["tokens"] > 1000
    live.wait(61)
    live.provider.script = uses(100, 10)
    assert live.step(work, "second")["outcome"] == "done"
    budget = live.read(run_id)["budget"]
    assert budget["spent"] == {
        "steps": 1,
        "tokens": reserved["tokens"] + 110,
        "cost_usd": reserved["cost_usd"] + Decimal("0.00045"),
    }
    assert budget["reserved"] == {"steps": 0, "tokens": 0, "cost_usd": 0}


def test_a_crash_between_the_attempt_and_its_reservation_is_harmless(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = live.accept(live.push([{"name": "one"}]), budget={"maxTokens": 10_000})
    (work,) = live.map(live.start(run_id))

    def die(*_: Any, **__: Any) -> Any:
        raise Killed

    for method in ("reserve", "settle"):
        with monkeypatch.context() as patch:
            patch.setattr(Allowance, method, die)
            with pytest.raises(Killed):
                live.step(work, method)
        live.wait(61)
    # The answer was in the record before its reservation should have been settled: it is not paid twice.
    assert live.step(work, "last")["outcome"] == "done"
    assert len(live.provider.calls) == 1
    budget = live.read(run_id)["budget"]
    assert (budget["spent"]["steps"], budget["spent"]["tokens"]) == (1, 110)
    assert budget["reserved"]["tokens"] == 0


def test_an_answer_after_another_took_over_is_settled_once(live: Deployment) -> None:
    run_id = live.accept(live.push([{"name": "one"}]), budget={"maxTokens": 10_000})
    (work,) = live.map(live.start(run_id))
    outcomes = []

    def slow(call: ModelRequest) -> ModelResponse:
        live.provider.script = uses(100, 10)
        live.wait(61)
        outcomes.append(live.step(work, "second")["outcome"])
        return ModelResponse("late", Usage(100, 10))

    live.provider.script = slow
    live.step(work, "first")
    assert outcomes == ["done"]
    budget = live.read(run_id)["budget"]
    assert budget["reserved"]["tokens"] == 0
    assert budget["spent"]["tokens"] > 1000 + 110  # the first as expected: nobody knew when the second took over


def test_items_beside_one_another_stay_within_the_budget(live: Deployment) -> None:
    def script(call: ModelRequest) -> ModelResponse:
        if "Split" in call.system:
            return ModelResponse(exact_json.dumps({"list": list(range(20))}), Usage(10, 10))
        return ModelResponse("item", Usage(2, min(150, call.max_tokens or 150)))

    live.provider.script = script
    crew = [
        {"name": "split", "outputSchema": TEXTS, "systemPrompt": "Split."},
        {"name": "work", "forEach": "steps.split.output.list", "prompt": "{{ item }}"},
    ]
    run_id = live.accept(live.push(crew), budget={"maxTokens": 2000})
    with pytest.raises(RunFailed, match="BudgetExceeded"):
        live.play(run_id)
    run = live.read(run_id)
    assert run["error"].startswith("step 'work': BudgetExceeded: ")
    assert run["tokens_in"] + run["tokens_out"] <= 2000
    assert len([step for step in run["steps"] if step["status"] == "completed"]) > 5


def test_a_branch_waits_for_what_another_holds_and_may_not_need(live: Deployment) -> None:
    crew = [{"name": "a", "needs": []}, {"name": "b", "needs": []}]
    run_id = live.accept(live.push(crew), budget={"maxTokens": 1500})
    first, second = live.map(live.start(run_id))
    outcomes: list[dict[str, Any]] = []

    def script(call: ModelRequest) -> str:
        live.provider.script = lambda call: "fine"
        outcomes.append(live.step(second, "beside"))
        return "fine"

    live.provider.script = script
    live.step(first, "first")
    assert outcomes[0]["outcome"] == "retry_later"
    assert len(live.provider.calls) == 1
    assert live.step(second, "later")["outcome"] == "done"
    assert live.provider.calls[-1].max_tokens is None or live.provider.calls[-1].max_tokens > 1000


def test_a_loop_expects_what_the_round_before_said(live: Deployment) -> None:
    crew = [{"name": "one", "repeat": {"backTo": "one", "until": "input.never", "max": 3}}]
    live.provider.script = uses(20, 400)
    run_id = live.accept(live.push(crew), {"never": False}, budget={"maxTokens": 100_000, "maxSteps": 2})
    with pytest.raises(RunFailed):
        live.play(run_id)
    assert "2 steps" in live.read(run_id)["error"]
    assert live.read(run_id)["budget"]["spent"] == {"steps": 2, "tokens": 840, "cost_usd": Decimal("0.01212")}


def test_a_failed_run_goes_on_when_there_is_more_for_it(live: Deployment) -> None:
    live.provider.script = uses(100, 700)
    run_id = live.accept(live.push(three()), budget={"maxSteps": 2})
    with pytest.raises(RunFailed):
        live.play(run_id)
    live.runs.change(run_id, {"budget": {"max_steps": 3}}, only_from=("failed",))
    state = live.advance({"contract": 1, "run_id": run_id})
    live.advance(state, [live.chain(work) for work in live.map(state)])
    assert live.read(run_id)["status"] == "completed"
    assert len(live.provider.calls) == 3


def test_a_replay_has_the_budget_of_its_run_for_itself(live: Deployment) -> None:
    live.provider.script = uses(100, 700)
    run_id = live.accept(live.push(three()), budget={"maxSteps": 3})
    live.play(run_id)
    again = replay_run(live.settings, run_id, "two")
    live.play(again)
    assert live.read(again)["budget"]["max_steps"] == 3
    assert live.read(again)["budget"]["spent"]["steps"] == 2


def test_a_budget_is_part_of_what_a_key_stands_for(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}])
    live.accept(workflow, key="k", budget={"maxSteps": 3})
    assert live.accept(workflow, key="k", budget={"maxSteps": 3})
    with pytest.raises(Conflict):
        live.accept(workflow, key="k", budget={"maxSteps": 4})
    with pytest.raises(InvalidRequest, match=r"budget\.maxSteps"):
        live.accept(workflow, budget={"maxSteps": -4})


def test_an_execution_started_by_hand_may_bring_a_budget(live: Deployment) -> None:
    workflow = live.push([{"name": "one"}], budget={"maxTokens": 9000, "maxSteps": 7})
    from loopllama.engine.start import start_run

    request = {"workflow": workflow, "input": "x", "budget": {"maxCostUsd": 0.5, "maxSteps": 2}}
    start_run(live.settings, {"request": request, "execution_arn": "arn:x", "execution_name": "by-hand"})
    budget = live.read("by-hand")["budget"]
    assert (budget["max_steps"], budget["max_tokens"], budget["max_cost_usd"]) == (2, 9000, Decimal("0.5"))


def test_what_is_over_is_refused_even_for_the_last_step_of_a_parallel_pair(live: Deployment) -> None:
    crew = [{"name": "a", "needs": []}, {"name": "b", "needs": []}, {"name": "c", "needs": ["a", "b"]}]
    run_id = live.accept(live.push(crew), budget={"maxSteps": 1})
    with pytest.raises(RunFailed, match=BudgetExceeded.__name__):
        live.play(run_id)
    assert sorted(statuses(live.read(run_id))) == ["completed", "failed", "queued"]
