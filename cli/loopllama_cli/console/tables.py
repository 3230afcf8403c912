"""Tables in the width that there is: which columns go first where it does not suffice, and what is never cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rich.cells import cell_len
from rich.table import Column, Table
from rich.text import Text

LEFT_OUT = (
    *("Run's latency", "Routine", "90 % range"),
    *("Share", "By", "System prompt", "Agents", "Can", "Tokens cached", "Cached", "Latency from", "Secret"),
    *("Answered by", "Description", "Updated", "Version", "Tokens", "Tokens in", "Tokens out", "In", "Out", "Provider"),
    *("Context", "At once", "Alias", "Role", "Needs", "Until", "Type", "Latency before", "Cost before", "Latency"),
    *("Created", "Change", "Latency after", "Spread (p10 to p90)", "Reason", "Of", "Fallbacks", "Source", "Revoked"),
    *("Name", "Key", "Opens", "Last used", "Steps", "Input", "Output", "From", "Cost after", "Cost", "Change "),
)
"""Columns that may be left out, the first to go first. The rest, and the first column of a table, always stay."""
_TEXTS = {"Reason": 200, "Opens": 300, "Changed": 300, "Description": 120, "System prompt": 60, "By": 60}
"""Columns of sentences, with the most characters that a terminal shows of them: they are broken between words."""
_LISTS = ("Can", "Fallbacks", "Needs", "Says", "Move", "Opens", "Value", "From", "To", "Alias")
"""Columns with several names in a cell: broken between them, never within one."""
_NARROW_TEXT, _WORD = 16, 40
"""Characters: the least that a column of sentences has, and the longest word in them that is not broken either."""


def plain(table: Table) -> Iterator[str]:
    """Return the lines of a table for programs: headings, rows and totals, values whole, a tab between two."""
    columns = [[text(column.header), *map(text, column.cells)] for column in table.columns]
    if table.show_footer:
        columns = [[*cells, text(column.footer)] for cells, column in zip(columns, table.columns, strict=True)]
    return ("\t".join(row) for row in zip(*columns, strict=True))


def text(cell: Any) -> str:
    """Return what a cell says, in one line."""
    return " ".join((cell.plain if isinstance(cell, Text) else str(cell)).split())


def fitting(table: Table, room: int) -> tuple[Table, list[str]]:
    """Return a table that fits into so many columns of the terminal, and the columns that it lacks.

    Names are never cut: a table whose least columns have no room is wider, and the terminal breaks its lines.
    """
    columns = [_shown(column) for column in table.columns]
    whole = [_column_width(column, least=False) for column in columns]
    if sum(whole) + 2 * (len(whole) - 1) <= room:
        return _with(table, columns, whole), []
    first = next((place for place, column in enumerate(columns) if text(column.header)), 0)
    left_out = []
    for name in LEFT_OUT:
        if _least(columns) <= room:
            break
        for column in columns[first + 1 :]:
            if column.header == name:
                columns.remove(column)
                left_out.append(name.strip())
    fitted = _with(table, columns, _shared(columns, room))
    fitted.padding = (0, 0)
    fitted.width = _least(columns) if _least(columns) > room else None
    return fitted, left_out


def _least(columns: list[Column]) -> int:
    """Return how wide columns are with one space between two where each is broken as far as may be."""
    return sum(_column_width(column, least=True) for column in columns) + max(0, len(columns) - 1)


def _shared(columns: list[Column], room: int) -> list[int]:
    """Return the columns' widths: the least of each, and what is left for those that need it, evenly."""
    widths = [_column_width(column, least=True) for column in columns]
    wanted = [_column_width(column, least=False) for column in columns]
    for _ in range(room - _least(columns)):
        needing = [place for place, width in enumerate(widths) if width < wanted[place]]
        if not needing:
            break
        widths[min(needing, key=lambda place: widths[place])] += 1
    return widths


def _shown(column: Column) -> Column:
    """Return a column as a terminal shows it: sentences shortened, and broken only where they may be."""
    most = _TEXTS.get(str(column.header))
    cells = list(column.cells)
    if most is not None:
        cells = [_shortened(cell, most) for cell in cells]
    wraps = most is not None or column.header in _LISTS
    return replace(column, no_wrap=not wraps, overflow="fold", _cells=cells)


def _shortened(cell: Any, most: int) -> Text:
    cut = cell.copy() if isinstance(cell, Text) else Text(str(cell))
    cut.truncate(most, overflow="ellipsis")
    return cut


def _column_width(column: Column, *, least: bool) -> int:
    cells = [text(cell) for cell in (column.header, column.footer, *column.cells)]
    whole = max(map(cell_len, cells))
    if not least or column.no_wrap:
        return whole
    words = [cell_len(word) for cell in cells for word in cell.split()]
    if column.header in _LISTS:
        return max(words, default=0)
    return min(whole, max([_NARROW_TEXT, *(word for word in words if word <= _WORD)]))


def _with(table: Table, columns: list[Column], widths: list[int]) -> Table:
    """Return the table with these columns alone, so wide."""
    fitted = Table(
        box=table.box,
        header_style=table.header_style,
        show_edge=table.show_edge,
        pad_edge=table.pad_edge,
        padding=table.padding,
        show_footer=table.show_footer,
    )
    pairs = enumerate(zip(columns, widths, strict=True))
    fitted.columns = [replace(column, _index=place, width=width) for place, (column, width) in pairs]
    fitted.rows = table.rows
    return fitted
