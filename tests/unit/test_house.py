"""No file is too long to be read in one go, and who passes a limit on purpose says why.

As a script it names the files that are too long, which `make lint` runs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("shared", "cli", "functions", "tests", "benchmarks", "requirements")
LONGEST = 400
"""Lines of a Python file. A longer one holds two things: part it so that each name tells all of its file."""
COMPLEX = re.compile(r"#.*\bnoqa\b.*\bC901\b(?P<reason>.*)")


def files() -> Iterator[tuple[str, str]]:
    """Every Python file of ours by its path, with its text."""
    for path in sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text()


def too_long(texts: Mapping[str, str]) -> list[str]:
    """A line for each file that has more lines than it may."""
    counts = {path: len(text.splitlines()) for path, text in texts.items()}
    return [
        f"{path} has {count} lines, at most {LONGEST} may be; part it"
        for path, count in counts.items()
        if count > LONGEST
    ]


def without_reason(text: str) -> list[str]:
    """The lines that let a function be as complex as it is and do not say why. ruff itself holds the limit."""
    found = ((line, COMPLEX.search(line)) for line in text.splitlines())
    return [line.strip() for line, match in found if match and len(re.findall(r"\w+", match["reason"])) < 3]


def test_no_file_is_too_long() -> None:
    texts = dict(files())
    assert "shared/loopllama/errors.py" in texts
    wrong = too_long(texts)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("lines", "wrong"), [(LONGEST, 0), (LONGEST + 1, 1)])
def test_what_is_too_long(lines: int, wrong: int) -> None:
    assert len(too_long({"a.py": "x = 1\n" * lines})) == wrong


def test_complex_functions_say_why() -> None:
    wrong = {path: found for path, text in files() if (found := without_reason(text))}
    assert not wrong


def test_what_is_a_reason() -> None:
    code = "C901"
    mark = f"# noqa: {code}"
    assert without_reason(f"def f():  {mark}")
    assert without_reason(f"def f():  {mark} - long")
    assert not without_reason(f"def f():  {mark} - one branch for each kind of token, as the grammar has them")


if __name__ == "__main__":
    sys.exit("\n".join(too_long(dict(files()))) or 0)
