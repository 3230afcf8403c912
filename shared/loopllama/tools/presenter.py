"""A tool as those see it who may name it in a crew: what an agent is told of it, and who defined it.

Left out are the address, headers, the secret's name and the function: a fixed header or a query may hold what only the
deployer is to know, and whoever has an API key may read this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopllama.aws.versioned import version_of
from loopllama.core import exact_json
from loopllama.errors import ToolInvalid
from loopllama.tools.builtin import BUILT_IN
from loopllama.tools.definitions import ASK_HUMAN
from loopllama.tools.reading import read

if TYPE_CHECKING:
    from loopllama.llm.types import ToolSpec
    from loopllama.tools.types import ShownTool, ToolRow


def view(row: ToolRow) -> ShownTool:
    """Return what may be shown of a row; `problem` says why steps that use it fail."""
    try:
        tool = read(row)
        kind = str(exact_json.loads(str(row.get("definition")))["type"])
        shown = _shown(row["tool"], kind, tool.spec, tool.timeout)
    except ToolInvalid as error:
        shown = {**_shown(row["tool"]), "problem": str(error)}
    by, reason, at = (
        value if isinstance(value := row.get(name), str) else None for name in ("updated_by", "reason", "updated_at")
    )
    return {**shown, "version": version_of(row) or None, "updated_by": by, "reason": reason, "updated_at": at}


def built_in() -> list[ShownTool]:
    """Return the tools that every deployment has."""
    tools = [_shown(name, "built_in", tool.spec, tool.timeout) for name, tool in BUILT_IN.items()]
    return [*tools, _shown(ASK_HUMAN.name, "built_in", ASK_HUMAN)]


def _shown(name: str, kind: str | None = None, spec: ToolSpec | None = None, timeout: float | None = None) -> ShownTool:
    return {
        "name": name,
        "type": kind,
        "description": spec.description if spec else None,
        "parameters": dict(spec.parameters) if spec else None,
        "timeout_seconds": timeout,
        "problem": None,
        "version": None,
        "updated_by": None,
        "reason": None,
        "updated_at": None,
    }
