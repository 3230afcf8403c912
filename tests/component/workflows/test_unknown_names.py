"""What a definition names and the deployment does not know: said when it is pushed, by every door, and in the trace."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console
from support.api_client import InProcess
from support.deployment import Deployment
from typer.testing import CliRunner

from loopllama.aws import clients, dynamo
from loopllama.core import exact_json
from loopllama.errors import WorkflowInvalid
from loopllama.routing import validation
from loopllama.tools.store import ToolStore
from loopllama.workflows.schema import Workflow
from loopllama.workflows.store import DefinitionStore
from loopllama_cli import target, workflow_files
from loopllama_cli.console import trace
from loopllama_cli.main import app
from loopllama_cli.target import Target

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*/workflow.yaml"))
LOOKUP = {"type": "lambda", "function": "shop-lookup", "description": "Looks up an order."}
Warnings = list[tuple[str, str]]


def workflow(*crew: dict[str, Any], **fields: Any) -> Workflow:
    agents = [{"role": f"R{place}", "name": f"r{place}", "systemPrompt": "x", **one} for place, one in enumerate(crew)]
    return Workflow.model_validate({"name": "Named", "crew": agents, **fields})


def entry(model: str, **fields: object) -> None:
    item = {"model": model, "provider": "test", **fields}
    clients.client("dynamodb").put_item(TableName="ModelsTable", Item=dynamo.to_item(item))


@pytest.fixture
def told(live: Deployment) -> Callable[..., Warnings]:
    live.settings = replace(live.settings, default_model="test:base", provider_secrets_prefix="x/providers/")
    clients.client("secretsmanager").create_secret(Name="x/providers/test", SecretString="{}")

    def warnings(*crew: dict[str, Any], **fields: Any) -> Warnings:
        definition = workflow(*crew, **fields).to_definition()
        found = validation.warnings(live.settings, definition)
        return [(str(one["field"]), str(one["message"])) for one in found]

    return warnings


def test_what_is_known_is_no_warning(told: Callable[..., Warnings]) -> None:
    assert told({}) == []
    assert told({"model": "test:a", "fallbacks": ["test:b"]}, {"tools": ["now", "ask_human"]}, model="balanced") == []
    assert told({"policy": "weighted", "candidates": [{"model": "test:a", "weight": 1}]}) == []
    # A profile of one's own is priced by the model behind it, which is asked for when a step uses it.
    assert told({"model": "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc123def456"}) == []


@pytest.mark.parametrize(
    ("crew", "fields", "field", "says"),
    [
        (
            [{"model": "smal"}],
            {},
            "crew.0.model",
            ["no model 'smal'", "did you mean small", "r0 uses test:base (the dep"],
        ),
        ([{"model": "smal"}], {"model": "test:a"}, "crew.0.model", ["r0 uses test:a (the workflow's default)"]),
        ([{}, {"model": "test:a"}, {}], {"model": "balanc"}, "model", ["mean balanced", "r0, r2 uses test:base"]),
        ([{}, {"model": "test:a", "fallbacks": ["test:b", "smal"]}], {}, "crew.1.fallbacks.1", ["r1 uses test:a"]),
        (
            [{"policy": "cheapest", "candidates": ["smal", "test:a"]}],
            {},
            "crew.0.candidates.0",
            ["no model 'smal'", "r0 uses test:a"],
        ),
        ([{"model": "nosuchprovider:x"}], {}, "crew.0.model", ["provider:model with one of the providers"]),
        (
            [{"model": "openai:gtp-5-mini"}],
            {},
            "crew.0.model",
            ["not in the catalog (did you mean gpt-5-mini", "price"],
        ),
        ([{"model": "gpt-5-mini"}], {}, "crew.0.model", ["needs a key", "loopllama providers set openai"]),
        ([{"model": "off"}], {}, "crew.0.model", ["'off' is disabled", "r0 uses test:base (the deployment's default)"]),
        ([{"model": "moved"}], {}, "crew.0.model", ["disabled; use test:b", "r0 uses test:b"]),
        ([{"model": "mute", "tools": ["now"]}], {}, "crew.0.model", ["cannot call tools", "r0 uses test:base"]),
        (
            [{"model": "mute", "outputSchema": {"type": "object", "properties": {"x": {"type": "string"}}}}],
            {},
            "crew.0.model",
            ["neither structured output nor tools"],
        ),
        ([{"model": "free"}], {}, "crew.0.model", ["no price", "loopllama models price free"]),
    ],
)
def test_what_a_deployment_cannot_use_as_it_is(
    told: Callable[..., Warnings], crew: list[dict[str, Any]], fields: dict[str, Any], field: str, says: list[str]
) -> None:
    price = [{"input": 1, "output": 2}]
    entry("off", enabled=False, prices=price)
    entry("moved", enabled=False, replaced_by="test:b", prices=price)
    entry("mute", capabilities=["images"], prices=price)
    entry("free")
    found = told(*crew, **fields)
    assert [where for where, _ in found] in ([field], [field, field])
    for words in says:
        assert words in " ".join(message for _, message in found)


def test_a_default_of_the_deployment_that_nobody_knows(live: Deployment, told: Callable[..., Warnings]) -> None:
    live.settings = replace(live.settings, default_model="balancd")
    ((field, message),) = told({})
    assert field == "DefaultModel"
    assert message.startswith("the template's parameter DefaultModel: no model 'balancd'; did you mean balanced")
    assert "r0 fails: no model is left" in message
    assert told({"model": "test:a"}) == []


def test_what_cannot_be_seen_is_said_and_stops_nobody(live: Deployment, told: Callable[..., Warnings]) -> None:
    live.settings = replace(live.settings, models_table="NoSuchTable")
    ((field, message),) = told({"model": "smal"})
    assert (field, "could not be seen" in message) == ("workflow", True)


def test_tools_that_cannot_be_seen_are_said_too(live: Deployment, told: Callable[..., Warnings]) -> None:
    live.settings = replace(live.settings, tools_table="NoSuchTable")
    assert told({"tools": ["now"]}) == []
    ((field, message),) = told({"tools": ["lookup"]})
    assert (field, "its models and tools can be used could not be seen" in message) == ("workflow", True)


def test_unknown_tools_are_refused_with_the_closest(live: Deployment, told: Callable[..., Warnings]) -> None:
    store = DefinitionStore(live.settings)
    for write in (store.push, store.create):
        with pytest.raises(WorkflowInvalid) as caught:
            write(workflow({"tools": ["now", "nwo", "lookup"]}))
        assert [detail["field"] for detail in caught.value.details] == ["crew.0.tools.1", "crew.0.tools.2"]
        assert "no tool 'nwo'; did you mean now?" in str(caught.value)
        assert "ask_human" in str(caught.value.details[1]["message"])
    live.define_tools(lookup=LOOKUP, spoilt={"type": "lambda"})
    store.push(workflow({"tools": ["now", "lookup", "ask_human", "spoilt"]}))
    with pytest.raises(WorkflowInvalid, match="no tool 'lokup'; did you mean lookup"):
        store.push(workflow({"tools": ["lokup"]}))
    ((field, message),) = told({"tools": ["lookup", "spoilt"]})
    assert field == "crew.0.tools.1"
    assert message.startswith("a step that uses it fails: spoilt.function is missing (row 'spoilt' of the Tools table")


def test_the_trace_says_what_was_passed_over(live: Deployment) -> None:
    workflow_id = live.push([{"name": "sort", "model": "smal"}, {"name": "write"}], model="test:a")
    run_id = live.accept(workflow_id)
    live.play(run_id)
    first = live.read(run_id)["steps"][0]
    assert (first["model"], first["source"]) == ("test:a", "workflow-default")
    assert (first["ignored"][0]["layer"], first["ignored"][0]["model"]) == ("agent", "smal")
    console = Console(record=True, width=2000, file=io.StringIO())
    trace.print_trace(cast("Any", live.read(run_id)), console)
    assert "sort  the agent's choice smal skipped: no model 'smal'; did you mean small" in console.export_text()


# The doors


def test_the_api_refuses_tools_and_warns_of_models(live: Deployment) -> None:
    ask = InProcess(live.settings).ask
    body: dict[str, Any] = {"name": "Doors", "crew": [{"role": "A", "systemPrompt": "x", "model": "test:a"}]}
    status, answer = ask("POST", "/v1/workflows", body)
    assert (status, answer.keys()) == (201, {"data"})
    path = f"/v1/workflows/{answer['data']['id']}"
    body["crew"][0]["model"] = "smal"
    for method, where, given, good in (
        ("POST", "/v1/workflows", body, 201),
        ("PUT", path, body, 200),
        ("PATCH", path, {"description": "d"}, 200),
    ):
        status, answer = ask(method, where, given)
        assert status == good
        ((warning),) = answer["warnings"]
        assert warning["field"] == "crew.0.model"
        assert "did you mean small" in warning["message"]
        assert answer["data"]["crew"][0]["model"] == "smal"
    key = {"Idempotency-Key": "k"}
    assert ask("POST", "/v1/workflows", body, **key) == ask("POST", "/v1/workflows", body, **key)
    body["crew"][0]["tools"] = ["nwo"]
    for method, where in (("POST", "/v1/workflows"), ("PUT", path)):
        status, answer = ask(method, where, body)
        assert (status, answer["details"][0]["field"]) == (400, "crew.0.tools.0")
        assert "did you mean now" in answer["error"]
    document = ask("GET", "/openapi.json")[1]
    schema = document["paths"]["/v1/workflows"]["post"]["responses"]["201"]["content"]["application/json"]["schema"]
    assert "warnings" in document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]


def test_push_warns_with_the_line_and_strict_stores_nothing(
    live: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(target, "connect", lambda _: Target("test", live.settings, {}, False))
    file = tmp_path / "crew.yaml"
    file.write_text(
        "name: Lines\nmodel: test:a\ncrew:\n  - role: A\n    systemPrompt: x\n    model: smal\n    tools: [now]\n"
    )

    def push(*arguments: str, code: int = 0) -> Any:
        done = CliRunner().invoke(app, ["workflows", *arguments])
        assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
        return done

    refused = push("push", str(file), "--strict", code=2)
    assert "line 6: crew.0.model: no model 'smal'" in " ".join(refused.stderr.split())
    assert DefinitionStore(live.settings).list()[0] == []
    done = push("push", str(file))
    assert done.stdout == "lines version 1\n"
    said = " ".join(done.stderr.split())
    assert f"! {file}, line 6: crew.0.model: no model 'smal'; did you mean small" in said
    assert "As it is, step a uses test:a (the workflow's default)" in said
    assert exact_json.loads(push("push", str(file), "--json").stdout)["warnings"][0]["line"] == 6
    assert "no model 'smal'" in push("validate", str(file)).stderr
    file.write_text(file.read_text().replace("smal", "test:b").replace("[now]", "[now, nwo]"))
    assert push("push", str(file), "--id", "typo", code=2).stdout == ""
    wrong = " ".join(push("push", str(file), "--id", "typo", code=2).stderr.split())
    assert "line 7: crew.0.tools.1: this deployment has no tool 'nwo'; did you mean now?" in wrong
    file.write_text(file.read_text().replace(", nwo", ""))
    said = push("push", str(file), "--strict").stderr
    undo = "Undo: loopllama workflows rollback lines --to 1"
    assert " ".join(said.split()) == f"It replaces version 1: step a: model. Runs keep theirs. {undo}"


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_the_examples_say_nothing_of_the_kind(live: Deployment, file: Path) -> None:
    tools = file.parent / "tools.json"
    if tools.exists():
        ToolStore(live.settings).write(exact_json.loads(tools.read_text()), updated_by="tests", reason="")
    settings = replace(live.settings, default_model="balanced")
    store = DefinitionStore(settings)
    loaded = workflow_files.load(file)
    assert validation.warnings(settings, loaded.to_definition()) == []
    store.push(loaded)
