"""A stack of their own for the tests of this folder, whose functions are about to be ill-treated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.provider_server import ProviderServer
from support.system import PARAMETERS, ROOT, System

from loopllama import aws
from loopllama_cli.local.handle import LocalStack


@pytest.fixture(scope="session")
def running() -> Iterator[System]:
    lines: list[str] = []
    with LocalStack(ROOT, {**PARAMETERS, "RequestsPerSecond": "10000"}, log=lines.append) as stack:
        yield System(stack)


@pytest.fixture(scope="module")
def system(running: System) -> Iterator[System]:
    """The system, with this process's stores reaching it too, as long as a file's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aws, "client", running.client)
        yield running


@pytest.fixture(scope="session")
def provider_server() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server
