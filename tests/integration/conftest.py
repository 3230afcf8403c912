"""The local stack for integration tests: a toy project that misbehaves on request, and the product itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from support.api_client import Client
from support.system import DEPLOYED, System
from support.waiting import eventually
from typer.testing import CliRunner, Result

from loopllama.core import exact_json
from loopllama_cli.local import LocalStack
from loopllama_cli.main import app

ROOT = Path(__file__).parents[2]
TOY_PROJECT = Path(__file__).parent / "fixtures" / "stack"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a deployed stack only those tests run that say they can: marked `aws`."""
    if DEPLOYED:
        config.hook.pytest_deselected(items=[item for item in items if not item.get_closest_marker("aws")])
        items[:] = [item for item in items if item.get_closest_marker("aws")]


class Running:
    """A running local stack, or the deployed one that the environment names (`stack` is None), with clients for it."""

    def __init__(self, stack: LocalStack | None, log: list[str]) -> None:
        self.log = log
        self.client: Callable[[str], Any]
        if stack is None:
            deployed = System(None)
            self.outputs, self.client = dict(deployed.outputs), deployed.client
        else:
            self.stack, self.outputs = stack, stack.outputs
            self.client = cache(self._client)

    def _client(self, service: str) -> Any:
        session: Any = boto3.Session
        make = session(**self.stack.credentials.as_json(), region_name=self.stack.region).client
        return make(service, endpoint_url=self.stack.aws_endpoint_url)

    def invoke(self, function: str, **event: Any) -> Any:
        """Invoke a function by its output's name; returns the payload. Fails if the function did."""
        answer = self.client("lambda").invoke(FunctionName=self.outputs[function], Payload=json.dumps(event))
        payload = json.load(answer["Payload"])
        assert "FunctionError" not in answer, payload
        return payload

    def invoke_failing(self, function: str, **event: Any) -> Any:
        """Invoke a function that fails; returns the error."""
        answer = self.client("lambda").invoke(FunctionName=self.outputs[function], Payload=json.dumps(event))
        assert answer["FunctionError"] == "Unhandled"
        return json.load(answer["Payload"])

    def item(self, table: str, **key: str) -> dict[str, Any] | None:
        """An item by its string key, or `None`."""
        found = self.client("dynamodb").get_item(
            TableName=self.outputs[table], Key={name: {"S": value} for name, value in key.items()}, ConsistentRead=True
        )
        return found.get("Item")

    def execute(self, state: Any, machine: str = "MachineArn") -> dict[str, Any]:
        """Run an execution to its end; returns its description."""
        states = self.client("stepfunctions")
        arn = states.start_execution(stateMachineArn=self.outputs[machine], input=json.dumps(state))["executionArn"]
        return self.ended(arn)

    def ended(self, arn: str) -> dict[str, Any]:
        """Wait until an execution is over; returns its description."""
        states = self.client("stepfunctions")

        def over() -> dict[str, Any] | None:
            found = states.describe_execution(executionArn=arn)
            return None if found["status"] == "RUNNING" else found

        return eventually(over, 60)

    def messages(self, queue_url: str) -> list[dict[str, Any]]:
        """What is in a queue, with attributes; messages stay invisible afterwards."""
        found = self.client("sqs").receive_message(
            QueueUrl=self.outputs[queue_url], MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        )
        return found.get("Messages", [])


CALLER = {
    "MISTRAL_API_KEY": "key-of-mistral",
    "GEMINI_API_KEY": "key-of-gemini",
    "HOMEGROWN_API_KEY": "key-of-homegrown",
    "HOMEGROWN_BASE_URL": "http://127.0.0.1:8001/v1",
    # What a developer's shell may hold, and the stack must not mind.
    "AWS_PROFILE": "nowhere",
    "AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:9",
    "AWS_REGION": "eu-north-1",
}
QUICK = {
    "SimulatedProviders": "*",
    "SimulatedSpeed": "50",
    "RouteCacheSeconds": "0",
    "RequestsPerSecond": "10000",
}
NO_KEYS = ("OPENAI", "ANTHROPIC", "GOOGLE", "DEEPSEEK", "AZURE", "AZURE_OPENAI", "GROQ", "OPENROUTER")


def _start(project: Path, variables: dict[str, str], **options: Any) -> Iterator[Running]:
    log: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in [f"{name}_API_KEY" for name in NO_KEYS] + [f"{name}_BASE_URL" for name in NO_KEYS]:
            patch.delenv(name, raising=False)
        for name, value in variables.items():
            patch.setenv(name, value)
        stack = LocalStack(project, log=log.append, **options).start()
    try:
        yield Running(stack, log)
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def toy() -> Iterator[Running]:
    """The toy project, whose schedules' minutes take 1 s."""
    yield from _start(TOY_PROJECT, CALLER, parameters={"Greeting": "good day"}, minute=1.0)


@pytest.fixture(scope="session")
def product() -> Iterator[Running]:
    """The product, every provider simulated at 50 times its speed, routes read at each step."""
    if DEPLOYED:
        yield Running(None, [])
        return
    yield from _start(ROOT, {}, parameters=QUICK)


@pytest.fixture(scope="session")
def tidy_product() -> Iterator[Running]:
    """Another product, for tests that look at all that there is: each leaves it as it was, which those of `product` do
    not."""
    yield from _start(ROOT, {}, parameters=QUICK)


@pytest.fixture(scope="session")
def running() -> Callable[[LocalStack], Running]:
    """Makes clients for a stack of a test's own."""
    return lambda stack: Running(stack, [])


@pytest.fixture(scope="module")
def api(product: Running) -> Client:
    """A client of the product's HTTP API, under a key named `test`."""
    return Client(product)


Program = Callable[..., Result]
Answer = Callable[..., Any]


@pytest.fixture
def program_on() -> Callable[[Any], Program]:
    """Makes, for a running stack, what runs the program in this process; it fails where the exit code is not `code`."""
    os.environ.update(COLUMNS="100", AWS_PROFILE="nowhere")

    def make(running: Any) -> Program:
        def run(*arguments: object, code: int = 0, text: str | None = None) -> Result:
            line = [*map(str, arguments), "--local", running.stack.aws_endpoint_url]
            done = CliRunner().invoke(app, line, input=text)
            assert done.exit_code == code, (done.stderr, done.exception)
            return done

        return run

    return make


@pytest.fixture
def loopllama(product: Any, program_on: Callable[[Any], Program]) -> Program:
    """Run the program on the product; fails where its exit code is not `code`."""
    return program_on(product)


@pytest.fixture
def answer(loopllama: Program) -> Answer:
    """Run the program with `--json`; standard output is one JSON value, numbers exact."""
    return lambda *arguments, **options: exact_json.loads(loopllama(*arguments, "--json", **options).stdout)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie. One whose first thread has ended is alive as long as the others are:
    until then its parent is told nothing."""
    try:
        os.kill(pid, 0)
        if not Path("/proc/self/stat").exists():  # macOS
            return True
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except (ProcessLookupError, FileNotFoundError):
        return False
