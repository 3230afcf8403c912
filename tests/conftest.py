"""What holds for every test: nothing leaves this machine, and no credentials of whoever runs it are found."""

from __future__ import annotations

import functools
import gc
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import botocore.loaders
import pytest
import typer.testing
from hypothesis import HealthCheck, settings
from support import side_by_side
from support.coverage import measuring  # before anything of the layer is imported

from loopllama.aws import clients

# The same examples in every run, and no judgement of a machine's speed.
settings.register_profile(
    "loopllama", max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("loopllama")

# What a function leaves behind is freed without a collection, and looking for more took a tenth of the tests' time.
gc.set_threshold(100_000)

_loader = botocore.loaders.create_loader
_descriptions: dict[Any, Any] = {}


def _sharing_loader(*args: Any, **kwargs: Any) -> Any:
    """A loader as botocore makes it, that reads no file which another has read: each deployment in moto has sessions of
    its own."""
    loader = _loader(*args, **kwargs)
    vars(loader)["_cache"] = _descriptions
    return loader


botocore.loaders.create_loader = _sharing_loader

# The tree of commands is what most of a command's time in this process goes into: it is made once.
typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]


class NetworkForbidden(RuntimeError):
    """A test, or what it tests, tried to reach another machine."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let no collection look through what was loaded for the tests: it stays as long as they run."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> side_by_side.SideBySide:
    """Take our scheduler, whatever `--dist` says."""
    return side_by_side.SideBySide(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort a worker's tests as they are to begin."""
    if hasattr(config, "workerinput"):
        side_by_side.put_in_order(items)


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any test module is imported; processes that tests start inherit it."""
    if measuring:
        config.pluginmanager.register(measuring)
    if os.environ.get("LOOPLLAMA_TEST_STACK"):
        return  # The tests run against a deployed stack, with the caller's credentials.
    for name in list(os.environ):
        if name.startswith("AWS_") or name.endswith(("_API_KEY", "_BASE_URL")):
            del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "SAM_CLI_TELEMETRY": "0",
        "NO_PROXY": "127.0.0.1,localhost,::1",
        "no_proxy": "127.0.0.1,localhost,::1",
        "COLUMNS": "120",
    }


def _is_here(address: Any) -> bool:
    """Whether a socket address is this machine's own; file system and abstract sockets are."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def _guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, address: Any) -> Any:
        if not _is_here(address):
            raise NetworkForbidden(f"tests reach this machine only, not {address[0]!r}")
        return connect(self, address)

    return guarded


@pytest.fixture(autouse=True, scope="session")
def _only_loopback() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("LOOPLLAMA_TEST_STACK"):
            patch.setattr(socket.socket, "connect", _guarded(socket.socket.connect))
            patch.setattr(socket.socket, "connect_ex", _guarded(socket.socket.connect_ex))
        yield


@pytest.fixture(autouse=True)
def _environment_stays() -> Iterator[None]:
    """What a test, or a command that it runs in this process, changes in the environment ends with it: the next one's
    clients would go to a stack that is gone."""
    before = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    yield
    after = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    if after != before:
        for name in after.keys() - before.keys():
            del os.environ[name]
        os.environ |= before
        clients.client.cache_clear()
