"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose cells are one line each."""
    lines = [head, ["---"] * len(head), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Text as a cell: one line, a bar of its own escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def names(values: Iterable[str]) -> str:
    """Names in code, by comma."""
    return ", ".join(f"`{value}`" for value in values)
