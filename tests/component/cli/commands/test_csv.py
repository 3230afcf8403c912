"""Tables of figures as CSV: every row, numbers exact, for a spreadsheet or another program."""

import csv
import io
from decimal import Decimal

from support.command_line import answer, invoke

from loopllama.queries.runs import RunReader
from loopllama_cli.commands import usage


def read(*arguments):
    return list(csv.DictReader(io.StringIO(invoke(*arguments, "--csv").stdout)))


def test_models():
    listed = answer("models", "list", "--provider", "anthropic")
    rows = read("models", "list", "--provider", "anthropic")
    assert [row["model"] for row in rows] == [model["model"] for model in listed]
    assert [Decimal(row["input"]) for row in rows] == [Decimal(str(model["price"]["input"])) for model in listed]
    assert "tools" in rows[0]["capabilities"].split(" ")


def test_runs(monkeypatch):
    run = {"id": "run_1", "workflow_id": 'a, "b"', "status": "queued", "cost_usd": Decimal("1E-7"), "tokens_in": 12_345}
    monkeypatch.setattr(RunReader, "list", lambda *_, **__: ([run], None))
    (row,) = read("runs", "list")
    assert (row["id"], row["workflow_id"], row["tokens_in"]) == ("run_1", 'a, "b"', "12345")
    assert (row["cost_usd"], row["finished_at"]) == ("0.0000001", "")


def test_usage(monkeypatch):
    sums = {"steps": 3, "tokens_in": 5, "tokens_out": 7, "tokens_cached": 0, "cost_usd": None, "cost_basis": "unknown"}
    groups = [{"workflow": "w", "step": "s", **sums, "unpriced": True}]
    answered = {"from": "2026-11-01", "to": "2026-11-28", "by": ["step"], "groups": groups, "total": groups[0]}
    monkeypatch.setattr(usage, "summarise", lambda *_: answered)
    assert invoke("usage", "--by", "step", "--csv").stdout == (
        "workflow,step,steps,tokens_in,tokens_out,tokens_cached,cost_usd,cost_basis,unpriced\n"
        "w,s,3,5,7,0,,unknown,true\n"
    )
    answered["groups"] = []
    assert invoke("usage", "--by", "step", "--csv").stdout.startswith("step,steps,")


def test_one_form_at_a_time():
    for command in (("models", "list"), ("runs", "list"), ("usage",), ("whatif", "w", "--set", "a=small")):
        assert "exclude each other" in invoke(*command, "--json", "--csv", code=2).stderr
    assert "exclude each other" in invoke("whatif", "w", "--set", "a=small", "--csv", "--apply", code=2).stderr
