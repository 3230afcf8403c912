"""What is shown of a run that goes on: live in a terminal, and in lines elsewhere."""

from datetime import timedelta

import pytest
from support.run_objects import BEGIN, at, attempt, of_list, printed, run, step

from loopllama_cli.console.progress import Progress, wait

RUNNING = {"status": "running", "finished_at": None, "latency_ms": None, "cost_usd": None, "model": None}


class Watched:
    """A run that is shown without a terminal, at any second of it."""

    def __init__(self, capsys):
        self.seconds = 0.0
        self.progress = Progress(now=lambda: BEGIN + timedelta(seconds=self.seconds))
        self._capsys = capsys

    def lines(self, seconds, *steps):
        self.seconds = seconds
        self.progress.update(run(*steps, status="running"))
        return self._capsys.readouterr().err.splitlines()


@pytest.fixture
def watched(capsys):
    return Watched(capsys)


def writing(*attempts, **changes):
    return step("writer", **{**RUNNING, "attempts": list(attempts), **changes})


def test_a_slow_step_tells_how_long_which_model_and_which_attempt(watched):
    first = writing(attempt("open", latency=None, turn=0))
    assert watched.lines(9, first) == []
    assert watched.lines(11, first) == ["writer: 11.00 s, claude-sonnet-4-6"]
    assert watched.lines(15, first) == []
    again = writing(attempt("ModelTimeout", turn=0), attempt("open", 500, None, turn=0, model="gpt-5"))
    assert watched.lines(21, again) == ["writer: 21.00 s, gpt-5, attempt 2"]
    later = writing(attempt(turn=0), attempt("open", 500, None, turn=1))
    assert watched.lines(95, later) == ["writer: 1m 35s, claude-sonnet-4-6, call 2"]
    tool = {"name": "lookup", "outcome": "open", "started_at": at(0), "latency_ms": None}
    assert watched.lines(170, writing(attempt(turn=0), tool_calls=[tool])) == [
        "writer: 2m 50s, claude-sonnet-4-6, calls lookup"
    ]


def test_a_step_that_waits_says_why_at_once_and_once(watched):
    put_off = writing(attempt("ModelThrottled", turn=0), waits=[{"reason": "retry", "since": at(500), "until": None}])
    line = "writer: 3.00 s, claude-sonnet-4-6, waits to be tried again: ModelThrottled"
    assert watched.lines(3, put_off) == [line]
    assert watched.lines(6, put_off) == []
    assert watched.lines(12, put_off) == [line.replace("3.00", "12.00")]
    queued = writing(waits=[{"reason": "place", "since": at(0), "until": None}])
    assert watched.lines(13, queued) == ["writer: 13.00 s, waits for its place among the model's calls"]


def test_waiting_for_a_person_is_told_as_that(watched):
    asked = writing(waits=[{"reason": "person", "since": at(60_000), "until": None}], waited_ms=5000)
    assert watched.lines(65, asked) == ["writer: 5.00 s, waits for a person"]
    answered = writing(attempt("open", latency=None), waited_ms=5000)
    assert watched.lines(70, answered) == ["writer: 1m 05s, claude-sonnet-4-6"]


def test_a_list_is_complete_behind_its_last_item(watched):
    head, *items = of_list("each", 3)
    head["finished_at"] = items[-1]["finished_at"]
    told = watched.lines(4, head, *items)
    assert [line.split(":")[0] for line in told] == ["each[1]", "each[2]", "each[3]", "each"]


def test_a_long_list_tells_its_tenths_and_its_failures(watched):
    head, *items = of_list("each", 20, _4={"status": "failed", "error": "x"})
    going = {**head, **RUNNING}
    assert watched.lines(1, going, *items[:1]) == []
    told = watched.lines(2, going, *items[:5])
    assert told == ["each[4]: failed  claude-sonnet-4-6  1.00 s", "each: 5 of 20 items, 1 failed"]
    assert watched.lines(3, going, *items[:5]) == []
    assert watched.lines(4, head, *items) == ["each: completed  20.00 s"]


def test_what_did_nothing_has_no_time(watched):
    skipped = step("call", status="skipped", model=None, latency_ms=0, skipped_because="`when` is false: input.vip")
    kept = step("plan", latency_ms=0, replayed_from="run_0")
    assert watched.lines(1, kept, skipped) == ["plan: kept", "call: skipped: `when` is false: input.vip"]


def test_the_live_view_shows_what_goes_on(watched):
    watched.seconds = 21
    steps = [
        step("plan", attempts=[attempt()], simulated=True),
        step(
            "writer",
            1,
            **{**RUNNING, "attempts": [attempt("ModelTimeout", turn=0), attempt("open", 900, None, turn=0)]},
        ),
        step("pay", 2, **{**RUNNING, "waits": [{"reason": "person", "since": at(1000), "until": None}]}),
        *of_list("each", 12, 3, _2={"status": "failed"}, _12=RUNNING)[1:],
    ]
    text = printed(lambda console: console.print(watched.progress.picture(run(*steps, status="running"))))
    rows = [line.split() for line in text.splitlines()[1:]]
    assert rows[0][1:] == ["plan", "claude-sonnet-4-6", "1.00", "s", "$0.004200*"]
    assert rows[1][1:] == ["writer", "claude-sonnet-4-6", "attempt", "2", "21.00", "s"]
    assert rows[2] == ["⏸", "pay", "waits", "for", "a", "person", "20.00", "s"]
    assert rows[3][1:8] == ["each[1-12]", "claude-sonnet-4-6", "11", "done,", "1", "running,", "1"]
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("width", [60, 80])
def test_the_live_view_fits(watched, width):
    going = RUNNING | {"attempts": [attempt("open", latency=None, model="bedrock:us.anthropic.claude-x")]}
    steps = [step(f"a_step_with_a_long_name_{n}", n, **going) for n in range(3)]
    text = printed(lambda console: console.print(watched.progress.picture(run(*steps))), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert len(text.splitlines()) == 4


def test_waiting_ends_with_the_run(monkeypatch, capsys):
    monkeypatch.setattr("time.sleep", lambda _: None)
    states = iter(
        [
            run(step("a", status="queued", started_at=None, finished_at=None), status="queued"),
            run(step("a"), step("b", 1, status="completed"), status="completed"),
        ]
    )
    assert wait(lambda: next(states))["status"] == "completed"
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == ["a", "b"]


def test_waiting_has_an_end(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(TimeoutError, match="still running"):
        wait(lambda: run(status="running"), quiet=True, seconds=0.1)
