"""docs/security.md names tests that exist."""

from __future__ import annotations

import re

import pytest
from template.project import ROOT

PAGE = (ROOT / "docs/security.md").read_text()


def named() -> list[tuple[str, str]]:
    """File and function of every test that the page names; a function alone is in the file named before it."""
    found, file = [], ""
    for path, name in re.findall(r"`(\w+/[\w/]+\.py)?(?:::(\w+))?`", PAGE):
        file = path or file
        if path or name:
            found.append((file, name))
    return found


@pytest.mark.parametrize(("file", "name"), named())
def test_it_is_there(file: str, name: str) -> None:
    text = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^ *(def|class) {name}\b", text, re.MULTILINE), name


def test_it_names_the_tests_of_each_line() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "shown by" not in line]
    shown = PAGE.partition("## What stops them")[2].partition("## What nobody stops")[0]
    without = [line for line in rows if line in shown and not re.search(r"\.py|::|`template", line)]
    assert not without
