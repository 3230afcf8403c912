"""A judge's verdicts in both orders."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from support import chance

from loopllama.evidence import judging
from loopllama.evidence.judging import Judgement, Word

WON, LOST = Judgement("first", "second"), Judgement("second", "first")
FIRST, SECOND, TIE = (Judgement(word, word) for word in ("first", "second", "tie"))


@pytest.mark.parametrize(
    ("said", "score", "flipped", "place"),
    [
        (WON, 1, False, 0),
        (LOST, -1, False, 0),
        (FIRST, 0, True, 1),
        (SECOND, 0, True, -1),
        (TIE, 0, False, 0),
        (Judgement("first", "tie"), 0, False, 0.5),
        (Judgement("tie", "first"), 0, False, 0.5),
        (Judgement("second", "tie"), 0, False, -0.5),
        (Judgement("tie", "second"), 0, False, -0.5),
    ],
)
def test_what_a_judgement_says(said: Judgement, score: int, flipped: bool, place: float) -> None:
    assert (judging.score(said), judging.flipped(said), judging.place(said)) == (score, flipped, place)


def test_whoever_is_called_candidate_changes_the_sign_alone() -> None:
    words: tuple[Word, ...] = ("first", "second", "tie")
    for said in (Judgement(*pair) for pair in product(words, words)):
        other = Judgement(said.candidate_second, said.candidate_first)
        assert judging.score(other) == -judging.score(said)
        assert judging.flipped(other) == judging.flipped(said)
        assert judging.place(other) == judging.place(said)


def test_what_is_reported() -> None:
    report = judging.report([WON, WON, LOST, FIRST, TIE])
    assert report[:5] == (5, 0.2, 0.2, 0.4, 0.2)
    assert report.interval[0] < 0.2 < report.interval[1]
    assert judging.report([]) == (0, None, None, None, None, (-1, 1))


def said(rng: Random, prefers_first: float, tells: float, wins: float = 0.5) -> Judgement:
    """A judge that tells the answers apart with a probability of `tells`, and else names a place."""
    if rng.random() < tells:
        return WON if rng.random() < wins else LOST
    return Judgement(*(("first" if rng.random() < prefers_first else "second") for _ in range(2)))


@pytest.mark.parametrize(("prefers_first", "wins"), [(0.5, 0.55), (0.65, 0.45)])
def test_a_judge_within_the_tolerances_is_seldom_refused(prefers_first: float, wins: float) -> None:
    """At the edge of both tolerances."""
    rng, judges = chance.seeded(prefers_first, wins), 60
    tells = 0 if prefers_first > 0.5 else 1
    faults = [judging.refused(said(rng, prefers_first, tells, wins) for _ in range(300)) for _ in range(judges)]
    assert judges - faults.count(None) <= chance.most(judges, 0.05)


@pytest.mark.parametrize(
    ("judgements", "fault"),
    [
        ([FIRST] * 20, "prefers_a_place"),
        ([SECOND] * 20, "prefers_a_place"),
        ([WON] * 11, "prefers_an_arm"),
        ([LOST] * 11, "prefers_an_arm"),
        ([WON, LOST, FIRST, SECOND, TIE] * 100, None),
        ([TIE] * 500, None),
        ([WON, TIE, TIE, TIE, WON] * 60, "prefers_an_arm"),
        ([WON] * 2, None),
        ([], None),
    ],
)
def test_which_judges_are_refused(judgements: list[Judgement], fault: str | None) -> None:
    assert judging.refused(judgements) == fault


def test_a_judge_that_was_refused_stays_so() -> None:
    assert judging.refused([WON] * 11 + [LOST] * 500) == "prefers_an_arm"


def test_a_wrong_level_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        judging.refused([], 0)
