"""`loopllama deploy`: what it asks of the SAM CLI, and that SAM's own parser reads back what was given."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from samcli.cli.types import CfnParameterOverridesType
from typer.testing import CliRunner, Result

from loopllama_cli.commands.deploy import as_sam_takes_it
from loopllama_cli.main import app

ROOT = Path(__file__).parents[3]
SAM = """\
#!{python}
import json, sys
from samcli.cli.types import CfnParameterOverridesType
told = [one.partition("=")[2] for one in sys.argv if one.startswith("--parameter-overrides=")]
read = CfnParameterOverridesType().convert(tuple(told), None, None) if told else {{}}
print(json.dumps([sys.argv[1:], read]), file=open("calls", "a"))
sys.exit({code})
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):  # what it sets is gone after the test
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    return tmp_path


def deploy(folder: Path, *options: str, code: int = 0) -> tuple[Result, list[Any]]:
    """Run it with a SAM CLI that notes how it is called and what it reads, and ends with `code`."""
    sam = folder / "bin" / "sam"
    sam.parent.mkdir()
    sam.write_text(SAM.format(python=sys.executable, code=code))
    sam.chmod(0o755)
    done = CliRunner().invoke(app, ["deploy", *options])
    return done, [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def test_it_builds_the_template_that_came_with_it_and_deploys_by_the_folders_file(folder: Path) -> None:
    (folder / "samconfig.toml").write_text("version = 0.1\n")
    (folder / "tools.json").write_text((ROOT / "examples/research_brief/tools.json").read_text())
    done, calls = deploy(folder, "--parameter", "Tools=@tools.json", "--parameter", "RouteCacheSeconds=0")
    assert done.exit_code == 0, done.output
    (build, _), (sent, read) = calls
    assert build == ["build", f"--template={ROOT / 'template.yaml'}"]
    assert sent[:3] == ["deploy", "--confirm-changeset", "--no-fail-on-empty-changeset"]
    assert read == {"Tools": (folder / "tools.json").read_text(), "RouteCacheSeconds": "0"}
    assert len(sent) == 4


def test_without_the_file_the_command_line_says_everything(folder: Path) -> None:
    done, calls = deploy(folder, "--stack", "crews", "--region", "eu-west-1", "--profile", "work", "--no-confirm")
    assert done.exit_code == 0, done.output
    account = ["--region=eu-west-1", "--profile=work"]
    options = [
        "--no-confirm-changeset",
        "--no-fail-on-empty-changeset",
        "--capabilities=CAPABILITY_IAM",
        "--resolve-s3",
        "--s3-prefix=crews",
    ]
    assert [call for call, _ in calls] == [
        ["build", f"--template={ROOT / 'template.yaml'}", *account],
        ["deploy", *account, "--stack-name=crews", *options],
    ]


def test_a_build_that_fails_ends_it(folder: Path) -> None:
    done, calls = deploy(folder, code=3)
    assert (done.exit_code, len(calls)) == (1, 1)
    assert "sam build failed (exit code 3)" in done.stderr


def test_without_the_sam_cli_it_says_where_it_is_had(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", os.devnull)
    done = CliRunner().invoke(app, ["deploy"])
    assert done.exit_code == 1
    assert "pipx install aws-sam-cli" in done.stderr


@pytest.mark.parametrize(
    "value",
    [
        '"The schedule has come round."',
        '{"a": "say \\"x\\" \\n", "b": "C:\\\\ d\\\\"}',
        "rate(1 day)",
        "*",
        "",
        "[1, 2]",
    ],
)
def test_sam_reads_back_what_was_given(value: str, tmp_path: Path) -> None:
    file = tmp_path / "parameters.yaml"
    file.write_text(json.dumps({"P": as_sam_takes_it(value)}))
    read = CfnParameterOverridesType().convert((f"file://{file}",), None, None)["P"]
    try:
        assert json.loads(read) == json.loads(value)
    except ValueError:
        assert read == value


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ('{"t": {"type": "lambda", "timeout_seconds": 1e99999999999999999999}}', "$.t.timeout_seconds is out of range"),
        ("[" * 100_000, "nested too deeply"),
        ('{"t": {"type": "lambda"}}', "t.function is missing"),
        ("{", "parameter Tools: "),
        ("[]", "must be a JSON object"),
    ],
)
def test_tools_that_no_step_could_use_are_refused_before_anything_is_built(folder: Path, tools: str, says: str) -> None:
    (folder / "tools.json").write_text(tools)
    done = CliRunner().invoke(app, ["deploy", "--parameter", "Tools=@tools.json"])
    assert done.exit_code == 2, done.output
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize("value", ["1e99999999999999999999", "9" * 5000, "[" * 100_000])
def test_any_number_may_stand_in_a_parameter(value: str) -> None:
    assert as_sam_takes_it(value) == value
