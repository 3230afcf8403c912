"""The floors of the layer: a package imports packages below it only, so that none stands in a circle.

An import inside a function counts, because it makes the same arrow; one under `TYPE_CHECKING` does not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"
TOP = "loopllama"

FLOORS = (
    ("errors",),
    ("core",),
    ("settings", "aws", "evidence"),
    ("telemetry", "budgets", "llm"),
    ("catalog",),
    ("tools", "providers", "policies"),
    ("workflows",),
    ("runs",),
    ("agent", "queries", "events"),
    ("routing",),
    ("engine", "jobs"),
    ("api",),
)
"""From the ground up. Packages of one floor do not import each other."""

FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}


def modules() -> dict[str, Path]:
    """Every module of the layer by its name below `loopllama`, `""` for the layer itself."""
    found = {}
    for path in sorted((SHARED / TOP).rglob("*.py")):
        parts = path.relative_to(SHARED / TOP).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def statements(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that happen when the program runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from statements(other)
        else:
            yield from statements(node)


def imported(source: str) -> Iterator[tuple[int, str]]:
    """The modules of the layer that a source imports, each with its line."""
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert not node.level, f"line {node.lineno}: a relative import; write it from {TOP} on"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == TOP:
                below = name[len(TOP) + 1 :]
                while below not in MODULES:  # the name of something in the module
                    below = below.rpartition(".")[0]
                yield node.lineno, below


def broken(module: str, source: str) -> Iterator[str]:
    """What to say of the imports of a module that lead up or sideways."""
    package = module.split(".")[0]
    for line, other in imported(source):
        to = other.split(".")[0]
        if to in ("", package):  # the layer's own version and contract stand below everything
            continue
        if FLOOR[to] >= FLOOR[package]:
            how = "above" if FLOOR[to] > FLOOR[package] else "beside"
            yield (
                f"{module}, line {line}, imports {other}, but {to} (floor {FLOOR[to]}) stands {how} {package} "
                f"(floor {FLOOR[package]}): move what both need below them, or hand it in"
            )


def test_every_package_has_a_floor() -> None:
    assert {module.split(".")[0] for module in MODULES} - {""} == FLOOR.keys()
    assert len(FLOOR) == sum(len(packages) for packages in FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_lead_down(module: str) -> None:
    source = MODULES[module].read_text()
    if not module:
        assert not list(imported(source))
        return
    wrong = list(broken(module, source))
    assert not wrong, "\n".join(wrong)


def test_statistics_know_nothing_of_the_product() -> None:
    modules = [path.read_text() for module, path in MODULES.items() if module.startswith("evidence")]
    packages = {other.split(".")[0] for source in modules for _, other in imported(source)}
    assert packages == {"core", "errors", "evidence"}


def test_what_counts_as_an_import() -> None:
    source = """
from typing import TYPE_CHECKING
from loopllama import CONTRACT, providers
from loopllama.core import clock
if TYPE_CHECKING:
    from loopllama.api import app
def late():
    from loopllama.engine.step import StepRunner
"""
    assert [name for _, name in imported(source)] == ["", "providers", "core.clock", "engine.step"]
    (wrong,) = broken("providers.http", source)
    assert "imports engine.step, but engine (floor 10) stands above providers" in wrong
