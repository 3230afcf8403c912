"""A `World` with every table and queue that the functions of runs use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from support.deployment import deployment
from support.world import World


@contextlib.contextmanager
def whole_world(**settings: Any) -> Iterator[World]:
    """Yield a whole deployment in this process, its model a server on loopback; `settings` change the deployment's."""
    names = {
        "route_history_table": "RouteHistoryTable",
        "api_keys_table": "ApiKeysTable",
        "key_use_table": "KeyUseTable",
        "event_bus_name": "bus",
        "provider_secrets_prefix": "s/",
    }
    patched = pytest.MonkeyPatch.context()
    with patched as patch, deployment(patch, adapters=True, kind=World, **names, **settings) as made:
        yield made
