"""What steps and runs waited for people, and what steps waited for at all."""

from __future__ import annotations

from typing import Any, cast

import pytest
from support.stream_records import moment

from loopllama.queries.step_waits import waits_of
from loopllama.runs import waits
from loopllama.runs.records import StepRecord


def step(start: int, end: int | None = None, *asked: tuple[int, int], **more: Any) -> StepRecord:
    """A step from second `start` to `end` that asked people something and was answered, each time from and to."""
    answers = {f"human_{n}": {"asked_at": moment(a), "at": moment(b)} for n, (a, b) in enumerate(asked)}
    ended = {} if end is None else {"finished_at": moment(end)}
    record = {"status": "running", "started_at": moment(start), **ended, **answers, **more}
    return cast("StepRecord", record)


def question(asked: int, ends: int, key: str = "q") -> dict[str, Any]:
    return {"key": key, "asked_at": moment(asked), "expires_at": moment(ends)}


@pytest.mark.parametrize(
    ("record", "seconds"),
    [
        (step(0, 9), 0),
        (step(0, 9, (1, 3), (5, 6)), 3),
        (step(2, 9, (0, 1), (3, 4)), 1),  # what it asked before it was redriven
        (step(0, 30, unanswered=question(4, 20)), 16),
        (step(0, None, pending=question(4, 90)), 26),  # still, at second 30
        (step(0, 30, (4, 5), pending=question(4, 90, "0")), 1),  # answered, and not taken up yet
        (step(0, 30, (4, 25), unanswered=question(4, 20, "0")), 21),  # at the last moment
        (cast("StepRecord", {"status": "running", "pending": question(4, 90)}), 0),  # opened again, not begun anew
    ],
)
def test_a_step_waits_from_the_question_to_the_answer(record: StepRecord, seconds: int) -> None:
    assert waits.of_step(record, moment(30)) == seconds * 1000


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ([step(0, 2), step(2, 12, (3, 11))], 8),
        ([step(0, 12, (2, 10)), step(0, 5)], 5),  # the other one is at work until 5
        ([step(0, 12, (2, 10)), step(0, 14, (4, 13))], 7),  # both wait from 4 to 10, the second from 12 to 13 too
        ([step(0, 12, (2, 10)), step(0, 12, (2, 10))], 8),  # side by side once, not twice
        ([step(0, 12, item_count=2), step(0, 12, (2, 10)), step(0, 3)], 7),  # a forEach step is its items
        ([step(0, 12, (2, 10)), step(0, 12, replayed_from="r")], 8),
        ([step(0, None, pending=question(5, 90)), step(0, 6)], 24),  # still, at second 30
        ([], 0),
    ],
)
def test_a_run_waits_while_nothing_is_at_work(steps: list[StepRecord], seconds: int) -> None:
    assert waits.of_steps(steps, moment(30)) == seconds * 1000


def call(outcome: str, start: int, seconds: int = 1, **more: Any) -> dict[str, Any]:
    return {"model": "m", "outcome": outcome, "started_at": moment(start), "latency_ms": seconds * 1000, **more}


def test_a_step_tells_what_it_waited_for() -> None:
    calls = {
        "attempt_0001": call("ModelThrottled", 0),
        "attempt_0002": call("ModelUnavailable", 1),  # at once: the next one of the attempt order
        "attempt_0003": call("ok", 9),
        "attempt_0004": call("ok", 30, queued_ms=5000),
    }
    assert waits_of(step(0, 60, (40, 50), status="completed", **calls)) == [
        {"reason": "retry", "since": moment(2), "until": moment(9)},
        {"reason": "place", "since": moment(25), "until": moment(30)},
        {"reason": "person", "since": moment(40), "until": moment(50)},
    ]


@pytest.mark.parametrize(
    ("more", "waiting"),
    [
        ({"lease_until": 0}, [{"reason": "retry", "since": moment(1), "until": None}]),
        ({"lease_until": 9_999_999_999_999}, []),  # an invocation has it: the next call is about to be made
        ({"lease_until": 0, "status": "failed"}, []),
    ],
)
def test_a_step_that_was_put_off_waits_to_be_tried_again(more: dict[str, Any], waiting: list[Any]) -> None:
    assert waits_of(step(0, attempt_0001=call("ModelThrottled", 0), **more)) == waiting


def test_a_step_that_queues_says_since_when() -> None:
    queued = step(0, lease_until=0, queued_at=1_000, attempt_0001=call("ModelThrottled", 0))
    assert waits_of(queued) == [{"reason": "place", "since": "1970-01-01T00:00:01.000Z", "until": None}]
