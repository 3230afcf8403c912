"""The errors by name, from their classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from loopllama.api.responses import problem
from loopllama.errors import Conflict, InvalidRequest, LoopLlamaError, ModelError, NotFound
from loopllama_cli.docgen import markdown


def table() -> str:
    """Return every error with what it means, the API's status for it, and what a step does about a model's."""
    return markdown.table(["error", "is a", "means", "what follows"], (_row(kind) for kind in _tree(LoopLlamaError)))


def _tree(kind: type[LoopLlamaError]) -> Iterator[type[LoopLlamaError]]:
    for child in kind.__subclasses__():
        if child.__module__ == LoopLlamaError.__module__:
            yield child
            yield from _tree(child)


def _row(kind: type[LoopLlamaError]) -> list[str]:
    parent = kind.__base__
    above = f"`{parent.__name__}`" if parent and parent is not LoopLlamaError else ""
    return [f"`{kind.__name__}`", above, inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0], _follows(kind)]


def _follows(kind: type[LoopLlamaError]) -> str:
    if issubclass(kind, ModelError):
        if kind is ModelError:
            return ""
        then = "the step is tried again later" if kind.later else "the step fails"
        return f"next fallback, then {then}" if kind.next_model else "the step fails at once"
    if issubclass(kind, (InvalidRequest, NotFound, Conflict)):
        return f"the API answers {problem(kind(''), '').status_code}"
    return ""
