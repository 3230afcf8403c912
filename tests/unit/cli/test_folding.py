"""Lists and loops in a trace: in their order, long ones folded."""

from support.run_objects import attempt, of_list, printed, run, step

from loopllama.queries.step_order import in_order
from loopllama_cli.console.places import label
from loopllama_cli.console.trace import print_trace


def places(steps):
    return [label(one) for one in in_order(steps)]


def test_items_are_in_the_order_of_their_list():
    steps = of_list("each", 11)
    assert places(reversed(steps)) == ["each", *(f"each[{n}]" for n in range(1, 12))]


def test_rounds_follow_one_another():
    loop = [step(name, order, iteration=again) for order, name in ((1, "write"), (2, "judge")) for again in range(3)]
    loop[-1]["loop_ended"] = "satisfied"
    # Another loop right behind it, which is at its second round.
    more = [step(name, order, iteration=again) for order, name in ((3, "cut"), (4, "check")) for again in range(2)]
    steps = [step("plan"), *loop, *more, step("send", 5)]
    assert places(steps) == [
        *("plan", "write", "judge", "write #2", "judge #2", "write #3", "judge #3"),
        *("cut", "check", "cut #2", "check #2", "send"),
    ]


def test_a_list_within_a_loop_keeps_its_rounds_apart():
    steps = [
        step("write", 0, iteration=again, **item)
        for again in range(2)
        for item in ({"item_count": 2}, {"item": 2}, {"item": 1})
    ]
    assert places(steps) == ["write", "write[1]", "write[2]", "write #2", "write[1] #2", "write[2] #2"]


def test_a_short_list_is_shown_item_by_item():
    text = printed(print_trace, run(*of_list("each", 3)), width=120)
    assert all(f"each[{n}]" in text for n in (1, 2, 3))


def test_a_long_list_is_a_line_with_its_spread_and_its_failures():
    failed = {"status": "failed", "error": "OutputInvalid: no JSON", "latency_ms": 250}
    changes = {f"_{n}": failed for n in (3, 7, 8, 11, 12)}
    changes["_5"] = {"latency_ms": 1750, "attempts": [attempt("ModelThrottled"), attempt("ModelTimeout"), attempt()]}
    text = printed(print_trace, run(*of_list("each", 20, **changes), status="failed", error="ItemsFailed"), width=130)
    line = next(line for line in text.splitlines() if "each[1-20]" in line)
    assert line.split()[:4] == ["✗", "each[1-20]", "5", "failed"]
    assert "24,680" in line, "the tokens of all items"
    assert "1.00-1.75 s" in line, "of those that completed"
    assert "$0.0840" in line
    assert "each[3]  OutputInvalid: no JSON" in text
    assert "each[1-20]  2 more failed; the option --step each shows each" in text
    assert "each[1-20]  2 model calls failed: ModelThrottled, ModelTimeout" in text
    assert "each[12]" not in text
