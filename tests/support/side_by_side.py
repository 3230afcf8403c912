"""Which tests a worker of pytest-xdist runs one after another, and which begin first.

A file is a worker's at a time. Files whose tests share a stack go to one worker together: every other worker would
start that stack again. What takes long begins first, so that no worker is left with it in the end. There are more
workers than processors (see the Makefile), because tests on stacks wait for most of their time.
"""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatch
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

UNITS: dict[str, tuple[str, ...]] = {
    "trouble": tuple(f"integration/runs/test_{name}.py" for name in ("dial", "calls_at_once", "provider_trouble")),
    "built": ("template/test_built_functions.py", "template/test_layer.py"),
    "own": ("integration/runs/test_few_functions.py", "integration/runs/test_long_history.py"),
    "runs": ("integration/runs/*",),
    "api": ("integration/test_api*", "integration/test_cli*", "integration/test_published.py"),
    "browser": ("integration/test_local_stack_alone.py", "integration/test_local_stack_browser.py"),
    "looked at": ("integration/doctor/*", "integration/test_docs_commands.py"),
    "killed": ("chaos/test_chaos.py", "chaos/test_many_runs.py"),
    "toy": ("integration/test_local_stack_*",),
    "demonstration": ("integration/test_demo.py",),
}
"""What begins first, in this order: a name, and its files below the folder of tests. A file counts where it stands
first."""


def unit_of(test: str) -> str:
    """Return the name of the unit that a test's id belongs to: one of `UNITS`, or its file."""
    path = test.partition("::")[0]
    below = path.removeprefix("tests/")
    return next((name for name, files in UNITS.items() if any(fnmatch(below, file) for file in files)), path)


def put_in_order(tests: list[pytest.Item]) -> None:
    """Sort tests as their units are to begin: those named above, then the files with most tests."""
    units = {test.nodeid: unit_of(test.nodeid) for test in tests}
    sizes, named = Counter(units.values()), list(UNITS)

    def place(test: pytest.Item) -> tuple[int, int, str]:
        unit = units[test.nodeid]
        return (named.index(unit) if unit in UNITS else len(named), -sizes[unit], unit)

    tests.sort(key=place)


class SideBySide(LoadScopeScheduling):
    """xdist's scheduler of scopes; the scopes are our units, in the order of their tests."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
