"""The life of stacks on ministack, an emulator of AWS that others wrote, with permissions checked. `make
test-lifecycle` runs this folder; without its environment none of these files is collected."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign.emulator import Emulator, running
from foreign.stacks import Version
from support.provider_server import ProviderServer
from support.system import ROOT

from loopllama.aws import clients

PYTHON = os.environ.get("LOOPLLAMA_FOREIGN", "")
"""The interpreter that has ministack."""
collect_ignore_glob = [] if PYTHON else ["test_*.py"]
FROM = os.environ.get("LOOPLLAMA_FROM") or "22891df977ffc6a72d0a9fabed266e2ed2660313"
"""The version that is upgraded: as long as none was released, a commit before the template's last large changes."""


@pytest.fixture(scope="session", autouse=True)
def foreign(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """A running ministack, whose account this process and those that it starts work in."""
    with running(PYTHON) as emulator, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in (emulator.account | emulator.by_name).items():
            patch.setenv(name, value)
        # SAM and pip go their own ways to what they fetch.
        patch.delenv("SSL_CERT_FILE")
        patch.delenv("HTTPS_PROXY")
        clients.client.cache_clear()
        yield emulator
        if request.session.testsfailed:
            print(f"The end of ministack's log:\n{emulator.last_words()}")


@pytest.fixture(scope="session")
def version(foreign: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """This one, built."""
    return Version.build(ROOT, tmp_path_factory.mktemp("version"))


@pytest.fixture(scope="session")
def earlier(foreign: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """An earlier one, built."""
    found = subprocess.run(["git", "cat-file", "-e", f"{FROM}^{{commit}}"], cwd=ROOT, capture_output=True, check=False)
    if shutil.which("git") is None or found.returncode:
        pytest.skip(f"the earlier version {FROM} is not in this repository: git fetch --unshallow, or LOOPLLAMA_FROM")
    return Version.of_commit(FROM, tmp_path_factory.mktemp("earlier"))


@pytest.fixture(scope="session")
def provider_server() -> Iterator[ProviderServer]:
    """A provider that speaks OpenAI's Chat Completions."""
    with ProviderServer() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder, as somebody has who deploys without a checkout."""
    return tmp_path
