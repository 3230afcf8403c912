"""Commands against tables in memory: what they write, what they print, how they end."""

import json
import os
import time
from decimal import Decimal
from typing import Any

import boto3
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from loopllama.aws import clients, dynamo
from loopllama.catalog import catalog
from loopllama.core import exact_json
from loopllama.engine import accept
from loopllama.errors import WorkflowPaused
from loopllama.queries.runs import RunReader
from loopllama.routing.store import RouteStore
from loopllama.settings import Settings
from loopllama_cli import target
from loopllama_cli.commands import demo
from loopllama_cli.commands.routes.overrides import parse_time
from loopllama_cli.console import progress
from loopllama_cli.main import app
from loopllama_cli.target import Target

SETTINGS = Settings(
    workflows_table="Workflows",
    routes_table="Routes",
    route_history_table="RouteHistory",
    models_table="Models",
    runs_table="Runs",
    default_model="balanced",
    provider_secrets_prefix="test/providers/",
    simulated_providers=("google",),
)
CREW = """\
name: Support reply
model: frontier
crew:
  - {role: Triage, systemPrompt: Sort the ticket.}
  - {role: Writer, systemPrompt: Write the reply., model: claude-sonnet-4-6}
"""


def table(name, *keys, index=()):
    def schema(pairs):
        return [
            {"AttributeName": key, "KeyType": kind} for (key, _), kind in zip(pairs, ("HASH", "RANGE"), strict=False)
        ]

    indexes = [
        {"IndexName": called, "KeySchema": schema(pairs), "Projection": {"ProjectionType": "ALL"}}
        for called, *pairs in filter(None, [index])
    ]
    boto3.client("dynamodb").create_table(
        TableName=name,
        KeySchema=schema(keys),
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind in (*keys, *index[1:])],
        BillingMode="PAY_PER_REQUEST",
        **({"GlobalSecondaryIndexes": indexes} if index else {}),
    )


@pytest.fixture(autouse=True)
def stack(monkeypatch):
    """A deployed stack in memory, which every command finds."""
    for name in [*os.environ]:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("COLUMNS", "160")
    with mock_aws():
        clients.client.cache_clear()
        table(
            "Workflows",
            ("workflow_id", "S"),
            ("version", "N"),
            index=("by_updated", ("listed", "S"), ("updated_at", "S")),
        )
        table("Routes", ("workflow", "S"), ("step", "S"))
        table("RouteHistory", ("route", "S"), ("sequence", "S"))
        table("Models", ("model", "S"))
        table("Runs", ("run_id", "S"), ("item", "S"), index=("by_workflow", ("workflow_id", "S"), ("created_at", "S")))
        monkeypatch.setattr(target, "connect", lambda _: Target("test", SETTINGS, {}, False))
        yield
    clients.client.cache_clear()


def invoke(*arguments, code=0, **options):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], **options)
    assert result.exit_code == code, (result.stderr, result.exception)
    return result


def answer(*arguments, **options):
    return exact_json.loads(invoke(*arguments, "--json", **options).stdout)


@pytest.fixture
def crew(tmp_path):
    file = tmp_path / "crew.yaml"
    file.write_text(CREW)
    return file


@pytest.fixture
def pushed(crew):
    return answer("workflows", "push", crew)["id"]


# Workflows


def test_push_makes_a_version_for_each_change(crew):
    assert invoke("workflows", "push", crew).stdout == "support_reply version 1\n"
    assert answer("workflows", "push", crew)["version"] == 1
    crew.write_text(CREW.replace("Sort", "Judge"))
    assert answer("workflows", "push", crew)["version"] == 2
    assert answer("workflows", "push", crew, "--id", "other")["id"] == "other"


def test_workflows_are_listed_and_shown(pushed):
    listed = answer("workflows", "list")
    assert [workflow["id"] for workflow in listed] == ["support_reply"]
    assert listed == [answer("workflows", "show", pushed)]
    assert [agent["name"] for agent in listed[0]["crew"]] == ["triage", "writer"]
    assert all(agent["systemPrompt"] and "system_prompt" not in agent for agent in listed[0]["crew"])
    assert listed[0]["description"] is None
    earlier = answer("workflows", "show", pushed, "--version", 1)
    times = {name: listed[0][name] for name in ("created_at", "updated_at")}  # a version has its own
    assert {**earlier, **times} == {**listed[0], "status": None}
    for text in (invoke("workflows", "list").stdout, invoke("workflows", "show", pushed).stdout):
        assert "support_reply" in text


def test_an_unknown_workflow_is_3():
    for arguments in (
        ("workflows", "show", "x"),
        ("routes", "list", "x"),
        ("run", "x", "--input", "y"),
        ("runs", "list", "x"),
    ):
        assert "x" in invoke(*arguments, code=3).stderr


def test_a_wrong_file_is_2_with_line_and_field(crew):
    crew.write_text(CREW.replace("role: Triage", "rolle: Triage"))
    for command in ("push", "validate"):
        stderr = invoke("workflows", command, crew, code=2).stderr
        assert "line 4" in stderr
        assert "role" in stderr
    told = answer("workflows", "validate", crew, code=2)
    assert told["valid"] is False
    assert {detail["line"] for detail in told["details"]} == {4}
    assert "cannot be read" in invoke("workflows", "validate", crew.parent / "none.yaml", code=2).stderr


def test_a_right_file_is_valid(crew):
    assert "triage, writer" in invoke("workflows", "validate", crew).stdout
    told = answer("workflows", "validate", crew)
    assert told["valid"] is True
    assert all("systemPrompt" in agent for agent in told["definition"]["crew"])


# Routes


def test_what_each_step_uses(pushed):
    told = answer("routes", "list", pushed)
    frontier = catalog.bundled().resolve("frontier").id
    assert [(one["step"], one["model"], one["source"]) for one in told] == [
        ("triage", frontier, "default"),
        ("writer", "claude-sonnet-4-6", "agent"),
    ]
    invoke("routes", "set", pushed, "writer", "small", "--reason", "routine")
    small = catalog.bundled().resolve("small").id
    told = answer("routes", "list", pushed)[1]
    assert (told["model"], told["source"], told["row"]["reason"]) == (small, "step", "routine")
    assert small in invoke("routes", "list", pushed).stdout


def test_a_row_says_all_that_was_asked_for(pushed):
    row = answer(
        *("routes", "set", pushed, "*", "small", "--fallback", "balanced", "--fallback", "frontier"),
        *("--max-tokens", 500, "--temperature", "0.25", "--pin", "--expires-in", "2h", "--reason", "test"),
    )
    assert row == RouteStore(SETTINGS).get(pushed, "*")
    expected = {"model": "small", "fallbacks": ["balanced", "frontier"], "max_tokens": 500, "pin": "run"}
    assert {key: row[key] for key in expected} == expected
    assert row["temperature"] == Decimal("0.25")
    assert row["version"] == 1
    assert row["updated_by"]
    assert row["expires_at"] > 1_700_000_000


def test_writes_are_conditional_on_the_version(pushed):
    invoke("routes", "set", pushed, "writer", "small", "--expected-version", 0)
    assert "version 1" in invoke("routes", "set", pushed, "writer", "small", "--expected-version", 0, code=4).stderr
    invoke("routes", "unset", pushed, "writer", "--expected-version", 7, code=4)
    assert answer("routes", "unset", pushed, "writer", "--expected-version", 1)["removed"] is True
    assert answer("routes", "unset", pushed, "writer")["removed"] is False
    assert RouteStore(SETTINGS).rows(pushed) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("nobody", "small"),
        ("writer",),
        ("writer", "small", "--temperature", "warm"),
        ("writer", "small", "--temperature", "9"),
        ("writer", "small", "--expires-in", "soon"),
        ("writer", "small", "--policy", "best"),
        ("writer", "small", "--candidate", "balanced=x"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(pushed, arguments):
    invoke("routes", "set", pushed, *arguments, code=2)
    assert RouteStore(SETTINGS).rows(pushed) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("routes", "set", "PUSHED", "writer", "gpt-nope"),
        ("routes", "set", "PUSHED", "writer", "small", "--fallback", "gpt-nope"),
        ("routes", "set", "PUSHED", "*", "--policy", "weighted", "--candidate", "gpt-nope=1"),
        ("whatif", "PUSHED", "--set", "writer=gpt-nope"),
        ("run", "PUSHED", "--input", "x", "--model", "writer=gpt-nope"),
        ("models", "show", "gpt-nope"),
        ("models", "price", "gpt-nope", "--input", "1", "--output", "1"),
        ("models", "alias", "cheap", "gpt-nope", "--yes"),
        ("models", "disable", "gpt-nope", "--reason", "x", "--yes"),
        ("models", "disable", "small", "--use", "gpt-nope", "--reason", "x", "--yes"),
        ("models", "enable", "gpt-nope", "--yes"),
        ("models", "remove", "gpt-nope", "--yes"),
        ("models", "history", "gpt-nope"),
    ],
)
def test_a_model_that_nobody_knows_is_3(pushed, arguments):
    line = [pushed if one == "PUSHED" else one for one in arguments]
    assert "gpt-nope" in invoke(*line, code=3).output


def test_a_row_written_by_hand_with_rubbish_is_told(pushed):
    item = {"workflow": pushed, "step": "writer", "model": "gpt-nope", "expires_at": "soon"}
    clients.client("dynamodb").put_item(TableName="Routes", Item=dynamo.to_item(item))
    clients.client("dynamodb").put_item(
        TableName="Routes", Item=dynamo.to_item({**item, "step": "gone", "expires_at": 1})
    )
    result = invoke("routes", "list", pushed)
    assert "writer" in result.stderr
    assert "passed over" in result.stderr
    assert "'gone' does nothing" in result.stderr
    assert answer("routes", "list", pushed)[1]["source"] == "agent"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604800), ("1.5h", 5400)]
)
def test_lengths_of_time(text, seconds):
    assert parse_time(text) == seconds


# Models and providers


def test_models_are_those_of_catalog_and_table():
    item = {
        "model": "house-model",
        "provider": "openai",
        "provider_model": "house-1",
        "prices": [{"effective_from": "2026-01-01", "input": Decimal("0.5"), "output": 2}],
    }
    clients.client("dynamodb").put_item(TableName="Models", Item=dynamo.to_item(item))
    listed = {model["model"]: model for model in answer("models", "list", "--provider", "openai")}
    assert {model["provider"] for model in listed.values()} == {"openai"}
    assert listed["house-model"]["price"]["input"] == Decimal("0.5")
    assert "0.5" in invoke("models", "show", "house-model").stdout
    small = catalog.bundled().resolve("small")
    assert answer("models", "show", "small")["model"] == small.id
    assert small.id in invoke("models", "show", "small").stdout
    assert "house-model" in invoke("models", "list").stdout
    assert "gpt-nope" in invoke("models", "show", "gpt-nope", code=3).stderr


def test_models_need_no_stack(monkeypatch):
    def nowhere(_):
        raise target.TargetMissing("no target")

    monkeypatch.setattr(target, "connect", nowhere)
    assert answer("models", "list")
    assert "bundled" in invoke("models", "list").stderr


def test_a_key_goes_to_secrets_manager_and_nowhere_else():
    secrets = boto3.client("secretsmanager")
    for key in ("sk-first", "sk-second"):
        result = invoke("providers", "set", "openai", input=f"{key}\n")
        assert key not in result.output
        stored = secrets.get_secret_value(SecretId="test/providers/openai")["SecretString"]
        assert json.loads(stored) == {"api_key": key}
    invoke("providers", "set", "house", "--base-url", "https://llm.example.com/v1", input="k")
    stored = secrets.get_secret_value(SecretId="test/providers/house")["SecretString"]
    assert json.loads(stored) == {"api_key": "k", "base_url": "https://llm.example.com/v1"}
    listed = {one["provider"]: one for one in answer("providers", "list")}
    assert {name: listed[name]["key"] for name in ("openai", "house", "bedrock", "mistral")} == {
        "openai": "set",
        "house": "set",
        "bedrock": "keyless",
        "mistral": "missing",
    }
    assert listed["google"]["simulated"] is True
    assert "sk-second" not in invoke("providers", "list").output


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("openai",), ""),
        (("openai",), "two words"),
        (("openai",), "x" * 5000),
        (("bedrock",), "k"),
        (("nobody-knows",), "k"),
        (("Bad Name",), "k"),
        (("openai", "--base-url", "ftp://x"), "k"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(arguments, key):
    invoke("providers", "set", *arguments, input=key, code=2)
    assert boto3.client("secretsmanager").list_secrets()["SecretList"] == []


# Runs


@pytest.fixture
def accepted(monkeypatch):
    """Runs are accepted and read as these say."""
    asked = []

    def accept_run(settings, workflow, value, **options):
        asked.append((workflow, value, options))
        return "run_1"

    states = {"run_1": {"id": "run_1", "workflow_id": "w", "status": "completed", "output": "Done.", "steps": []}}
    monkeypatch.setattr(accept, "accept_run", accept_run)
    monkeypatch.setattr(RunReader, "get", lambda self, run_id: states[run_id])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return asked, states


def test_a_run_is_started_as_asked(accepted, tmp_path):
    asked, _ = accepted
    (tmp_path / "t.txt").write_text("from a file", "utf-8")
    (tmp_path / "t.json").write_text('{"order": 4411, "total": 0.1}')
    result = invoke(
        "run", "w", "--input", "hello", "--model", "writer=small", "--model", "*=openai:a=b", "--tag", "team=x"
    )
    assert "Done." in result.stdout
    invoke("run", "w", "-i", f"@{tmp_path / 't.txt'}", "--key", "k1")
    invoke("run", "w", "-i", f"@{tmp_path / 't.json'}")
    invoke("run", "w", "-i", "-", input="from a pipe")
    assert asked == [
        ("w", "hello", {"models": {"writer": "small", "*": "openai:a=b"}, "tags": {"team": "x"}}),
        ("w", "from a file", {"key": "k1"}),
        ("w", {"order": 4411, "total": Decimal("0.1")}, {}),
        ("w", "from a pipe", {}),
    ]


def test_not_waiting_prints_the_id(accepted):
    assert invoke("run", "w", "-i", "x", "--no-wait").stdout == "run_1\n"
    assert answer("run", "w", "-i", "x", "--no-wait")["id"] == "run_1"


def test_a_run_that_fails_is_1(accepted):
    _, states = accepted
    states["run_1"] |= {"status": "failed", "error": "step 'writer': OutputInvalid: no", "output": None}
    assert "step 'writer': OutputInvalid: no" in invoke("run", "w", "-i", "x", code=1).stdout
    assert answer("run", "w", "-i", "x", code=1)["status"] == "failed"


def test_ctrl_c_leaves_the_run_going(accepted, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(progress, "wait", interrupt)
    assert "loopllama trace run_1" in invoke("run", "w", "-i", "x", code=130).stderr


def test_waiting_no_longer_than_asked(accepted):
    _, states = accepted
    states["run_1"]["status"] = "running"
    assert "goes on" in invoke("run", "w", "-i", "x", "--timeout", "0.1", code=1).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input", "@/does/not/exist"),
        ("--input", "x", "--model", "small"),
        ("--input", "x", "--model", "a=b", "--model", "a=c"),
        ("--input", "x", "--tag", "=v"),
    ],
)
def test_what_cannot_be_started_is_2(accepted, arguments):
    invoke("run", "w", *arguments, code=2)
    assert accepted[0] == []


def test_a_model_that_nobody_knows_starts_nothing(accepted):
    assert "gpt-nope" in invoke("run", "w", "-i", "x", "--model", "writer=gpt-nope", code=3).stderr
    assert accepted[0] == []


def test_inputs_that_are_no_text_are_refused(accepted, tmp_path):
    (tmp_path / "t.bin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "t.json").write_text("[1]")
    (tmp_path / "u.json").write_text("{")
    for name in ("t.bin", "t.json", "u.json"):
        assert name in invoke("run", "w", "-i", f"@{tmp_path / name}", code=2).stderr


def test_a_paused_workflow_is_a_conflict(accepted, monkeypatch):
    def paused(*_, **__):
        raise WorkflowPaused("w is paused")

    monkeypatch.setattr(accept, "accept_run", paused)
    assert invoke("run", "w", "-i", "x", code=4).stderr == "error: w is paused\n"


def test_trace_show_and_compare(accepted):
    _, states = accepted
    states["run_1"] |= {"cost_usd": Decimal("0.01"), "latency_ms": 1000}
    states["run_2"] = states["run_1"] | {"id": "run_2", "cost_usd": Decimal("0.004"), "latency_ms": 500}
    assert answer("trace", "run_1") == states["run_1"] == answer("runs", "show", "run_1")
    assert "run_1" in invoke("trace", "run_1").stdout
    assert "Done." in invoke("runs", "show", "run_1").stdout
    told = answer("compare", "run_1", "run_2")
    assert (told["cost_change"], told["latency_change"]) == (Decimal("-0.6"), Decimal("-0.5"))
    assert (told["a"]["id"], told["b"]["id"]) == ("run_1", "run_2")
    assert "-60.0%" in invoke("compare", "run_1", "run_2").stdout


def test_a_run_that_does_not_exist_is_3():
    assert "run_x" in invoke("trace", "run_x", code=3).stderr


def test_nothing_to_list_is_said():
    for command in ("runs", "workflows"):
        assert "There are no" in invoke(command, "list").stderr
        assert answer(command, "list") == []


# The demonstration's own judgement


def ended(**changes):
    return {"id": "r", "status": "completed", "workflow_version": 1} | changes


def test_the_demo_knows_both_models_before_it_starts_anything():
    assert "no model 'smalll'" in invoke("demo", "--small", "smalll", code=3).stderr
    assert "no model 'nope'" in invoke("demo", "--model", "nope", code=3).stderr


def test_routes_that_are_nested_too_deep_are_refused(tmp_path):
    file = tmp_path / "routes.yaml"
    file.write_text("[" * 100_000)
    assert "nested too deep" in invoke("routes", "import", file, code=2).stderr


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("1e99999999999999999999", "routes.writer.temperature: is out of range (1e99999999999999999999)"),
        ("9" * 5000, "line 4: routes.writer.temperature: is out of range"),
        ("1.0e+400", "is out of range (1.0e+400)"),
        ("2001-99-99", "temperature: must be a number from 0 to 2, not '2001-99-99'"),
        ("!!int x", "is no int that can be read"),
        ("1e-200", "must have at most 38 digits"),
    ],
)
def test_odd_numbers_in_a_file_of_routes_are_refused_with_their_line(crew, tmp_path, value, says):
    invoke("workflows", "push", crew)
    file = tmp_path / "routes.yaml"
    file.write_text(f"workflow: support_reply\nroutes:\n  writer:\n    temperature: {value}\n")
    assert says in " ".join(invoke("routes", "import", file, code=2).stderr.split())


def test_exported_routes_keep_every_digit(crew, tmp_path):
    invoke("workflows", "push", crew)
    row: Any = {"model": "small", "temperature": Decimal("0.12345678901234567890123"), "max_latency": Decimal("1E+5")}
    RouteStore(SETTINGS).set("support_reply", "writer", row, updated_by="me", reason="r", force=True)
    file = tmp_path / "routes.yaml"
    file.write_text(invoke("routes", "export", "support_reply").stdout)
    assert "temperature: 0.12345678901234567890123\n" in file.read_text()
    assert "max_latency: 100000\n" in file.read_text()
    assert answer("routes", "import", file, "--dry-run", "--force")["changes"] == []


def test_the_demo_passes_only_if_nothing_changed_and_all_completed():
    assert demo.check(ended(), ended(), {"f": 1}, {"f": 1}) == []
    assert demo.check(ended(), ended(status="failed"), 1, 1)
    assert demo.check(ended(), ended(workflow_version=2), 1, 1)
    assert demo.check(ended(), ended(), {"f": 1}, {"f": 2})
