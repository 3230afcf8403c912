"""Fixtures of the engine's component tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.deployment import deployment
from support.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """A whole deployment in this process, its model a server on loopback."""
    with pytest.MonkeyPatch.context() as patch:
        tables = {
            "route_history_table": "RouteHistoryTable",
            "api_keys_table": "ApiKeysTable",
            "key_use_table": "KeyUseTable",
        }
        more = {"event_bus_name": "bus", "provider_secrets_prefix": "s/"}
        with deployment(patch, adapters=True, kind=World, **tables, **more) as made:
            yield made
