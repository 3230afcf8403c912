"""Providers that answer 500, 429 or nothing: a stated fallback, a wait, or a clear error; nothing lost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support.provider_server import Drop, Hold, Status, Text, in_turn
from support.system import System

GOOD = Text("All is well.", 100, 10)
COST = Decimal("0.00045")
"""Of one good answer: 100 and 10 tokens at 3 and 15 USD a million."""


def outcomes(step: dict[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in step["attempts"]]


@pytest.mark.parametrize(
    ("reply", "outcome", "basis"),
    [
        (Status(500, "the server had an accident"), "ModelUnavailable", "measured"),
        (Status(429, "too many requests", {"retry-after": "30"}), "ModelThrottled", "measured"),
        (Drop(), "ModelUnavailable", "unknown"),
        (Text(""), "InvalidModelResponse", "measured"),  # asked once more
    ],
)
def test_the_next_model_of_the_row_answers(system: System, provider: Any, reply: Any, outcome: str, basis: str) -> None:
    troubled, bad = provider(lambda _: reply)
    sound, good = provider(lambda _: GOOD)
    workflow = system.push(f"Falls back {bad[:-4]}", [{"name": "one"}, {"name": "two"}], model="sim:base")
    system.put("RoutesTableName", {"workflow": workflow, "step": "one", "model": bad, "fallbacks": [good]})
    run = system.run(workflow)
    step = run["steps"][0]
    assert run["status"] == "completed"
    assert (step["model"], step["source"], step["output"]) == (good, "step-override", "All is well.")
    calls = 2 if reply == Text("") else 1
    assert [(a["model"], a["outcome"]) for a in step["attempts"]] == [(bad, outcome)] * calls + [(good, "ok")]
    assert step["attempts"][0]["error"]
    assert step["attempts"][0]["cost_basis"] == run["cost_basis"] == basis
    assert (len(troubled.requests), len(sound.requests)) == (calls, 1)
    assert system.metric("Fallbacks", workflow=workflow) == (1, 1)
    assert system.metric("ModelErrors", model=bad) == (calls, 1)
    rows = {row["model"]: row for row in system.usage(run["id"])}
    assert rows[good]["cost_usd"] == COST
    assert sum(row["steps"] for row in rows.values()) == 2


@pytest.mark.parametrize(
    ("reply", "outcome", "waited_ms"),
    [
        (Status(429, "slow down", {"retry-after": "1"}), "ModelThrottled", 900),
        (Status(500, "the server had an accident"), "ModelUnavailable", 900),
    ],
)
def test_without_another_model_the_step_waits_and_tries_again(
    system: System, provider: Any, reply: Any, outcome: str, waited_ms: int
) -> None:
    script, model = provider(in_turn(reply, GOOD))
    run = system.run(system.push(f"Waits {model[:-4]}", [{"name": "one"}], model=model))
    step = run["steps"][0]
    assert run["status"] == "completed"
    assert outcomes(step) == [outcome, "ok"]
    assert len(script.requests) == 2
    assert step["latency_ms"] >= waited_ms
    assert run["cost_usd"] == COST
    entered = system.states_entered(run["id"])
    assert (entered.count("RunLine"), entered.count("AdvanceRun")) == (1, 1), "it left its line"
    assert entered.count("WaitToRetry") <= 1, "for what of the second is left by then"


def test_a_provider_in_lasting_trouble_fails_the_run_after_its_retries(system: System, provider: Any) -> None:
    script, model = provider(lambda _: Status(503, "down for repairs", {"retry-after": "1"}))
    crew = [{"name": "one", "model": "sim:base"}, {"name": "two", "retries": 1}, {"name": "three"}]
    run = system.run(system.push("Down", crew, model=model))
    assert run["status"] == "failed"
    assert run["error"].startswith("step 'two': ModelUnavailable: ")
    assert "down for repairs" in run["error"]
    assert [step["status"] for step in run["steps"]] == ["completed", "failed", "queued"]
    assert outcomes(run["steps"][1]) == ["ModelUnavailable", "ModelUnavailable"]
    assert len(script.requests) == 2
    execution = system.wait_execution(run["id"])
    assert execution["error"] == "RunFailed"
    assert "step 'two' failed: ModelUnavailable" in execution["cause"]
    assert "down for repairs" not in execution["cause"], "what providers say is in the record only"
    stored = system.item(run["id"], "RUN")
    assert stored["cost_usd"] == run["cost_usd"] == run["steps"][0]["cost_usd"]


def test_a_provider_that_says_nothing_runs_into_the_steps_time(system: System, provider: Any) -> None:
    silent = Hold(GOOD)
    script, model = provider(lambda _: silent)
    crew = [{"name": "one", "timeoutSeconds": 1, "retries": 0}]
    run = system.run(system.push("Silent", crew, model=model))
    silent.release()
    assert run["status"] == "failed"
    assert run["error"].startswith("step 'one': ModelTimeout: ")
    assert outcomes(run["steps"][0]) == ["ModelTimeout"]
    # What is left of the step's second when the call begins: less of it on a machine under load.
    assert 0 < run["steps"][0]["attempts"][0]["latency_ms"] < 5000
    assert run["cost_basis"] == "unknown"  # it may have been served, and billed
    assert len(script.requests) == 1


def test_a_provider_that_never_answers_makes_three_runs_wait_and_no_more(system: System, provider: Any) -> None:
    silent = Hold(GOOD)
    script, bad = provider(lambda _: silent)
    _, good = provider(lambda _: GOOD)
    workflow = system.push("Never answers", [{"name": "one", "model": bad, "fallbacks": [good]}])
    waits = []
    for _ in range(5):
        run = system.run(workflow)
        step = run["steps"][0]
        assert (run["status"], step["model"]) == ("completed", good)
        waits.append([a["latency_ms"] >= 5000 for a in step["attempts"]])
    assert waits == [[True, False]] * 3 + [[False]] * 2
    assert "its circuit breaker is open" in step["ignored"][0]["reason"]
    assert len(script.requests) == 3
    silent.release()


def test_a_rejected_key_names_the_provider_and_the_remedy(system: System, provider: Any) -> None:
    script, model = provider(lambda _: Status(401, "Incorrect API key provided: test-key"))
    run = system.run(system.push("Wrong key", [{"name": "one"}], model=model))
    assert run["status"] == "failed"
    assert "CredentialsRejected" in run["error"]
    assert f"loopllama providers set {model[:-4]}" in run["error"]
    assert "test-key" not in run["error"]
    assert len(script.requests) == 1


def test_a_provider_without_a_key_says_so(system: System) -> None:
    model = system.put_model("keyless:one", "keyless")
    run = system.run(system.push("No key", [{"name": "one"}], model=model))
    assert run["status"] == "failed"
    assert "CredentialsRejected: no key for provider 'keyless'" in run["error"]
