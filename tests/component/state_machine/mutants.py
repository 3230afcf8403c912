"""Mutants of a state machine: each differs from it in one thing that would be deployed without complaint."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from support.asl.definition import INVOKE, WAIT_FOR_TOKEN, Unsupported, validate

Place = tuple[str | int, ...]
"""The way to a value: names of fields, positions in lists."""

LEFT_OUT = {
    "Comment": "says nothing to Step Functions",
    "Type": "another type has other fields, so Step Functions refuses it",
    "ProcessorConfig": "a distributed Map has other fields and permissions",
}
FUNCTIONS = ("StartRun", "RunStep", "AdvanceRun")


@dataclass(frozen=True)
class Mutant:
    """`definition` with another value, or none, at one place. `read`: the dictionary's field by which an interpreter
    comes to that place: who never reads it cannot tell the mutant."""

    name: str
    read: Place
    definition: dict[str, Any]

    @property
    def state(self) -> str:
        """Return the innermost state that differs, or what of the whole machine does."""
        at = [number for number, part in enumerate(self.read) if part == "States"]
        return str(self.read[at[-1] + 1] if at and at[-1] + 1 < len(self.read) else self.read[-1])


def mutants(definition: dict[str, Any]) -> Iterator[Mutant]:
    """Give the mutants of a definition that a deployment would take."""
    for place, change, value in changes(definition, definition, (), {}):
        # What does not lead to the place is shared by all mutants: to copy it takes longer than to play some of them.
        mutated = copy.copy(definition)
        holder: Any = mutated
        for part in place[:-1]:
            holder[part] = copy.copy(holder[part])
            holder = holder[part]
        read = place
        if value is DROPPED:
            del holder[place[-1]]
        elif place[-1] == "End":  # it goes on instead
            del holder["End"]
            read = (*place[:-1], "Next")
            holder["Next"] = value
        else:
            holder[place[-1]] = value
        while isinstance(read[-1], int):
            read = read[:-1]
        try:
            validate(mutated)
        except Unsupported:
            continue
        yield Mutant(f"{'/'.join(map(str, place))} {change}", read, mutated)


DROPPED = object()


def changes(node: Any, whole: Any, place: Place, level: Mapping[str, Any]) -> Iterator[tuple[Place, str, Any]]:
    """Give what can be changed inside `node`, one thing at a time: where, how in words, and the value then."""
    if isinstance(node, list):
        for number, value in enumerate(node):
            yield (*place, number), "dropped", DROPPED
            yield from changes(value, whole, (*place, number), level)
        return
    level = node if "StartAt" in node else level
    for name, value in node.items() if isinstance(node, dict) else ():
        if name in LEFT_OUT:
            continue
        here = (*place, name)
        yield here, "dropped", DROPPED
        for other in others(name, value, node, level):
            if other != value:  # as it is where there is but one
                yield here, f"{other!r}", other
        if isinstance(value, dict | list):
            yield from changes(value, whole, here, level)


def others(name: str, value: Any, node: Mapping[str, Any], level: Mapping[str, Any]) -> Iterator[Any]:
    """Give what could stand in the place of a field's value."""
    if name in ("Next", "Default", "StartAt"):
        yield _after(value, list(level["States"]))
    elif name == "End":
        yield level["StartAt"]
    elif name == "Resource":
        yield INVOKE if value == WAIT_FOR_TOKEN else WAIT_FOR_TOKEN
    elif name == "FunctionName":
        yield _after(value, FUNCTIONS)
    elif name == "JitterStrategy":
        yield "NONE"
    elif name.endswith(("Path", ".$")) or name == "Variable":
        paths = [other for key, other in node.items() if key.endswith((".$", "Path")) and isinstance(other, str)]
        yield _after(value, paths) if len(set(paths) | {value}) > 1 and value in paths else "$.run_id"
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value - 1)
    elif isinstance(value, str):
        yield f"{value}-"


def _after(value: Any, among: list[Any] | tuple[Any, ...]) -> Any:
    """Return the one that follows `value`, the first after the last."""
    return among[(list(among).index(value) + 1) % len(among)]


class Watched(dict[str, Any]):
    """A definition that notes which fields of it are read."""

    def __init__(self, node: Mapping[str, Any], reads: set[Place], place: Place = ()) -> None:
        self._reads, self._place = reads, place
        super().__init__({name: self._watch(value, (*place, name)) for name, value in node.items()})

    def _watch(self, value: Any, place: Place) -> Any:
        if isinstance(value, dict):
            return Watched(value, self._reads, place)
        if isinstance(value, list):
            return [self._watch(one, (*place, number)) for number, one in enumerate(value)]
        return value

    def __getitem__(self, name: str) -> Any:
        self._reads.add((*self._place, name))
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._reads.add((*self._place, name))
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self._reads.add((*self._place, str(name)))
        return super().__contains__(name)

    def items(self) -> Any:
        self._reads.update((*self._place, name) for name in self)
        return super().items()
