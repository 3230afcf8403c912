"""The timeline of a trace: what happened when."""

import pytest
from support.run_objects import at, attempt, of_list, printed, run, step

from loopllama_cli.console.trace import print_trace


def called(name, order=0, start=0, latency=1000, **changes):
    """A step that a model answered at once."""
    return step(name, order, start, latency, attempts=[attempt(start=start, latency=latency)], **changes)


def timeline_of(text, name):
    """What is drawn of a step."""
    line = next(line for line in text.splitlines() if line.startswith(name))
    return line[: line.rindex(" ", 0, len(line.rstrip()) - 3)]


def signs(text, name, *more):
    """The signs that are drawn of a step, each stretch once."""
    drawn = timeline_of(text, name).removeprefix(name).strip().split()[0]
    return "".join(sign for place, sign in enumerate(drawn) if place == 0 or drawn[place - 1] != sign)


def test_the_timeline_is_to_scale():
    text = printed(print_trace, run(called("first", 0, 0, 1000), called("second", 1, 1000, 3000)))
    first, second = (timeline_of(text, name) for name in ("first", "second"))
    assert second.count("━") == pytest.approx(3 * first.count("━"), abs=1)
    assert second.index("━") == first.rindex("━") + 1


def test_parallel_steps_stand_above_one_another():
    text = printed(print_trace, run(called("left"), called("right", 1)))
    assert timeline_of(text, "left").index("━") == timeline_of(text, "right").index("━")


def test_the_timeline_shows_what_happened():
    """A failed call, waiting to be tried again, a model, a tool, a tool that failed, waiting for its place, a model."""
    parts = [attempt("ModelUnavailable", 0, 500), attempt("ok", 1500, 500), attempt("ok", 4500, 500, queued_ms=1000)]
    tools = [
        {"name": "a", "outcome": "ok", "started_at": at(2000), "latency_ms": 500},
        {"name": "b", "outcome": "failed", "started_at": at(2500), "latency_ms": 500},
    ]
    waits = [
        {"reason": "retry", "since": at(500), "until": at(1500)},
        {"reason": "place", "since": at(3500), "until": at(4500)},
    ]
    only = step("only", latency=5500, attempts=parts, tool_calls=tools, waits=waits)
    text = printed(print_trace, run(only))
    assert signs(text, "only") == "×╌━▪×·╌━·"  # noqa: RUF001
    meaning = "━ model   ▪ tool   × failed   ╌ waits to be tried again, or for its place   · none of these"  # noqa: RUF001
    assert meaning in text


def test_a_step_that_did_nothing_is_not_drawn():
    steps = [
        called("first"),
        step("skipped", 1, 1000, 0, status="skipped", model=None),
        step("old", 2, 500, 0, replayed_from="r"),
    ]
    text = printed(print_trace, run(*steps))
    assert [line.split() for line in text.splitlines() if line.startswith(("skipped", "old"))] == [
        ["skipped", "skipped"],
        ["old", "kept"],
    ]


def test_an_hour_for_an_answer_does_not_hide_the_seconds():
    hour = 3_600_000
    waits = [{"reason": "person", "since": at(1000), "until": at(1000 + hour)}]
    asked = step("pay", 1, 1000, hour + 1000, waits=waits, attempts=[attempt(start=1000 + hour, latency=1000)])
    text = printed(print_trace, run(called("first"), {**asked, "latency_ms": 1000}))
    first, pay = timeline_of(text, "first"), timeline_of(text, "pay")
    assert first.count("━") == pytest.approx(pay.count("━"), abs=1)
    assert first.count("━") > 20
    assert 3 <= pay.count("◌") <= 10
    assert "⋯ cut short" in text
    axis = next(line for line in text.splitlines() if "╷0" in line)
    assert axis.rstrip().endswith("s")
    assert axis.index("⋯") < axis.index("╷2 s") if "╷2 s" in axis else True


def test_others_that_work_meanwhile_are_drawn_to_scale():
    waits = [{"reason": "person", "since": at(0), "until": at(8000)}]
    asked = step("pay", 1, 0, 10_000, waits=waits, attempts=[attempt(start=8000, latency=2000)])
    text = printed(print_trace, run(called("long", 0, 0, 8000), asked))
    assert timeline_of(text, "long").count("━") == pytest.approx(timeline_of(text, "pay").count("◌"), abs=1)
    assert "cut short" not in text


def test_what_goes_on_is_drawn_until_now():
    asked = {"status": "running", "finished_at": None, "latency_ms": None, "model": None}
    waits = [{"reason": "person", "since": at(1000), "until": None}]
    text = printed(
        print_trace, run(called("first"), step("pay", 1, 1000, waits=waits, **asked), status="waiting_input")
    )
    assert set(timeline_of(text, "pay").removeprefix("pay").split()[0]) == {"◌"}
    assert "⏸" in next(line for line in text.splitlines() if "pay" in line)
    assert "pay  waits for a person since " in text


def test_a_long_list_is_one_line():
    text = printed(print_trace, run(*of_list("each", 20, _3={"latency_ms": 700_000})), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "1.00 s-11m 40s" in next(line for line in text.splitlines() if line.startswith("each[1-20]"))
    assert timeline_of(text, "each[1-20]").count("━") > 10
    assert "each[7]" not in text
