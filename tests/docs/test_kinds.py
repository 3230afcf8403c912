"""The table of kinds of faults names tests that exist, and every test of the contract."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "contract"
TABLE = (FOLDER / "README.md").read_text()
NAMED = re.findall(r"\[([\w/]+)\]\(([^)]+\.py)\)", TABLE)


def test_every_row_names_tests_that_exist() -> None:
    rows = [row for row in TABLE.splitlines() if row.startswith("| ") and not row.startswith("| kind")]
    assert len(rows) > 30
    assert [row for row in rows if not re.search(r"\.py\) *\S* *\|$", row)] == []
    assert [path for _, path in NAMED if not (FOLDER / path).is_file()] == []
    assert [said for said, path in NAMED if said.rpartition("/")[2] != Path(path).stem] == []


def test_every_test_of_the_contract_has_a_kind() -> None:
    files = {str(path.relative_to(FOLDER)) for folder in (".", "steps") for path in (FOLDER / folder).glob("test_*.py")}
    assert sorted(files - {path for _, path in NAMED}) == []
