"""The scenarios find every mistake that the state machine could have: whatever of it is changed, one of them fails.

Each mutant is played in those scenarios that read what it changes, the quickest first, until one finds it.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from component.state_machine.mutants import Mutant, Place, Watched, mutants
from component.state_machine.scenarios import SCENARIOS
from component.state_machine.stage import Troupe
from support.asl.deployed import state_machine

SAME = {
    r"Retry/\d/BackoffRate dropped": "2 is the language's own",
    r"Retry/1/IntervalSeconds dropped": "1 is the language's own",
    r"Retry/1/MaxDelaySeconds": "four delays that begin at 1 and double end at 8; it is there for a fifth or sixth",
    r"LineRunStep/ResultPath": "what the steps of a line answer is not kept",
    r"GatherItems/Parameters/item\.\$ '\$\.depth'": "both are 0 where a forEach step gathers",
}
"""Mutants that no run can tell from the state machine, by what their names match, and why."""

BY_STATE: dict[str, list[Mutant]] = defaultdict(list)
for _mutant in mutants(state_machine()):
    BY_STATE[_mutant.state].append(_mutant)


@dataclass(frozen=True)
class Played:
    """What a scenario reads of the state machine, and how long it takes."""

    name: str
    seconds: float
    reads: set[Place]


@pytest.fixture(scope="module")
def played(troupe: Troupe) -> list[Played]:
    """Play every scenario once, on the state machine as it is."""
    found = []
    for name, scenario in SCENARIOS.items():
        reads: set[Place] = set()
        began = time.perf_counter()
        scenario(Watched(state_machine(), reads), troupe)
        found.append(Played(name, time.perf_counter() - began, reads))
    return sorted(found, key=lambda one: one.seconds)


def finders(mutant: Mutant, played: list[Played], troupe: Troupe) -> Iterator[str]:
    """Give the scenarios that find a mutant."""
    for one in played:
        if mutant.read in one.reads:
            try:
                SCENARIOS[one.name](mutant.definition, troupe)
            except (Exception, pytest.fail.Exception):
                yield one.name


@pytest.mark.parametrize("state", BY_STATE)
def test_every_mutant_is_found(troupe: Troupe, played: list[Played], state: str) -> None:
    found = {mutant.name: next(finders(mutant, played, troupe), None) for mutant in BY_STATE[state]}
    same = {name for name in found if any(re.search(pattern, name) for pattern in SAME)}
    lived = [name for name, finder in found.items() if finder is None]
    assert sorted(lived) == sorted(same)
