"""Rows of the Tools table, as `loopllama tools push` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopllama.core import exact_json
from loopllama.tools.reading import digest

if TYPE_CHECKING:
    from loopllama.tools.types import ToolRow


def rows(definitions: Mapping[str, Any]) -> dict[str, ToolRow]:
    """Return definitions, valid or not, as rows by name: what a `Toolbox` takes."""
    texts = {name: exact_json.dumps(definition) for name, definition in definitions.items()}
    return {name: {"tool": name, "definition": text, "checked": digest(text)} for name, text in texts.items()}


def by_hand(name: str, definition: Any) -> ToolRow:
    """Return the row that a person makes in DynamoDB's console: of what nobody has checked."""
    return {"tool": name, "definition": definition if isinstance(definition, str) else exact_json.dumps(definition)}
