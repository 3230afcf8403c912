"""The units that tests are run in."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest
from support.side_by_side import UNITS, unit_of

TESTS = Path(__file__).parents[1]
FILES = [str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")]


@pytest.mark.parametrize("unit", UNITS)
def test_every_file_of_a_unit_is_there(unit: str) -> None:
    for pattern in UNITS[unit]:
        found = [file for file in FILES if fnmatch(file, pattern)]
        assert any(unit_of(f"tests/{file}::test_x[a::b]") == unit for file in found), f"{pattern} names no test"


def test_other_files_are_units_of_their_own() -> None:
    assert unit_of("tests/unit/test_house.py::test_x[a::b]") == "tests/unit/test_house.py"
