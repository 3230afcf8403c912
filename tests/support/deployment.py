"""The template's tables and bucket in moto, in this process, and a driver in the place of the state machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from loopllama.aws import clients, dynamo
from loopllama.core import clock
from loopllama.engine.accept import accept_run
from loopllama.engine.advance import advance_run
from loopllama.engine.start import start_run
from loopllama.engine.step import StepRunner
from loopllama.llm.types import Answer, ModelCall, Usage
from loopllama.queries.runs import RunReader
from loopllama.runs.store import RunStore
from loopllama.settings import Settings
from loopllama.workflows.schema import Workflow
from loopllama.workflows.store import DefinitionStore
from support.moto_account import ACCOUNT, account, create_tables

ROOT = Path(__file__).parents[2]
PRICE = {"effective_from": "2020-01-01", "input": Decimal(3), "output": Decimal(15)}


class _TemplateLoader(yaml.CSafeLoader):
    """Reads CloudFormation's short tags as their plain values."""


_TemplateLoader.add_multi_constructor("!", lambda loader, suffix, node: None)  # type: ignore[no-untyped-call]


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


class Deployment:
    """The deployment's settings and stores in moto, with the providers that a test scripts."""

    def __init__(self, settings: Settings, monkeypatch: Any) -> None:
        self.settings = settings
        self.runs = RunStore(settings)
        self.provider = Scripted()
        self._waited_ms = 0
        now_ms = clock.now_ms
        monkeypatch.setattr(clock, "now_ms", lambda: now_ms() + self._waited_ms)

    def wait(self, seconds: int) -> None:
        """Let time pass, as leases and TTLs see it."""
        self._waited_ms += seconds * 1000

    def push(self, crew: list[dict[str, Any]], name: str = "Test", **fields: Any) -> str:
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

    def accept(self, workflow: str, run_input: Any = "hello", **options: Any) -> str:
        """Accept a run. Its execution starts nowhere: the driver plays it."""
        return accept_run(self.settings, workflow, run_input, **options)

    def read(self, run_id: str) -> dict[str, Any]:
        """The run object."""
        return RunReader(self.settings).get(run_id)

    def start(self, run_id: str) -> dict[str, Any]:
        """StartRun."""
        event = {"request": {"contract": 1, "run_id": run_id}, "execution_arn": "arn:x", "execution_name": run_id}
        return start_run(self.settings, event)

    def step(self, work: dict[str, Any], owner: str = "invocation", remaining_ms: int = 60_000) -> dict[str, Any]:
        """RunStep, in a process of its own as far as caches go."""
        return StepRunner(self.settings).run_step(work, owner, remaining_ms)

    def advance(self, state: dict[str, Any], ended: list[Any] = (), retry: int = 0) -> dict[str, Any]:  # type: ignore[assignment]
        """AdvanceRun."""
        return advance_run(self.settings, {**state, "ended": list(ended), "retry": retry})

    def play(self, run_id: str) -> None:
        """The state machine: from StartRun to the end of the run. Raises what AdvanceRun raises."""
        state = self.start(run_id)
        while True:
            ended = [self.chain(work) for work in self.map(state)]
            state = self.advance(state, ended)
            if state["outcome"] == "done":
                return

    def map(self, state: dict[str, Any], depth: int = 0) -> list[dict[str, Any]]:
        """A Map's ItemSelector."""
        common = {name: state[name] for name in ("contract", "run_id", "workflow", "version")}
        return [{**common, **one, "depth": depth} for one in state["ready"]]

    def chain(self, work: dict[str, Any]) -> dict[str, Any]:
        """One iteration of a Map of chains, waits left out. A step that waits for a person ends it: `waiting`."""
        invocation = 0
        while True:
            invocation += 1
            assert invocation < 100, "the chain does not end"
            work = self.step(work, f"invocation-{invocation}")
            if work["outcome"] == "fork":
                ended = [self.chain(one) for one in self.map(work, depth=1)]
                if not work["join"]:
                    return {"outcome": "done", "ended": ended}
                work = {**work, "ended": ended}
            elif work["outcome"] not in ("continue", "retry_later"):
                return {"outcome": work["outcome"]}


class Scripted:
    """A provider in memory. `script` answers a call; what it raises is the provider's error."""

    def __init__(self) -> None:
        self.calls: list[ModelCall] = []
        self.script: Callable[[ModelCall], Answer | str] = lambda call: f"answer {len(self.calls)}"

    def complete(self, call: ModelCall) -> Answer:
        self.calls.append(call)
        answer = self.script(call)
        return Answer(answer, Usage(100, 10)) if isinstance(answer, str) else answer


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
