"""Efforts and service tiers together with what else holds for a model: its limit of calls at once, its limits of cost,
its budget, its fallbacks."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
from support.deployment import PRICE, Deployment

from loopllama.aws import clients, dynamo
from loopllama.errors import InvalidModelResponse, ModelNotAvailable, ModelThrottled, ModelUnavailable
from loopllama.routing.call_slots import SLOTS

TIERED = [{**PRICE, "service_tiers": {"flex": {"input": Decimal("1.5"), "output": Decimal("7.5")}}}]


def taken(live: Deployment, model: str, until: float) -> None:
    """Let another step have the model's only place until `until` (s from now)."""
    now = round(time.time() * 1000)
    slot = {"by": "another", "since": now - 20_000, "until": now + round(until * 1000)}
    clients.client("dynamodb").put_item(
        TableName="ModelsTable", Item=dynamo.to_item({"model": f"{SLOTS}{model}", "s0": slot})
    )


def asked(live: Deployment) -> list[str]:
    return [call.catalog_id for call in live.provider.calls]


def test_who_waits_for_a_place_at_a_tier_does_not_pay_the_standard_one_for_it(live: Deployment) -> None:
    """The standard tier's places are the same: who looked for one at it could only be lucky, and would pay more."""
    live.put_model("own", "corp-llm", "own", max_concurrent_calls=1, prices=TIERED)
    live.put_model("other", "corp-llm", "other")
    taken(live, "own", until=600)
    run_id, work = live.begin(model="own@flex", fallbacks=["own@low", "other"])
    assert live.step(work)["outcome"] == "done"
    assert asked(live) == ["other"]
    skipped = live.read(run_id)["steps"][0]["ignored"]
    assert [(entry["layer"], entry["model"]) for entry in skipped] == [("calls", "own@flex")]


def test_a_fallback_is_tried_again_while_the_model_before_it_is_busy(live: Deployment) -> None:
    def script(_: Any) -> Any:
        if len(live.provider.calls) < 3:
            raise ModelThrottled("slow down", retry_after=1.0)
        return "answer"

    live.provider.script = script
    live.put_model("own", "corp-llm", "own", max_concurrent_calls=1)
    taken(live, "own", until=1500)
    _, work = live.begin(model="own", fallbacks=["test:b"], retries=2)
    for outcome in ("retry_later", "retry_later", "done"):
        assert live.step(work)["outcome"] == outcome
        live.wait(60)
    assert asked(live) == ["test:b"] * 3


@pytest.mark.parametrize("wait", [1.0, 500.0])
def test_who_waits_for_a_place_does_not_fail_for_its_fallback(live: Deployment, wait: float) -> None:
    def script(call: Any) -> Any:
        if call.catalog_id == "test:b":
            raise ModelUnavailable("down", retry_after=wait)
        return "answer"

    live.provider.script = script
    live.put_model("own", "corp-llm", "own", max_concurrent_calls=1)
    taken(live, "own", until=1500)
    _, work = live.begin(model="own", fallbacks=["test:b"], retries=2)
    for _ in range(5):
        assert live.step(work)["outcome"] == "retry_later"
        live.wait(60)
    assert asked(live) == ["test:b"] * 3  # as often as `retries` says
    taken(live, "own", until=-1)
    assert live.step(work)["outcome"] == "done"
    assert asked(live)[3:] == ["own"]


def test_a_fallback_that_throttles_meanwhile_is_asked_each_time(live: Deployment) -> None:
    """Being throttled is no failure either."""
    calls = iter(range(5))

    def script(call: Any) -> Any:
        if call.catalog_id == "test:b" and next(calls) < 4:
            raise ModelThrottled("slow down", retry_after=1.0)
        return "answer"

    live.provider.script = script
    live.put_model("own", "corp-llm", "own", max_concurrent_calls=1)
    taken(live, "own", until=1500)
    _, work = live.begin(model="own", fallbacks=["test:b"], retries=2)
    for _ in range(4):
        assert live.step(work)["outcome"] == "retry_later"
        live.wait(60)
    assert live.step(work)["outcome"] == "done"
    assert asked(live) == ["test:b"] * 5


def test_what_was_unusable_before_a_wait_and_a_crash_counts_behind_them(live: Deployment) -> None:
    def script(call: Any) -> Any:
        if call.catalog_id == "own@low":
            if len(live.provider.calls) == 2:
                raise KeyboardInterrupt  # the process dies
            if len(live.provider.calls) == 3:
                raise ModelThrottled("slow down")
            raise InvalidModelResponse("broken", repeatable=True)
        return "answer"

    live.provider.script = script
    live.put_model("own", "corp-llm", "own", max_concurrent_calls=2)
    run_id, work = live.begin(model="own@low", fallbacks=["own@high"])
    with pytest.raises(KeyboardInterrupt):
        live.step(work, "first")
    live.wait(90)
    assert live.step(work, "second")["outcome"] == "done"
    assert asked(live) == ["own@low", "own@low", "own@low", "own@high"]
    outcomes = [attempt["outcome"] for attempt in live.read(run_id)["steps"][0]["attempts"]]
    assert outcomes == ["InvalidModelResponse", "lost", "ModelThrottled", "ok"]


PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"


def test_a_profile_whose_model_lacks_the_effort_is_left_out_before_the_call(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only Bedrock says what an application inference profile stands for."""
    behind = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    monkeypatch.setattr("loopllama.providers.bedrock.service.underlying_model", lambda _: behind)
    run_id, work = live.begin(model=f"{PROFILE}@max", fallbacks=["test:b"])
    assert live.step(work)["outcome"] == "done"
    assert asked(live) == ["test:b"]
    [skipped] = live.read(run_id)["steps"][0]["ignored"]
    assert skipped["model"].endswith("@max")
    assert "has no effort 'max'" in skipped["reason"]


NOVA = "us.amazon.nova-pro-v1:0"


@pytest.mark.parametrize("policy", ["cheapest", "fastest", "weighted"])
def test_a_policy_chooses_among_profiles_by_what_they_stand_for(
    live: Deployment, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Nova Micro costs less, and takes less time, than Nova Pro. `fastest` tries the slower one now and then."""
    behind = "us.amazon.nova-micro-v1:0"
    monkeypatch.setattr("loopllama.providers.bedrock.service.underlying_model", lambda _: behind)
    names = [f"bedrock:{NOVA}", f"bedrock:{PROFILE}"]
    weights = dict(zip(names, (1, 99999), strict=True))
    candidates = [{"model": name, "weight": weights[name]} for name in names] if policy == "weighted" else names
    steps = []
    for _ in range(60 if policy == "fastest" else 1):
        run_id, work = live.begin(policy=policy, candidates=candidates)
        assert live.step(work)["outcome"] == "done"
        steps += live.read(run_id)["steps"]
    taken_most = [step for step in steps if step["model"] == f"bedrock:{PROFILE}"]
    assert len(taken_most) > len(steps) / 2
    for step in taken_most:
        assert (step["ignored"], step["cost_basis"]) == ([], "measured")
        assert step["cost_usd"] > 0


def test_a_limit_of_cost_holds_for_what_a_profile_stands_for(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loopllama.providers.bedrock.service.underlying_model", lambda _: NOVA)
    run_id, work = live.begin(model="test:base")
    for limit, used in (("0.0000001", "test:base"), ("1", f"bedrock:{PROFILE}")):
        row = {"workflow": work["workflow"], "step": "one", "model": f"bedrock:{PROFILE}", "max_cost": Decimal(limit)}
        clients.client("dynamodb").put_item(TableName=live.settings.routes_table, Item=dynamo.to_item(row))
        run_id = live.accept(work["workflow"], "hi")
        work = live.map(live.start(run_id))[0]
        assert live.step(work)["outcome"] == "done"
        step = live.read(run_id)["steps"][0]
        assert step["model"] == used
        assert not any("has no price" in skipped["reason"] for skipped in step["ignored"])


def test_a_profile_that_cannot_be_read_is_asked_for_once_a_minute(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[str] = []

    def unreadable(arn: str) -> str:
        asked_for.append(arn)
        raise ModelNotAvailable("no")

    monkeypatch.setattr("loopllama.providers.bedrock.service.underlying_model", unreadable)
    run_id, work = live.begin(policy="cheapest", candidates=[f"bedrock:{PROFILE}", f"bedrock:{NOVA}"])
    assert live.step(work)["outcome"] == "done"
    step = live.read(run_id)["steps"][0]
    assert (step["model"], len(asked_for)) == (f"bedrock:{NOVA}", 1)
    assert "has no price" in step["ignored"][0]["reason"]
