"""What a function loads at its start, and what the layer may load at all: start-up time and package size."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYER = ROOT / "shared" / "loopllama"
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/app.py"))

OF_A_RUN = {"accept_run", "start_run", "run_step", "advance_run", "reconcile_runs"}
ALLOWED = {
    *("annotated_types", "aws_lambda_powertools", "botocore", "jmespath", "pydantic", "pydantic_core"),
    *("typing_extensions", "typing_inspection"),
}
"""Third-party packages that the API's functions may load at import. The functions of a run load none: SDKs, pydantic
and httpx cost more than everything else together, and load when they are first used."""
FORBIDDEN_INSIDE = {
    "run_step": {"loopllama.workflows.schema", "loopllama.workflows.validation", "loopllama.queries.runs"}
}

LOADED = """
import json, sys
before = set(sys.modules)
import app
places = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items() if name not in before}
print(json.dumps(places))
"""


def loaded(function: str) -> dict[str, str]:
    """The modules that importing the function's app loads in a fresh process, with their files."""
    path = os.pathsep.join([str(ROOT / "functions" / function), str(ROOT / "shared")])
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    places: dict[str, str] = json.loads(done.stdout)
    return places


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_start_with_little(function: str) -> None:
    modules = loaded(function)
    foreign = {name.split(".")[0] for name, place in modules.items() if "site-packages" in place}
    assert foreign <= (set() if function in OF_A_RUN else ALLOWED)
    assert not FORBIDDEN_INSIDE.get(function, set()) & set(modules)
    assert not [name for name in modules if name.startswith("loopllama_cli")]


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a module imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]


def versions(lock: str) -> dict[str, str]:
    """The packages of a lock."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))


def test_layer_imports_only_what_it_carries() -> None:
    carried = {name.replace("-", "_") for name in versions("shared/requirements.txt")}
    ours = {"loopllama"}
    for path in [*(ROOT / "shared/loopllama").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]:
        foreign = set(imported(path)) - set(sys.stdlib_module_names) - carried - ours
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_functions_do_not_import_each_other() -> None:
    for path in (ROOT / "functions").rglob("*.py"):
        beside = {other.stem for other in path.parent.glob("*.py")}
        assert not set(imported(path)) & (set(FUNCTIONS) - beside), path


def test_lock_of_the_layer_says_the_same_versions_as_the_others() -> None:
    layer = versions("shared/requirements.txt")
    cli = versions("requirements/cli.txt")
    dev = versions("requirements/dev.txt")
    assert layer
    assert layer.items() <= cli.items() <= dev.items()


@pytest.mark.parametrize("name", ["shared/requirements.txt", "requirements/cli.txt", "requirements/dev.txt"])
def test_locks_name_versions_and_hashes_and_no_index(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links)", text, re.MULTILINE)
    packages = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert packages
    assert all("==" in one and "--hash=sha256:" in one for one in packages)


@pytest.mark.parametrize(
    "package", sorted(path.name for path in LAYER.iterdir() if path.is_dir() and path.name != "api")
)
def test_patterns_are_compiled_when_they_are_first_used(package: str) -> None:
    early = [
        f"{path.relative_to(LAYER)}:{node.lineno}"
        for path in sorted((LAYER / package).rglob("*.py"))
        for statement in ast.parse(path.read_text()).body
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "re.compile"
    ]
    assert not early, f"loopllama.core.patterns.late costs nothing at start-up: {', '.join(early)}"
