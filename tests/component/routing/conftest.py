"""Fixtures of the tests on the routing tables."""

import pytest
from support.routing_tables import CONFIG, Clock, tables

from loopllama.routing.router import Router
from loopllama.routing.store import RouteStore


@pytest.fixture
def dynamodb(monkeypatch):
    yield from tables(monkeypatch)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def router(dynamodb, clock):
    return Router(CONFIG, dynamodb, clock)


@pytest.fixture
def store(dynamodb, clock):
    return RouteStore(CONFIG, dynamodb, clock)
