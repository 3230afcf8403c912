"""A step that fails for good, and the run taken up again from there.

Redriving an execution enters AdvanceRun once more, with a fresh retry count, and goes on with what it returns.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError
from support.provider_server import Hold, Script, Status, Text
from support.system import System

from loopllama.engine.redrive import redrive_run
from loopllama.errors import Conflict

COST = Decimal("0.00045")


def redrive(system: System, run_id: str) -> dict[str, Any]:
    """Redrive a run and wait for its end; returns the execution as it is then."""
    assert redrive_run(system.settings, run_id)
    return system.wait_execution(run_id)


class Mended:
    """A provider that rejects the calls of some steps until it is fixed."""

    def __init__(self, *rejected: str) -> None:
        self.rejected = [f"Do {name}." for name in rejected]

    def __call__(self, request: dict[str, Any]) -> Text | Status:
        wrong = request["messages"][0]["content"] in self.rejected
        return Status(400, "this model has been retired") if wrong else Text("answer")


def requests(script: Script) -> list[str]:
    return [r["messages"][0]["content"].removeprefix("Do ").removesuffix(".") for r in script.requests]


def test_the_run_fails_with_step_and_cause_and_goes_on_where_it_failed(system: System, provider: Any) -> None:
    answers = Mended("two")
    script, model = provider(answers)
    crew = [{"name": name} for name in ("one", "two", "three")]
    workflow = system.push("Rejected", crew, model=model)
    failed = system.run(workflow)
    assert failed["status"] == "failed"
    assert failed["error"].startswith("step 'two': ModelNotAvailable: ")
    assert "this model has been retired" in failed["error"]
    assert [step["status"] for step in failed["steps"]] == ["completed", "failed", "queued"]
    assert failed["steps"][1]["error"].startswith("ModelNotAvailable: ")
    execution = system.wait_execution(failed["id"])
    assert (execution["status"], execution["error"]) == ("FAILED", "RunFailed")
    assert "step 'two' failed" in execution["cause"]
    assert failed["cost_usd"] == system.item(failed["id"], "RUN")["cost_usd"] == COST
    assert system.metric("RunsFailed", workflow=workflow) == (1, 1)

    answers.rejected = []
    assert redrive(system, failed["id"])["status"] == "SUCCEEDED"
    entered = system.states_entered(failed["id"])
    assert entered.count("StartRun") == 1
    assert entered.count("AdvanceRun") == 2  # fails, and is redriven; the last RunStep completes the run
    run = system.read(failed["id"])
    assert run["status"] == "completed"
    assert run["error"] is None
    assert requests(script) == ["one", "two", "two", "three"]
    assert [[a["outcome"] for a in step["attempts"]] for step in run["steps"]] == [
        ["ok"],
        ["ModelNotAvailable", "ok"],
        ["ok"],
    ]
    assert run["cost_usd"] == system.item(run["id"], "RUN")["cost_usd"] == 3 * COST
    assert sum(row["cost_usd"] for row in system.usage(run["id"])) == 3 * COST
    assert sum(row["steps"] for row in system.usage(run["id"])) == 3
    assert system.metric("RunsCompleted", workflow=workflow) == (1, 1)


def test_advance_run_repeated_by_the_state_machine_leaves_the_run_failed(system: System, provider: Any) -> None:
    _, model = provider(Mended("one"))
    failed = system.run(system.push("Stays failed", [{"name": "one"}], model=model))
    event = {"contract": 1, "run_id": failed["id"], "round": 0, "ended": [], "retry": 1}
    assert system.invoke("AdvanceRun", event)["errorType"] == "RunFailed"
    assert system.read(failed["id"])["status"] == "failed"


def test_redriven_before_it_was_mended_the_run_fails_again(system: System, provider: Any) -> None:
    answers = Mended("two")
    script, model = provider(answers)
    failed = system.run(system.push("Fails twice", [{"name": "one"}, {"name": "two"}], model=model))
    assert redrive(system, failed["id"])["error"] == "RunFailed"
    again = system.read(failed["id"])
    assert again["status"] == "failed"
    assert again["error"] == failed["error"]
    answers.rejected = []
    assert redrive(system, failed["id"])["status"] == "SUCCEEDED"
    assert requests(script) == ["one", "two", "two", "two"]
    assert system.read(failed["id"])["cost_usd"] == 2 * COST


def test_a_sibling_stops_before_its_next_step_and_is_taken_up_again(system: System, provider: Any) -> None:
    slow, bad = Hold(Text("answer")), Hold(Status(400, "no"))
    rejected = {"Do bad.": bad}

    def answer(request: dict[str, Any]) -> Any:
        asked = request["messages"][0]["content"]
        return slow if asked == "Do slow." else rejected.get(asked, Text("answer"))

    script, model = provider(answer)
    crew = [
        {"name": "bad", "needs": []},
        {"name": "slow", "needs": []},
        {"name": "after", "needs": ["slow"]},
        {"name": "end", "needs": ["bad", "after"]},
    ]
    run_id = system.start(system.push("Sibling", crew, model=model))
    slow.wait_entered()
    bad.release()
    system.until(lambda: system.item(run_id, "RUN").get("stopping"))
    slow.release()
    failed = system.wait(run_id)
    assert failed["status"] == "failed"
    assert failed["error"].startswith("step 'bad': ")
    assert [step["status"] for step in failed["steps"]] == ["failed", "completed", "queued", "queued"]
    assert sorted(requests(script)) == ["bad", "slow"]

    rejected.clear()
    assert redrive(system, run_id)["status"] == "SUCCEEDED"
    assert sorted(requests(script)) == ["after", "bad", "bad", "end", "slow"]
    assert system.read(run_id)["cost_usd"] == 4 * COST


def test_an_answer_that_never_followed_its_schema_is_asked_for_anew(system: System, provider: Any) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    text = ["no JSON"]
    script, model = provider(lambda _: Text(text[0]))
    failed = system.run(system.push("No JSON", [{"name": "one", "outputSchema": schema}], model=model))
    assert failed["status"] == "failed"
    assert failed["error"].startswith("step 'one': OutputInvalid: ")
    assert len(script.requests) == 2  # the answer, and its repair
    assert failed["cost_usd"] == 2 * COST
    text[0] = '{"ok": true}'
    assert redrive(system, failed["id"])["status"] == "SUCCEEDED"
    run = system.read(failed["id"])
    assert run["output"] == {"ok": True}
    assert len(script.requests) == 3
    assert run["cost_usd"] == 3 * COST


def test_many_who_redrive_at_once_redrive_once(system: System, provider: Any) -> None:
    script, model = provider(answers := Mended("one"))
    failed = system.run(system.push("At once", [{"name": "one"}], model=model))
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda _: outcome(system, failed["id"]), range(6)))
    assert True in told
    system.wait_execution(failed["id"])
    assert len(requests(script)) == 2
    described = system.client("stepfunctions").describe_execution(executionArn=system.execution_arn(failed["id"]))
    assert (described["redriveCount"], described["redriveStatus"]) == (1, "REDRIVABLE")
    answers.rejected = []
    assert redrive(system, failed["id"])["status"] == "SUCCEEDED"
    with pytest.raises(Conflict, match="is completed, not failed"):
        redrive_run(system.settings, failed["id"])
    described = system.client("stepfunctions").describe_execution(executionArn=system.execution_arn(failed["id"]))
    assert described["redriveStatus"] == "NOT_REDRIVABLE"
    assert "SUCCEEDED" in described["redriveStatusReason"]
    with pytest.raises(ClientError, match="ExecutionNotRedrivable"):
        system.client("stepfunctions").redrive_execution(executionArn=system.execution_arn(failed["id"]))


def outcome(system: System, run_id: str) -> bool | None:
    try:
        return redrive_run(system.settings, run_id)
    except Conflict:
        return None  # one came just before the redriven execution ended, or began
