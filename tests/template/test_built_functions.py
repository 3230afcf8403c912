"""A run goes through the functions as they are built, under AWS's own Lambda emulator and Lambda's Python."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from support.deployment import template_tables
from template.emulator import Function, build, build_function, find_emulator, find_python, running
from template.project import FUNCTIONS, ROOT, machine

from loopllama import CONTRACT, __version__
from loopllama.settings import Settings
from loopllama.workflows.schema import Workflow
from loopllama.workflows.store import DefinitionStore

Start = Callable[[str], contextlib.AbstractContextManager[Function]]

PROBE = """
import importlib, pkgutil
import loopllama
from loopllama.aws import clients
from loopllama.telemetry import xray

def handler(event, context):
    modules = [one.name for one in pkgutil.walk_packages(loopllama.__path__, "loopllama.")]
    places = {name: importlib.import_module(name).__file__ for name in (*modules, *event["modules"])}
    for module, name in event["names"]:
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")
    xray.tracer().put_annotation("run", "1")
    endpoints = {service: clients.client(service).meta.endpoint_url for service in event["services"]}
    return {"places": places, "endpoints": endpoints}
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The built layer, and what Lambda's Python brings."""
    find_python(), find_emulator()
    return [*build(tmp_path_factory.mktemp("layer"))]


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@pytest.fixture
def start(endpoint: str, path: list[Path], tmp_path: Path) -> Start:
    """Starts a built function by its logical id, with the environment that the template gives it."""
    python, emulator = find_python(), find_emulator()
    for name, arguments in template_tables().items():
        client(endpoint, "dynamodb").create_table(TableName=name, BillingMode="PAY_PER_REQUEST", **arguments)
    client(endpoint, "s3").create_bucket(Bucket="values")
    role = client(endpoint, "iam").create_role(RoleName="states", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    machine = client(endpoint, "stepfunctions").create_state_machine(
        name="run", definition='{"StartAt":"A","States":{"A":{"Type":"Succeed"}}}', roleArn=role
    )
    values = {
        **{table: table for table in template_tables()},
        "ValuesBucket": "values",
        "RunWorkflow": machine["stateMachineArn"],
        "DefaultModel": "balanced",
        "RouteCacheSeconds": "5",
        "RetentionDays": "30",
        "UsageRowDays": "400",
        "SimulatedProviders": "*",
        "SimulatedSpeed": "1000",
    }

    def started(name: str) -> contextlib.AbstractContextManager[Function]:
        properties = FUNCTIONS[name]["Properties"]
        variables = properties.get("Environment", {}).get("Variables", {})
        environment = {key: values.get(value.get("Ref", ""), "") for key, value in variables.items()}
        function = build_function(properties["CodeUri"].split("/")[1], tmp_path)
        return running(emulator, python, function, path, {**environment, "AWS_ENDPOINT_URL": endpoint})

    return started


def client(endpoint: str, service: str) -> Any:
    make: Any = boto3.client
    return make(service, endpoint_url=endpoint)


def test_a_run_through_the_built_functions(start: Start, endpoint: str) -> None:
    crew = [{"role": "Reader", "systemPrompt": "Read."}, {"role": "Writer", "systemPrompt": "Answer."}]
    store = DefinitionStore(Settings(workflows_table="WorkflowsTable"), client(endpoint, "dynamodb"))
    workflow = store.push(Workflow.model_validate({"name": "Built", "crew": crew}))["workflow_id"]

    with start("AcceptRun") as accept:
        event = {"id": "1", "detail": {"workflow": "nobody", "input": "x"}}
        assert accept.invoke(event)["errorType"] == "WorkflowNotFound"
        event["detail"] = {"workflow": workflow, "input": "The parcel of order 4711 is late. " * 2000}
        accepted = accept.invoke(event)
        assert "run_id" in accepted, (accepted, accept.log.read_text())
        run_id = accepted["run_id"]

    with start("StartRun") as first:
        execution = {"contract": CONTRACT, "request": {"run_id": run_id}, "execution_arn": "arn:x"}
        state = first.invoke({**execution, "execution_name": run_id})
    assert len(state["line"]) == len(crew), state

    with start("RunStep") as step:
        for name in state["line"]:
            told = step.invoke({"work": line_input(state, name), "retry": 0})
            assert "outcome" in told, step.log.read_text()
        assert told["outcome"] == "done", told
        metrics = step.log.read_text()
        assert '"Namespace":"LoopLlama' in metrics
        assert "4711" not in metrics, "what runs are about is in no log"

    with start("AdvanceRun") as advance:
        assert advance.invoke({**state, "retry": 0})["outcome"] == "done"

    key = {"run_id": {"S": run_id}, "item": {"S": "RUN"}}
    run = client(endpoint, "dynamodb").get_item(TableName="RunsTable", Key=key)["Item"]
    assert run["status"] == {"S": "completed"}
    assert "$s3" in run["input"]["M"]
    assert run["simulated"] == {"BOOL": True}

    with start("ReconcileRuns") as reconcile:
        counts = reconcile.invoke({"detail-type": "Scheduled Event"})
        assert {name: counts[name] for name in ("checked", "started", "closed", "failed", "unsummed")} == dict.fromkeys(
            ("checked", "started", "closed", "failed", "unsummed"), 0
        )

    with start("Api") as api:
        answer = api.invoke(http("/healthz"))
        assert (answer["statusCode"], answer["body"]) == (200, f'{{"status":"ok","version":"{__version__}"}}')
        assert api.invoke(http("/v1/workflows"))["statusCode"] == 401
        page = api.invoke(http("/docs"))
        assert (page["statusCode"], "SwaggerUIBundle=" in page["body"]) == (200, True)


def test_all_that_functions_import_lies_in_the_layer(path: list[Path], tmp_path: Path) -> None:
    layer = path[0]
    modules: set[str] = set()
    names: set[tuple[str, str]] = set()
    for file in [*(ROOT / "shared/loopllama").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules.add(node.module)
                names |= {(node.module, alias.name) for alias in node.names}
    carried = {entry.name.removesuffix(".py") for entry in layer.iterdir()}
    modules = {name for name in modules if name.split(".")[0] in carried}
    names = {(module, name) for module, name in names if module in modules}
    assert {"botocore.config", "jmespath", "pydantic"} <= modules
    function = tmp_path / "probe"
    function.mkdir()
    (function / "app.py").write_text(PROBE)
    services = sorted(entry.name for entry in (layer / "botocore/data").iterdir() if entry.is_dir())
    event = {"modules": sorted(modules), "names": sorted(names), "services": services}
    environment = {"AWS_DEFAULT_REGION": "eu-west-1", "POWERTOOLS_TRACE_DISABLED": "false"}
    with running(find_emulator(), find_python(), function, path, environment) as probe:
        answer = probe.invoke(event)
        log = probe.log.read_text()
    assert "places" in answer, (answer, log)
    assert "taken from the runtime" not in log
    assert not {name: place for name, place in answer["places"].items() if not place.startswith(f"{layer}/")}
    assert answer["endpoints"]["dynamodb"] == "https://dynamodb.eu-west-1.amazonaws.com"
    assert answer["endpoints"].keys() == set(services)


def test_the_layer_has_no_more_than_a_tenth_of_litellms_size(path: list[Path]) -> None:
    files = [file for file in path[0].rglob("*") if file.is_file() and file.suffix != ".pyc"]
    measured = json.loads((ROOT / "benchmarks/results/startup.json").read_text())["rows"]
    (litellm,) = (row["value"] for row in measured if row["name"] == "LiteLLM and what it requires, installed")
    assert sum(file.stat().st_size for file in files) / 1e6 < litellm / 10


def line_input(state: dict[str, Any], step: str) -> dict[str, Any]:
    """What the state machine makes of a step of the line: RunLine's ItemSelector."""
    context = {"Map": {"Item": {"Value": step}}}

    def look_up(path: str) -> Any:
        value: Any = context if path.startswith("$$.") else state
        for name in path.lstrip("$.").split("."):
            value = value[name]
        return value

    selector = machine()["States"]["RunLine"]["ItemSelector"]
    return {name.removesuffix(".$"): look_up(one) if name.endswith(".$") else one for name, one in selector.items()}


def http(path: str) -> dict[str, Any]:
    """API Gateway's event of a GET without a key, payload format 2.0. It names the route that the template gave it."""
    routes = [event["Properties"].get("Path") for event in FUNCTIONS["Api"]["Properties"]["Events"].values()]
    key = f"GET {path}" if path in routes else "$default"
    return {
        "version": "2.0",
        "routeKey": key,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {},
        "requestContext": {"http": {"method": "GET", "path": path}, "routeKey": key, "stage": "$default"},
        "isBase64Encoded": False,
    }
