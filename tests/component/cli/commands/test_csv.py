"""Tables of figures as CSV: every row, numbers exact, for a spreadsheet or another program."""

import csv
import io
from decimal import Decimal

import pytest
from support.command_line import answer, invoke

from loopllama.queries.runs import RunReader
from loopllama_cli import target
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
    run |= {"latency_ms": 1500, "waited_ms": 3_600_000, "unsatisfied_loops": ["judge", "edit"]}
    monkeypatch.setattr(RunReader, "list", lambda *_, **__: ([run], None))
    (row,) = read("runs", "list")
    assert (row["id"], row["workflow_id"], row["tokens_in"]) == ("run_1", 'a, "b"', "12345")
    assert (row["cost_usd"], row["finished_at"]) == ("0.0000001", "")
    assert (row["latency_ms"], row["waited_ms"], row["unsatisfied_loops"]) == ("1500", "3600000", "judge edit")


def test_usage(monkeypatch):
    sums = {"steps": 3, "tokens_in": 5, "tokens_out": 7, "tokens_cached": 0, "cost_usd": None, "cost_basis": "unknown"}
    groups = [{"workflow": "w", "step": "s", **sums, "unpriced": True, "simulated": True}]
    answered = {"from": "2026-11-01", "to": "2026-11-28", "by": ["step"], "groups": groups, "total": groups[0]}
    monkeypatch.setattr(usage, "summarise", lambda *_: answered)
    assert invoke("usage", "--by", "step", "--csv").stdout == (
        "workflow,step,steps,tokens_in,tokens_out,tokens_cached,cost_usd,cost_basis,unpriced,simulated\n"
        "w,s,3,5,7,0,,unknown,true,true\n"
    )
    answered["groups"] = []
    assert invoke("usage", "--by", "step", "--csv").stdout.startswith("step,steps,")


def test_one_form_at_a_time():
    for command in (("models", "list"), ("runs", "list"), ("usage",), ("whatif", "w", "--set", "a=small")):
        assert "exclude each other" in invoke(*command, "--json", "--csv", code=2).stderr
    assert "exclude each other" in invoke("whatif", "w", "--set", "a=small", "--csv", "--apply", code=2).stderr


@pytest.mark.parametrize("form", ["--csv", "--json", "--local"])
def test_runs_whose_steps_were_all_skipped(live, monkeypatch, form):
    monkeypatch.setattr(target, "connect", lambda _: target.Target("test", live.settings, {}, False))
    workflow = live.push([{"name": "a", "when": "input.go"}])
    live.play(live.accept(workflow, {"go": False}))
    shown = invoke("whatif", workflow, "--set", "a=test:base", form)
    if form == "--csv":
        assert shown.stdout.startswith("step,models_before,model_after,turns,cost_usd_before,")
        assert len(shown.stdout.splitlines()) == 1
    invoke("advise", workflow)
    invoke("runs", "list", "--csv")
    invoke("trace", "last", "--csv")


def test_steps_of_one_run_and_of_two(monkeypatch):
    step = {"step": "a", "order": 0, "model": "m", "cost_usd": Decimal("0.5"), "latency_ms": 7, "tokens_in": 3}
    runs = {
        "run_1": [step],
        "run_2": [{**step, "model": "n", "cost_usd": Decimal("0.25")}, {**step, "step": "b", "order": 1}],
    }
    monkeypatch.setattr(RunReader, "get", lambda _, run_id: {"id": run_id, "workflow_id": "w", "steps": runs[run_id]})
    (row,) = read("trace", "run_1")
    assert (row["step"], row["model"], row["tokens_in"], row["cost_usd"], row["latency_ms"]) == (
        "a",
        "m",
        "3",
        "0.5",
        "7",
    )
    both, new = read("compare", "run_1", "run_2")
    assert (both["model_before"], both["model_after"], both["cost_usd_before"], both["cost_usd_after"]) == (
        *("m", "n", "0.5", "0.25"),
    )
    assert (new["step"], new["cost_usd_before"], new["cost_usd_after"]) == ("b", "", "0.5")
