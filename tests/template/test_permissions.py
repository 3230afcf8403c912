"""Each function's policy allows what the function really does, and nothing that it never does.

Runs are played in moto, which checks no permissions; every request is noted under the function that makes it and then
held against that function's statements in the template.
"""

from __future__ import annotations

import contextlib
import fnmatch
from dataclasses import replace
from typing import Any, cast

import pytest
from support.api_client import gateway_event
from support.deployment import Deployment
from support.moto_account import account
from support.stream_records import record, run_item, step_item
from support.tool_rows import rows
from template.project import FUNCTIONS, statements
from template.recording import Recorder, allowed, watching

from loopllama.api.app import Api
from loopllama.api.auth import KeyStore
from loopllama.aws import clients, dynamo
from loopllama.core import clock, exact_json
from loopllama.engine.human_input import respond
from loopllama.engine.reconcile import execution_ended, reconcile_due
from loopllama.engine.triggers import accept_event
from loopllama.errors import CredentialsRejected, ModelRequestRejected, RunFailed, ToolFailed
from loopllama.jobs.publish_events import Publisher
from loopllama.jobs.record_route_change import RouteRecorder
from loopllama.llm.types import ToolCall
from loopllama.providers import credentials
from loopllama.queries.usage_days import sum_due
from loopllama.runs.step_ref import Work
from loopllama.settings import Settings
from loopllama.tools.toolbox import Toolbox

OUTSIDE = {
    "secretsmanager:GetSecretValue",
    "bedrock:InvokeModel",
    "bedrock:ApplyGuardrail",
    "bedrock:GetInferenceProfile",
    "bedrock-mantle:CreateInference",
    "lambda:InvokeFunction",
    # Lambda itself reads the stream and reports what it gave up on.
    *(f"dynamodb:{action}" for action in ("DescribeStream", "GetRecords", "GetShardIterator", "ListStreams")),
    "sqs:SendMessage",
    # Lambda writes the logs.
    "logs:CreateLogStream",
    "logs:PutLogEvents",
}
"""Actions of providers and tools, which a scripted provider does not need, and of Lambda."""
LOOKUP = {"type": "lambda", "function": "shop-lookup", "description": "Looks up an order."}


def test_policies_are_what_runs_need(recorder: tuple[Deployment, Recorder]) -> None:
    made, notes = recorder
    needs = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    workflow = made.push([{"name": name, "needs": before} for name, before in needs.items()])
    clients.client("dynamodb").put_item(
        TableName="RoutesTable", Item=dynamo.to_item({"workflow": workflow, "step": "b", "model": "test:b"})
    )

    # A step that chooses by what was observed says so; a run keeps the chains that it started with.
    for row in (
        {"step": "c", "policy": "fastest", "candidates": ["test:a", "test:b"]},
        {"step": "d", "model": "test:a", "pin": "run"},
    ):
        item = dynamo.to_item({"workflow": workflow, **row})
        clients.client("dynamodb").put_item(TableName="RoutesTable", Item=item)

    # Values over 32 KB go through the bucket; a join is claimed; an event that comes twice is one run.
    large = "word " * 20_000
    made.provider.script = lambda call: large
    run_id = made.accept(workflow, large, key="event/1")
    assert made.accept(workflow, large, key="event/1") == run_id
    made.play(run_id)
    assert made.read(run_id)["status"] == "completed"

    # A step reads the tools that it names.
    made.define_tools(lookup=LOOKUP)
    made.provider.script = lambda call: "found"
    made.play(made.accept(made.push([{"name": "one", "tools": ["lookup"]}], name="With a tool")))

    # Its execution's history is full: the run goes on in another one.
    long = made.accept(workflow, "hello")
    made.advance(made.start(long), left=0)
    made.start(long)

    # Started by hand.
    made.start("by-hand", {"workflow": workflow, "input": large})  # type: ignore[arg-type]

    # A step fails for good, the execution is redriven.
    def refuse(call: Any) -> str:
        raise ModelRequestRejected("no")

    made.provider.script = refuse
    failing = made.accept(workflow, "hello")
    with pytest.raises(RunFailed):
        made.play(failing)
    made.provider.script = lambda call: "fine"
    state = made.advance({"contract": 1, "run_id": failing})
    made.advance(state, [made.chain(work) for work in made.map(state)])

    # An answer that comes after its step has ended, by another invocation, is still billed.
    _late_answer(made, workflow)

    # Budgets of a run and of a day; a step that is taken over settles what was reserved.
    limited = made.push([{"name": "a"}], name="limited", budget={"daily": {"maxSteps": 9}})
    made.play(made.accept(limited, "hello", budget={"maxTokens": 9000}))
    _late_answer(made, limited)

    # A loop asks the run's item which round it is in. A person answers: before the state machine waits, or so that
    # the reconciler must deliver it again.
    crew = [{"name": "a"}, {"name": "b", "repeat": {"backTo": "a", "until": "input.never", "max": 2}}]
    made.play(made.accept(made.push(crew, name="loop"), "hello"))
    asking = made.accept(made.push([{"name": "a", "approval": True}], name="asks"), large)
    work = made.map(made.start(asking))[0]
    made.step(work)
    respond(made.runs, asking, {"approved": True})
    made.step({"work": work, "token": "t"})
    execution = made.settings.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{asking}"
    # It has gone on for so long that it is about to be deleted.
    made.runs.change(asking, {"execution_arn": execution, "delete_at": 1}, only_from=("running",))
    made.runs.set_pending(
        Work.from_payload(cast("Any", work)), made.runs.items(asking, ["STEP#a#0#0"])["STEP#a#0#0"]["pending"]
    )

    # A run that stays failed is summed and billed again when its last calls must have ended.
    made.provider.script = refuse
    with pytest.raises(RunFailed):
        made.play(made.accept(workflow, "hello"))
    made.provider.script = lambda call: "fine"

    # The reconciler: a lost start, an execution that is gone, news of an end.
    left, gone, stopped = (made.accept(workflow, "hello") for _ in range(3))
    made.start(gone)
    made.start(stopped)
    made.wait(100_000)
    with notes.of("ReconcileRuns"):
        execution_ended(made.settings, {"name": stopped, "status": "ABORTED"})
        counts = reconcile_due(made.settings)
        assert sum_due(made.settings, lambda: 50_000)["summed"]
    assert made.read(stopped)["status"] == "cancelled"
    assert (made.read(left)["status"], made.read(gone)["status"]) == ("queued", "failed")
    assert counts["started"] >= 1

    # What happened is kept and sent, by a process that finds another's events; readers wait for more.
    begun, kept = run_item("told", "running", started_at=clock.now_text()), {"run_id": "told", "item": "EVENT#00000001"}
    clients.client("dynamodb").put_item(TableName="RunsTable", Item=dynamo.to_item(begun))
    clients.client("dynamodb").put_item(
        TableName="RunsTable", Item=dynamo.to_item({**kept, "type": "RunStarted", "change": "another"})
    )
    done = {**step_item("told", "a", "completed"), "finished_at": clock.now_text()}
    clients.client("events").create_event_bus(Name="EventBus")
    # A call of a step that chooses by what was observed settles.
    call = {"model": "test:a", "outcome": "ok", "latency_ms": 5}
    step = step_item("told", "c", "running", workflow_id=workflow, attempt_0001={**call, "outcome": "open"})
    settled = record(step, {**step, "attempt_0001": call})
    with notes.of("PublishEvents"):
        answer = Publisher(replace(made.settings, event_bus_name="EventBus")).handle([record(None, done), settled])
    assert answer == {"batchItemFailures": []}
    secret, _ = KeyStore(replace(made.settings, api_keys_table="ApiKeysTable")).create("reader")
    waiting = gateway_event(secret, "GET", "/v1/runs/told/events", accept="text/event-stream", **{"last-event-id": "1"})
    with notes.of("ReadEvents"):
        read = Api(replace(made.settings, api_keys_table="ApiKeysTable", key_use_table="KeyUseTable")).handle(
            waiting, None
        )
    assert "event: StepCompleted" in read["body"]
    _every_route(made, notes, secret)

    # An upload.
    clients.client("s3").create_bucket(Bucket="uploads")
    clients.client("s3").put_object(Bucket="uploads", Key=f"{workflow}/note.txt", Body=b"hello")
    upload = {"bucket": {"name": "uploads"}, "object": {"key": f"{workflow}/note.txt", "size": 5}}
    with notes.of("AcceptRun"):
        assert accept_event(made.settings, {"detail-type": "Object Created", "detail": upload})

    _dial(made, notes, workflow)
    for function in (
        *("AcceptRun", "StartRun", "RunStep", "AdvanceRun", "ReconcileRuns", "PublishEvents", "ReadEvents"),
        *("RecordRouteChange", "Api"),
    ):
        used, granted = notes.calls[function], allowed(function)
        assert used, f"{function} was not played"
        missing = {
            (action, resource)
            for action, resource in used
            if not any(action == may and fnmatch.fnmatchcase(resource, on) for may, on in granted)
        }
        assert not missing, f"{function}'s policy lacks {missing}"
        idle = {
            (may, on)
            for may, on in granted
            if may not in OUTSIDE
            and not any(action == may and fnmatch.fnmatchcase(resource, on) for action, resource in used)
        }
        assert not idle, f"{function}'s policy grants what it never uses: {idle}"


def test_keys_and_tools_need_what_run_step_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scripted provider does not need: the secrets of a provider and of a tool, a tool that is a function."""
    notes = Recorder()
    tools = {
        "ask": {"type": "lambda", "function": "tool-ask", "description": "d", "parameters": {"type": "object"}},
        "refund": {
            "type": "http",
            "url": "https://tools.example/",
            "description": "d",
            "parameters": {"type": "object"},
            "secret": {"name": "stack/tools/refund"},
        },
    }
    credentials._kept.clear()
    with account(monkeypatch), watching(monkeypatch, notes), notes.of("RunStep"):
        with pytest.raises(CredentialsRejected):
            credentials.credentials_for("openai", Settings(provider_secrets_prefix="stack/providers/"))
        box = Toolbox(rows(tools), list(tools), aws=clients)
        for name in tools:
            with pytest.raises(ToolFailed):
                box.call(ToolCall("1", name, {}), idempotency_key="key", timeout=5)
    credentials._kept.clear()
    used = notes.calls["RunStep"]
    assert {action for action, _ in used} == {"secretsmanager:GetSecretValue", "lambda:InvokeFunction"}
    assert len(used) == 3
    for action, resource in used:
        assert any(action == may and fnmatch.fnmatchcase(resource, on) for may, on in allowed("RunStep")), resource


def _dial(made: Deployment, notes: Recorder, workflow: str) -> None:
    """A changed route is recorded."""
    row = dynamo.to_item({"workflow": workflow, "step": "b", "model": "test:b"})
    keys = {name: row[name] for name in ("workflow", "step")}
    change = {"dynamodb": {"Keys": keys, "NewImage": row, "SequenceNumber": "1"}}
    config = replace(made.settings, route_history_table="RouteHistoryTable", event_bus_name="EventBus")
    with notes.of("RecordRouteChange"):
        assert RouteRecorder(config).handle([change]) == {"batchItemFailures": []}


def _every_route(made: Deployment, notes: Recorder, secret: str) -> None:
    """What the HTTP API does for those who ask it."""
    config = replace(
        made.settings,
        api_keys_table="ApiKeysTable",
        key_use_table="KeyUseTable",
        route_history_table="RouteHistoryTable",
        provider_secrets_prefix="stack/providers/",
        simulated_providers=("test",),
    )
    api = Api(config)

    def ask(method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        with notes.of("Api"):
            answer = api.handle(gateway_event(secret, method, path, body, **headers), None)
        assert answer["statusCode"] == status, answer["body"]
        return exact_json.loads(answer["body"]).get("data")

    crew = [{"role": "A", "systemPrompt": "x", "model": "test:a"}]
    body = {"name": "Asked", "crew": crew}
    made_once = ask("POST", "/v1/workflows", body, 201, **{"idempotency-key": "k"})
    assert ask("POST", "/v1/workflows", body, 201, **{"idempotency-key": "k"}) == made_once
    path = f"/v1/workflows/{made_once['id']}"
    assert ask("GET", "/v1/workflows")
    assert ask("GET", path)
    ask("PUT", path, {**body, "crew": [{**crew[0], "approval": True}]})
    ask("PATCH", path, {"description": "d"})
    assert ask("POST", f"{path}/rollback", {})["version"] == ask("POST", f"{path}/rollback", {})["version"] - 1
    ask("PUT", path, {**body, "crew": [{**crew[0], "approval": True}]})

    # A value in the bucket, read back; a run that asks, answered, cancelled and replayed.
    run_id = ask("POST", f"{path}/runs", {"input": "word " * 10_000}, 202)["id"]
    assert ask("GET", f"/v1/runs/{run_id}")["input"].startswith("word")
    work = made.map(made.start(run_id))[0]
    made.step(work)
    token = "t" * 40
    clients.client("dynamodb").update_item(
        TableName="RunsTable",
        Key=dynamo.to_item({"run_id": run_id, "item": "STEP#a#0#0"}),
        UpdateExpression="SET #token = :token",
        ExpressionAttributeNames={"#token": "token"},
        ExpressionAttributeValues=dynamo.to_item({":token": token}),
    )
    with contextlib.suppress(Exception):  # nobody waits with that token
        ask("POST", f"/v1/runs/{run_id}/respond", {"approved": True})
    assert ask("GET", f"{path}/runs")
    ask("DELETE", path, status=409)
    ask("POST", f"/v1/runs/{run_id}/cancel")
    replayed = ask("POST", f"/v1/runs/{run_id}/replay", {"fromStep": "a"}, 202)["id"]
    ask("POST", f"/v1/runs/{replayed}/cancel")
    failed = made.accept(str(made_once["id"]), "hello")
    made.start(failed)
    made.runs.change(failed, {"status": "failed"}, only_from=("running",))
    execution = made.settings.state_machine_arn.replace(":stateMachine:", ":execution:") + f":{failed}"
    made.runs.change(failed, {"execution_arn": execution}, only_from=("failed",))
    clients.client("stepfunctions").stop_execution(executionArn=execution)
    with contextlib.suppress(Exception):  # moto has no RedriveExecution
        ask("POST", f"/v1/runs/{failed}/redrive", {}, 202)
    # What fails under a key is forgotten, so that it may be tried again.
    ask("POST", f"/v1/runs/{replayed}/respond", {"approved": True}, 409, **{"idempotency-key": "c"})

    route = f"{path}/routes/a"
    ask("PUT", route, {"model": "openai:gpt-5"}, 400)  # no key of that provider
    ask("PUT", route, {"model": "test:b"})
    assert ask("GET", f"{path}/routes")
    assert ask("GET", route)
    ask("GET", f"{route}/history")
    ask("POST", f"{route}/rollback", {}, 404)
    ask("DELETE", route)
    ask("PUT", "/v1/models/test:b", {"enabled": False})
    assert ask("GET", "/v1/models")
    assert ask("GET", "/v1/models/test:b")
    made.define_tools(lookup=LOOKUP)
    assert ask("GET", "/v1/tools")
    assert ask("GET", "/v1/tools/lookup")
    ask("PUT", path, {**body, "crew": [{**crew[0], "tools": ["lookup"]}]})
    ask("PUT", path, {**body, "crew": [{**crew[0], "tools": ["lokup"]}]}, 400)
    ask("DELETE", "/v1/models/test:b")
    ask("GET", "/v1/usage")
    ask("DELETE", path)


def _late_answer(made: Deployment, workflow: str) -> None:
    run_id = made.accept(workflow, "hello")
    (work,) = made.map(made.start(run_id))
    inner = False

    def answer(call: Any) -> str:
        nonlocal inner
        if not inner:
            inner = True
            made.wait(1000)  # The first invocation's lease runs out while its model thinks.
            made.step(work, "second")
        return "fine"

    made.provider.script = answer
    made.step(work, "first")


def test_every_function_has_statements_that_are_held_against_what_it_does() -> None:
    assert not [name for name in FUNCTIONS if not list(statements(name))]
