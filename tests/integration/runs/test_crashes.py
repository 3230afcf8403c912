"""Function processes killed at the worst moments: every run completes, nothing is paid or recorded twice or lost.

A power cut for all: each run is brought to its moment and kept there, by its provider or by a proxy in front of
DynamoDB, then all processes of the functions are killed at once, and the runs go on by what the state machine does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from support.aws_proxy import AwsProxy, Held
from support.provider_server import Hold, Script, Text
from support.system import System

LEASE_SECONDS = 4
"""RunStep's timeout here. A dead invocation's lease ends with it, and the retry waits for that."""
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


@pytest.fixture(scope="module")
def proxy(system: System) -> Iterator[AwsProxy]:
    """DynamoDB as RunStep and AdvanceRun see it, and a short timeout for RunStep: settings of the deployed functions,
    changed as anybody may change them, and changed back."""
    with (
        AwsProxy(system.stack) as proxy,
        system.configured("RunStep", LEASE_SECONDS, AWS_ENDPOINT_URL_DYNAMODB=proxy.url),
        system.configured("AdvanceRun", AWS_ENDPOINT_URL_DYNAMODB=proxy.url),
    ):
        yield proxy


class Scene:
    """A run at the moment at which its process will be killed."""

    def __init__(self, run_id: str, script: Script, held: Held | Hold) -> None:
        self.run_id, self.script, self.held = run_id, script, held
        self.run: dict[str, Any] = {}

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.run["steps"] if step["step"] == name)

    def requests(self, step: str) -> int:
        """How often the provider was asked for a step."""
        return len([r for r in self.script.requests if r["messages"][0]["content"].startswith(f"Do {step}.")])


def updates(run_item: str, value: Any = None, name: str = "") -> Any:
    """Matches an update of an item, by the beginning of its key, that sets an attribute to a value."""

    def matches(operation: str, body: dict[str, Any]) -> bool:
        if operation != "UpdateItem" or not body["Key"].get("item", {}).get("S", "").startswith(run_item):
            return False
        values = body.get("ExpressionAttributeValues", {}).values()
        return value is None or value in values or any(value == v.get("M", {}).get(name) for v in values)

    return matches


def of(run_ids: list[str], matches: Any) -> Any:
    """Matches only in one run, whose id the list will hold."""
    return lambda operation, body: matches(operation, body) and body["Key"]["run_id"]["S"] in run_ids


MOMENTS = {
    "attempt settled": updates("STEP#two#", {"S": "ok"}, "outcome"),
    "record written": updates("STEP#two#", {"S": "completed"}),
    "join claimed": updates("CLAIM#end#"),
    "run closed": updates("RUN", {"S": "completed"}),
}


@pytest.fixture(scope="module")
def scenes(system: System, proxy: AwsProxy, provider: Any) -> dict[str, Scene]:
    scenes: dict[str, Scene] = {}

    def start(moment: str, crew: Sequence[Any], answer: Any, held: Any) -> None:
        script, model = provider(answer)
        workflow = system.push(f"Crash {moment}", crew, model=model)
        run_ids: list[str] = []
        held = held or proxy.hold(of(run_ids, MOMENTS[moment]))
        run_ids.append(f"crash-{moment.replace(' ', '-')}")
        system.client("stepfunctions").start_execution(
            stateMachineArn=system.outputs["RunWorkflowArn"],
            name=run_ids[0],
            input=f'{{"workflow": "{workflow}", "input": "hello"}}',
        )
        scenes[moment] = Scene(run_ids[0], script, held)

    line = [{"name": "one"}, {"name": "two"}, {"name": "end"}]
    for moment in ("attempt settled", "record written", "run closed"):
        start(moment, line, lambda _: Text("answer"), None)
    join = [{"name": "a", "needs": []}, {"name": "b", "needs": []}, {"name": "end", "needs": ["a", "b"]}]
    start("join claimed", join, lambda _: Text("answer"), None)
    for scene in scenes.values():
        scene.held.wait_entered()
    # The second call of a step: the first one's answer did not follow the schema and is settled.
    call = Hold(Text("never arrives"))
    replies = iter([Text("answer"), Text("not JSON"), call, Text('{"ok": true}'), Text("answer")])
    structured = [{"name": "one"}, {"name": "two", "outputSchema": SCHEMA}, {"name": "end"}]
    start("in a model call", structured, lambda _: next(replies), call)

    scenes["in a model call"].held.wait_entered()  # last, because a call has a timeout of its own
    system.kill("RunStep", "AdvanceRun")
    for scene in scenes.values():
        scene.held.release()
    for scene in scenes.values():
        scene.run = system.wait(scene.run_id)
    return scenes


@pytest.mark.parametrize("moment", [*MOMENTS, "in a model call"])
def test_the_run_completes_and_its_record_is_whole(system: System, scenes: dict[str, Scene], moment: str) -> None:
    scene, run = scenes[moment], scenes[moment].run
    assert run["status"] == "completed"
    assert system.wait_execution(scene.run_id)["status"] == "SUCCEEDED"
    assert all(step["status"] == "completed" for step in run["steps"])
    attempts = [attempt for step in run["steps"] for attempt in step["attempts"]]
    assert len(attempts) == len(scene.script.requests)  # no call that is not on record, none on record that was not
    stored = system.item(scene.run_id, "RUN")
    known = [attempt["cost_usd"] for attempt in attempts if attempt["cost_usd"] is not None]
    assert stored["cost_usd"] == run["cost_usd"] == sum(known) == len(known) * Decimal("0.00045")
    usage = system.usage(scene.run_id)
    billable = [row["step"] for row in usage if row["steps"]]
    assert sorted(billable) == sorted(step["step"] for step in run["steps"])
    assert sum(row["steps"] for row in usage) == len(run["steps"])
    assert sum(row.get("cost_usd", 0) for row in usage) == run["cost_usd"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_settled_call_is_made_again(scenes: dict[str, Scene], moment: str) -> None:
    scene = scenes[moment]
    for step in scene.run["steps"]:
        assert scene.requests(step["step"]) == 1
        assert [attempt["outcome"] for attempt in step["attempts"]] == ["ok"]
    assert scene.run["cost_basis"] == "measured"


def test_killed_in_a_model_call_only_that_call_is_made_again_and_both_are_on_record(scenes: dict[str, Scene]) -> None:
    scene = scenes["in a model call"]
    assert [scene.requests(name) for name in ("one", "two", "end")] == [1, 3, 1]
    step = scene.step("two")
    assert [(int(a["turn"]), a["outcome"]) for a in step["attempts"]] == [(0, "ok"), (1, "lost"), (1, "ok")]
    assert step["attempts"][1]["cost_usd"] is None
    assert step["attempts"][1]["cost_basis"] == step["cost_basis"] == scene.run["cost_basis"] == "unknown"
    assert step["output"] == {"ok": True}
    conversations = [r["messages"] for r in scene.script.requests if r["messages"][0]["content"].startswith("Do two.")]
    assert conversations[1] == conversations[2]  # the retry goes on from the settled answer


def test_a_step_whose_record_is_written_goes_on_without_waiting_for_the_dead_ones_lease(
    system: System, scenes: dict[str, Scene]
) -> None:
    entered = system.states_entered(scenes["record written"].run_id)
    assert "WaitToRetry" not in entered
    assert entered.count("LineRunStep") == 3  # the crash was retried in its state


def test_answers_of_dynamodb_that_get_lost_change_nothing(system: System, proxy: AwsProxy, provider: Any) -> None:
    script, model = provider(lambda _: Text("answer"))
    crew = [{"name": "a", "needs": []}, {"name": "b", "needs": []}, {"name": "join", "needs": ["a", "b"]}]
    workflow = system.push("Lost answers", crew, model=model)
    with system.configured("RunStep", 30), proxy.losing(lambda operation, _: operation in ("UpdateItem", "PutItem")):
        run = system.run(workflow)
    assert proxy.lost > 3 * len(crew)
    assert run["status"] == "completed"
    assert len(script.requests) == len(crew)
    assert [len(step["attempts"]) for step in run["steps"]] == [1] * len(crew)
    assert run["cost_usd"] == len(crew) * Decimal("0.00045")
    assert sum(row["steps"] for row in system.usage(run["id"])) == len(crew)


def test_a_model_that_hangs_until_the_functions_time_is_over_gives_way_to_the_fallback(
    system: System, proxy: AwsProxy, provider: Any
) -> None:
    call = Hold(Text("never in time"))
    silent, bad = provider(lambda _: call)
    _, good = provider(lambda _: Text("answer"))
    workflow = system.push("Hangs", [{"name": "one"}])
    system.put("RoutesTableName", {"workflow": workflow, "step": "one", "model": bad, "fallbacks": [good]})
    run = system.run(workflow)
    call.release()
    assert run["status"] == "completed"
    *hung, timed_out, answered = [(a["model"], a["outcome"]) for a in run["steps"][0]["attempts"]]
    assert (timed_out, answered) == ((bad, "ModelTimeout"), (good, "ok"))
    # On a machine under load a function may be ended before it gives up by itself; the step then begins anew.
    assert set(hung) <= {(bad, "lost")}
    assert len(silent.requests) == len(hung) + 1
