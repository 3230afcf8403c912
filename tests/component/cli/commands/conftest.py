"""A deployed stack in memory, which every command finds, and a crew in it."""

import os

import pytest
from support.command_line import CREW, SETTINGS, TABLES, answer
from support.moto_account import account, create_tables

from loopllama_cli import target
from loopllama_cli.target import Target


@pytest.fixture(autouse=True)
def stack(monkeypatch):
    """A deployed stack in memory, which every command finds."""
    for name in [*os.environ]:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("COLUMNS", "160")
    with account(monkeypatch):
        create_tables(TABLES, "eu-west-1")
        monkeypatch.setattr(target, "connect", lambda _: Target("test", SETTINGS, {}, False))
        yield


@pytest.fixture
def crew(tmp_path):
    file = tmp_path / "crew.yaml"
    file.write_text(CREW)
    return file


@pytest.fixture
def pushed(crew):
    return answer("workflows", "push", crew)["id"]
