"""Every alarm of the template has an entry in the runbook, with a command and who is to be woken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from samtranslator.yaml_helper import yaml_parse
from typer.testing import CliRunner

from loopllama_cli.main import app

ROOT = Path(__file__).parents[2]
ALARMS = [
    name
    for name, resource in yaml_parse((ROOT / "template.yaml").read_text("utf-8"))["Resources"].items()
    if resource["Type"] == "AWS::CloudWatch::Alarm"
]
_SECTION = re.compile(r"^## Alarms\n(.*?)^## ", re.MULTILINE | re.DOTALL)


def entries() -> dict[str, list[str]]:
    """Each alarm of the runbook with its cells."""
    section = _SECTION.search((ROOT / "docs/operations.md").read_text("utf-8"))
    assert section is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section[1].splitlines() if "|" in line]
    return {name: cells for cells in rows for name in re.findall(r"`(\w+)`", cells[0])}


@pytest.mark.parametrize("alarm", ALARMS)
def test_every_alarm_has_its_entry(alarm: str) -> None:
    seen, command, fix, wake = entries()[alarm][1:]
    assert "" not in (seen, fix, wake)
    assert "`" in command or "log" in command or "dashboard" in command


def test_the_commands_of_the_runbook_exist() -> None:
    told = {
        words for cells in entries().values() for cell in cells for words in re.findall(r"`loopllama ([^`]+)`", cell)
    }
    assert len(told) > 3
    for words in told:
        command = [word for word in words.split() if not word.startswith("-") and word.islower()]
        done = CliRunner().invoke(app, [*command[:2], "--help"])
        assert done.exit_code == 0, words
