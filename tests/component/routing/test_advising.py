"""Advice from the tables: what is known of a deployment, and that nothing is called, written or fetched for it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from support.api_client import InProcess, schema_of
from support.deployment import PRICE, Deployment
from typer.testing import CliRunner

from loopllama.aws import clients
from loopllama.core import exact_json
from loopllama.errors import InvalidRequest, ModelUnknown, WorkflowNotFound
from loopllama.routing.advising import MAX_CANDIDATES, advice
from loopllama.routing.store import RouteStore
from loopllama_cli import target
from loopllama_cli.main import app
from loopllama_cli.target import Choice, Target

LABEL = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]}
CREW = [{"name": "sort", "outputSchema": LABEL, "tools": ["look"]}, {"name": "write"}]
ABLE: dict[str, Any] = {"context_window": 10_000, "max_output": 1_000, "capabilities": ["tools", "structured_output"]}
CHEAP = {**PRICE, "input": Decimal("0.03"), "output": Decimal("0.15")}
PATH = "/v1/workflows/{workflow_id}/advice"


@pytest.fixture
def made(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A deployment in which a workflow has run five times. A turn has 100 tokens in and 10 out: 0.00045 USD at `base`,
    0.0000045 at `cheap`."""
    live.put_model("test:base", "test", "base", **ABLE)
    live.put_model("test:cheap", "test", "cheap", **{**ABLE, "prices": [CHEAP]})
    live.put_model("cheapest", "test", "least", **{**ABLE, "prices": [CHEAP], "capabilities": []})
    live.put_tool({"tool": "look", "definition": GET})
    live.provider.script = lambda call: '{"label": "a"}' if call.output_schema else "A long and friendly answer."
    workflow = live.push(CREW)
    for _ in range(5):
        live.play(live.accept(workflow))
    monkeypatch.setattr(target, "connect", lambda _: Target("test", live.settings, {}, False))
    return live


GET = exact_json.dumps(
    {
        "type": "http",
        "method": "GET",
        "url": "https://example.com/look",
        "description": "Look.",
        "parameters": {"type": "object", "properties": {}},
    }
)


def models(told: Any, step: str) -> list[str]:
    return [line["to"] for line in told["advice"] if line["step"] == step and line["move"] == "model"]


def test_what_the_tables_say(made: Deployment) -> None:
    told = advice(made.settings, "test", runs_month=1000)
    assert (told["workflow_version"], told["runs"], told["simulated"]) == (1, 5, False)
    assert told["usd_month"] == {"estimate": Decimal("0.9"), "low": Decimal("0.9"), "high": Decimal("0.9")}
    # The cheapest one can call no tools, which `sort` has.
    assert (models(told, "sort"), models(told, "write")) == (["test:cheap"], ["cheapest"])
    sort = told["steps"][0]
    assert {"reason": "lacks tools", "models": 1} in sort["left_out"]
    signals = {signal["name"]: signal for signal in sort["signals"]}
    assert signals["harmless_tools"] == {"name": "harmless_tools", "holds": True, "says": "tools that only read"}
    assert (signals["stable_output"]["holds"], signals["stable_output"]["says"]) == (None, "inputs that came again: 4")
    assert (sort["source"], sort["model"], sort["weight"]) == ("workflow-default", "test:base", 1)
    made.play(made.accept("test"))
    again = {signal["name"]: signal["holds"] for signal in advice(made.settings, "test")["steps"][0]["signals"]}
    assert again["stable_output"] is True


def test_an_override_since_is_what_the_step_costs_now(made: Deployment) -> None:
    RouteStore(made.settings).set(
        "test", "sort", {"model": "test:cheap", "max_tokens": 900}, updated_by="a", reason="b"
    )
    told = advice(made.settings, "test", runs_month=1000)
    sort = told["steps"][0]
    assert (sort["model"], sort["source"], sort["models_recorded"]) == ("test:cheap", "step-override", ["test:base"])
    assert sort["usd_month"] is not None
    assert sort["usd_month"]["estimate"] == Decimal("0.0045")
    assert models(told, "sort") == []
    (line,) = [line for line in told["advice"] if line["step"] == "write" and line["move"] == "model"]
    assert line["apply_command"] == "loopllama routes set test write cheapest"


def test_a_policy_chooses_and_its_row_is_replaced_by_what_is_advised(made: Deployment) -> None:
    row: Any = {"policy": "cheapest", "candidates": ["test:base", "test:a"], "max_cost": Decimal(1), "temperature": 0}
    RouteStore(made.settings).set("test", "sort", row, updated_by="a", reason="b")
    told = advice(made.settings, "test")
    (line,) = [line for line in told["advice"] if line["step"] == "sort"]
    assert line["apply_command"] == "loopllama routes set test sort test:cheap --temperature 0"


def cap_of(made: Deployment) -> str | None:
    """What the advice would write to limit the answers of `sort`, of which there are twenty."""
    told = advice(made.settings, "test", runs=100)
    return next(
        (line["apply_command"] for line in told["advice"] if line["move"] == "cap" and line["step"] == "sort"), None
    )


def test_a_row_that_ends_ends_when_it_is_written_again_and_one_that_has_ended_says_nothing(made: Deployment) -> None:
    for _ in range(15):
        made.play(made.accept("test"))
    assert cap_of(made) == "loopllama routes set test sort --max-tokens 100"
    row: Any = {"max_tokens": 150}
    RouteStore(made.settings).set("test", "sort", row, updated_by="a", reason="b", expires_in=3600)
    assert cap_of(made) is None, "a limit of 150 is no more than twice what is proposed"
    row["max_tokens"] = 900
    RouteStore(made.settings).set("test", "sort", row, updated_by="a", reason="b", expires_in=3600)
    assert re.fullmatch(r"loopllama routes set test sort --max-tokens 100 --expires-in 35\d\ds", str(cap_of(made)))
    made.wait(3601)
    assert cap_of(made) == "loopllama routes set test sort --max-tokens 100"


def test_a_provider_without_a_key_is_none(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loopllama.routing.validation.RouteChecks.has_key", lambda _, provider: provider != "test")
    told = advice(made.settings, "test")
    assert not any(model in models(told, "sort") for model in ("test:cheap", "cheapest"))
    assert any(entry["reason"] == "no key of its provider" for entry in told["steps"][0]["left_out"])


def test_what_the_deployment_does_not_allow_is_none(made: Deployment) -> None:
    told = advice(replace(made.settings, allowed_models=("test:*",)), "test")
    assert {line["to"] for line in told["advice"] if line["move"] == "model"} <= {"test:cheap", "cheapest"}
    assert told["steps"][0]["left_out"][0]["reason"] == "not allowed in this deployment"


def test_only_what_was_asked_for(made: Deployment) -> None:
    told = advice(made.settings, "test", candidates=["test:cheap"])
    assert (models(told, "sort"), models(told, "write")) == (["test:cheap"], ["test:cheap"])
    with pytest.raises(ModelUnknown):
        advice(made.settings, "test", candidates=["nope"])
    with pytest.raises(WorkflowNotFound):
        advice(made.settings, "nope")
    for wrong in ({"runs": 0}, {"runs": 101}, {"runs_month": -1}, {"candidates": ["test:a"] * (MAX_CANDIDATES + 1)}):
        with pytest.raises(InvalidRequest):
            advice(made.settings, "test", **wrong)


@pytest.fixture
def asked_of_aws(made: Deployment, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that AWS is asked for."""
    asked: list[str] = []
    for service in ("dynamodb", "s3"):
        client = clients.client(service)
        call = client._make_api_call
        monkeypatch.setattr(
            client, "_make_api_call", lambda name, what, call=call: (asked.append(name), call(name, what))[1]
        )
    return asked


def test_nothing_is_called_written_or_fetched(made: Deployment, asked_of_aws: list[str]) -> None:
    made.play(made.accept("test", "x" * 50_000))
    before = len(made.provider.calls)
    asked_of_aws.clear()
    advice(made.settings, "test")
    assert len(made.provider.calls) == before
    assert asked_of_aws
    assert {*asked_of_aws} <= {"GetItem", "Query", "BatchGetItem", "Scan"}


# Over HTTP


def test_the_api_answers_as_its_document_says(made: Deployment) -> None:
    api = InProcess(made.settings)
    status, told = api.ask("GET", "/v1/workflows/test/advice?runsMonth=1000&runs=5")
    assert status == 200
    schema_of(api.api.openapi(), "GET", PATH, 200).validate(json.loads(exact_json.dumps(told)))
    expected = advice(api.settings, "test", runs_month=1000, runs=5)
    assert told["data"]["advice"][0]["command"] == expected["advice"][0]["command"]
    status, told = api.ask("GET", "/v1/workflows/test/advice?candidate=test:cheap,test:a")
    assert (status, models(told["data"], "write")) == (200, ["test:cheap"])


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("runs=0", 400, "runs"),
        ("runs=101", 400, "runs"),
        ("runsMonth=0", 400, "runsMonth"),
        ("runsMonth=inf", 400, "runsMonth"),
        ("runsMonth=x", 400, "runsMonth"),
        ("candidate=nope", 404, "model"),
        ("candidate=" + ",".join(["test:a"] * 21), 400, "candidate"),
    ],
)
def test_what_cannot_be_asked(live: Deployment, query: str, status: int, field: str) -> None:
    live.push(CREW[1:])
    code, told = InProcess(live.settings).ask("GET", f"/v1/workflows/test/advice?{query}")
    assert (code, told["details"][0]["field"]) == (status, field), told


def test_no_workflow_and_no_runs(live: Deployment) -> None:
    api = InProcess(live.settings)
    assert api.ask("GET", "/v1/workflows/nope/advice")[0] == 404
    live.push(CREW[1:])
    status, told = api.ask("GET", "/v1/workflows/test/advice")
    assert (status, told["data"]["enough"], told["data"]["more_runs"], told["data"]["advice"]) == (200, False, 5, [])
    schema_of(api.api.openapi(), "GET", PATH, 200).validate(json.loads(exact_json.dumps(told)))


# On the command line


def typed(*arguments: str, code: int = 0) -> Any:
    done = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "80"})
    assert done.exit_code == code, (done.stderr, done.exception)
    return done


def test_the_table_is_readable_at_80_columns(made: Deployment) -> None:
    shown = typed("advise", "test", "--runs-month", "1e6")
    table = shown.stdout.splitlines()
    assert max(map(len, table)) <= 80
    assert len(table) == 4
    assert re.match(r"1 +sort +to test:cheap +\$445\.50 +\$445\.50 to \$445\.50 +\S+( m?s)? +yes", table[2])
    assert "A month costs $900" in shown.stderr
    assert "answers are as good" in shown.stderr
    assert "Saves a run" in typed("advise").stdout, "the only workflow need not be named, nor the rate be known"
    limited = typed("advise", "test", "--limit", "1")
    assert ("1. sort: " in limited.stderr, "write" in limited.stdout) == (True, False)
    assert "\n1 more line: --json" in limited.stderr


def test_every_command_can_be_typed_as_it_is(made: Deployment) -> None:
    told = exact_json.loads(typed("advise", "test", "--json", "--stack", "my stack").stdout)
    commands = [line[name] for line in told["advice"] for name in ("command", "try_command", "apply_command")]
    commands += [other["command"] for line in told["advice"] for other in line["alternatives"]]
    commands.append(told["together"]["command"])
    shown = [line.strip() for line in typed("advise", "test", "--local").stderr.splitlines() if "loopllama" in line]
    assert len(shown) == len([line for line in told["advice"] if line["basis"] != "none"])
    assert all(command.startswith("loopllama --local ") for command in shown)
    assert len(set(commands)) > 6
    for command in filter(None, commands):
        assert command.startswith("loopllama --stack 'my stack' ")
        program, *words = shlex.split(command)
        assert program == "loopllama"
        wait = ["--no-wait"] if "replay" in words else []
        typed(*words, *wait)


def test_what_the_program_says_where_there_is_nothing_to_say(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "connect", lambda _: Target("test", live.settings, {}, False))
    assert "loopllama workflows push FILE" in typed("advise", code=2).stderr
    live.push(CREW[1:])
    shown = typed("advise")
    assert "Not enough data: completed runs: 0; 5 more are needed." in shown.stderr
    live.push(CREW[1:], "Other")
    assert "loopllama workflows list" in typed("advise", code=2).stderr
    typed("advise", "nope", code=3)
    typed("advise", "test", "--candidate", "nope", code=3)
    assert Choice(local="").command("advise") == "loopllama --local advise"
