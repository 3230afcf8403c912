"""A stack of their own for the tests of this folder, whose functions are about to be ill-treated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.provider_server import ProviderServer
from support.system import PARAMETERS, ROOT, System

from loopllama import aws
from loopllama_cli.local.handle import LocalStack


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    """The system, with this process's stores reaching it too."""
    lines: list[str] = []
    parameters = {**PARAMETERS, "RequestsPerSecond": "10000"}
    with LocalStack(ROOT, parameters, log=lines.append) as stack, pytest.MonkeyPatch.context() as patch:
        running = System(stack)
        patch.setattr(aws, "client", running.client)
        yield running


@pytest.fixture(scope="session")
def provider_server() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server
