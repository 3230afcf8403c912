"""A row of the Tools table, as DynamoDB holds it."""

from __future__ import annotations

from typing import Literal, Required, TypedDict


class ToolRow(TypedDict, total=False):
    """People write these rows too, so every attribute but the key may be missing or anything."""

    tool: Required[str]
    definition: object
    """JSON text, where it is right."""
    checked: object
    """The digest of the definition that was checked before it was written (`reading.digest`)."""
    version: object
    updated_by: object
    reason: object
    updated_at: object


class Written(TypedDict):
    """What became of a definition that was to be written."""

    tool: str
    change: Literal["created", "changed", "unchanged"]
    version: int


class ShownTool(TypedDict):
    """A tool as those see it who may name it in a crew."""

    name: str
    type: str | None
    description: str | None
    parameters: dict[str, object] | None
    timeout_seconds: float | None
    problem: str | None
    version: int | None
    updated_by: str | None
    reason: str | None
    updated_at: str | None
