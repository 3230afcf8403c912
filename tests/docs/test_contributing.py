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


def test_what_contributing_names_is_there() -> None:
    """Paths of files and folders, but for those that its examples add."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = set(re.findall(r"`?\b((?:tests|shared|cli|benchmarks|docs|\.ci)/[\w./-]+\w)", text))
    made = {path for path in paths if re.search(r"\b(stage|moonshot|limits)\b", path)}
    assert sorted(path for path in paths - made if not (ROOT / path).exists()) == []


def test_make_targets_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets
