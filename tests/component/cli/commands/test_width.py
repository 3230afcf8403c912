"""Every table of the program, in terminals of four widths and in a pipe: names are whole, lines fit, columns go in a
chosen order."""

import io
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console
from support.command_line import invoke

from loopllama.api.auth import KeyStore
from loopllama.queries import recorded, whatif
from loopllama.queries.runs import RunReader
from loopllama.routing import advising
from loopllama_cli.catalog import build
from loopllama_cli.commands import usage
from loopllama_cli.commands.models import change, probe
from loopllama_cli.console import output, tables

WORKFLOW, STEP, MODEL = "support_reply", "writer", "bedrock:us.amazon.nova-pro-v1:0"
OTHER = "bedrock:us.amazon.nova-lite-v1:0"
RUNS = ("run_5ca05703b2a84f699ecb647b", "run_9c9e83c38b3c4f0ba6f2a0b6")
REASON = "the routine steps do as well on a small model, and cost a tenth of what they did"
AT = "2026-11-28T06:00:00.000Z"


def _run(run_id):
    step = {
        "step": "triage", "order": 0, "role": "Triage", "status": "completed", "model": MODEL, "ignored": [],
        "source": "workflow-default", "tokens_in": 12_345, "tokens_cached": 9_000, "tokens_out": 1_000,
        "cost_usd": Decimal("0.00042"), "cost_basis": "measured", "latency_ms": 1234, "started_at": AT,
        "finished_at": "2026-11-28T06:00:01.234Z", "attempts": [], "tool_calls": [],
    }  # fmt: skip
    writer = {**step, "step": STEP, "order": 1, "source": "workflow-override"}
    return {
        "id": run_id, "workflow_id": WORKFLOW, "workflow_version": 3, "status": "waiting_input", "input": "x",
        "output": "Here.", "error": None, "created_at": AT, "started_at": AT, "finished_at": AT, "latency_ms": 12_345,
        "cost_basis": "measured",
        "tokens_in": 1_234_567, "tokens_out": 1, "cost_usd": Decimal("0.00084"), "steps": [step, writer],
        "unsatisfied_loops": None,
    }  # fmt: skip


def _forecast(*_, **__):
    both = {"before": Decimal("0.00084"), "after": Decimal("0.00042"), "change": Decimal("-0.5")}
    step = {
        "step": STEP, "models_before": [MODEL], "model_after": "claude-haiku-4-5", "turns": 20,
        "cost_usd_before": Decimal("0.00042"), "cost_usd_after": Decimal("0.000042"), "latency_ms_before": 1234,
        "latency_ms_after": 12_345, "latency_from": "other steps on this model", "cost_basis": "measured",
        "simulated": False,
    }  # fmt: skip
    wide = {"p10": Decimal("-0.512"), "p90": Decimal("-0.412")}
    return {
        "runs": 20, "from": AT, "to": AT, "prices": "today", "cost_usd": both, "latency_ms": both,
        "spread": {"cost": wide, "latency": wide}, "steps": [step], "cost_basis": "measured", "simulated": False,
        "unknown": [],
    }  # fmt: skip


def _advice(*_, **__):
    saving = {"estimate": Decimal("1234.56"), "low": Decimal("1034.56"), "high": Decimal("1434.56")}
    line = {
        "step": STEP, "move": "model", "from": MODEL, "to": OTHER, "alias": None, "saving_usd_run": saving,
        "saving_usd_month": saving, "once_usd": Decimal(0), "weight": Decimal(1), "basis": "repriced",
        "latency_ms": {"before": 12_345, "after": 1234, "slack": 0, "source": "the catalog"}, "rests_on": ["20 runs"],
        "speaks_against": [], "estimated": True, "simulated": False, "more_runs": 0, "says": "try it",
        "command": f"loopllama whatif {WORKFLOW} --set {STEP}={OTHER}",
    }  # fmt: skip
    return {
        "runs": 20, "from": AT, "to": AT, "rate": {"runs_month": Decimal(30_000)}, "usd_month": saving, "steps": [],
        "usd_run": saving, "enough": True, "advice": [line, line], "together": None, "simulated": False, "unknown": [],
    }  # fmt: skip


def _usage(*_, **__):
    sums = {
        "steps": 1234, "tokens_in": 123_456_789, "tokens_out": 1_234_567, "tokens_cached": 12_345_678,
        "cost_usd": Decimal("123.456789"), "cost_basis": "measured", "unpriced": False, "simulated": False,
    }  # fmt: skip
    groups = [{"workflow": WORKFLOW, "step": name, **sums} for name in ("triage", STEP)]
    return {"from": "2026-11-01", "to": "2026-11-28", "by": ["step"], "groups": groups, "total": sums}


def _keys(*_):
    key = {"id": "key_3f9a2c1b7d4e", "prefix": "ll_live_Ab3d", "name": "continuous integration", "created_at": AT}
    opens = {
        "scopes": ["read", "run"],
        "workflows": [WORKFLOW],
        "max_requests_per_day": 1000,
        "max_usd_per_day": Decimal(2),
    }
    return [{**key, **opens, "last_used_at": AT, "revoked_at": None}]


class _Found:
    model, slots, context_window = "qwen3-coder:30b-a3b-instruct-q4", 4, 262_144

    def entry(self, _):
        return {"capabilities": ["reasoning", "structured_output", "tools"]}


def _history(version):
    fields = [{"field": "model", "from": "frontier", "to": MODEL}, {"field": "reason", "from": None, "to": REASON}]
    return {
        "at": AT, "step": STEP, "version": version, "updated_by": "marta.lindqvist", "reason": REASON,
        "before": {}, "after": {"model": MODEL}, "change": "set", "differences": fields, "problems": [],
    }  # fmt: skip


TABLES = {
    ("runs", "list"): [*RUNS, WORKFLOW],
    ("trace", RUNS[0]): ["triage", STEP, MODEL],
    ("runs", "show", RUNS[0]): ["triage", STEP, MODEL],
    ("compare", *RUNS): ["triage", STEP, MODEL],
    ("usage", "--by", "step"): [WORKFLOW, STEP],
    ("advise", WORKFLOW): [STEP, OTHER],
    ("whatif", WORKFLOW, "--set", f"{STEP}=small"): [STEP, "claude-haiku-4-5"],
    ("workflows", "list"): [WORKFLOW, "frontier"],
    ("workflows", "show", WORKFLOW): ["triage", STEP, "claude-sonnet-4-6"],
    ("routes", "list", WORKFLOW): ["triage", STEP, MODEL],
    ("routes", "set", WORKFLOW, STEP, MODEL, "--fallback", OTHER, "--reason", REASON): [STEP, MODEL, OTHER],
    ("routes", "history", WORKFLOW, STEP): [STEP, MODEL],
    ("models", "list", "--provider", "anthropic"): ["claude-sonnet-4-6", "claude-haiku-4-5"],
    ("models", "show", "gpt-5"): ["gpt-5", "structured_output"],
    ("models", "sync", "--dry-run"): ["gpt-5-nano", MODEL],
    ("models", "disable", MODEL, "--reason", "x", "--yes"): [WORKFLOW, STEP, OTHER],
    ("models", "probe", "ollama", "--dry-run"): [_Found.model],
    ("providers", "list"): ["bedrock-openai"],
    ("keys", "list"): ["key_3f9a2c1b7d4e"],
    ("tools", "list"): ["ask_human"],
    ("tools", "history", "lookup_order"): [MODEL],
}  # fmt: skip
"""What prints tables, and the names that have to be whole in them."""


@pytest.fixture(autouse=True)
def things(pushed, monkeypatch, tmp_path):
    """A crew with routes and tools that have a past, and runs."""
    assert pushed == WORKFLOW
    for step in ("triage", STEP):
        invoke("routes", "set", WORKFLOW, step, MODEL, "--fallback", OTHER, "--fallback", "small", "--reason", REASON)
    from loopllama.routing.change_log import History

    monkeypatch.setattr(RunReader, "get", lambda _, run_id: _run(run_id))
    monkeypatch.setattr(RunReader, "list", lambda *_, **__: ([_run(name) for name in RUNS], None))
    monkeypatch.setattr(advising, "advice", _advice)
    monkeypatch.setattr(recorded, "recent_runs", lambda *_, **__: [])
    monkeypatch.setattr(whatif, "predict", _forecast)
    monkeypatch.setattr(usage, "summarise", _usage)
    monkeypatch.setattr(KeyStore, "all", _keys)
    monkeypatch.setattr(History, "entries", lambda *_: [1, 2])
    monkeypatch.setattr("loopllama.routing.change_log.shown", lambda one: {**_history(one), "tool": "lookup_order"})
    monkeypatch.setattr(probe, "server_of", lambda *_: None)
    monkeypatch.setattr(probe, "look", lambda *_: [_Found()])
    monkeypatch.setattr(probe, "planned", lambda *_: {})
    monkeypatch.setattr(
        change, "_moved", lambda *_: [{"workflow": WORKFLOW, "step": STEP, "from": [MODEL], "to": [OTHER]}]
    )
    price = {"effective_from": "2026-01-01", "input": "0.123", "output": "4.567", "cache_read": "0.0123"}
    models = {MODEL: {"prices": [price]}, "gpt-5-nano": {"prices": [price]}}
    monkeypatch.setattr(build, "build", lambda _: {"source": "genai-prices 0.2.3", "models": models})


def _shown(monkeypatch, width, arguments):
    monkeypatch.setenv("COLUMNS", str(width))
    return invoke(*arguments).stdout.splitlines()


@pytest.mark.parametrize("arguments", TABLES, ids=" ".join)
def test_names_are_whole_and_lines_fit(monkeypatch, arguments):
    for width in (60, 80, 100, 140):
        lines = _shown(monkeypatch, width, arguments)
        assert [name for name in TABLES[arguments] if not any(name in line for line in lines)] == [], (width, lines)
        table = [line for line in lines if not line.startswith(("1. ", "   loopllama "))]  # which the terminal breaks
        assert max(map(len, table)) <= width, (width, lines)


@pytest.mark.parametrize("arguments", TABLES, ids=" ".join)
def test_a_pipe_gets_whole_values_with_a_tab_between(monkeypatch, arguments):
    monkeypatch.delenv("COLUMNS")
    rows = [line.split("\t") for line in invoke(*arguments).stdout.splitlines() if "\t" in line]
    assert len(rows) > 1
    assert len({len(row) for row in rows[:2]}) == 1
    assert not [cell for row in rows for cell in row if "…" in cell and not cell.startswith("ll_live_")]
    assert not set(rows[0]) & {"", *"─━"} - {""}
    assert [name for name in TABLES[arguments] if not any(name in cell for row in rows for cell in row)] == []
    if "--json" not in arguments and any(REASON in part for part in arguments):
        assert any(REASON in row for row in rows)


def test_a_terminal_says_itself_how_wide_it_is(monkeypatch):
    monkeypatch.delenv("COLUMNS")
    table = output.table("Run", "Tokens", "Cost")
    table.add_row(RUNS[0], "1,234,567", "$1")
    written = {terminal: io.StringIO() for terminal in (True, False)}
    for terminal, file in written.items():
        output.print_table(table, Console(file=file, width=40, force_terminal=terminal, color_system=None))
    assert written[False].getvalue() == f"Run\tTokens\tCost\n{RUNS[0]}\t1,234,567\t$1\n"
    lines = written[True].getvalue().splitlines()
    assert lines[2].split() == [RUNS[0], "$1"]
    assert max(map(len, lines)) <= 40


def test_every_table_is_tried():
    """A command that prints a table and is not here would be tried by nobody."""
    folder = Path(tables.__file__).parents[1] / "commands"
    printing = {file.stem for file in folder.rglob("*.py") if "output.table(" in file.read_text("utf-8")}
    assert printing == {
        *("usage", "workflows", "providers", "runs", "prices", "show", "change", "probe", "whatif", "tools", "history"),
        *("overrides", "keys", "advise"),
    }


def test_names_that_have_no_room_are_not_cut_either(monkeypatch):
    long = "bedrock:" + "x" * 70
    monkeypatch.setattr(
        RunReader, "get", lambda _, run_id: {**_run(run_id), "steps": [{**_run("")["steps"][0], "model": long}]}
    )
    (line,) = [line for line in _shown(monkeypatch, 60, ("trace", RUNS[0])) if "bedrock:" in line]
    assert f"triage {long}" in line
