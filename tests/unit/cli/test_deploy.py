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

from loopllama.settings import Settings
from loopllama.tools.store import ToolStore
from loopllama_cli.commands.deploy import as_sam_takes_it
from loopllama_cli.doctor import deployment
from loopllama_cli.main import app
from loopllama_cli.target import Choice, Target, TargetUnreachable

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
    (folder / "input.json").write_text('{"a": "x \\"y\\""}')
    done, calls = deploy(folder, "--parameter", "ScheduleInput=@input.json", "--parameter", "RouteCacheSeconds=0")
    assert done.exit_code == 0, done.output
    (build, _), (sent, read) = calls
    assert build == ["build", f"--template={ROOT / 'template.yaml'}"]
    assert sent[:3] == ["deploy", "--confirm-changeset", "--no-fail-on-empty-changeset"]
    assert read.keys() == {"ScheduleInput", "RouteCacheSeconds"}
    assert json.loads(read["ScheduleInput"]) == {"a": 'x "y"'}
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
        ("{", "tools.json: "),
        ("[]", "must hold a JSON object"),
    ],
)
def test_tools_that_no_step_could_use_are_refused_before_anything_is_built(folder: Path, tools: str, says: str) -> None:
    (folder / "tools.json").write_text(tools)
    done = CliRunner().invoke(app, ["deploy", "--tools", "tools.json"])
    assert done.exit_code == 2, done.output
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize("value", ["1e99999999999999999999", "9" * 5000, "[" * 100_000])
def test_any_number_may_stand_in_a_parameter(value: str) -> None:
    assert as_sam_takes_it(value) == value


class Deployed:
    """Stands for the stack that was deployed: notes what is written into its Tools table, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.choices: list[Choice] = []
        self.written: list[tuple[Any, dict[str, str]]] = []

    def connect(self, choice: Choice) -> Target:
        self.choices.append(choice)
        if self.error:
            raise self.error
        return Target("crews", Settings(tools_table="ToolsTable"), {}, False)

    def write(self, definitions: Any, **stamp: str) -> None:
        self.written.append((definitions, stamp))


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Deployed:
    made = Deployed()
    monkeypatch.setattr(deployment, "connect", made.connect)
    monkeypatch.setattr(deployment, "before", lambda *_: True)
    monkeypatch.setattr(deployment, "after", lambda *_: None)
    monkeypatch.setattr(ToolStore, "write", made.write)
    return made


def test_tools_of_a_file_are_defined_in_the_stack_that_was_deployed(folder: Path, deployed: Deployed) -> None:
    (folder / "tools.json").write_text((ROOT / "examples/research_brief/tools.json").read_text())
    done, calls = deploy(folder, "--tools", "tools.json", "--stack", "crews")
    assert done.exit_code == 0, done.output
    assert [call[0] for call, _ in calls] == ["build", "deploy"]
    assert [choice.stack for choice in deployed.choices] == ["crews"]
    ((definitions, stamp),) = deployed.written
    assert definitions.keys() == {"search", "http_get"}
    assert stamp["reason"] == "deployed with tools.json"
    assert "Tools defined: search, http_get" in done.stderr


def test_tools_that_cannot_be_written_are_told_with_the_command_that_does_it_again(
    folder: Path, deployed: Deployed
) -> None:
    deployed.error = TargetUnreachable("Stack crews cannot be read.")
    (folder / "tools.json").write_text('{"t": {"type": "lambda", "function": "f", "description": "d"}}')
    done, calls = deploy(folder, "--tools", "tools.json", "--stack", "crews")
    assert (done.exit_code, len(calls)) == (1, 2)
    said = " ".join(done.stderr.split())
    assert "The stack is deployed, but its tools were not written: Stack crews cannot be read." in said
    assert "Again: loopllama --stack crews tools push tools.json" in said


@pytest.mark.parametrize("command", ["deploy", "local"])
def test_the_parameter_of_old_is_told_what_to_do_instead(folder: Path, command: str) -> None:
    (folder / "tools.json").write_text("{}")
    done = CliRunner().invoke(app, [command, "--parameter", "Tools=@tools.json"])
    assert done.exit_code == 2, done.output
    said = " ".join(done.stderr.split())
    assert "there is no parameter Tools any more" in said
    assert "--tools FILE.json" in said
    assert "loopllama tools push FILE.json" in said


@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        ("\"Stage=prod Tools='{}'\"", True),
        ('"Tools={}"', True),
        ('"ParameterKey=Tools,ParameterValue={}"', True),
        ('["Stage=prod", "Tools={}"]', True),
        ('{Tools = "{}"}', True),
        ('"Stage=prod ToolFunctionPrefix=shop-"', False),
        ('["Stage=Tools"]', False),
    ],
)
def test_the_parameter_of_old_in_samconfig_is_told_before_anything_is_built(
    folder: Path, deployed: Deployed, overrides: str, refused: bool
) -> None:
    (folder / "samconfig.toml").write_text(
        f"version = 0.1\n[default.deploy.parameters]\nparameter_overrides = {overrides}\n"
    )
    if not refused:
        assert deploy(folder)[0].exit_code == 0
        return
    done = CliRunner().invoke(app, ["deploy"])
    assert done.exit_code == 2, done.output
    assert "samconfig.toml, parameter_overrides: take Tools out" in " ".join(done.stderr.split())
