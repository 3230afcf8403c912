"""How the program prints: results on standard output, messages on standard error, figures with sensible digits."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loopllama.core import exact_json
from loopllama.errors import InvalidRequest
from loopllama_cli.console import tables
from loopllama_cli.target import complete

_PIPE_WIDTH = 100
"""Columns where the output is no terminal and COLUMNS says nothing."""
_NOTHING = "-"
WHOLE = 10_000
"""The longest cell of a table; what a terminal shows of it, `tables` says."""


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def out() -> Console:
    """Return standard output, for results. Markup is off: text of users and models is never read as styling."""
    return _console(False)


def err() -> Console:
    """Return standard error, for messages, progress and errors."""
    return _console(True)


def print_json(value: Any) -> None:
    """Print a result as JSON, numbers exact, on standard output. What somebody put into a table by hand may be no
    JSON."""
    from loopllama.routing.change_log import plain

    sys.stdout.write(exact_json.dumps(plain(value), indent=2) + "\n")


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print the named fields of records as CSV on standard output: numbers exact, times in UTC, nothing for `None`."""
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(row.get(name)) for name in columns] for row in rows)


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"
    listed = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return " ".join(value) if listed else exact_json.dumps(value)


def message(text: str, style: str = "") -> None:
    """Print a remark for the person on standard error."""
    err().print(plain(complete(text)), style=style, soft_wrap=True)


def error(problem: BaseException) -> None:
    """Print an error as a line on standard error, and a line for each detail that it does not say itself: where, and
    what would be right."""
    console, said = err(), complete(str(problem) or type(problem).__name__)
    console.print(Text.assemble(("error: ", "bold red"), plain(said)), soft_wrap=True)
    details = problem.details if isinstance(problem, InvalidRequest) else []
    for detail in details:
        if _said_already(detail, str(problem), alone=len(details) == 1):
            continue
        line = f"line {detail['line']}: " if detail.get("line") else ""
        field = f"{detail['field']}: " if detail.get("field") else ""
        what = complete(clean(str(detail.get("message", ""))))
        console.print(Text.assemble("  ", (line, "dim"), (clean(field), "bold"), what), soft_wrap=True)


def _said_already(detail: Mapping[str, object], sentence: str, *, alone: bool) -> bool:
    """Return whether an error's sentence says what one of its details does."""
    if detail.get("line"):
        return False
    name = str(detail.get("field") or "").rpartition(".")[2]
    return str(detail.get("message", "")).strip(" .") in sentence or (alone and bool(name) and name in sentence)


def clean(text: str) -> str:
    """Text without control characters, which could move a terminal's cursor or retitle its window. Newlines and tabs
    stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def plain(value: Any) -> Text:
    """Somebody else's text as it is: no markup, no control characters."""
    return Text(clean(str(value)))


def one_line(value: Any, length: int = 200) -> str:
    """Return a value in one line of at most `length` characters: text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else exact_json.dumps(value)
    text = " ".join(clean(text).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def table(*columns: str, right: Iterable[str] = (), **options: Any) -> Table:
    """Return an empty table in the program's style; the columns named in `right` are right-aligned."""
    styled = Table(
        box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), **options
    )
    for column in columns:
        styled.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return styled


def print_table(table: Table, console: Console) -> None:
    """Print a table in the console's width, without the columns that do not fit (`tables.fitting`), which a line below
    names. In a pipe print whole values, a row a line, with a tab between; but where COLUMNS says how wide a table is to
    be, as `watch` does, somebody looks on."""
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.file.write("".join(f"{line}\n" for line in tables.plain(table)))
        return
    fitted, left_out = tables.fitting(table, console.width)
    console.print(fitted, crop=False)
    if left_out:
        console.print(Text(f"No room for {', '.join(left_out)}; --json has it, and a wider terminal.", "dim"))


def tokens(count: Any) -> str:
    """Return a count of tokens, with separators of thousands; nothing for none."""
    return f"{int(count):,}" if count else _NOTHING


def duration(milliseconds: Any) -> str:
    """Milliseconds in the unit that suits them."""
    if milliseconds is None:
        return _NOTHING
    value = float(milliseconds)
    if value < 999.5:
        return f"{value:.0f} ms"
    if value < 59_995:
        return f"{value / 1000:.2f} s"
    seconds = round(value / 1000)
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60:02d}s"
    return f"{seconds // 3600}h {seconds % 3600 // 60:02d}m"


def spread(shortest: Any, longest: Any) -> str:
    """Return two durations in milliseconds as from and to, the unit said once where it is the same."""
    first, last = duration(shortest), duration(longest)
    if first == last:
        return first
    number, _, unit = first.partition(" ")
    return f"{number}-{last}" if unit and last.endswith(f" {unit}") else f"{first}-{last}"


def cost_decimals(costs: Iterable[Any], digits: int = 2) -> int:
    """Return how many decimals costs of one table share: the least cost above 0 keeps `digits` significant ones."""
    positive = [Decimal(cost) for cost in costs if cost]
    if not positive:
        return 2
    return min(12, max(2, digits - 1 - min(positive).adjusted()))


def money(cost: Any, decimals: int | None = None) -> str:
    """USD; `unpriced` for an unknown price. Without `decimals`, four significant digits."""
    if cost is None:
        return "unpriced"
    value = Decimal(cost)
    places = cost_decimals([value], 4) if decimals is None else decimals
    return f"${value:,.{places}f}"


def change(fraction: Any) -> Text:
    """Return a fraction of change as a signed percentage: green for less, red for more."""
    if fraction is None:
        return Text(_NOTHING, "dim")
    percent = round(Decimal(fraction) * 100, 1)
    if percent == 0:
        return Text("same", "dim")
    return Text(f"{percent:+}%", "green" if percent < 0 else "red")


def moment(text: Any) -> datetime | None:
    """Return the time of an ISO 8601 text; `None` for anything else."""
    try:
        parsed = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def local_time(text: Any, *, seconds: bool = False) -> str:
    """Return a record's time in the terminal's time zone, to the minute or to the second."""
    parsed = moment(text)
    return parsed.astimezone().strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M") if parsed else _NOTHING


def epoch_time(seconds: int | Decimal) -> str:
    """Return a time in seconds since 1970 as `local_time` does."""
    if not 0 <= seconds < 10**11:
        return str(seconds)
    return local_time(datetime.fromtimestamp(int(seconds), UTC).isoformat())


_STATUS = {
    "completed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "cancelled": ("⊘", "yellow"),
    "running": ("●", "cyan"),
    "waiting_input": ("⏸", "yellow"),
    "skipped": ("↷", "dim"),
}


def status(name: Any, word: bool = True) -> Text:
    """Return a status as a coloured mark, and its word."""
    mark, style = _STATUS.get(str(name), ("·", "dim"))
    return Text(f"{mark} {clean(str(name))}" if word else mark, style)
