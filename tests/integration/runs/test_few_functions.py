"""A stack on which three functions run at once, as ten do in a new account: a list completes, and so does all else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.provider_server import Hold, Text
from support.system import PARAMETERS, ROOT, System
from support.waiting import eventually

from loopllama.aws import clients
from loopllama_cli.local.handle import LocalStack

ITEMS = 12


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    lines: list[str] = []
    with (
        LocalStack(ROOT, PARAMETERS, log=lines.append, concurrency=3) as stack,
        pytest.MonkeyPatch.context() as patch,
    ):
        made = System(stack)
        patch.setattr(clients, "client", made.client)
        yield made


def test_what_finds_no_room_is_tried_again(system: System) -> None:
    workflow = system.push("Crowd", [{"name": "one", "forEach": "input", "prompt": "{{ item }}"}])
    run_id = system.start(workflow, [f"word{number}" for number in range(ITEMS)])
    # The API is a function as well: while the list takes all places, only AWS itself is asked.
    states = system.client("stepfunctions")
    arn = system.outputs["RunWorkflowArn"].replace(":stateMachine:", ":execution:") + f":{run_id}"
    eventually(lambda: states.describe_execution(executionArn=arn)["status"] != "RUNNING", seconds=120)

    run = system.wait(run_id)
    assert run["status"] == "completed", run["error"]
    assert Counter(step["status"] for step in run["steps"]) == {"completed": ITEMS + 1}
    assert len([step for step in run["steps"] if step["attempts"]]) == ITEMS, "nothing is paid twice"
    pages = states.get_paginator("get_execution_history").paginate(executionArn=arn)
    failed = [event["taskFailedEventDetails"]["error"] for page in pages for event in page["events"]
              if event["type"] == "TaskFailed"]  # fmt: skip
    assert set(failed) == {"Lambda.TooManyRequestsException"}


def test_the_account_says_how_many_run_at_once(system: System) -> None:
    assert system.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 3


def test_the_api_is_a_function_too(system: System, provider: Any) -> None:
    """While nothing is free it answers 503, as AWS's does, and is there again once something is."""
    calls = [Hold(Text("fine")) for _ in range(3)]
    replies = iter(calls)
    _, model = provider(lambda _: next(replies))
    workflow = system.push("Full", [{"name": name, "needs": []} for name in ("one", "two", "three")], model=model)
    run_id = system.start(workflow)
    for call in calls:
        call.wait_entered()
    assert httpx.get(f"{system.stack.api_url}/healthz", timeout=20).status_code == 503
    for call in calls:
        call.release()
    eventually(lambda: httpx.get(f"{system.stack.api_url}/healthz", timeout=20).status_code == 200, seconds=60)
    assert eventually(lambda: system.item(run_id, "RUN").get("status") == "completed", seconds=60)
