"""`loopllama init`: a new project is whole, refuses what exists, and each example makes one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from loopllama_cli import workflow_files
from loopllama_cli.main import app

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/workflow.yaml"))


def init(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", *arguments])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_project_of_each_example(folder: Path, example: str) -> None:
    done = init("claims-desk", "--example", example)
    assert done.exit_code == 0, done.stderr
    made = folder / "claims-desk"
    workflow = workflow_files.load(made / "workflow.yaml")
    assert workflow.name == "Claims desk"
    original = workflow_files.load(ROOT / "examples" / example / "workflow.yaml")
    assert workflow.to_definition() == original.to_definition()
    config = tomllib.loads((made / "samconfig.toml").read_text())["default"]
    assert config["global"]["parameters"]["stack_name"] == "claims-desk"
    assert config["deploy"]["parameters"]["capabilities"] == "CAPABILITY_IAM"
    readme = (made / "README.md").read_text()
    assert example not in readme
    assert "loopllama run claims_desk --input @input" in readme
    named = set(re.findall(r"@([\w.]+)", readme))
    assert named
    assert all((made / name).is_file() for name in named)
    assert f"claims-desk: {', '.join(sorted(path.name for path in made.iterdir()))}" in done.stdout


@pytest.mark.parametrize("kind", ["folder", "full folder", "file", "link to nowhere"])
def test_what_exists_is_left_alone(folder: Path, kind: str) -> None:
    there = folder / "claims"
    if kind == "file":
        there.write_text("mine")
    elif kind == "link to nowhere":
        there.symlink_to(folder / "nowhere")
    else:
        there.mkdir()
        if kind == "full folder":
            (there / "workflow.yaml").write_text("mine")
    before = sorted(folder.rglob("*"))
    done = init("claims")
    assert done.exit_code == 2
    assert "claims exists already; nothing was written" in done.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["", "../claims", "/srv/claims", "Claims", "1st", "a--b", "a b", "x" * 41, "café", "-h2"]
)
def test_a_name_that_cannot_be_one(folder: Path, name: str) -> None:
    done = init("--", name)
    assert done.exit_code == 2
    assert "is not a valid project name" in done.stderr
    assert list(folder.iterdir()) == []


def test_an_example_that_is_not_there(folder: Path) -> None:
    done = init("claims", "--example", "../claims")
    assert done.exit_code == 2
    assert f"there are: {', '.join(EXAMPLES)}" in done.stderr
    assert list(folder.iterdir()) == []
