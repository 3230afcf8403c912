"""The pages for who changes LoopLlama name what is there: every stand-in, every file, every command."""

from __future__ import annotations

import re

from template.project import ROOT

SUPPORT = ROOT / "tests/support"


def test_every_stand_in_is_on_the_page_of_tests_support() -> None:
    named = set(re.findall(r"`(\w+)", (SUPPORT / "README.md").read_text()))
    there = {path.stem for path in SUPPORT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"__init__"} - named == set()


def test_every_folder_of_tests_says_what_it_is_for() -> None:
    text = (SUPPORT / "README.md").read_text()
    folders = {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("**/test_*.py"))}
    assert set(re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", text, re.MULTILINE)) >= folders
