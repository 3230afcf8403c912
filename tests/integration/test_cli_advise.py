"""Advice on the local stack: a crew of six on one capable model. The routine steps come first, and what the first line
says that it saves is what is saved then."""

from __future__ import annotations

import shlex
from decimal import Decimal
from pathlib import Path

from .conftest import Answer, Program

EXAMPLE = Path(__file__).parents[2] / "examples" / "support_reply"
STRUCTURED = ("triage", "extract", "check")
"""What answers in fields, two of three with fixed values; the other three write texts."""


def test_the_first_advice_saves_what_it_says(loopllama: Program, answer: Answer) -> None:
    workflow = str(answer("workflows", "push", EXAMPLE / "workflow.yaml", "--id", "advised")["id"])

    def costs(runs: int) -> Decimal:
        made = [answer("run", workflow, "--input", f"@{EXAMPLE / 'input.txt'}") for _ in range(runs)]
        assert {run["status"] for run in made} == {"completed"}
        return sum((Decimal(run["cost_usd"]) for run in made), Decimal(0)) / runs

    assert "5 more are needed" in loopllama("advise", workflow).stderr
    before = costs(5)
    told = answer("advise", workflow, "--runs-month", 1000)
    assert (told["runs"], told["simulated"], told["enough"]) == (5, True, True)
    assert told["usd_run"]["estimate"] == before
    assert told["usd_month"]["estimate"] == 1000 * before
    moves = [line for line in told["advice"] if line["move"] == "model"]
    assert {line["step"] for line in moves[:3]} == {*STRUCTURED}
    assert {*told["together"]["steps"]} == {*STRUCTURED}
    assert sum(line["saving_usd_run"]["estimate"] for line in moves) <= before

    first = moves[0]
    assert first["weight"] == 1
    forecast = answer(*shlex.split(first["command"])[3:])
    saved = forecast["cost_usd"]["before"] - forecast["cost_usd"]["after"]
    assert abs(saved - first["saving_usd_run"]["estimate"]) < Decimal("1e-9")

    loopllama(*shlex.split(first["apply_command"])[3:], "--reason", "advised")
    after = costs(2)
    assert abs(before - after - first["saving_usd_run"]["estimate"]) <= Decimal("0.05") * (before - after)
    assert after < before
    told = answer("advise", workflow)
    assert first["step"] not in {line["step"] for line in told["advice"] if line["to"] == first["to"]}
