"""Fixtures of the folders whose tests work the whole system, each on a stack of its own. A folder's conftest takes them
over by importing them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loopllama.aws import clients
from loopllama_cli.local.handle import LocalStack
from support.provider_server import ProviderServer
from support.system import DEPLOYED, PARAMETERS, ROOT, System

__all__ = ["provider_server", "running", "system"]


@pytest.fixture(scope="session")
def running() -> Iterator[System]:
    """The local stack, or the deployed one that the environment names."""
    if DEPLOYED:
        yield System(None)
        return
    lines: list[str] = []
    with LocalStack(ROOT, PARAMETERS, log=lines.append) as stack:
        yield System(stack)


@pytest.fixture(scope="module")
def system(running: System) -> Iterator[System]:
    """The system, with this process's stores reaching it too, as long as a file's tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients, "client", running.client)
        yield running


@pytest.fixture(scope="session")
def provider_server() -> Iterator[ProviderServer]:
    """A provider that speaks OpenAI's Chat Completions."""
    with ProviderServer() as server:
        yield server
