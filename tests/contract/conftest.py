"""Fixtures of the provider contract: a dialect, a provider on loopback that speaks it, and the adapter under test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.deployment import Deployment, deployment
from support.dialects import DIALECTS, Dialect
from support.step_here import Here
from support.wire_server import WireServer

from loopllama.llm.types import Message, ModelRequest, Provider


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found: Dialect = request.param
    return found


@pytest.fixture
def server() -> Iterator[WireServer]:
    with WireServer() as running:
        yield running
    running.check()


@pytest.fixture
def adapter(dialect: Dialect, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> Provider:
    server.refuses = dialect.guard
    return dialect.adapter(server.url, monkeypatch)


@pytest.fixture
def make_call(dialect: Dialect) -> Callable[..., ModelRequest]:
    def make(**changes: Any) -> ModelRequest:
        values: dict[str, Any] = {
            "model": dialect.model,
            "catalog_id": f"{dialect.name}-test",
            "system": "You sort support tickets.",
            "messages": (Message("user", "I was charged twice."),),
            "timeout": 10.0,
            **changes,
        }
        return ModelRequest(**values)

    return make


@pytest.fixture(scope="module")
def live() -> Iterator[Deployment]:
    with pytest.MonkeyPatch.context() as patch, deployment(patch, adapters=True) as made:
        yield made


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Iterator[WireServer]:
    with WireServer() as running:
        monkeypatch.setenv("SECOND_BASE_URL", f"{running.url}/v1")
        yield running
    running.check()


@pytest.fixture
def here(
    live: Deployment, dialect: Dialect, server: WireServer, second: WireServer, monkeypatch: pytest.MonkeyPatch
) -> Here:
    dialect.adapter(server.url, monkeypatch)  # sets the environment
    server.refuses = dialect.guard
    return Here(live, dialect, server, second)


@pytest.fixture
def third(monkeypatch: pytest.MonkeyPatch) -> Iterator[WireServer]:
    with WireServer() as running:
        monkeypatch.setenv("THIRD_BASE_URL", f"{running.url}/v1")
        yield running
    running.check()
