"""The wheel, installed where nothing of the checkout is: from an empty folder to a run on the local stack."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from loopllama.core import exact_json

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Installed:
    """What the wheel installed, in an environment where the checkout is not found."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str, cwd: Path) -> str:
        """Run the program; what it printed. Fails where it does."""
        done = subprocess.run(
            [self.folder / "bin" / "loopllama", *arguments],
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def loopllama(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, built and installed into a fresh environment. Its dependencies are those of the environment that the
    tests run in: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, timeout=120)
    (wheel,) = folder.glob("loopllama-*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True, timeout=120)
    (site,) = (folder / "venv").glob("lib/python3*/site-packages")
    # Only a path to look in: the tests' own environment's .pth files, which name the checkout, are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = "import loopllama, loopllama_cli.project as p; print(loopllama.__file__, p.project_root())"
    found = subprocess.run([python, "-c", where], env=environment, capture_output=True, text=True, check=True).stdout
    assert all(path.startswith(str(site)) for path in found.split())
    return Installed(folder / "venv", environment)


def test_the_wheel_says_what_pipx_and_uvx_need(loopllama: Installed) -> None:
    """Under its own name: all that the program needs beside itself, and its one script."""
    (folder,) = loopllama.folder.glob("lib/python3*/site-packages/loopllama-*.dist-info")
    distribution = Distribution.at(folder)
    assert [entry.name for entry in distribution.entry_points] == ["loopllama"]
    needs = {re.split(r"[^\w.-]", line)[0].lower() for line in distribution.requires or [] if "extra ==" not in line}
    assert {"typer", "rich", "boto3", "moto", "pyyaml", "httpx"} <= needs
    assert (folder.parent / "loopllama_cli" / "_project" / "template.yaml").exists()


def test_both_packages_say_that_they_have_types(loopllama: Installed) -> None:
    (site,) = loopllama.folder.glob("lib/python3*/site-packages")
    for package in ("loopllama", "loopllama_cli"):
        assert (site / package / "py.typed").exists()


@pytest.fixture(scope="module")
def url(loopllama: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the local stack that the installed program serves from an empty folder."""
    with subprocess.Popen(
        [
            loopllama.folder / "bin" / "loopllama",
            "local",
            *["--api-port", "0", "--aws-port", "0", "--parameter", "SimulatedSpeed=1000"],
        ],
        env=loopllama.environment,
        cwd=tmp_path_factory.mktemp("empty"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as serving:
        assert serving.stdout is not None
        try:
            yield json.loads(serving.stdout.readline())["aws_endpoint_url"]
        finally:
            serving.terminate()


def test_from_an_empty_folder_to_a_run(loopllama: Installed, url: str, tmp_path: Path) -> None:
    assert loopllama("init", "desk", cwd=tmp_path).startswith("desk: ")
    project = tmp_path / "desk"
    assert loopllama("workflows", "push", "workflow.yaml", "--local", url, cwd=project) == "desk version 1\n"
    run = exact_json.loads(loopllama("run", "desk", "--input", "@input.txt", "--json", "--local", url, cwd=project))
    assert run["status"] == "completed"
    assert [step["step"] for step in run["steps"]][-1] == "review"
    assert run["cost_usd"] > 0
