"""The template's tables and bucket in moto, in this process; the state machine that is deployed is interpreted."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import yaml

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.engine.accept import accept_run, execution_arn
from loopllama.engine.advance import advance_run
from loopllama.engine.start import start_run
from loopllama.engine.step import StepRunner
from loopllama.llm.types import ModelRequest, ModelResponse, Usage
from loopllama.queries.runs import RunReader
from loopllama.runs.step_writer import StepWriter
from loopllama.runs.store import RunStore
from loopllama.settings import Settings
from loopllama.workflows.schema import Workflow
from loopllama.workflows.store import DefinitionStore
from loopllama_cli.local.handle import ACCOUNT
from support.asl.deployed import state_machine
from support.asl.execution import Execution, TaskError
from support.moto_account import account, create_tables
from support.tool_rows import rows

if TYPE_CHECKING:
    from loopllama.tools.types import ToolRow

ROOT = Path(__file__).parents[2]
PRICE = {"effective_from": "2020-01-01", "input": Decimal(3), "output": Decimal(15)}


class _TemplateLoader(yaml.CSafeLoader):
    """Reads CloudFormation's short tags as their plain values."""


_TemplateLoader.add_multi_constructor("!", lambda loader, suffix, node: None)


@cache
def template_tables() -> dict[str, dict[str, Any]]:
    """The template's DynamoDB tables: logical id to CreateTable arguments."""
    resources = yaml.load((ROOT / "template.yaml").read_text(), _TemplateLoader)["Resources"]  # noqa: S506 - safe loader
    tables = {}
    for name, resource in resources.items():
        if resource["Type"] == "AWS::DynamoDB::Table":
            wanted = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
            tables[name] = {k: v for k, v in resource["Properties"].items() if k in wanted}
    return tables


class Killed(BaseException):
    """The function's process dies here."""


@contextlib.contextmanager
def dies_once_settled() -> Iterator[None]:
    """Within it a process dies right after it has settled a call."""
    settle = StepWriter.settle

    def settle_and_die(writer: StepWriter, key: str, entry: Any) -> None:
        settle(writer, key, entry)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepWriter, "settle", settle_and_die)
        yield


class Deployment:
    """The deployment's settings and stores in moto, with the providers that a test scripts."""

    def __init__(self, settings: Settings, monkeypatch: Any) -> None:
        self.settings = settings
        self.runs = RunStore(settings)
        self.provider = Scripted()
        self.machine = state_machine()
        self.functions: dict[str, Callable[[Any], Any]] = {
            "StartRun": lambda payload: start_run(self.settings, payload),
            "RunStep": lambda payload: self.step(payload, f"invocation-{next(self._numbers)}"),
            "AdvanceRun": lambda payload: advance_run(self.settings, payload),
        }
        """What the state machine invokes, by the functions' logical ids."""
        self.shift = 0.0
        """Seconds that tests let pass."""
        self._numbers = itertools.count(1)
        now_ms = clock.now_ms
        monkeypatch.setattr(clock, "now_ms", lambda: now_ms() + round(self.shift * 1000))

    def wait(self, seconds: float) -> None:
        """Let time pass, as leases and TTLs see it."""
        self.shift += seconds

    def push(self, crew: Sequence[Any], name: str = "Test", **fields: Any) -> str:
        """Store a workflow; `crew` in the API's form, role and prompt filled in."""
        agents = [{"role": one.get("name", "agent"), "systemPrompt": "Do.", **one} for one in crew]
        workflow = Workflow.model_validate({"name": name, "model": "test:base", "crew": agents, **fields})
        return str(DefinitionStore(self.settings).push(workflow)["workflow_id"])

    def put_model(self, model: str, provider: str, provider_model: str, **fields: Any) -> str:
        """Write an entry of the Models table, at 3 and 15 USD a million tokens unless `fields` say otherwise; returns
        the model's id."""
        item = {"model": model, "provider": provider, "provider_model": provider_model, "prices": [PRICE], **fields}
        clients.client("dynamodb").put_item(TableName=self.settings.models_table, Item=dynamo.to_item(item))
        return model

    def define_tools(self, **definitions: Any) -> None:
        """Write rows of the Tools table; the definitions may be invalid."""
        for row in rows(definitions).values():
            self.put_tool(row)

    def put_tool(self, row: ToolRow) -> None:
        """Write a row of the Tools table as it stands."""
        clients.client("dynamodb").put_item(TableName=self.settings.tools_table, Item=dynamo.to_item(row))

    def accept(self, workflow: str, run_input: Any = "hello", **options: Any) -> str:
        """Accept a run. Its execution starts nowhere: the driver plays it."""
        return accept_run(self.settings, workflow, run_input, **options)

    def usage_rows(self) -> list[dict[str, Any]]:
        """The rows of the Usage table: not its marks and sums."""
        pages = self.runs.dynamodb.get_paginator("scan").paginate(TableName=self.settings.usage_table)
        items = [dynamo.from_item(item) for page in pages for item in page["Items"]]
        return [item for item in items if "run_id" in item]

    def read(self, run_id: str) -> dict[str, Any]:
        """The run object."""
        return {**RunReader(self.settings).get(run_id)}

    def start(self, run_id: str, contract: int = 1) -> dict[str, Any]:
        """StartRun, as the state machine of the run's current execution asks it, of that contract: of the first, every
        chain is an iteration of a Map."""
        arn = self.runs.run(run_id).get("execution_arn") or execution_arn(self.settings, run_id)
        name = arn.rpartition(":")[2]
        event = {"request": {"contract": 1, "run_id": run_id}, "execution_arn": arn, "execution_name": name}
        return start_run(self.settings, {**event, "contract": contract})

    def begin(self, **agent: Any) -> tuple[str, dict[str, Any]]:
        """Accept and start a run of one step; its id, and the step's work."""
        run_id = self.accept(self.push([{"name": "one", **agent}]))
        return run_id, self.map(self.start(run_id))[0]

    def step(self, work: Any, owner: str = "invocation", remaining_ms: int = 60_000) -> dict[str, Any]:
        """RunStep, in a process of its own as far as caches go."""
        return {**StepRunner(self.settings).run_step(work, owner, remaining_ms)}

    def advance(
        self, state: dict[str, Any], ended: Sequence[Any] = (), retry: int = 0, left: int = 10_000
    ) -> dict[str, Any]:
        """AdvanceRun, of an execution whose history has so many events `left`."""
        return advance_run(self.settings, {**state, "left": left, "ended": list(ended), "retry": retry})

    def play(self, run_id: str) -> None:
        """Run the execution to its end. Raises what the function raised that failed it."""
        arn = self.runs.run(run_id).get("execution_arn", "arn:x")
        execution = self.execution(run_id, {"contract": 1, "run_id": run_id}, arn=arn)
        while (due := execution.go_on()) is not None:
            assert due < math.inf, f"the execution waits for ever in {execution.at}"
            self.wait(due - self.shift)
        if execution.failure is not None:
            raise execution.failure.__cause__ or execution.failure
        assert execution.status == "SUCCEEDED", execution.status

    def map(self, state: dict[str, Any], depth: int = 0) -> list[dict[str, Any]]:
        """Return the items of the Map of chains."""
        return [item for _, item, _ in self.execution("map", {}).iterations(self._map(depth), state)]

    def chain(self, work: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of the Map of chains. Where it waits for a person it ends: `waiting`."""
        execution = self.execution("chain", work, self._map(0)["ItemProcessor"])
        while (due := execution.go_on()) is not None:
            if execution.open_tokens:
                return {"outcome": "waiting"}
            self.wait(due - self.shift)
        assert execution.failure is None, execution.failure
        return dict(execution.output)

    def execution(
        self, name: str, data: dict[str, Any], definition: dict[str, Any] | None = None, **options: Any
    ) -> Execution:
        """Return an execution of the state machine, or of a part of it."""
        definition = self.machine if definition is None else definition
        return Execution(definition, name, data, invoke=self.called, now=lambda: self.shift, **options)

    def called(self, function: str, payload: Any) -> Any:
        """Invoke a function as Lambda does for Step Functions: an error has its class's name, a death its own."""
        try:
            return self.functions[function](payload)
        except AssertionError:
            raise  # a test's own
        except Killed as killed:
            raise TaskError("Runtime.ExitError", '{"errorType": "Runtime.ExitError"}') from killed
        except Exception as error:
            told = {"errorMessage": str(error), "errorType": type(error).__name__}
            raise TaskError(type(error).__name__, json.dumps(told)) from error

    def _map(self, depth: int) -> dict[str, Any]:
        outer: dict[str, Any] = self.machine["States"]["RunChains"]
        inner: dict[str, Any] = outer["ItemProcessor"]["States"]["Fork"]
        return inner if depth else outer


class Scripted:
    """A provider in memory. `script` answers a call; what it raises is the provider's error."""

    def __init__(self) -> None:
        self.calls: list[ModelRequest] = []
        self.script: Callable[[ModelRequest], ModelResponse | str] = lambda call: f"answer {len(self.calls)}"

    def complete(self, call: ModelRequest) -> ModelResponse:
        self.calls.append(call)
        answer = self.script(call)
        return ModelResponse(answer, Usage(100, 10)) if isinstance(answer, str) else answer


Made = TypeVar("Made", bound=Deployment)


@contextlib.contextmanager
def deployment(
    monkeypatch: Any,
    adapters: bool = False,
    kind: Callable[[Settings, Any], Made] = Deployment,  # type: ignore[assignment]
    **more: Any,
) -> Iterator[Made]:
    """A deployment that lives while the context does. `adapters`: models are called by their providers' own adapters,
    at the servers that the environment names. `more` goes into its settings."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with account(monkeypatch) as client:
        create_tables(template_tables())
        client("s3").create_bucket(Bucket="values")
        machine = client("stepfunctions").create_state_machine(
            name="run",
            definition='{"StartAt":"A","States":{"A":{"Type":"Succeed"}}}',
            roleArn=f"arn:aws:iam::{ACCOUNT}:role/states",
        )["stateMachineArn"]
        made = kind(
            Settings(
                workflows_table="WorkflowsTable",
                routes_table="RoutesTable",
                models_table="ModelsTable",
                tools_table="ToolsTable",
                runs_table="RunsTable",
                usage_table="UsageTable",
                values_bucket="values",
                state_machine_arn=machine,
                route_cache_seconds=0,
                **more,
            ),
            monkeypatch,
        )
        for model in ("base", "a", "b"):
            made.put_model(f"test:{model}", "test", model)
        if not adapters:
            monkeypatch.setattr("loopllama.providers.provider_for", lambda model, settings: made.provider)
        yield made
