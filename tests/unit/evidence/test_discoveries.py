"""Several candidates at once."""

from __future__ import annotations

import math

import pytest
from support import chance

from loopllama.evidence import discoveries


def logs(*e_values: float) -> dict[int, float]:
    return {place: math.log(value) if value else -math.inf for place, value in enumerate(e_values)}


@pytest.mark.parametrize(
    ("e_values", "proven"),
    [
        ((), set()),
        ((20,), {0}),
        ((19.9,), set()),
        ((20, 20), {0, 1}),
        ((20, 1), set()),
        ((40, 1), {0}),
        ((1, 40), {1}),
        # The second carries the first, which alone had not sufficed.
        ((39, 20, 1), set()),
        ((30, 30, 1), {0, 1}),
        ((59, 31, 20), {0, 1, 2}),
        ((0, 0), set()),
        ((1e300, 0), {0}),
    ],
)
def test_which_are_proven(e_values: tuple[float, ...], proven: set[int]) -> None:
    assert discoveries.proven(logs(*e_values), 0.05) == proven


def test_few_of_the_discoveries_are_false_although_all_depend_on_each_other() -> None:
    """Eight true null hypotheses share an e-value of mean 1, and two false ones are proven always: the false discovery
    proportion is 0.8 whenever the shared one is large."""
    rng, tries, false = chance.seeded(1), 4000, 0.0
    for _ in range(tries):
        shared = 25 if rng.random() < 1 / 25 else 0
        rejected = discoveries.proven(logs(*[shared] * 8, 1e6, 1e6), 0.05)
        false += len(rejected - {8, 9}) / max(len(rejected), 1)
    assert 0.01 < false / tries <= 0.05


@pytest.mark.parametrize("alpha", [0, 1, -1])
def test_a_wrong_level_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        discoveries.proven({}, alpha)
