"""A deployed stack in memory, which every command finds, and a crew in it."""

import os

import pytest
from moto import mock_aws
from support.command_line import CREW, SETTINGS, answer, table

from loopllama.aws import clients
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
    with mock_aws():
        clients.client.cache_clear()
        table(
            "Workflows",
            ("workflow_id", "S"),
            ("version", "N"),
            index=("by_updated", ("listed", "S"), ("updated_at", "S")),
        )
        table("Routes", ("workflow", "S"), ("step", "S"))
        table("RouteHistory", ("route", "S"), ("sequence", "S"))
        table("Models", ("model", "S"))
        table("Runs", ("run_id", "S"), ("item", "S"), index=("by_workflow", ("workflow_id", "S"), ("created_at", "S")))
        monkeypatch.setattr(target, "connect", lambda _: Target("test", SETTINGS, {}, False))
        yield
    clients.client.cache_clear()


@pytest.fixture
def crew(tmp_path):
    file = tmp_path / "crew.yaml"
    file.write_text(CREW)
    return file


@pytest.fixture
def pushed(crew):
    return answer("workflows", "push", crew)["id"]
