"""A stack on which three functions run at once, as ten do in a new account: a list completes, and so does all else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
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


def test_the_api_is_a_function_too(system: System) -> None:
    """While nothing is free it answers 503, as AWS's does, and is there again once something is."""
    workflow = system.push("Slow", [{"name": "one", "forEach": "input", "prompt": "{{ item }}"}])
    system.start(workflow, [f"word{number}" for number in range(40)])
    answers = set()

    def seen() -> bool:
        answers.add(httpx.get(f"{system.stack.api_url}/healthz", timeout=20).status_code)
        return answers == {200, 503}

    eventually(seen, seconds=60, longest=0.05)
