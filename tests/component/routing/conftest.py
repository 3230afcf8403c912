"""The routing tables in memory, a clock that stands still, a router and a store over both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.routing_tables import CONFIG, Clock, Counting, tables

from loopllama.routing.router import Router
from loopllama.routing.store import RouteStore


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    """The tables' client, which counts its calls."""
    yield from tables(monkeypatch)


@pytest.fixture
def clock() -> Clock:
    """Epoch seconds."""
    return Clock()


@pytest.fixture
def router(dynamodb: Counting, clock: Clock) -> Router:
    """A router that has decided nothing yet."""
    return Router(CONFIG, dynamodb, clock)


@pytest.fixture
def store(dynamodb: Counting, clock: Clock) -> RouteStore:
    """What writes the routes, by the same clock."""
    return RouteStore(CONFIG, dynamodb, clock)
