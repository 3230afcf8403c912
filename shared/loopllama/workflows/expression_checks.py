"""Where an expression can lead, followed through its syntax tree before there are values.

Names inside `[?…]`, `[*].…` and `&…` are those of one item, names behind a pipe those of what stands before it; what
functions and `||` give is not known. Only what is wrong whatever the values are is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from loopllama.core.names import closest
from loopllama.workflows.expressions import LITERALS, Expression
from loopllama.workflows.static_types import ANYTHING, Listed, Named, Nothing, Type

Node = Mapping[str, Any]


def follow(expression: Expression, document: Type) -> tuple[Type, list[str]]:
    """Return the type of an expression's value, and what is wrong with it."""
    walk = _Walk(_without_literals(expression.text))
    return walk.of(expression.tree, document), list(dict.fromkeys(walk.problems))


class Document(Named):
    """What the expressions of a step are computed over: input and steps. `names` are the crew's steps."""

    named = "what an expression reads"

    def __init__(self, steps: Type, names: Sequence[str], has_items: bool) -> None:
        self._steps, self._names, self._has_items = steps, names, has_items

    def field(self, name: str) -> Type:
        if name in ("input", "steps"):
            return self._steps if name == "steps" else ANYTHING
        if name == "item":
            why = "this is computed once, for the whole list: filter that, as in forEach: input.list[?keep]"
            raise Nothing(f"'item' is for the prompts of steps with forEach{f'; {why}' if self._has_items else ''}")
        hint = closest(name, ("input", "steps"))
        if name in self._names:
            hint = f"; did you mean steps.{name}.output?"
        elif "did you mean" not in hint:
            hint = f"; {LITERALS}"
        raise Nothing(f"there is no '{name[:60]}', only input and steps.NAME.output{hint}")


class _Walk:
    def __init__(self, text: str) -> None:
        self._text = text
        self.problems: list[str] = []
        self._always = True
        """Whether what is looked at is computed whatever the values are."""

    def _sometimes(self, node: Node, scope: Type) -> Type:
        """`of` a node that is computed for some values only: for items that there are, or behind `&&` and `||`."""
        before, self._always = self._always, False
        try:
            return self.of(node, scope)
        finally:
            self._always = before

    def of(self, node: Node, scope: Type) -> Type:
        """Return the type of a node's value where `@` has the type `scope`."""
        try:
            return self._of(node, scope)
        except Nothing as nothing:
            self.problems.append(str(nothing))
            return ANYTHING

    def _of(self, node: Node, scope: Type) -> Type:
        children = node["children"]
        match node["type"]:
            case "field" if node["value"] == "null":
                return ANYTHING  # no value has such a field, so that `== null` says what it means
            case "field":
                return scope.field(node["value"])
            case "current" | "identity":
                return scope
            case "subexpression" | "index_expression" | "pipe":
                for child in children:
                    scope = self.of(child, scope)
                return scope
            case "index":
                return scope.element()
            case "slice":
                if children[2] == 0:
                    raise Nothing("the step of a slice cannot be 0")
                scope.element()
                return scope
            case "flatten":
                left = self.of(children[0], scope)
                return _projected(left, left.element().flat())
            case "projection":
                left = self.of(children[0], scope)
                return _projected(left, self._sometimes(children[1], left.element()))
            case "filter_projection":
                left = self.of(children[0], scope)
                element = left.element()
                self._sometimes(children[2], element)
                return _projected(left, self._sometimes(children[1], element))
            case "value_projection":
                left = self.of(children[0], scope)
                return _projected(left, self._sometimes(children[1], left.values()))
            case "function_expression":
                return self._call(node["value"], children, scope)
            case "expref":
                raise Nothing("'&' stands only before what sort_by, max_by, min_by and map are given")
            case "not_expression" if children[0] in _ROOTS:
                # As it is written it is a field of true or false.
                raise Nothing("'!' binds more tightly than '.': write !(steps.NAME.output.FIELD)")
            case "comparator":
                return self._compared(node, scope)
            case "and_expression" | "or_expression":
                self.of(children[0], scope)
                for child in children[1:]:
                    self._sometimes(child, scope)
                return ANYTHING
        for child in children:
            # What is chosen of null is null, and is not looked at.
            (self._sometimes if scope.later else self.of)(child, scope)
        return ANYTHING

    def _compared(self, node: Node, scope: Type) -> Type:
        """Look at both sides of a comparison, and at whether they can ever be equal."""
        sides, look = node["children"], self._sometimes if scope.later else self.of
        literals = [side for side in sides if side["type"] == "literal"]
        if not literals and not isinstance(scope, Document):  # which says so itself
            for side in sides:
                name = side["value"] if side["type"] == "field" else None
                if name and name.isidentifier() and f'"{name}"' in self._text:
                    raise Nothing(f'"{name}" in double quotes is the name of a field; {LITERALS}')
        types = [look(side, scope) for side in sides if side["type"] != "literal"]
        if len(literals) == 1 and node["value"] in ("eq", "ne") and (why := types[0].never(literals[0]["value"])):
            raise Nothing(why)
        return ANYTHING

    def _call(self, name: str, arguments: Sequence[Node], scope: Type) -> Type:
        from loopllama.workflows.exact_jmespath import SIGNATURES

        if name not in SIGNATURES:
            raise Nothing(f"there is no function '{name[:60]}'{closest(name, SIGNATURES)}")
        signature = SIGNATURES[name]
        least, more = len(signature), bool(signature[-1].get("variadic"))
        if len(arguments) < least or (len(arguments) > least and not more):
            wanted = f"at least {least}" if more else str(least)
            raise Nothing(f"{name}() takes {wanted} argument{'s' * (least != 1)}, not {len(arguments)}")
        given: Type = ANYTHING
        for part, argument in zip(signature, arguments, strict=False):
            if part["types"] == ["expref"] and argument["type"] != "expref":
                raise Nothing(f"{name}() is given what it looks at with '&', as in {_BY_REFERENCE[name]}")
            if part["types"] != ["expref"]:
                given = self.of(argument, scope)
                if given.later and self._always and part["types"] and "null" not in part["types"]:
                    raise Nothing(
                        f"{name}() is given null in the loop's first round, which it does not take: name another value "
                        "for that round with ||"
                    )
        for argument in arguments[len(signature) :]:
            self.of(argument, scope)
        if name in _BY_REFERENCE:
            element = given.element()
            inner = self._sometimes(
                next(argument for argument in arguments if argument["type"] == "expref")["children"][0], element
            )
            return {"map": _projected(given, inner), "sort_by": given}.get(name, element)
        return given if name in ("sort", "reverse") else ANYTHING


def _without_literals(text: str) -> str:
    """Return an expression's text without its values, in which double quotes are those of JSON or the text's own."""
    return re.sub(r"`(?:[^`\\]|\\.)*`|'(?:[^'\\]|\\.)*'", "", text)


_BY_REFERENCE = {name: f"{name}(LIST, &FIELD)" for name in ("sort_by", "min_by", "max_by")}
_BY_REFERENCE["map"] = "map(&FIELD, LIST)"


def _projected(left: Type, inner: Type) -> Type:
    return Listed("what [*] or [?…] gives", inner, left.later)


_ROOTS: list[Node] = [{"type": "field", "children": [], "value": name} for name in ("steps", "input", "item")]
