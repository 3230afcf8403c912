"""The template's parameter `Tools`, checked before anything is deployed with it: a function would tell of it by its log
only."""

from __future__ import annotations

from loopllama.core import exact_json, numbers
from loopllama.errors import InvalidRequest


def check_tools(text: str) -> None:
    """Raise `InvalidRequest` for definitions that no step could use."""
    from loopllama.tools.toolbox import check_definitions

    try:
        definitions = numbers.plain(exact_json.loads(text or "{}"))
        if not isinstance(definitions, dict):
            raise ValueError("it must be a JSON object of name to definition")
        check_definitions(definitions)
    except (ValueError, InvalidRequest) as error:
        raise InvalidRequest(f"parameter Tools: {error}", getattr(error, "details", ())) from error
