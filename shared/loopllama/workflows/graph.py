"""What may start next in a run: pure functions over a crew and the names of its finished steps.

A crew is the list of step definitions of `docs/design.md`; each writes out its `needs`. "Finished" is completed or
skipped. The rule: a step may start once all its needs are finished. A step with one need is started by that need
alone; a step with several (a join) by whichever claims it, so that it starts once however its needs race.

A step with `repeat` may send the run back to an earlier step, over a linear stretch: the steps from `back_to` to it,
each needing only the one before. Until it is satisfied it does not count as finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from loopllama.workflows.types import Node

Step = TypeVar("Step", bound="Node")


def step_named(crew: Sequence[Step], name: str) -> tuple[int, Step]:
    """Return a step and its place in the crew. Raises `KeyError`."""
    for order, step in enumerate(crew):
        if step["name"] == name:
            return order, step
    raise KeyError(name)


def is_join(step: Node) -> bool:
    """Return whether several steps could start this one."""
    return len(step["needs"]) > 1


def ready(crew: Sequence[Node], finished: AbstractSet[str]) -> list[str]:
    """Return the unfinished steps whose needs are all finished, in the crew's order."""
    return [step["name"] for step in crew if step["name"] not in finished and finished >= set(step["needs"])]


def dependents(crew: Sequence[Step], name: str) -> list[Step]:
    """Return the steps that need `name` directly, in the crew's order: those it may unblock when it finishes."""
    return [step for step in crew if name in step["needs"]]


def ancestors(crew: Sequence[Node], name: str) -> list[str]:
    """Return all steps that `name` needs, directly or through others, in the crew's order: what it may read."""
    needs = {step["name"]: step["needs"] for step in crew}
    earlier: set[str] = set()
    pending = list(needs[name])
    while pending:
        need = pending.pop()
        if need not in earlier:
            earlier.add(need)
            pending.extend(needs[need])
    return [step["name"] for step in crew if step["name"] in earlier]


def stretch(crew: Sequence[Node], repeating: Node) -> list[str]:
    """Return the steps that `repeating` repeats, from its `back_to` to itself. Raises `ValueError` where they are no
    line."""
    back = repeating.get("repeat")
    if back is None:
        raise ValueError(f"{repeating['name']} has no repeat")
    by_name = {step["name"]: step for step in crew}
    names: list[str] = []
    at = repeating
    while True:
        names.append(at["name"])
        if at["name"] == back["back_to"]:
            return names[::-1]
        if len(at["needs"]) != 1:
            raise ValueError(f"{at['name']} needs {len(at['needs'])} steps")
        at = by_name[at["needs"][0]]


def loop_of(crew: Sequence[Step], name: str) -> Step | None:
    """Return the step whose `repeat` goes over `name`, if there is one."""
    for step in crew:
        if step.get("repeat") and name in stretch(crew, step):
            return step
    return None
