"""docs/ says what the code says, and its links lead somewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from loopllama_cli.docgen import pages

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "examples", "tests", ".github") for page in (ROOT / folder).rglob("*.md")),
    ]
)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"^\|.*\n\|[ :|-]+\|\n(?:\|.*\n?)*", re.MULTILINE)
_BAR = re.compile(r"(?:\\.|[^\\|])*(\|)")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def test_what_is_made_from_the_code_is_fresh() -> None:
    assert sorted(page.name for page in pages.stale(ROOT)) == [], "run: make docs"


def test_a_stale_page_a_part_that_nothing_makes_and_a_lost_place_are_told(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = tmp_path / "docs/reference.md"
    text = page.read_text()
    page.write_text(text.replace("| `RunsCompleted` | `workflow` | Count |", "| `RunsCompleted` | `workflow` | None |"))
    assert pages.stale(tmp_path) == {page: text}
    page.write_text(text.replace("make docs: metrics", "make docs: moods"))
    with pytest.raises(ValueError, match=r"reference\.md asks for moods"):
        pages.stale(tmp_path)
    page.unlink()
    with pytest.raises(ValueError, match=r"no page has a place for .*metrics"):
        pages.stale(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(_prose(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in _anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_rows_of_tables_have_the_cells_of_their_heads(page: Path) -> None:
    """A bar that is not escaped, or whose backslash is, ends a cell, within code too."""
    text = _FENCED.sub("", page.read_text("utf-8"))
    tables = [table.group().splitlines() for table in _TABLE.finditer(text)]
    wrong = [row for head, *rows in tables for row in rows if len(_BAR.findall(row)) != len(_BAR.findall(head))]
    assert wrong == []


def test_every_page_is_in_the_index() -> None:
    index = _LINK.findall((ROOT / "docs/README.md").read_text())
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md", *index} == set()


def _prose(page: Path) -> str:
    """A page without what stands in code."""
    text = _FENCED.sub("", page.read_text("utf-8"))
    return re.sub(r"`[^`\n]*`", "", text)


def _anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings: small letters, words joined by hyphens, the rest left out."""
    text = _FENCED.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
