"""Where a local stack's credentials are kept: for the user who started it, and nobody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from loopllama_cli.local import credentials
from loopllama_cli.local.credentials import Credentials

URL = "http://127.0.0.1:4599"
OWN = Credentials.new()


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_what_is_kept_is_found_until_it_is_forgotten(home: Path) -> None:
    assert credentials.find(URL, {}) is None
    was = os.umask(0)
    try:
        credentials.keep(URL, OWN)
    finally:
        os.umask(was)
    folder, file = home / ".loopllama", home / ".loopllama" / "local-4599.json"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [file]
    for url in (URL, URL + "/", "http://localhost:4599"):
        assert credentials.find(url, {}) == OWN
    assert credentials.find("http://127.0.0.1:4600", {}) is None
    assert credentials.find("http://elsewhere.test:4599", {}) is None
    credentials.keep(URL, newer := Credentials.new())
    assert credentials.find(URL, {}) == newer
    credentials.forget(URL, OWN)
    assert credentials.find(URL, {}) == newer, "another stack has the port now"
    for _ in range(2):
        credentials.forget(URL, newer)
        assert credentials.find(URL, {}) is None


def test_the_environment_counts_for_the_address_that_it_names() -> None:
    environment = {
        "AWS_ENDPOINT_URL": URL + "/",
        "AWS_ACCESS_KEY_ID": OWN.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": OWN.aws_secret_access_key,
    }
    assert credentials.find(URL, environment) == OWN
    assert credentials.find("http://127.0.0.1:4600", environment) is None
    for name in environment:
        assert credentials.find(URL, {key: value for key, value in environment.items() if key != name}) is None
    credentials.keep(URL, newer := Credentials.new())
    assert credentials.find(URL, environment) == newer, "an environment may be left from an earlier stack"


def test_a_home_that_cannot_hold_a_file_leaves_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "AWS_ENDPOINT_URL": URL,
        "AWS_ACCESS_KEY_ID": OWN.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": OWN.aws_secret_access_key,
    }
    (home / ".loopllama").mkdir(mode=0o755)
    assert credentials.find(URL, environment) == OWN
    monkeypatch.setenv("HOME", str(home / "gone"))
    with pytest.raises(OSError, match="gone"):
        credentials.keep(URL, OWN)
    assert credentials.find(URL, environment) == OWN
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(OSError, match="no home folder"):
        credentials.keep(URL, OWN)
    credentials.forget(URL, OWN)
    assert credentials.find(URL, environment) == OWN
    assert credentials.find(URL, {}) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:abc", "http://127.0.0.1:99999", "http://[::1", "4599", ""])
def test_what_is_no_address_has_no_credentials(url: str) -> None:
    assert credentials.find(url, {}) is None


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_link_is_replaced_and_not_followed(home: Path) -> None:
    folder, victim = home / ".loopllama", home / "victim"
    folder.mkdir(mode=0o700)
    victim.write_text("mine")
    (folder / "local-4599.json").symlink_to(victim)
    with pytest.raises(OSError, match="local-4599"):
        credentials.find(URL, {})
    credentials.keep(URL, OWN)
    assert victim.read_text() == "mine"
    assert credentials.find(URL, {}) == OWN


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_may_enter_is_not_used(home: Path, mode: int) -> None:
    credentials.keep(URL, OWN)
    (home / ".loopllama").chmod(mode)
    for use in (lambda: credentials.keep(URL, OWN), lambda: credentials.find(URL, {})):
        with pytest.raises(PermissionError, match="not yours alone"):
            use()


def test_a_folder_that_is_a_link_is_not_used(home: Path) -> None:
    (home / "elsewhere").mkdir(mode=0o700)
    (home / ".loopllama").symlink_to(home / "elsewhere")
    with pytest.raises(PermissionError, match="not yours alone"):
        credentials.keep(URL, OWN)
    assert list((home / "elsewhere").iterdir()) == []


def test_a_file_that_others_may_read_or_that_is_none_is_not_used(home: Path) -> None:
    credentials.keep(URL, OWN)
    file = home / ".loopllama" / "local-4599.json"
    file.chmod(0o644)
    with pytest.raises(PermissionError, match="not yours alone"):
        credentials.find(URL, {})
    file.chmod(0o600)
    for text in ("", "{}", "[1]", '{"aws_access_key_id": "x"}'):
        file.write_text(text)
        with pytest.raises(OSError, match=r"local-4599\.json cannot be read"):
            credentials.find(URL, {})


def test_nobody_elses_file_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.keep(URL, OWN)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    for use in (lambda: credentials.keep(URL, OWN), lambda: credentials.find(URL, {})):
        with pytest.raises(PermissionError, match="not yours alone"):
            use()
