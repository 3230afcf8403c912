"""Whether a tool only reads, as far as its definition tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from loopllama.errors import ToolInvalid
from loopllama.tools.builtin import BUILT_IN
from loopllama.tools.definitions import ASK_HUMAN
from loopllama.tools.reading import read

if TYPE_CHECKING:
    from loopllama.tools.types import ToolRow


def only_read(names: Iterable[str], rows: Mapping[str, ToolRow]) -> dict[str, bool | None]:
    """Return of each tool whether it only reads. Built-in tools and HTTP requests with GET do (RFC 9110, 9.2.1: its
    semantics are read-only), other requests and questions to people do not; of a Lambda function, of a tool that is not
    defined and of one whose definition is invalid it is not known (`None`)."""
    return {name: _only_reads(name, rows) for name in names}


def _only_reads(name: str, rows: Mapping[str, ToolRow]) -> bool | None:
    if name in BUILT_IN or name == ASK_HUMAN.name:
        return name in BUILT_IN
    try:
        tool = read(rows[name]) if name in rows else None
    except ToolInvalid:
        return None
    from loopllama.tools.http import HttpGetTool, HttpTool

    if isinstance(tool, HttpTool):
        return tool.method == "GET"
    return True if isinstance(tool, HttpGetTool) else None
