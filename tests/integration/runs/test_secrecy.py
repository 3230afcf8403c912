"""What people, models and tools wrote stays in the record: no word of it, and no key, in any log, any metric or the
history of any execution."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import httpx
import pytest
from support.api_client import Client, ended
from support.provider_server import Calls, Status, Text
from support.system import STACK_NAME, System

MARK = "quetzalcoatl"
"""Begins every text of this file that must not get out; what follows says which text it was."""
METRICS_REPORTED = re.compile(f"{MARK}[a-z-]*", re.IGNORECASE)


class Provider:
    """Answers each agent by what its prompt asks for, quoting what it was sent where providers do so."""

    def __call__(self, request: dict[str, Any]) -> Any:
        wish = request["messages"][0]["content"].split()[0]
        results = [one["content"] for one in request["messages"] if one["role"] == "tool"]
        if wish == "compute" and not results:
            return Calls("calculator", {"expression": f"{MARK}-tool-argument + 1"})
        if wish == "ask" and not results:
            return Calls("ask_human", {"question": f"{MARK}-question?"})
        if wish == "refuse":
            return Status(400, f"the prompt was: {json.dumps(request['messages'])}\nkey {MARK}-provider-error")
        return Text(f"{MARK}-output")


def left_behind(system: System, runs: list[str]) -> dict[str, str]:
    """Every text in CloudWatch Logs, CloudWatch's metrics and the histories of these runs' executions, by its place."""
    found = {f"log {number}": line for number, line in enumerate(system.log_lines())}
    metrics = system.client("cloudwatch").get_paginator("list_metrics").paginate()
    found["metrics"] = json.dumps([page["Metrics"] for page in metrics])
    states = system.client("stepfunctions")
    for run_id in runs:
        arn = system.item(run_id, "RUN")["execution_arn"]
        history = states.get_paginator("get_execution_history").paginate(executionArn=arn)
        found[arn] = json.dumps([states.describe_execution(executionArn=arn), *history], default=str)
    return found


@pytest.fixture(scope="module")
def api(system: System) -> Client:
    class Stack:
        stack, outputs, client = system.stack, system.outputs, staticmethod(system.client)

    return Client(Stack)


def test_nothing_that_was_written_gets_out(system: System, provider_server: Any, api: Client) -> None:
    script = provider_server.script("leaky", Provider())
    secret = {"api_key": f"{MARK}-key", "base_url": script.url, "headers": {"X-Team": f"{MARK}-header"}}
    name = f"{STACK_NAME}/providers/leaky"
    system.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(secret))
    system.put_model("leaky:one", "leaky")
    schema = {
        "type": "object",
        "properties": {f"{MARK}-property": {"type": "number"}},
        "required": [f"{MARK}-property"],
    }

    def workflow(*wishes: str, **agent: Any) -> str:
        crew = [
            {
                "name": wish,
                "role": f"{MARK}-role",
                "systemPrompt": f"{wish} {MARK}-system-prompt",
                "prompt": f"{MARK}-prompt {{{{ input.text }}}}",
                **agent,
            }
            for wish in wishes
        ]
        body = {"name": f"Secret {'-'.join(wishes)}", "description": f"{MARK}-description", "model": "leaky:one"}
        return str(api.post("/v1/workflows", {**body, "crew": crew}, 201)["id"])

    def start(workflow_id: str) -> str:
        body = {"input": {"text": f"{MARK}-input", f"{MARK}-input-name": 1}}
        return str(api.post(f"/v1/workflows/{workflow_id}/runs", body, 202)["id"])

    def run(workflow_id: str) -> dict[str, Any]:
        return ended(api, start(workflow_id))

    # A run with tools, one that asks people, one whose provider quotes the prompt, one whose answer fits no schema,
    # one whose prompt does not fit its input.
    # One after another, so that each function needs one process.
    tools = run(workflow("compute", "say", tools=["calculator"]))
    asks = start(workflow("ask", tools=["ask_human"], approval={"start": True}))
    api.until(f"/v1/runs/{asks}", lambda run: run["pending"])
    api.post(f"/v1/runs/{asks}/respond", {"approved": True, "note": f"{MARK}-note"}, 200)
    api.until(f"/v1/runs/{asks}", lambda run: run["pending"] and MARK in json.dumps(run["pending"]))
    api.post(f"/v1/runs/{asks}/respond", {"input": f"{MARK}-answer"}, 200)
    runs = [tools, ended(api, asks), run(workflow("refuse")), run(workflow("say", outputSchema=schema))]
    runs.append(run(workflow("say", prompt="{{ input.nothing.there }}")))
    failed = runs[2]["id"]
    assert [one["status"] for one in runs] == ["completed", "completed", "failed", "failed", "failed"]
    assert all(MARK in json.dumps(one) for one in runs[:4]), "the record tells"
    sent = script.requests
    assert {f"{MARK}-{what}" for what in ("system-prompt", "prompt", "input", "tool-argument", "answer")} <= set(
        METRICS_REPORTED.findall(json.dumps(sent))
    )
    body = {"fromStep": "refuse", "input": f"{MARK}-replayed"}
    runs.append(ended(api, api.post(f"/v1/runs/{failed}/replay", body, 202)["id"]))

    # Requests that are refused, and one with a key that is none.
    refused: tuple[Any, ...] = (
        {"input": {"text": f"{MARK}-x"}, f"{MARK}-field": 1},
        {"input": "x", "models": {f"{MARK}-step": f"{MARK}-model"}},
        f'{{"input": "{MARK}-broken',
    )
    for request in refused:
        assert api.raw("POST", f"/v1/workflows/{runs[0]['workflow_id']}/runs", request).status_code == 400
    path = f"{api.url}/v1/workflows"
    assert httpx.get(path, headers={"Authorization": f"Bearer {MARK}-api-key"}).status_code == 401
    api.raw("POST", "/v1/workflows", {"name": f"{MARK}-name"}, {"Idempotency-Key": f"{MARK}-idempotency"})

    # Events and hands that ask for runs that cannot be, and functions whose input is none.
    detail = {"workflow": runs[0]["workflow_id"], "input": f"{MARK}-event", "models": {"nobody": f"{MARK}-model"}}
    event = {"id": uuid.uuid4().hex, "detail-type": "RunRequested", "detail": detail}
    assert system.invoke("AcceptRun", event)["errorType"] == "InvalidRequest"
    nonsense = {"request": {"run_id": {"S": f"{MARK}-nonsense"}, "input": f"{MARK}-nonsense"}}
    for function in ("AcceptRun", "StartRun", "RunStep", "AdvanceRun", "PublishEvents", "RecordRouteChange"):
        assert system.invoke(function, {**nonsense, "run_id": [f"{MARK}-nonsense"], "Records": 7})["errorType"]
    # An item that somebody spoiled by hand.
    system.update_run(failed, {"workflow_version": f"{MARK}-spoiled"})
    told = system.invoke("AdvanceRun", {"contract": 1, "run_id": failed})
    assert (told["errorType"], told["errorMessage"].startswith("ValueError at ")) == ("InternalError", True)

    texts = left_behind(system, [one["id"] for one in runs])
    assert any(failed in text for text in texts.values())
    leaks = {
        (place[:60], *METRICS_REPORTED.findall(text)) for place, text in texts.items() if METRICS_REPORTED.search(text)
    }
    assert not leaks
    keys = [api.key, f"{MARK}-key"]
    assert not [place for place, text in texts.items() if any(key in text for key in keys)]
