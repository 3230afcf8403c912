"""What a judge's verdicts in both orders are worth, and when a judge is to be refused. Pure.

A judge sees two answers, blind, and says which is better; then it sees them the other way round. Only what it says both
times counts. The second question also shows the judge's weakness: who names the same place twice, prefers a place and
not an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from loopllama.evidence import betting, confidence
from loopllama.evidence.betting import BETS, BILLION

Word = Literal["first", "second", "tie"]
"""Which answer a judge says is better, by the place at which it was shown."""
Fault = Literal["prefers_an_arm", "prefers_a_place"]

ARM_TOLERANCE = 0.1
"""How far a judge's mean score on A/A may be from 0."""
PLACE_TOLERANCE = 0.3
"""How far its mean preference for a place may be: 0.3 is 65 to 35 where it never says tie."""


class Judgement(NamedTuple):
    """What a judge said of one pair."""

    candidate_first: Word
    """Said when the candidate's answer was shown first, the incumbent's second."""
    candidate_second: Word
    """Said when they had changed places."""


class Report(NamedTuple):
    """What is known of a judge."""

    pairs: int
    mean: float | None
    """The mean score, `None` without pairs."""
    flips: float | None
    """The share of pairs in which it named the same place both times."""
    ties: float | None
    """The share of pairs with the score 0, flips among them."""
    place: float | None
    """The mean preference for a place: 1 for always the first, -1 for always the second."""
    interval: tuple[float, float]
    """Bounds of the true mean score that hold at every time, 95 % together."""


def score(judgement: Judgement) -> int:
    """Return 1 where the candidate's answer won in both orders, -1 where it lost in both, else 0."""
    if judgement == ("first", "second"):
        return 1
    return -1 if judgement == ("second", "first") else 0


def flipped(judgement: Judgement) -> bool:
    """Return whether the verdict changed with the order: the same place was named twice."""
    return judgement.candidate_first == judgement.candidate_second != "tie"


def place(judgement: Judgement) -> float:
    """Return how far the first place was preferred, from -1 to 1: half a point for each time that it was named."""
    return (judgement.count("first") - judgement.count("second")) / 2


def report(judgements: Iterable[Judgement]) -> Report:
    """Return the means over judgements, those of an experiment or those of A/A."""
    seen = list(judgements)
    scores = [score(judgement) for judgement in seen]
    count, bounds = len(seen), confidence.interval(scores)
    if not seen:
        return Report(0, None, None, None, None, bounds)
    return Report(
        pairs=count,
        mean=sum(scores) / count,
        flips=sum(map(flipped, seen)) / count,
        ties=scores.count(0) / count,
        place=sum(map(place, seen)) / count,
        interval=bounds,
    )


def refused(judgements: Iterable[Judgement], alpha: float = 0.05) -> Fault | None:
    """Return why a judge is to be refused by its judgements on A/A (the incumbent's answers against the incumbent's,
    asked again), or `None`. They are read in their order, as if looked at after each.

    The rule: four gamblers (`betting.py`) bet that its mean score is over 0.1 or under -0.1 (`prefers_an_arm`: one
    side's answers are not what the other's are, or the judge tells them apart by something else), and that its mean
    preference for a place is over 0.3 or under -0.3 (`prefers_a_place`: most of its verdicts are flips and show
    nothing). Whoever reaches 4/alpha refuses the judge.

    The error: of judges within both tolerances, at most a share of `alpha` is ever refused, however often one looks.
    That a judge is not refused proves nothing: one with a mean of 0.3 is refused after some 70 pairs (with many ties)
    to 180, one that always names the first place after 15. A smaller preference for a place costs pairs, and favours no
    side.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, and must be between 0 and 1")
    arm, first = round(ARM_TOLERANCE * BILLION), round(PLACE_TOLERANCE * BILLION)
    wealths = {key: [0] * len(BETS) for key in ("arm above", "arm below", "place above", "place below")}
    for judgement in judgements:
        won, preferred = score(judgement) * BILLION, round(place(judgement) * BILLION)
        gains = {
            "arm above": betting.gains(won, arm, "above"),
            "arm below": betting.gains(won, -arm, "below"),
            "place above": betting.gains(preferred, first, "above"),
            "place below": betting.gains(preferred, -first, "below"),
        }
        for key, gained in gains.items():
            wealths[key] = betting.added(wealths[key], gained)
            if betting.crossed(wealths[key], alpha / len(wealths)):
                return "prefers_an_arm" if key.startswith("arm") else "prefers_a_place"
    return None
