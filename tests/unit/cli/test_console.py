"""What a run looks like: trace, timeline, comparison, figures."""

import re
from decimal import Decimal
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.run_objects import attempt, printed, run, step

from loopllama_cli.console import output
from loopllama_cli.console.comparison import compare_runs, print_comparison
from loopllama_cli.console.trace import picture, print_trace


def row_of(text, name):
    return next(line for line in text.splitlines() if name in line).split()


def test_a_step_s_row_and_the_totals():
    text = printed(print_trace, run(step("triage", tokens_cached=900), step("writer", 1, 1000, cost="0.0126")))
    assert row_of(text, "✓  triage") == [
        *("✓", "triage", "claude-sonnet-4-6", "agent", "1,234", "900", "100", "1.00", "s", "$0.0042", "25.0%"),
    ]
    assert row_of(text, "Total") == ["Total", "2,468", "900", "200", "2.00", "s", "$0.0168"]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_every_line_fits(width):
    steps = [step(f"a_step_with_a_long_name_{n}", n, n * 100, model="bedrock:us.anthropic.claude-x") for n in range(6)]
    assert max(map(len, printed(print_trace, run(*steps), width=width).splitlines())) <= width


def test_text_of_others_is_no_markup_and_no_terminal_code():
    hostile = "[red]x[/red] \x1b]0;title\x07 [/]"
    odd = step(
        "a", error=hostile, model=hostile, ignored=[{"layer": "step-override", "model": hostile, "reason": hostile}]
    )
    text = printed(print_trace, run(odd, input=hostile, error=hostile, tags={"k": hostile}))
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_what_went_otherwise_than_planned_is_told():
    told = printed(
        print_trace,
        run(
            step(
                "writer",
                ignored=[{"layer": "step-override", "model": "gpt-nope", "reason": "no such model"}],
                attempts=[
                    attempt("ModelThrottled", model="gpt-5", error="slow down"),
                    attempt("lost", model="gpt-5", latency=None),
                    attempt(start=600),
                ],
                tool_calls=[
                    {"name": "lookup", "outcome": "ok"},
                    {"name": "lookup", "outcome": "ok"},
                    {"name": "pay", "outcome": "failed", "latency_ms": 90, "result": "the card\nis no good"},
                ],
            )
        ),
        width=140,
    )
    assert "writer  the step's override gpt-nope skipped: no such model" in told
    assert "writer  gpt-5 ModelThrottled after 500 ms: slow down" in told
    assert "writer  gpt-5 was begun and never answered" in told
    assert "writer  answered by the fallback claude-sonnet-4-6" in told
    assert "writer  2 tool calls: lookup (2)" in told
    assert "writer  tool pay failed after 90 ms: the card is no good" in told


def test_what_answered_and_what_waited_is_told():
    cut = attempt(answered_by="gpt-5-2025-08-07", queued_ms=12_000, stop_reason="max_tokens", max_tokens=8192)
    busy = {"layer": "calls", "model": "mine", "reason": "mine: 1 call is under way, as many as may be at once"}
    told = printed(print_trace, run(step("writer", attempts=[cut], ignored=[busy])), width=160)
    assert "writer  claude-sonnet-4-6 was asked, gpt-5-2025-08-07 answered" in told
    assert "writer  waited 12.00 s for its place among the calls of claude-sonnet-4-6" in told
    assert "was cut off by its token limit of 8,192, which the agent did not set" in told
    assert "writer  mine was not called: mine: 1 call is under way, as many as may be at once" in told


def test_a_budget_is_no_override():
    why = "The run's budget allows 0.1 USD: raise budget.maxCostUsd"
    passed = step("a", ignored=[{"layer": "budget", "model": "dear", "reason": why}])
    assert f"a  dear was not called: {why}" in printed(print_trace, run(passed))
    told = {"status": "failed", "error": f"BudgetExceeded: {why}"}
    failed = run(passed | told, **told | {"error": f"step 'a': {told['error']}"})
    assert printed(print_trace, failed, width=140).count(why) == 1


def test_what_a_replay_kept_is_told():
    kept = step("a", cost="0", latency=0, replayed_from="run_0")
    replayed = {"run_id": "run_0", "from_step": "b"}
    text = printed(print_trace, run(kept, step("b", 1), replayed_from=replayed))
    assert "replayed from run_0 at b" in text
    assert row_of(text, "✓  a")[-3:] == ["kept", "-", "-"]
    assert row_of(text, "✓  b")[-2:] == ["$0.0042", "100.0%"]


def test_unpriced_is_not_free():
    text = printed(print_trace, run(step("a", cost=None, unpriced=True), step("b", 1)))
    assert "unpriced" in " ".join(row_of(text, "✓  a"))
    assert "the total leaves them out" in text
    assert "$0.0042" in row_of(text, "Total")


def test_the_basis_of_a_cost_is_told():
    text = printed(
        print_trace, run(step("a", cost_basis="estimated"), step("b", 1, cost_basis="unknown"), step("c", 2))
    )
    assert "~$0.0042" in row_of(text, "✓  a")
    assert "≥$0.0042" in row_of(text, "✓  b")
    assert "$0.0042" in row_of(text, "✓  c")
    assert "≥$0.0126" in row_of(text, "Total")
    assert "are estimated" in text
    assert "is unknown and not counted" in text


def test_simulated_is_said_wherever_figures_are():
    real, simulated = step("a"), step("b", 1, simulated=True)
    assert "simulated" not in printed(print_trace, run(real)).lower()
    mixed = printed(print_trace, run(real, simulated))
    assert "SIMULATED" in mixed
    assert "Some answers" in mixed
    assert "simulated" in row_of(mixed, "✓  b")
    assert "simulated" not in row_of(mixed, "✓  a")
    assert "All answers" in printed(print_trace, run(simulated))
    assert "SIMULATED" in printed(print_comparison, run(real), run(simulated))


def test_a_run_that_has_not_begun_or_has_failed_has_a_trace():
    waiting = step("a", cost=None, status="queued", model=None, latency_ms=None, started_at=None, finished_at=None)
    queued = run(waiting, status="queued", started_at=None, finished_at=None, latency_ms=None)
    assert row_of(printed(print_trace, queued), "·  a")[:2] == ["·", "a"]
    assert "Total" in printed(print_trace, run(status="queued", input=None))
    assert "step 'a': OutputInvalid" in printed(print_trace, run(status="failed", error="step 'a': OutputInvalid: x"))


def six(model_costs, latency=600):
    steps = [step(f"s{n}", n, n * 100, 100, cost, model=f"m{cost}") for n, cost in enumerate(model_costs)]
    return run(*steps, cost_usd=sum(map(Decimal, model_costs)), latency_ms=latency)


def test_four_of_six_moved_to_a_tenth_is_sixty_percent():
    a, b = six(["0.0031"] * 6), six(["0.00031"] * 4 + ["0.0031"] * 2, latency=300)
    result = compare_runs(a, b)
    assert result == {"cost_change": Decimal("-0.6"), "latency_change": Decimal("-0.5"), "kept": [], "a": a, "b": b}
    text = printed(print_comparison, a, b)
    before, after = text.splitlines()[-2 - text.endswith("\n\n") :][:2]
    assert (before.split()[0], before.split()[-1]) == ("Total", "$0.01860")
    assert after.split() == ["→", "300", "ms", "-50.0%", "$0.00744", "-60.0%"]
    assert text.count("-90.0%") == 4
    assert "→ m0.00031" in text


def test_an_unknown_cost_has_no_change():
    unpriced = run(step("a", cost=None, unpriced=True))
    assert compare_runs(unpriced, run(step("a")))["cost_change"] is None
    assert compare_runs(run(step("a")), unpriced)["cost_change"] is None
    assert compare_runs(run(step("a", cost="0")), run(step("a")))["cost_change"] is None
    assert "unpriced" in printed(print_comparison, unpriced, run(step("a")))


def test_steps_that_only_one_run_has_are_compared_with_nothing():
    text = printed(print_comparison, run(step("a"), step("old", 1)), run(step("a"), step("new", 1)))
    assert {"old", "new"} <= set(text.split())


@given(st.decimals("0.000000001", 10_000, allow_nan=False))
def test_a_price_never_looks_like_nothing(cost):
    shown = Decimal(output.money(cost).lstrip("$").replace(",", ""))
    assert shown > 0
    assert abs(shown - cost) / cost < Decimal("0.01")


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        *((0, "0 ms"), (812, "812 ms"), (999.6, "1.00 s"), (1420, "1.42 s"), (Decimal("1500"), "1.50 s")),
        *((59_994, "59.99 s"), (59_999, "1m 00s"), (125_000, "2m 05s"), (3_600_000, "1h 00m"), (None, "-")),
    ],
)
def test_durations(milliseconds, text):
    assert output.duration(milliseconds) == text


@given(st.text())
def test_cleaned_text_moves_no_cursor(text):
    assert not any((ord(char) < 32 and char not in "\n\t") or 127 <= ord(char) < 160 for char in output.clean(text))


def test_a_picture_says_what_the_terminal_says_and_fetches_nothing():
    drawn = picture(run(step("triage"), step("<reply>", order=1, start=1000, cost="0.5")))
    said = " ".join("".join(ElementTree.fromstring(drawn).itertext()).split()).replace("\N{NO-BREAK SPACE}", " ")  # noqa: S314 - our own
    assert all(text in said for text in ("triage", "<reply>", "$0.5042"))
    assert re.findall(r"url\((?!#)|(?:href|src)=|@import|<script", drawn) == []
