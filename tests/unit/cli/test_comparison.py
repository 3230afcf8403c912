"""`compare` of a replay with the run that it replays, of runs that waited for people, and of long lists."""

from decimal import Decimal

from support.run_objects import at, attempt, of_list, printed, run, step

from loopllama_cli.console.comparison import compare_runs, print_comparison

KEPT = {"replayed_from": "run_1", "latency_ms": 0, "cost_usd": 0, "tokens_in": 0, "tokens_out": 0}


def called(name, order, start, latency, cost, **changes):
    return step(name, order, start, latency, cost, attempts=[attempt(start=start, latency=latency)], **changes)


def pair():
    """A run, and a replay of it from `write` on, which moved that step to a model of half the cost and time."""
    a = run(called("plan", 0, 0, 4000, "0.04"), called("write", 1, 4000, 2000, "0.02"), cost_usd=Decimal("0.06"))
    moved = called("write", 1, 100, 1000, "0.01", model="small")
    b = run(step("plan", 0, 0, 0, **KEPT), moved, id="run_2", cost_usd=Decimal("0.01"))
    return a, b


def lines(a, b):
    return [line.split() for line in printed(print_comparison, a, b, width=120).splitlines()]


def test_what_a_replay_kept_is_no_saving():
    a, b = pair()
    result = compare_runs(a, b)
    assert (result["kept"], result["cost_change"], result["latency_change"]) == (
        ["plan"],
        Decimal("-0.5"),
        Decimal("-0.5"),
    )
    shown = lines(a, b)
    assert ["→", "the", "same", "kept", "-"] in shown
    assert ["→", "small", "1.00", "s", "-50.0%", "$0.010", "-50.0%"] in shown
    assert ["Redone", "2.00", "s", "$0.020"] in shown
    assert ["→", "1.00", "s", "-50.0%", "$0.010", "-50.0%"] in shown
    assert "without plan, which a replay kept" in printed(print_comparison, a, b)
    assert not [line for line in shown if "-100.0%" in line]


def test_items_and_rounds_of_what_was_kept_are_kept_too():
    _, b = pair()
    a = run(*of_list("plan", 2), step("write", 1, 4000, iteration=0), step("write", 1, 5000, iteration=1))
    kept = [line for line in lines(a, b) if "kept" in line and "which" not in line]
    assert len(kept) == 3, "the list and its two items"


def test_the_other_way_round_it_is_the_same_steps():
    b, a = pair()
    result = compare_runs(a, b)
    assert (result["kept"], result["cost_change"], result["latency_change"]) == (["plan"], 1, 1)


def test_waiting_for_people_is_in_neither():
    a, b = pair()
    waits = [{"reason": "person", "since": at(4000), "until": at(604_000)}]
    a["steps"][1] = called("write", 1, 4000, 602_000, "0.02", waits=waits) | {"latency_ms": 2000}
    assert compare_runs(a, b)["latency_change"] == Decimal("-0.5")


def test_what_goes_on_has_no_change():
    a, b = pair()
    b["steps"][1] |= {"status": "running", "finished_at": None, "latency_ms": None}
    assert compare_runs(a, b)["latency_change"] is None


def test_long_lists_are_compared_whole():
    shown = lines(run(*of_list("each", 20)), run(*of_list("each", 10)))
    assert [line for line in shown if line and line[0].startswith("each[")] == [
        ["each[1-20]", "claude-sonnet-4-6", "1.00", "s", "$0.084"]
    ]
    assert ["→", "the", "same", "1.00", "s", "-", "$0.042", "-50.0%"] in shown


def test_estimates_are_marked():
    a, b = pair()
    b["steps"][1]["cost_basis"] = "estimated"
    text = printed(print_comparison, a, b, width=120)
    assert text.count("~$0.010") == 2
    assert "~ estimated" in text
