"""Fixtures of the engine's component tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.world import World
from support.worlds import whole_world


@pytest.fixture
def world() -> Iterator[World]:
    """A whole deployment in this process, its model a server on loopback."""
    with whole_world() as made:
        yield made
