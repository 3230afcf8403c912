"""One stack for all tests of this folder, and a provider on loopback."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.provider_server import ProviderServer, Reply, Script
from support.system import DEPLOYED, PARAMETERS, ROOT, System

from loopllama import aws
from loopllama_cli.local.handle import LocalStack

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def running() -> Iterator[System]:
    if DEPLOYED:
        yield System(None)
        return
    lines: list[str] = []
    with LocalStack(ROOT, PARAMETERS, log=lines.append) as stack:
        yield System(stack)


@pytest.fixture(scope="session")
def provider_server() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


@pytest.fixture(scope="module")
def system(running: System) -> Iterator[System]:
    """The system, with this process's stores reaching it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aws, "client", running.client)
        yield running


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
