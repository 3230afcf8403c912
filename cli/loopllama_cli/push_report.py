"""What a push of a workflow replaces: the version before, and what of it is another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from loopllama.errors import WorkflowNotFound
from loopllama.settings import Settings
from loopllama.workflows.store import DefinitionStore

if TYPE_CHECKING:
    from loopllama.workflows.types import WorkflowItem


class Replaced(TypedDict):
    """The version that a push has replaced, and what changed, a sentence's part for each."""

    version: int
    changes: list[str]


def current(settings: Settings, workflow_id: str) -> WorkflowItem | None:
    """Return the workflow as it is before a push; `None` where there is none."""
    try:
        return DefinitionStore(settings).get(workflow_id)
    except WorkflowNotFound:
        return None


def replaced(before: WorkflowItem | None, after: WorkflowItem) -> Replaced | None:
    """Return what a push replaced; `None` for a workflow that is new or unchanged."""
    if before is None or before["current_version"] == after["current_version"]:
        return None
    return {"version": before["current_version"], "changes": _changes(before, after)}


def _changes(before: WorkflowItem, after: WorkflowItem) -> list[str]:
    own = [*_different(before, after, ("name", "description")), *_different(before["definition"], after["definition"])]
    told = [", ".join(own)] if own else []
    old, new = ({step["name"]: step for step in item["definition"]["crew"]} for item in (before, after))
    if [name for name in new if name in old] != [name for name in old if name in new]:
        told.append("the order of the steps")
    for name, step in new.items():
        if name not in old:
            told.append(f"step {name} is new")
        elif fields := _different(old[name], step):
            told.append(f"step {name}: {', '.join(fields)}")
    return [*told, *(f"step {name} is gone" for name in old if name not in new)]


def _different(before: Mapping[str, Any], after: Mapping[str, Any], names: tuple[str, ...] | None = None) -> list[str]:
    """Return the fields that differ, as files spell them; of all but the crew where none are named."""
    from pydantic.alias_generators import to_camel

    among = names or tuple(name for name in {**before, **after} if name != "crew")
    return [to_camel(name) for name in among if before.get(name) != after.get(name)]
