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
"""The commit that is upgraded: before the template's and the state machine's last large changes."""
BACK = os.environ.get("LOOPLLAMA_BACK") or "3ab5510"
"""The commit that one goes back to: one before this version, which knows its state machine (`loopllama.CONTRACT`). As
soon as there are releases, theirs."""


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
    """A version some way back, built."""
    return _of_commit(FROM, tmp_path_factory.mktemp("earlier"))


@pytest.fixture(scope="session")
def previous(foreign: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The version before this one, built."""
    return _of_commit(BACK, tmp_path_factory.mktemp("previous"))


def _of_commit(commit: str, folder: Path) -> Version:
    known = ["git", "cat-file", "-e", f"{commit}^{{commit}}"]
    if shutil.which("git") is None or subprocess.run(known, cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip(
            f"the commit {commit} is not in this repository: git fetch --unshallow, or LOOPLLAMA_FROM and _BACK"
        )
    return Version.of_commit(commit, folder)


@pytest.fixture(scope="session")
def provider_server() -> Iterator[ProviderServer]:
    """A provider that speaks OpenAI's Chat Completions."""
    with ProviderServer() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder, as somebody has who deploys without a checkout."""
    return tmp_path
