"""Random crews and lives against the reference interpreter of the whole language (`support/language`).

`make test` tries the same crews each time. `make test-language SECONDS=3600` tries others for as long as you like, and
`make test-language SEED=7` lives one life again and tells it.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from support.language.lives import Life, Refused, provide
from support.world import World

PARTS, EACH = 4, 20
"""How many crews `make test` tries, in parts that may run side by side: half a second of a processor each."""
SEED, SECONDS = (os.environ.get(f"LOOPLLAMA_LANGUAGE_{name}", "") for name in ("SEED", "SECONDS"))


def disagreement(life: Life) -> tuple[Life, Exception] | None:
    """A life in which engine and reference differ, and how; `None` where they agree. Raises `Refused`."""
    try:
        life.live()
    except Refused:
        raise
    except Exception as error:
        return life, error
    return None


def smallest(life: Life, error: Exception) -> tuple[Life, Exception]:
    """The life with as few steps as still show a disagreement, not necessarily the same."""
    for name in [step.name for crew in life.pushed.values() for step in reversed(crew.steps)]:
        try:
            less = disagreement(Life(life.world, life.seed, life.without | {name}))
        except Refused:
            continue
        life, error = less or (life, error)
    return life, error


def lived(world: World, seed: int) -> bool:
    """Live a seed's life; `False` where its crew is refused. Fails where engine and reference differ."""
    life = Life(world, seed)
    try:
        found = disagreement(life)
    except Refused:
        return False
    finally:
        if SEED:
            print(life.told())
    if found is not None:
        life, error = smallest(*found)
        raise AssertionError(f"{life.told()}\n{error!r}\nmake test-language SEED={seed}") from error
    return True


@pytest.fixture
def language(world: World) -> World:
    """A world with the models that crews name."""
    provide(world)
    return world


def for_long(seconds: float) -> Iterator[int]:
    """Seeds that nobody has tried, until the time is over."""
    first, ends = int(time.time()), time.monotonic() + seconds
    return itertools.takewhile(lambda _: time.monotonic() < ends, itertools.count(first))


def wanted() -> list[Callable[[], Iterable[int]]]:
    """The seeds to try, in parts."""
    if SEED:
        return [lambda: [int(SEED)]]
    if SECONDS:
        return [lambda: for_long(float(SECONDS))]
    return [lambda part=part: range(part * EACH, (part + 1) * EACH) for part in range(PARTS)]


@pytest.mark.parametrize("seeds", wanted(), ids=itertools.count())
def test_random_crews(language: World, seeds: Callable[[], Iterable[int]]) -> None:
    tried: list[bool] = []
    found: list[str] = []
    for seed in seeds():
        try:
            tried.append(lived(language, seed))
        except AssertionError as error:
            found.append(str(error))
            print(error)
    print(f"{sum(tried)} crews tried, {len(found)} disagreements")
    assert not found
    assert sum(tried) > len(tried) * 0.7, "most crews that are drawn can be pushed"
