"""Commands on routes: what they write, what they print, how they end."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from support.command_line import SETTINGS, answer, invoke

from loopllama.aws import clients, dynamo
from loopllama.catalog import catalog
from loopllama.routing.store import RouteStore
from loopllama_cli.commands.common import parse_time
from loopllama_cli.commands.routes import history

# Routes


def test_what_each_step_uses(pushed):
    told = answer("routes", "list", pushed)
    frontier = catalog.bundled().resolve("frontier").id
    assert [(one["step"], one["model"], one["source"]) for one in told] == [
        ("triage", frontier, "workflow-default"),
        ("writer", "claude-sonnet-4-6", "agent"),
    ]
    invoke("routes", "set", pushed, "writer", "small", "--reason", "routine")
    small = catalog.bundled().resolve("small").id
    told = answer("routes", "list", pushed)[1]
    assert (told["model"], told["source"], told["row"]["reason"]) == (small, "step-override", "routine")
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
    assert "skipped" in result.stderr
    assert "'gone' does nothing" in result.stderr
    assert answer("routes", "list", pushed)[1]["source"] == "agent"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604800), ("1.5h", 5400)]
)
def test_lengths_of_time(text, seconds):
    assert parse_time(text) == seconds


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


def test_an_expected_cost_is_not_called_a_cap(pushed):
    shown = invoke("routes", "set", pushed, "writer", "small", "--max-expected-cost", "0.5").stdout
    assert "expected cost at most $0.5" in " ".join(shown.split())
    assert answer("routes", "set", pushed, "writer", "small", "--max-cost", "0.25")["max_cost"] == Decimal("0.25")
    told = invoke("routes", "set", "--help").stdout
    assert "--max-cost" not in told
    assert "No cap" in " ".join(told.replace("│", " ").split())


def test_a_time_is_shown_as_one(pushed):
    answer("routes", "set", pushed, "writer", "small", "--expires-in", "2h")
    row: Any = RouteStore(SETTINGS).get(pushed, "writer")
    shown = datetime.fromtimestamp(int(row["expires_at"]), UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    assert shown in invoke("routes", "list", pushed).stdout
    for value, text in ((row["expires_at"], shown), ("soon", "soon")):
        difference: Any = {"field": "expires_at", "from": None, "to": value}
        assert history._difference(difference) == f"expires_at: nothing -> {text}"
