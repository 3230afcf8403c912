"""The whole system under test, worked from outside as its users do: the template on the local stack, or a deployed one
whose name is in LOOPLLAMA_TEST_STACK.

All calls to a local stack go through explicit clients of its endpoint; this process's environment stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from loopllama.aws import clients, dynamo
from loopllama.engine.accept import accept_run
from loopllama.queries.runs import RunReader
from loopllama.tools.store import ToolStore
from loopllama.workflows.schema import Workflow
from loopllama.workflows.store import DefinitionStore
from loopllama_cli.local.handle import LocalStack
from loopllama_cli.target import Choice, connect, settings_of
from support.waiting import eventually

ROOT = Path(__file__).parents[2]
DEPLOYED = os.environ.get("LOOPLLAMA_TEST_STACK", "")
"""The deployed stack that the tests are to work on; empty for a local stack of their own."""
WAIT_SECONDS = 60.0
STACK_NAME = "loopllama"
PRICES = {"sim:base": (Decimal(3), Decimal(15)), "sim:tenth": (Decimal("0.3"), Decimal("1.5"))}
"""USD per million tokens, input and output: one model ten times as expensive as the other."""
PARAMETERS = {
    "StepTimeoutSeconds": "30",
    "ModelTimeoutSeconds": "5",
    "RouteCacheSeconds": "0",
    "DefaultModel": "sim:base",
    "SimulatedProviders": "sim,bedrock",
    "SimulatedSpeed": "1000",
    "RequestsPerSecond": "10000",
}

DEPLOYED_PARAMETERS = {
    **PARAMETERS,
    "SimulatedProviders": "*",
    "SimulatedSpeed": "50",
    "DeletionProtection": "Disabled",
}
"""What a stack is deployed with on which both the runs' and the API's tests work."""
TOOLS = ROOT / "examples/research_brief/tools.json"
"""Its tools."""


class System:
    """A running stack: a local one by its handle, or, for None, the deployed one that the environment names.

    `loopllama.aws.clients.client` must be this object's `client` while the methods run."""

    def __init__(self, stack: LocalStack | None, parameters: Mapping[str, str] | None = None) -> None:
        self._stack = stack
        self._configured: dict[str, tuple[int | None, dict[str, str]]] = {}
        self.client: Callable[..., Any]
        if stack is None:
            target = connect(Choice(stack=DEPLOYED))
            self.name, self.outputs, self.settings, self.client = (
                DEPLOYED,
                target.outputs,
                target.settings,
                clients.client,
            )
        else:
            self.name, self.outputs = STACK_NAME, stack.outputs
            self.settings = settings_of(STACK_NAME, stack.outputs, {**PARAMETERS, **(parameters or {})})
            self.client = cache(self._client)
        for model, (given, taken) in PRICES.items():
            self.put_model(model, "sim", given, taken)

    def _client(self, service: str, **_: Any) -> Any:
        make: Any = boto3.client
        return make(
            service,
            endpoint_url=self.stack.aws_endpoint_url,
            region_name=self.stack.region,
            **self.stack.credentials.as_json(),
            config=Config(read_timeout=120, retries={"total_max_attempts": 1}),
        )

    @property
    def stack(self) -> LocalStack:
        """The local stack's handle, for tests that reach into it."""
        assert self._stack is not None, "this test needs a local stack of its own: it is not for a deployed one"
        return self._stack

    @property
    def here(self) -> bool:
        """Whether the functions run on this machine, and so reach its servers."""
        return urlsplit(self.client("lambda").meta.endpoint_url).hostname == "127.0.0.1"

    # What a deployment is set up with

    def put_model(self, model: str, provider: str, given: Decimal = Decimal(3), taken: Decimal = Decimal(15)) -> str:
        """Write an entry of the Models table; returns the model's id."""
        price = {"effective_from": "2020-01-01", "input": given, "output": taken}
        name = model.partition(":")[2] or model
        self.put("ModelsTableName", {"model": model, "provider": provider, "provider_model": name, "prices": [price]})
        return model

    def put_provider(self, provider: str, base_url: str) -> None:
        """Store a provider's secret."""
        secret = json.dumps({"api_key": "test-key", "base_url": base_url})
        self.client("secretsmanager").create_secret(
            Name=self.outputs["ProviderSecretsPrefix"] + provider, SecretString=secret
        )

    def push(self, name: str, crew: Sequence[Any], **fields: Any) -> str:
        """Store a workflow, `crew` in the API's form with role and prompt filled in; returns its id."""
        agents = [{"role": one.get("name", "agent"), "systemPrompt": f"Do {one.get('name')}.", **one} for one in crew]
        workflow = Workflow.model_validate({"name": name, "crew": agents, **fields})
        return str(DefinitionStore(self.settings).push(workflow)["workflow_id"])

    def define_tools(self, definitions: Mapping[str, Any]) -> None:
        """Define tools as `loopllama tools push` does."""
        ToolStore(self.settings, self.client("dynamodb")).write(definitions, updated_by="tests", reason="")

    def put(self, table: str, item: dict[str, Any]) -> None:
        """Put an item into a table, by the output that names it, as somebody at the DynamoDB console does."""
        self.client("dynamodb").put_item(TableName=self.outputs[table], Item=dynamo.to_item(item))

    def update_run(self, run_id: str, values: dict[str, Any]) -> None:
        """Change attributes of a `RUN` item."""
        dynamo.update(
            self.client("dynamodb"),
            self.outputs["RunsTableName"],
            {"run_id": run_id, "item": "RUN"},
            values,
            condition="attribute_exists(run_id)",
        )

    # Runs

    def start(self, workflow: str, run_input: Any = "hello", **options: Any) -> str:
        """Accept a run as the API and the command line do; returns its id."""
        return accept_run(self.settings, workflow, run_input, **options)

    def run(self, workflow: str, run_input: Any = "hello", **options: Any) -> dict[str, Any]:
        """Start a run and wait for its end; returns the run object."""
        return self.wait(self.start(workflow, run_input, **options))

    def read(self, run_id: str) -> dict[str, Any]:
        """The run object."""
        return {**RunReader(self.settings).get(run_id)}

    def wait(self, run_id: str) -> dict[str, Any]:
        """Wait until the run and its execution have ended; returns the run object."""
        self.wait_execution(run_id)
        self.until(lambda: self.item(run_id, "RUN")["status"] in ("completed", "failed", "cancelled"))
        return self.read(run_id)

    def item(self, run_id: str, item: str) -> dict[str, Any]:
        """An item of the Runs table; empty where there is none."""
        key = dynamo.to_item({"run_id": run_id, "item": item})
        answer = self.client("dynamodb").get_item(TableName=self.outputs["RunsTableName"], Key=key, ConsistentRead=True)
        return dynamo.from_item(answer.get("Item", {}))

    def usage(self, run_id: str) -> list[dict[str, Any]]:
        """The run's rows of the Usage table."""
        scan = self.client("dynamodb").get_paginator("scan")
        pages = scan.paginate(TableName=self.outputs["UsageTableName"], ConsistentRead=True)
        rows = (dynamo.from_item(item) for page in pages for item in page["Items"])
        return [row for row in rows if row.get("run_id") == run_id]

    # Executions

    def execution_arn(self, name: str) -> str:
        """The ARN of the execution of that name."""
        return self.outputs["RunWorkflowArn"].replace(":stateMachine:", ":execution:") + f":{name}"

    def start_by_hand(self, name: str, request: Any) -> dict[str, Any]:
        """`aws stepfunctions start-execution`, and wait for its end; returns its description."""
        self.client("stepfunctions").start_execution(
            stateMachineArn=self.outputs["RunWorkflowArn"], name=name, input=json.dumps(request)
        )
        return self.wait_execution(name)

    def wait_execution(self, name: str, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """Wait until an execution has ended; returns its description."""
        states, found = self.client("stepfunctions"), {}

        def ended() -> bool:
            nonlocal found
            try:
                found = states.describe_execution(executionArn=self.execution_arn(name))
            except states.exceptions.ExecutionDoesNotExist:
                return False
            return bool(found["status"] != "RUNNING")

        self.until(ended, seconds)
        return found

    def states_entered(self, name: str) -> list[str]:
        """The states that an execution entered, in order."""
        pages = self.client("stepfunctions").get_paginator("get_execution_history")
        events = [e for page in pages.paginate(executionArn=self.execution_arn(name)) for e in page["events"]]
        return [e["stateEnteredEventDetails"]["name"] for e in events if e["type"].endswith("StateEntered")]

    # Functions, logs, metrics

    @property
    def resources(self) -> dict[str, str]:
        """The stack's resources: logical to physical id."""
        found = self.client("cloudformation").describe_stack_resources(StackName=self.name)["StackResources"]
        return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found if "LogicalResourceId" in one}

    def invoke(self, function: str, event: Any) -> dict[str, Any]:
        """Invoke a function by its logical id; its answer, or Lambda's description of its error."""
        name = self.resources[function]
        answer = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode())
        payload: dict[str, Any] = json.loads(answer["Payload"].read())
        return payload

    @contextlib.contextmanager
    def configured(self, function: str, timeout: int | None = None, **variables: str) -> Iterator[None]:
        """Change a function's timeout (s) and add to its environment, and change it back."""
        if self._stack:
            before_timeout, before_more = self._configured.get(function, (None, {}))
            now = self._configured[function] = (timeout or before_timeout, {**before_more, **variables})
            self._stack.configure(function, *now)
            try:
                yield
            finally:
                self._configured[function] = (before_timeout, before_more)
                self._stack.configure(function, before_timeout, before_more)
            return
        name, client = self.resources[function], self.client("lambda")
        before = client.get_function_configuration(FunctionName=name)
        own = {key: str(value) for key, value in before["Environment"]["Variables"].items()}

        def change(seconds: int, environment: dict[str, str]) -> None:
            client.update_function_configuration(
                FunctionName=name, Timeout=seconds, Environment={"Variables": environment}
            )
            client.get_waiter("function_updated_v2").wait(FunctionName=name)

        change(timeout or before["Timeout"], own | variables)
        try:
            yield
        finally:
            change(before["Timeout"], own)

    def kill(self, *functions: str) -> None:
        """Kill every process of these functions at once."""
        for pid in [pid for function in functions for pid in self.stack.processes(function)]:
            os.kill(pid, signal.SIGKILL)

    def log_lines(self) -> list[str]:
        """Every line in every log group of the account that is local, or of the deployed stack."""
        logs = self.client("logs")
        pages = logs.get_paginator("describe_log_groups").paginate()
        groups = [group["logGroupName"] for page in pages for group in page["logGroups"]]
        groups = [group for group in groups if self._stack or f"/{self.name}/" in f"{group}/"]
        pages = logs.get_paginator("filter_log_events")
        events = (e for group in groups for page in pages.paginate(logGroupName=group) for e in page["events"])
        return [event["message"] for event in events]

    def metric(self, name: str, *, stack: str | None = None, **dimensions: str) -> tuple[float, int]:
        """Sum and number of a metric's figures, of the last hours; of another stack in the account, if one is
        named."""
        now = time.time()
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace=f"LoopLlama/{stack or self.name}",
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=now - 3600,
            EndTime=now + 3600,
            Period=7200,
            Statistics=["Sum", "SampleCount"],
        )["Datapoints"]
        return sum(point["Sum"] for point in points), round(sum(point["SampleCount"] for point in points))

    def until(self, holds: Callable[[], Any], seconds: float = WAIT_SECONDS) -> None:
        """Wait for what has no event to wait for, at most `seconds`."""
        eventually(holds, seconds, first=0.02 if self.here else 1, longest=0.5 if self.here else 5)
