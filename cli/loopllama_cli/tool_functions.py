"""Lambda functions of one's own on the local stack: `--tool NAME=FILE.py:HANDLER` (docs/tools.md)."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loopllama.errors import InvalidRequest
from loopllama_cli.commands.common import pairs, read_text

EXAMPLE = "NAME=FILE.py:HANDLER, such as --tool lookup_order=orders.py:handler"


class ToolFunction(NamedTuple):
    """A Python function that stands for a Lambda function: the folder that it is loaded from, and its handler."""

    directory: str
    handler: str


def read(given: Sequence[str] | None, definitions: Mapping[str, Any]) -> tuple[dict[str, ToolFunction], dict[str, Any]]:
    """Return the functions by the names that tools invoke them by, and the definitions with one for each tool that had
    none: its description is the handler's docstring, and it takes any arguments. Raises `InvalidRequest`."""
    functions: dict[str, ToolFunction] = {}
    complete = dict(definitions)
    for name, text in pairs(given, "--tool", EXAMPLE).items():
        file, _, handler = text.rpartition(":")
        path = Path(file)
        if not handler.isidentifier() or path.suffix != ".py" or not path.stem.isidentifier():
            raise InvalidRequest(f"--tool {name}={text} is not valid: write {EXAMPLE}")
        docstring = _docstring(path, handler)
        definition = complete.setdefault(
            name,
            {
                "type": "lambda",
                "function": name,
                "description": docstring or f"{handler} of {path.name}",
                "parameters": {"type": "object"},
            },
        )
        if not isinstance(definition, dict) or definition.get("type") != "lambda":
            raise InvalidRequest(
                f"--tool {name}: the definition of {name} in the file of tools is no Lambda function's"
            )
        # A tool may name its function by its ARN.
        called = str(definition.get("function", "")).rpartition(":")[2]
        functions[called] = ToolFunction(str(path.resolve().parent), f"{path.stem}.{handler}")
    return functions, complete


def _docstring(path: Path, handler: str) -> str:
    """Return what a handler says of itself. Raises `InvalidRequest` where the file has no such function."""
    try:
        module = ast.parse(read_text(f"@{path}"))
    except SyntaxError as error:
        raise InvalidRequest(f"{path}, line {error.lineno}: {error.msg}") from error
    for statement in module.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == handler:
            return " ".join((ast.get_docstring(statement) or "").split())
    there = [statement.name for statement in module.body if isinstance(statement, ast.FunctionDef)]
    raise InvalidRequest(f"{path} has no function {handler!r}; it has: {', '.join(there) or 'none'}")
