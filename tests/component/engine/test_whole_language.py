"""Random crews and lives against the reference interpreter of the whole language (`support/language`).

`make test` tries the same crews each time; `make test-language SECONDS=3600` tries others for as long as you like.
`make test-language SEED=7` lives one life again, and says what happened in it.
"""

from __future__ import annotations

import os
import time

import pytest
from support.language.crews import random_crew
from support.language.lives import Life, Refused, provide
from support.world import World

PARTS, EACH = 4, 50
"""How many crews `make test` tries, in parts that may run side by side."""


def disagreement(world: World, seed: int, without: frozenset[str] = frozenset()) -> tuple[Life, Exception] | None:
    """A life in which engine and reference differ; `None` where they agree. Raises `Refused`."""
    life = Life(world, seed, without)
    try:
        life.live()
    except Refused:
        raise
    except Exception as error:
        return life, error
    return None


def smallest(world: World, seed: int, found: tuple[Life, Exception]) -> tuple[Life, Exception]:
    """The same disagreement with as few steps as still show one."""
    names = [step.name for step in random_crew_of(found[0])]
    for name in reversed(names):
        try:
            less = disagreement(world, seed, found[0].without | {name})
        except Refused:
            continue
        found = less or found
    return found


def random_crew_of(life: Life):
    return life.pushed[1].steps if life.pushed else ()


def lived(world: World, seed: int) -> bool:
    """Live a seed's life; `False` where its crew is refused. Fails where engine and reference differ."""
    try:
        found = disagreement(world, seed)
    except Refused:
        return False
    if found is None:
        return True
    life, error = smallest(world, seed, found)
    crews = [f"  version {number}: {step.definition()}" for number, crew in life.pushed.items() for step in crew.steps]
    happened = "\n".join([*crews, *(f"  {line}" for line in life.said)])
    raise AssertionError(f"seed {seed} (make test-language SEED={seed}):\n{happened}\n{error!r}") from error


@pytest.fixture
def language(world: World) -> World:
    provide(world)
    return world


if (SEED := os.environ.get("LOOPLLAMA_LANGUAGE_SEED")):
    def test_a_seed(language: World) -> None:
        assert lived(language, int(SEED)), "its crew is refused"
elif (SECONDS := os.environ.get("LOOPLLAMA_LANGUAGE_SECONDS")):
    def test_for_long(language: World) -> None:
        ends, seed, tried, failed = time.monotonic() + float(SECONDS), int(time.time()), 0, []
        while time.monotonic() < ends:
            seed += 1
            try:
                tried += lived(language, seed)
            except AssertionError as error:
                failed.append(str(error))
                print(error)
        print(f"{tried} crews tried, {len(failed)} disagreements")
        assert not failed
else:
    @pytest.mark.parametrize("part", range(PARTS))
    def test_crews(language: World, part: int) -> None:
        tried = sum(lived(language, seed) for seed in range(part * EACH, (part + 1) * EACH))
        assert tried > EACH * 0.8, "most crews that are drawn can be pushed"
