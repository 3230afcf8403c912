"""Expressions of the crew's language: `when`, `forEach` and `repeat.until`.

They are JMESPath (https://jmespath.org) over one document:

    {"input": …, "steps": {NAME: {"output": …}}, "item": …}

`steps.triage.output.urgency == 'high'`, `` length(steps.extract.output.items) > `3` ``. What is false, null, or an
empty text, list or object counts as false: JMESPath's own rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import InvalidRequest

MAX_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression. `steps` are the names of the steps that it reads; with `whole`, there may be others, because
    it takes the document, or all of its steps, as a value."""

    text: str
    steps: frozenset[str]
    whole: bool
    _parsed: Any

    def of(self, document: Mapping[str, Any]) -> Any:
        """The expression's value. Raises `InvalidRequest` where a function is given what it does not take."""
        from jmespath.exceptions import JMESPathError

        try:
            return self._parsed.search(document)
        except JMESPathError as error:
            raise InvalidRequest(f"the expression {self.text!r} cannot be computed: {_first_line(error)}") from error

    def holds(self, document: Mapping[str, Any]) -> bool:
        """Whether the value counts as true."""
        value = self.of(document)
        return value is not None and value is not False and value not in ("", [], {})


def parse(text: str) -> Expression:
    """Read an expression. Raises `ValueError` saying where it breaks off."""
    import jmespath
    from jmespath.exceptions import JMESPathError

    if len(text) > MAX_LENGTH:
        raise ValueError(f"must have at most {MAX_LENGTH:,} characters")
    try:
        parsed = jmespath.compile(text)
    except JMESPathError as error:
        raise ValueError(f"is no JMESPath expression: {_first_line(error)}") from error
    if _negates_a_root(parsed.parsed):
        raise ValueError("'!' binds more tightly than '.': write !(steps.NAME.output.FIELD)")
    named = list(_steps(parsed.parsed))
    nodes = list(_nodes(parsed.parsed))
    mentioned = [node for node in nodes if (node["type"], node.get("value")) == ("field", "steps")]
    whole = len(mentioned) > len(named) or any(node["type"] in ("current", "value_projection") for node in nodes)
    return Expression(text, frozenset(named), whole, parsed)


def _nodes(node: Any) -> Iterator[Any]:
    """A syntax tree's nodes."""
    yield node
    for child in node["children"]:
        if isinstance(child, dict):
            yield from _nodes(child)


def _steps(node: Any) -> Iterator[str]:
    """The names X of `steps.X` anywhere in a syntax tree."""
    for one in _nodes(node):
        if one["type"] == "subexpression":
            first, second, *_ = one["children"]
            if (first["type"], first.get("value"), second["type"]) == ("field", "steps", "field"):
                yield second["value"]


def _negates_a_root(node: Any) -> bool:
    """Whether `!steps.a` is meant for `!(steps.a)`: as written it is the field `a` of true or false."""
    children = [child for child in node["children"] if isinstance(child, dict)]
    if node["type"] == "not_expression" and children[0].get("value") in ("steps", "input", "item"):
        return bool(children[0]["type"] == "field")
    return any(_negates_a_root(child) for child in children)


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
