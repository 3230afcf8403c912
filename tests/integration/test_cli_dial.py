"""The dial from the command line, on the local stack: checked, predicted, reviewed, undone, switched off."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from support.waiting import eventually

from loopllama.catalog.catalog import bundled

from .conftest import Answer, Program

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "support_reply"
ROUTINE = ("triage", "extract", "lookup", "check")


def push(answer: Answer, name: str) -> str:
    return str(answer("workflows", "push", EXAMPLE / "workflow.yaml", "--id", name)["id"])


def test_the_prediction_is_what_then_happens(loopllama: Program, answer: Answer) -> None:
    workflow = push(answer, "predicted")

    def costs(runs: int) -> Decimal:
        made = [answer("run", workflow, "--input", f"@{EXAMPLE / 'input.txt'}") for _ in range(runs)]
        assert {run["status"] for run in made} == {"completed"}
        return sum((Decimal(run["cost_usd"]) for run in made), Decimal(0)) / runs

    before = costs(2)
    changes = [part for step in ROUTINE for part in ("--set", f"{step}=small")]
    told = answer("whatif", workflow, *changes, "--apply", "--reason", "routine work")
    assert (told["runs"], told["simulated"], len(told["rows"])) == (2, True, 4)
    assert told["cost_usd"]["before"] == before
    assert told["spread"]["cost"]["p10"] <= told["cost_usd"]["change"] <= told["spread"]["cost"]["p90"]
    assert [step["step"] for step in told["steps"] if step["model_after"]] == list(ROUTINE)
    for when in ("before", "after"):
        assert sum(Decimal(step[f"cost_usd_{when}"]) for step in told["steps"]) / 2 == told["cost_usd"][when]
    assert any("never seen" in one for one in told["unknown"])
    after = costs(2)
    assert abs(after - told["cost_usd"]["after"]) <= after * Decimal("0.05")
    assert after < before

    # What was observed since counts more than the catalog's prior, and the way back is predicted as well.
    back = answer("whatif", workflow, "--set", "triage=frontier", "--runs", 4)
    assert back["steps"][0]["latency_from"] == "this step"
    text = loopllama("whatif", workflow, "--set", "triage=frontier").output
    assert "Not known" in text
    assert "simulated" in text
    shown = loopllama("routes", "set", workflow, "draft", "small", "--reason", "try").output
    assert "Expected a run" in shown
    loopllama("whatif", workflow, "--set", "nobody=small", code=2)


def test_history_diff_rollback_export_and_import(loopllama: Program, answer: Answer, tmp_path: Path) -> None:
    workflow = push(answer, "reviewed")
    for model in ("small", "balanced"):
        loopllama("routes", "set", workflow, "triage", model, "--reason", f"to {model}")
    loopllama("routes", "set", workflow, "*", "--policy", "weighted", "--candidate", "small=9", "--candidate",
              "balanced=1", "--max-expected-cost", "0.5")  # fmt: skip
    eventually(lambda: len(answer("routes", "history", workflow)) == 3)
    newest, first = answer("routes", "history", workflow, "triage")
    assert (first["version"], newest["version"], newest["reason"]) == (1, 2, "to balanced")
    assert "model: small -> balanced" in loopllama("routes", "history", workflow).stdout
    assert answer("routes", "diff", workflow, "triage") == [{"field": "model", "from": "small", "to": "balanced"}]
    assert answer("routes", "diff", workflow, "triage", "--from", 2, "--to", 1)[0]["to"] == "small"
    assert answer("routes", "rollback", workflow, "triage", "--to", 1)["row"]["version"] == 3
    loopllama("routes", "rollback", workflow, "triage", "--to", 99, code=3)

    file = tmp_path / "routes.yaml"
    file.write_text(loopllama("routes", "export", workflow).stdout)
    assert answer("routes", "import", file, "--dry-run")["changes"] == []
    file.write_text(file.read_text().replace("0.5", "0.25"))
    (change,) = answer("routes", "import", file, "--dry-run")["changes"]
    assert change["differences"] == [{"field": "max_cost", "from": Decimal("0.5"), "to": Decimal("0.25")}]
    assert answer("routes", "import", file)["applied"] is True
    assert answer("routes", "import", file)["changes"] == []
    file.write_text(f"workflow: {workflow}\nroutes:\n  triage: {{model: smalll}}\n  draft: {{model: small}}\n")
    assert "smalll" in loopllama("routes", "import", file, code=2).output
    assert not [row for row in answer("routes", "list", workflow) if row["step"] == "draft" and row["row"]]
    file.write_text(f"workflow: {workflow}\nroutes: {{}}\n")
    assert len(answer("routes", "import", file, "--prune")["changes"]) == 2
    assert not any(row["row"] or row["workflow_row"] for row in answer("routes", "list", workflow))


def test_the_kill_switch_shows_what_it_moves_acts_and_is_undone(loopllama: Program, answer: Answer) -> None:
    workflow = push(answer, "switched")
    frontier, small = (bundled().resolve(name).id for name in ("frontier", "small"))
    assert "say why" in loopllama("models", "disable", "frontier", code=2).output
    asked = loopllama("models", "disable", frontier, "--use", "small", "--reason", "outage", text="n\n").output
    assert "switched" in asked
    assert small in asked
    assert answer("models", "show", frontier)["enabled"] is True

    told = answer("models", "disable", frontier, "--use", "small", "--reason", "outage")
    mine = [one for one in told["moved"] if one["workflow"] == workflow]
    assert {one["step"] for one in mine} == {*ROUTINE, "draft", "review"}
    assert all(one["from"] == [frontier] and one["to"] == [small] for one in mine)
    run = answer("run", workflow, "--input", "The machine leaks.")
    assert {step["model"] for step in run["steps"]} == {small}
    assert run["steps"][0]["ignored"][0]["reason"] == f"disabled; replaced by {small}"
    assert "disabled" in loopllama("routes", "set", workflow, "draft", frontier, code=2).output

    answer("models", "enable", frontier, "--reason", "over")
    run = answer("run", workflow, "--input", "The machine leaks.")
    assert {step["model"] for step in run["steps"]} == {frontier}
    eventually(lambda: len(answer("models", "history", frontier)) == 2)
    assert [entry["reason"] for entry in answer("models", "history", frontier)] == ["over", "outage"]


def test_prices_aliases_and_models_of_ones_own(loopllama: Program, answer: Answer) -> None:
    loopllama("models", "set", "house", "--provider", "google", "--context-window", 9000, "--capability", "tools")
    assert answer("models", "show", "house")["origin"]["context_window"] == "table"
    workflow = push(answer, "owned")
    assert "no price" in loopllama("routes", "set", workflow, "draft", "house", code=2).output
    loopllama("models", "price", "house", "--input", "0.1", "--output", "0.4", "--from", "2020-01-01")
    assert "already" in loopllama("models", "price", "house", "--input", "1", "--output", "1", "--from", "2020-01-01",
                                  code=2).output  # fmt: skip
    loopllama("models", "price", "house", "--input", "9", "--output", "9", "--from", "2999-01-01")
    assert answer("models", "show", "house")["price"]["input"] == Decimal("0.1")
    loopllama("routes", "set", workflow, "draft", "house")
    assert "context_window" not in answer("models", "alias", "cheap", "house")["entry"]
    loopllama("models", "alias", "cheap", "nosuch", "--yes", code=3)
    loopllama("routes", "set", workflow, "review", "cheap")
    moved = answer("models", "alias", "cheap", "small")["moved"]
    assert [(one["workflow"], one["step"], one["from"]) for one in moved] == [(workflow, "review", ["house"])]
    answer("models", "remove", "cheap")
    for step in ("draft", "review"):
        loopllama("routes", "unset", workflow, step)
    answer("models", "remove", "house")
    loopllama("models", "show", "house", code=3)


def test_sync_brings_newer_prices_and_only_those(loopllama: Program, answer: Answer) -> None:
    assert answer("models", "sync", "--dry-run")["changes"] == []
    answer("models", "price", "gpt-4.1", "--input", "7", "--output", "70", "--from", "2021-01-01")
    assert answer("models", "show", "gpt-4.1")["price"]["input"] == 7
    (change,) = answer("models", "sync")["changes"]
    assert (change["model"], change["from"]["input"]) == ("gpt-4.1", 7)
    assert answer("models", "show", "gpt-4.1")["price"]["input"] == change["to"]["input"]
    assert answer("models", "sync")["changes"] == []
    answer("models", "remove", "gpt-4.1")
