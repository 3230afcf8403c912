"""What bounds a call: its time, its place among the model's calls, its answer's length; what it is priced by."""

from __future__ import annotations

import contextlib
import time
from decimal import Decimal
from typing import Any

import pytest
from support.deployment import PRICE, Deployment, deployment

from loopllama.errors import ModelThrottled, ModelTimeout, ModelUnavailable
from loopllama.llm.types import ModelResponse, Usage
from loopllama.routing.call_slots import SLOTS


def silent(call: Any) -> Any:
    time.sleep(call.timeout)
    raise ModelTimeout(f"test: no whole answer within {call.timeout:.1f} s", maybe_billed=True)


# Time


def test_a_call_that_had_all_of_an_invocations_time_is_not_repeated(live: Deployment) -> None:
    live.provider.script = silent
    run_id, work = live.begin()
    assert live.step(work, remaining_ms=1500)["outcome"] == "failed"
    [step] = live.read(run_id)["steps"]
    assert len(step["attempts"]) == 1
    assert step["error"].startswith("ModelTimeout: test: no whole answer within 1.")
    for word in ("StepTimeoutSeconds", "loopllama --stack NAME deploy --parameter", "maxTokens"):
        assert word in step["error"]


def test_a_call_that_had_what_its_agent_allows_is_not_repeated(live: Deployment) -> None:
    live.provider.script = silent
    run_id, work = live.begin(timeoutSeconds=1)
    assert live.step(work)["outcome"] == "failed"
    error = live.read(run_id)["steps"][0]["error"]
    assert "timeoutSeconds of the agent 'one'" in error
    assert "loopllama --stack NAME workflows push FILE" in error


def test_a_call_that_began_late_in_an_invocation_is_repeated_in_another(live: Deployment) -> None:
    def script(call: Any) -> Any:
        if len(live.provider.calls) == 1:
            time.sleep(0.5)
            return ModelResponse("{}", Usage(100, 10))
        return silent(call)

    live.provider.script = script
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    _, work = live.begin(outputSchema=schema)
    assert live.step(work, remaining_ms=1500)["outcome"] == "retry_later"


@pytest.mark.parametrize("error", [ModelTimeout("504"), ModelUnavailable("down")])
def test_trouble_that_passes_is_repeated(live: Deployment, error: Exception) -> None:
    def script(_: Any) -> Any:
        raise error

    live.provider.script = script
    _, work = live.begin()
    assert live.step(work)["outcome"] == "retry_later"


def test_with_another_model_a_time_out_names_what_a_model_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    with deployment(monkeypatch, model_timeout_seconds=0.2) as live:
        live.provider.script = lambda call: silent(call) if call.catalog_id == "test:a" else "good"
        run_id, work = live.begin(model="test:a", fallbacks=["test:b"])
        assert live.step(work)["outcome"] == "done"
        step = live.read(run_id)["steps"][0]
        assert "ModelTimeoutSeconds" in step["attempts"][0]["error"]
        # Both of no use: another invocation would have no more time for either.
        live.provider.script = silent
        run_id, work = live.begin(model="test:a", fallbacks=["test:b"])
        assert live.step(work, remaining_ms=1500)["outcome"] == "retry_later"  # the first may answer quicker


def test_an_invocation_that_takes_over_knows_what_is_of_no_use(live: Deployment, monkeypatch: Any) -> None:
    from loopllama.engine.step_ending import StepEnding

    live.provider.script = silent
    _, work = live.begin()
    with monkeypatch.context() as patch:
        patch.setattr(StepEnding, "fail", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            live.step(work, "first", remaining_ms=1500)
    live.wait(60)
    assert live.step(work, "second")["outcome"] == "failed"
    assert len(live.provider.calls) == 1


# Length


@pytest.mark.parametrize(
    ("fields", "agent", "limit"),
    [
        ({}, {}, 8192),
        ({"max_output": 30_000}, {}, 30_000),
        ({"max_output": 500}, {"maxTokens": 700}, 500),
        ({}, {"maxTokens": 100_000}, 100_000),
    ],
)
def test_a_server_of_ones_own_cannot_write_for_ever(
    live: Deployment, fields: dict[str, Any], agent: dict[str, Any], limit: int
) -> None:
    live.put_model("own", "corp-llm", "own", **fields)
    run_id, work = live.begin(model="own", **agent)
    live.step(work)
    assert live.provider.calls[0].max_tokens == limit
    [attempt] = live.read(run_id)["steps"][0]["attempts"]
    assert attempt["max_tokens"] == (None if agent else limit)


def test_its_limit_has_room_in_the_context(live: Deployment) -> None:
    live.put_model("own", "corp-llm", "own", context_window=4096)
    _, work = live.begin(model="own")
    live.step(work)
    assert 3500 < (live.provider.calls[0].max_tokens or 0) < 4096


@pytest.mark.parametrize("words", [2500, 3500, 9000])
def test_its_limit_cuts_no_answer_off_that_has_room(live: Deployment, words: int) -> None:
    """How many tokens a prompt has is an estimate: one that is too high must not leave an answer of a few tokens."""
    live.put_model("own", "corp-llm", "own", context_window=4096)
    prompt = "word " * words  # as many tokens, and by the high estimate two thirds more
    run_id = live.accept(live.push([{"name": "one", "model": "own"}]), prompt)
    live.step(live.map(live.start(run_id))[0])
    [call] = live.provider.calls
    assert (call.max_tokens or 0) >= max(4096 - words, 1000)


def test_a_provider_is_left_to_its_own_limit(live: Deployment) -> None:
    live.put_model("theirs", "openrouter", "some/model")
    run_id, work = live.begin(model="theirs")
    live.step(work)
    assert live.provider.calls[0].max_tokens is None
    assert live.read(run_id)["steps"][0]["attempts"][0]["max_tokens"] is None


# Calls at once


def taken_by_another(live: Deployment, seconds: int = 600) -> None:
    from loopllama.aws import clients, dynamo

    now = round(time.time() * 1000)
    item = {"model": f"{SLOTS}own", "s0": {"by": "another", "since": now - 20_000, "until": now + seconds * 1000}}
    clients.client("dynamodb").put_item(TableName="ModelsTable", Item=dynamo.to_item(item))


def test_waiting_for_a_place_uses_no_retry_and_makes_no_attempt(live: Deployment) -> None:
    live.put_model("own", "corp-llm", "own", max_concurrent_calls=1)
    taken_by_another(live, seconds=1_700)
    run_id, work = live.begin(model="own", retries=0)
    waits = []
    for _ in range(5):
        outcome = live.step(work)
        assert outcome["outcome"] == "retry_later"
        waits.append(outcome["seconds"])
        live.wait(200)
    assert waits[0] >= 20
    assert waits[-1] == 60, "who has waited long comes back seldom"
    assert live.read(run_id)["steps"][0]["attempts"] == []
    taken_by_another(live, seconds=-1)
    assert live.step(work)["outcome"] == "done"
    [attempt] = live.read(run_id)["steps"][0]["attempts"]
    assert attempt["queued_ms"] >= 1_000_000


def test_a_place_is_given_back_however_the_call_ends(live: Deployment) -> None:
    from loopllama.aws import clients

    live.put_model("own", "corp-llm", "own", max_concurrent_calls=1)
    for script in (lambda _: "good", silent, lambda _: (_ for _ in ()).throw(RuntimeError("a mistake"))):
        live.provider.script = script
        _, work = live.begin(model="own", timeoutSeconds=1)
        with contextlib.suppress(RuntimeError):
            live.step(work)
        [item] = [
            item
            for item in clients.client("dynamodb").scan(TableName="ModelsTable")["Items"]
            if item["model"]["S"] == f"{SLOTS}own"
        ]
        assert set(item) == {"model", "delete_at"}


def test_throttling_makes_a_queue_of_a_model_without_a_limit(live: Deployment) -> None:
    def throttled(_: Any) -> Any:
        raise ModelThrottled("slow down", retry_after=1.0)

    live.provider.script = throttled
    _, work = live.begin()
    live.step(work)
    from loopllama.aws import clients, dynamo

    key = {"model": {"S": "health#"}}
    item = dynamo.from_item(clients.client("dynamodb").get_item(TableName="ModelsTable", Key=key)["Item"])
    assert item["c:test:base"]["limit"] == 8


# What answered


def answered(live: Deployment, name: str, **fields: Any) -> dict[str, Any]:
    live.provider.script = lambda _: ModelResponse("hello", Usage(1_000_000, 0), model=name)
    run_id, work = live.begin(**fields)
    live.step(work)
    [attempt] = live.read(run_id)["steps"][0]["attempts"]
    return dict(attempt)


def cost(attempt: dict[str, Any]) -> tuple[Any, ...]:
    return attempt["answered_by"], attempt["cost_usd"], attempt["cost_basis"]


def test_a_call_is_priced_as_what_answered(live: Deployment) -> None:
    dear = [{**PRICE, "input": Decimal(50)}]
    live.put_model("router", "openrouter", "openrouter/auto")
    live.put_model("openrouter:vendor/dear", "openrouter", "vendor/dear", prices=dear)
    live.put_model("vendor/other", "corp-llm", "vendor/other", prices=dear)
    # The one that was asked, by the same name or as a snapshot.
    assert cost(answered(live, "", model="router")) == (None, 3, "measured")
    assert cost(answered(live, "openrouter/auto", model="router")) == (None, 3, "measured")
    assert cost(answered(live, "openrouter/auto-2026-01-02", model="router"))[1:] == (3, "measured")
    live.put_model("own-price", "openai", "m")
    assert cost(answered(live, "gpt-5-mini", model="own-price"))[1:] == (3, "measured")
    # Another one of the same provider; then one that only another provider has, and one that nobody knows.
    assert cost(answered(live, "vendor/dear", model="router")) == ("vendor/dear", 50, "measured")
    assert cost(answered(live, "vendor/other", model="router")) == ("vendor/other", 3, "measured")
    assert cost(answered(live, "what is this?" * 50, model="router"))[1:] == (3, "measured")


@pytest.mark.parametrize(
    ("name", "price", "basis"),
    [
        ("gpt-5-mini-2025-08-07", "0.25", "measured"),
        ("gpt-5", "1.25", "measured"),
        ("gpt-5-2025-08-07", "1.25", "measured"),
        ("gpt-nobody-knows", "0.25", "estimated"),
    ],
)
def test_a_bundled_price_is_an_estimate_where_nobody_knows_what_answered(
    live: Deployment, name: str, price: str, basis: str
) -> None:
    assert cost(answered(live, name, model="gpt-5-mini")) == (name, Decimal(price), basis)
