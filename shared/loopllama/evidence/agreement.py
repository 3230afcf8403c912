"""The score of a structured output: the share of its leaves that agree with a recorded answer, by the schema. Pure.

A leaf is a value that is neither object nor list, and an empty object or list. Objects are compared by key and lists by
position. A leaf that only one of both has disagrees: the share's denominator counts the leaves of both, each place
once. `leaves.py` says when two leaves agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from loopllama.core import json_schema
from loopllama.errors import InvalidRequest
from loopllama.evidence import leaves
from loopllama.evidence.leaves import Schemas

TOLERANCE = Decimal("1e-6")
"""By how much numbers that are no integers may differ, as a part of the larger one: what rounding may do."""
_LISTED = 20
Compared = Iterator[tuple[str, bool]]


class Agreement(NamedTuple):
    """How far an output agrees with the recorded one."""

    share: float
    """From 0 to 1."""
    leaves: int
    """How many were compared, at least 1."""
    disagreeing: tuple[str, ...]
    """Where leaves disagree, like `$.items[2].price`: at most 20, without their values."""


def agreement(schema: Any, expected: Any, actual: Any, tolerance: Decimal = TOLERANCE) -> Agreement:
    """Return how far `actual` agrees with the recorded `expected`; both follow `schema`, or hardly do.

    `schema` is the JSON Schema of the output. Where it has branches (`anyOf`, `oneOf`), the first that the recorded
    answer follows counts. Numbers are `int`, `float` or `Decimal`. What neither schema nor this function foresees is
    compared as it is written: no output raises an error. Costs a walk over both values; branches cost a validation
    each.
    """
    walk = _Walk(schema if isinstance(schema, Mapping) else {}, tolerance)
    count = 0
    disagreeing: list[str] = []
    for place, agrees in walk.compared("$", walk.applying([schema], expected), expected, actual):
        count += 1
        if not agrees:
            disagreeing.append(place)
    return Agreement((count - len(disagreeing)) / count, count, tuple(disagreeing[:_LISTED]))


def difference(candidate: Agreement, incumbent: Agreement) -> float:
    """Return the sample of a comparison: how much more of the recorded answer the candidate agrees with than the
    incumbent asked again, from -1 to 1."""
    return candidate.share - incumbent.share


class _Walk:
    """A walk over two values and the schemas that apply to them."""

    def __init__(self, root: Mapping[str, Any], tolerance: Decimal) -> None:
        self._root = root
        self._tolerance = tolerance

    def compared(self, place: str, schemas: Schemas, expected: Any, actual: Any) -> Compared:
        """Yield each leaf's place and whether it agrees."""
        if isinstance(expected, Mapping) and isinstance(actual, Mapping) and (expected or actual):
            for key in [*expected, *(key for key in actual if key not in expected)]:
                yield from self._pair(f"{place}.{key}", schemas, key, expected, actual)
        elif isinstance(expected, list) and isinstance(actual, list) and (expected or actual):
            for index in range(max(len(expected), len(actual))):
                yield from self._pair(f"{place}[{index}]", schemas, index, expected, actual)
        elif _is_leaf(expected) and _is_leaf(actual):
            yield place, self._agree(schemas, expected, actual)
        else:  # of different kinds: each leaf of both is one that the other has not
            places = dict.fromkeys([*_leaves(place, expected), *_leaves(place, actual)])
            yield from ((leaf, False) for leaf in places)

    def _pair(
        self, place: str, schemas: Schemas, key: str | int, expected: Any, actual: Any
    ) -> Iterator[tuple[str, bool]]:
        is_expected, is_actual = _has(expected, key), _has(actual, key)
        if is_expected and is_actual:
            below = [schema for parent in schemas for schema in _below(parent, key)]
            yield from self.compared(place, self.applying(below, expected[key]), expected[key], actual[key])
        else:
            yield from ((leaf, False) for leaf in _leaves(place, expected[key] if is_expected else actual[key]))

    def _agree(self, schemas: Schemas, expected: Any, actual: Any) -> bool:
        if isinstance(expected, Mapping | list) or isinstance(actual, Mapping | list):
            return type(expected) is type(actual)  # both are empty
        return leaves.agree(schemas, expected, actual, self._tolerance)

    def applying(self, schemas: list[Any], value: Any) -> list[Mapping[str, Any]]:
        """Return all schemas that a value has to follow: those given, and what they refer to."""
        found: list[Mapping[str, Any]] = []
        waiting = list(schemas)
        while waiting:
            schema = waiting.pop(0)
            if not isinstance(schema, Mapping) or any(schema is other for other in found):
                continue
            found.append(schema)
            if isinstance(reference := schema.get("$ref"), str):
                waiting.append(self._resolved(reference))
            if isinstance(parts := schema.get("allOf"), list):
                waiting += parts
            for keyword in ("anyOf", "oneOf"):
                if isinstance(branches := schema.get(keyword), list):
                    waiting.append(next((branch for branch in branches if self._follows(branch, value)), None))
        return found

    def _resolved(self, reference: str) -> Any:
        node: Any = self._root
        if reference != "#" and not reference.startswith("#/"):
            return None
        for part in reference.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, Mapping):
                node = node.get(key)
            else:
                return None
        return node

    def _follows(self, branch: Any, value: Any) -> bool:
        if not isinstance(branch, Mapping):
            return branch is True
        # What the branch refers to stands at the root; a name of its own there is not what is referred to.
        whole = {**{key: self._root[key] for key in ("$defs", "definitions") if key in self._root}, **branch}
        try:
            return not json_schema.violations(whole, value, limit=1)
        except InvalidRequest:  # refers to another part of the root
            return _fits(branch, value)


def _fits(schema: Mapping[str, Any], value: Any) -> bool:
    """Return whether a value is of the schema's type, where a validator cannot tell more."""
    said = schema.get("type")
    types = said if isinstance(said, list) else [said]
    if "$ref" in schema or said is None:
        return True
    kinds: dict[Any, Any] = {"object": Mapping, "array": list, "string": str, "boolean": bool, "null": type(None)}
    return any(
        leaves.is_number(value) if name in ("number", "integer") else isinstance(value, kinds.get(name, ()))
        for name in types
        if isinstance(name, str)
    )


def _below(schema: Mapping[str, Any], key: str | int) -> Iterator[Any]:
    """Yield the schemas that a schema has for a value's item or property."""
    if isinstance(key, int):
        prefix, items = schema.get("prefixItems"), schema.get("items")
        if isinstance(items, list):  # before draft 2020-12
            prefix, items = items, schema.get("additionalItems")
        if isinstance(prefix, list) and key < len(prefix):
            yield prefix[key]
        else:
            yield items
        return
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and key in properties:
        yield properties[key]
    else:
        yield schema.get("additionalProperties")


def _has(value: Any, key: str | int) -> bool:
    return key < len(value) if isinstance(key, int) else key in value


def _is_leaf(value: Any) -> bool:
    return not (isinstance(value, Mapping | list) and value)


def _leaves(place: str, value: Any) -> Iterator[str]:
    """Yield the places of a value's leaves."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(f"{place}.{key}", inner)
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(f"{place}[{index}]", inner)
    else:
        yield place
