"""Seeded chance, and how far counts may lie from what is expected, so that a simulation with any other seed would fail
by chance once in a million times at most."""

from __future__ import annotations

from math import comb
from random import Random

RARE = 1e-6


def seeded(*what: object) -> Random:
    """The same numbers at each run of a test."""
    return Random(repr(what))  # noqa: S311 - not for secrets


def most(tries: int, probability: float, chance: float = RARE) -> int:
    """The count that so many tries, each with at most this probability, pass with at most this chance."""
    tail, count = 1.0, -1
    while tail > chance:
        count += 1
        tail -= comb(tries, count) * probability**count * (1 - probability) ** (tries - count)
    return count


def least(tries: int, probability: float, chance: float = RARE) -> int:
    """The count that so many tries, each with at least this probability, stay below with at most this chance."""
    return tries - most(tries, 1 - probability, chance)
