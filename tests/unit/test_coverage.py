"""The figure that `make test` shows adds up what its processes ran."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
FILES = {
    "measured/sides.py": """\
def side(left):
    if left:
        return "left"
    return "right"


def never():
    return None
""",
    "measured/unseen.py": "VALUE = 1\n",
    "conftest.py": """\
from pathlib import Path

from support.coverage import Coverage

HERE = Path(__file__).parent
measuring = Coverage(HERE / "measured", HERE / "missing.txt")


def pytest_configure(config):
    config.pluginmanager.register(measuring)
""",
    "test_left.py": "from sides import side\n\n\ndef test_left():\n    assert side(True) == 'left'\n",
    "test_right.py": "from sides import side\n\n\ndef test_right():\n    assert side(False) == 'right'\n",
}


def run(folder: Path, *arguments: str) -> str:
    """What pytest prints in a folder with these files."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(folder / "measured")])}
    environment.pop("LOOPLLAMA_COVERAGE", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), "-p", "no:cacheprovider", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_process_says_what_it_ran(tmp_path: Path) -> None:
    assert "coverage: 57.1% of 7 lines, 50.0% of 2 branches; " in run(tmp_path, "test_left.py")


def test_workers_add_up_and_the_list_names_what_is_missing(tmp_path: Path) -> None:
    printed = run(tmp_path, "-n", "2", "--dist", "loadfile")
    assert "coverage: 71.4% of 7 lines, 100.0% of 2 branches; what no test ran is in missing.txt" in printed
    missing = (tmp_path / "missing.txt").read_text()
    [line] = [line for line in missing.splitlines() if "sides.py" in line]
    assert line.split()[-1] == "8", line
    assert "unseen.py" in missing
