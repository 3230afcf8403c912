"""One stack for all tests of this folder, and a provider on loopback."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from support.fixtures import provider_server, running, system
from support.provider_server import ProviderServer, Reply, Script
from support.system import System

__all__ = ["provider", "provider_server", "running", "system"]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def provider(
    system: System, provider_server: ProviderServer
) -> Callable[[Callable[[dict[str, Any]], Reply]], tuple[Script, str]]:
    """Make a provider of its own for a test: its script, and the id of its model `one`."""

    def make(answer: Callable[[dict[str, Any]], Reply]) -> tuple[Script, str]:
        name = f"p{next(_numbers)}"
        script = provider_server.script(name, answer)
        system.put_provider(name, script.url)
        return script, system.put_model(f"{name}:one", name)

    return make
