"""A tool's definition read: JSON text to what can be called."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING

from loopllama.core import exact_json, numbers
from loopllama.errors import InvalidRequest, ToolInvalid
from loopllama.llm.structured_output import ANSWER_TOOLS
from loopllama.tools.builtin import BUILT_IN
from loopllama.tools.definitions import ASK_HUMAN, Fields, Tool, check_name

if TYPE_CHECKING:
    from loopllama.tools.types import ToolRow

MAX_DEFINITION_BYTES = 64 * 1024
"""Longest definition, as JSON. Its schema is sent with every call of a model, and every step that names it reads it."""

KNOWN_TO_ALL = frozenset((*BUILT_IN, ASK_HUMAN.name))
"""Names that a crew may use in every deployment."""
_RESERVED = KNOWN_TO_ALL | ANSWER_TOOLS
"""Names with a meaning of their own."""
_KINDS = ("lambda", "http", "http_get")


def digest(text: str) -> str:
    """Return what tells whether a definition is still the one that was checked."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def read(row: ToolRow) -> Tool:
    """Return the tool that a row of the Tools table defines. Raises `ToolInvalid`, which says which row it is, what is
    wrong and what to do.

    The schema of its arguments is checked where somebody edited the row by hand. What `ToolStore.write` wrote was
    checked then, and a step need not load jsonschema before its first call.
    """
    name, text = row["tool"], row.get("definition")
    try:
        if not isinstance(text, str):
            raise ToolInvalid.of(f"{name}.definition", "must be a text (S) that holds JSON")
        return _read(name, text) if row.get("checked") == digest(text) else check(name, text)
    except ToolInvalid as error:
        raise of_row(name, error) from error


def of_row(name: str, error: ToolInvalid) -> ToolInvalid:
    """Return the error with the row that it is about, and the commands that show it and define it anew."""
    told = str(error).removesuffix(".")
    row = f"row {name!r} of the Tools table: `loopllama tools show {name}` shows it"
    return ToolInvalid(f"{told} ({row}, `loopllama tools push FILE.json` defines it anew)", error.details)


def check(name: str, text: str) -> Tool:
    """Return the tool of a definition once all of it makes sense, the schema of its arguments too. Raises
    `ToolInvalid`."""
    from loopllama.core import json_schema

    tool = _read(name, text)
    try:
        json_schema.violations(tool.spec.parameters, {})
    except InvalidRequest as error:
        raise ToolInvalid.of(f"{name}.parameters", str(error)) from error
    return tool


@lru_cache(maxsize=128)
def _read(name: str, text: str) -> Tool:
    """Return the tool; a text is read once a process."""
    check_name(name)
    if len(text.encode(errors="replace")) > MAX_DEFINITION_BYTES:
        raise ToolInvalid.of(name, f"must have at most {MAX_DEFINITION_BYTES:,} bytes of JSON")
    try:
        definition = numbers.plain(exact_json.loads(text))
    except ValueError as error:
        raise ToolInvalid.of(
            name, f"is no valid JSON: {error}", sentence=f"{name} is no valid JSON: {error}"
        ) from error
    fields = Fields(name, definition)
    if name in _RESERVED:
        raise fields.wrong("", "is the name of a built-in tool; take another one")
    kind = fields.take("type")
    tool: Tool
    if kind == "lambda":
        from loopllama.tools.function import FunctionTool

        tool = FunctionTool.read(name, fields)
    elif kind == "http":
        from loopllama.tools.http import HttpTool

        tool = HttpTool.read(name, fields)
    elif kind == "http_get":
        from loopllama.tools.http import HttpGetTool

        tool = HttpGetTool.read(name, fields)
    else:
        raise fields.wrong("type", f"must be one of {', '.join(_KINDS)}, not {kind!r}")
    fields.done()
    return tool
