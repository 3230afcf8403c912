"""Expressions of the crew's language: `when`, `forEach` and `repeat.until`.

They are JMESPath (https://jmespath.org) over one document:

    {"input": …, "steps": {NAME: {"output": …}}, "item": …}

`steps.triage.output.urgency == 'high'`, `` length(steps.extract.output.items) > `3` ``. What is false, null, or an
empty text, list or object counts as false: JMESPath's own rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loopllama.core import exact_json
from loopllama.core.patterns import late
from loopllama.errors import InvalidRequest

MAX_LENGTH = 1000
MAX_DEPTH = 200
"""Deepest nesting of an expression, a long chain of `||` being one: computing it takes several calls for each level."""
MAX_PLACES, MAX_SHOWN = 5, 100
"""Places of the document that a reason shows, and characters of each."""
_NUMERAL = late(r"\s*[-+]?\d+(\.\d+)?([eE][-+]?\d+)?\s*", re.ASCII)
LITERALS = "texts stand in single quotes, and numbers, true, false and null in backquotes: 'high', `0.8`, `true`"


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression. `steps` are the names of the steps that it reads; with `whole`, there may be others, because
    it takes the document, or all of its steps, as a value; `reads_input` is true where a field of that name is read.
    `tree` is JMESPath's syntax tree."""

    text: str
    steps: frozenset[str]
    whole: bool
    reads_input: bool
    tree: Mapping[str, Any]

    def of(self, document: Mapping[str, Any]) -> Any:
        """Return the expression's value; numbers are the document's own, or exact results. Raises `InvalidRequest`
        where a function is given what it does not take, and where it takes too much work."""
        from jmespath.exceptions import JMESPathError

        from loopllama.workflows import exact_jmespath

        try:
            return exact_jmespath.search(self.tree, document, f"computing the expression {self.text!r}")
        except JMESPathError as error:
            raise InvalidRequest(f"the expression {self.text!r} cannot be computed: {_first_line(error)}") from error
        except RecursionError:
            raise InvalidRequest(f"the expression {self.text!r} meets values that are nested too deeply") from None

    def holds(self, document: Mapping[str, Any]) -> bool:
        """Return whether the value counts as true."""
        value = self.of(document)
        return value is not None and value is not False and value not in ("", [], {})

    def reason(self, document: Mapping[str, Any]) -> str:
        """Return why it does not hold, for whoever reads a run's record: the expression, and what stands at each place
        of the document that it names."""
        from loopllama.workflows import exact_jmespath

        found = []
        for place, node in _places(self.tree).items():
            text = exact_json.dumps(exact_jmespath.search(node, document), ascii_only=False)
            found.append(f"{place} is {text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + '…'}")
        return "; ".join([f"`when` is false: {self.text}", *found[:MAX_PLACES]])


def parse(text: str) -> Expression:
    """Read an expression. Raises `ValueError` saying where it breaks off."""
    from jmespath.exceptions import JMESPathError, ParseError

    from loopllama.workflows import exact_jmespath

    if len(text) > MAX_LENGTH:
        raise ValueError(f"must have at most {MAX_LENGTH:,} characters")
    if text.count("(") > MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    try:
        tree = exact_jmespath.compile(text)
        nodes = list(_nodes(tree))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except JMESPathError as error:
        from loopllama.workflows import name_hints

        hint = name_hints.of_expression(text, _is_expression)
        if not hint and isinstance(error, ParseError) and error.token_type == "NUMBER":  # noqa: S105
            hint = f"; {LITERALS}"
        # The library's words say where it breaks off; what was meant says more.
        why = "" if "did you mean" in hint else f": {_first_line(error)}"
        raise ValueError(f"is no JMESPath expression{why}{hint}") from error
    if digits := next(filter(None, map(_digits_compared, nodes)), ""):
        raise ValueError(
            f"compares the text '{digits}', and texts are compared letter by letter ('10' is before '9'): write "
            f"`{digits}`, and make a number of a text with to_number()"
        )
    named = [name for node in nodes if (name := _step(node)) is not None]
    mentioned = [node for node in nodes if (node["type"], node.get("value")) == ("field", "steps")]
    reads_more = len(mentioned) > len(named) or any(node["type"] in ("current", "value_projection") for node in nodes)
    reads_input = any((node["type"], node.get("value")) == ("field", "input") for node in nodes)
    return Expression(text, frozenset(named), reads_more, reads_input, tree)


_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels"


def _nodes(tree: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a syntax tree's nodes. Raises `ValueError` for one that is too deep."""
    pending = [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        yield node
        pending += [(child, depth + 1) for child in node["children"] if isinstance(child, dict)]


def _places(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the places of the document that a syntax tree names whole, such as `steps.triage.output.urgency`, and
    their nodes."""
    places: dict[str, Mapping[str, Any]] = {}
    pending = [tree]
    while pending:
        node = pending.pop()
        names = _names(node)
        if names and names[0] in ("input", "steps"):
            places[".".join(names)] = node
        else:
            pending += [child for child in reversed(node["children"]) if isinstance(child, dict)]
    return places


def _names(node: Mapping[str, Any]) -> list[str]:
    """Return the names of a chain of fields; none where the node is something else."""
    if node["type"] == "field":
        return [str(node["value"])]
    if node["type"] != "subexpression":
        return []
    parts = [_names(child) for child in node["children"]]
    return [name for part in parts for name in part] if all(parts) else []


def _digits_compared(node: Mapping[str, Any]) -> str:
    """Return the number that stands as a text in a comparison by size; empty where there is none."""
    if node["type"] != "comparator" or node["value"] in ("eq", "ne"):
        return ""
    texts = [child["value"] for child in node["children"] if child["type"] == "literal"]
    return next((text for text in texts if isinstance(text, str) and _NUMERAL.fullmatch(text)), "")


def _step(node: Mapping[str, Any]) -> str | None:
    """Return the name X where the node is `steps.X`."""
    if node["type"] != "subexpression":
        return None
    first, second, *_ = node["children"]
    is_step = (first["type"], first.get("value"), second["type"]) == ("field", "steps", "field")
    return str(second["value"]) if is_step else None


def _is_expression(text: str) -> bool:
    from jmespath.exceptions import JMESPathError

    from loopllama.workflows import exact_jmespath

    try:
        exact_jmespath.compile(text)
    except (JMESPathError, RecursionError):
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].removesuffix(":").removesuffix(", for expression")
