"""Files of tools: one JSON object, name to definition (docs/tools.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopllama.core import exact_json
from loopllama.errors import InvalidRequest
from loopllama_cli.commands.common import read_text

if TYPE_CHECKING:
    from loopllama.tools.types import ToolRow


def load(path: Path) -> dict[str, Any]:
    """Return the definitions in a file by name, once all of them make sense. Raises `InvalidRequest`, which names the
    file, for the first that does not."""
    from loopllama.tools.store import checked

    definitions = read(path)
    try:
        checked(definitions)
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}: {error}", error.details) from error
    return definitions


def read(path: Path) -> dict[str, Any]:
    """Return what a file says of each tool, whether it makes sense or not. Raises `InvalidRequest` for what is no JSON
    object."""
    try:
        definitions = exact_json.loads(read_text(f"@{path}"))
    except ValueError as error:
        raise InvalidRequest(f"{path}: {error}") from error
    if not isinstance(definitions, dict):
        raise InvalidRequest(f"{path} must hold a JSON object of name to definition")
    return definitions


def definition(row: ToolRow) -> object:
    """Return the definition in a row of the Tools table as JSON's value; what is no JSON text, as it is."""
    try:
        return exact_json.loads(str(row.get("definition") or ""))
    except ValueError:
        return row.get("definition")


def dump(definitions: Mapping[str, object]) -> str:
    """Return the text of a file of definitions."""
    return exact_json.dumps(definitions, indent=2, ascii_only=False)
