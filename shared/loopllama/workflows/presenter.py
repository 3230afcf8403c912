"""A workflow as its readers see it, over the API and on the command line.

An answer is snake_case, but for a crew: its agents come back in the camelCase in which they are sent, so that what was
read can be changed and sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic.alias_generators import to_camel

from loopllama.budgets.budget import of_definition

if TYPE_CHECKING:
    from loopllama.workflows.types import Definition, WorkflowItem

_SENDERS_OWN = ("output_schema",)
"""Fields whose value is the sender's own JSON: what its keys are called is not ours to change."""


def view(item: WorkflowItem, default_model: str) -> dict[str, Any]:
    """Return the workflow object of an item of the Workflows table.

    `default_model` is the deployment's, which counts where the workflow names none. An earlier version has no status of
    its own: `None`.
    """
    definition = definition_view(item["definition"])
    return {
        "id": item["workflow_id"],
        "name": item["name"],
        "description": item.get("description") or None,
        "status": item.get("status"),
        "model": definition.get("model") or default_model,
        "model_is_default": not definition.get("model"),
        "crew": definition["crew"],
        "version": item["version"] or item["current_version"],
        "pin": definition.get("pin"),
        "budget": definition.get("budget"),
        "created_at": item["created_at"],
        "updated_at": item["updated_at"],
    }


def definition_view(definition: Definition) -> dict[str, Any]:
    """Return a definition as its readers see it: its crew as people write one, amounts of money as numbers."""
    budget = of_definition(definition)
    return {**definition, "crew": crew_view(definition["crew"]), **({"budget": budget} if budget else {})}


def crew_view(crew: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a definition's crew as people write one: camelCase, what an agent does not set left out."""
    return [
        {to_camel(name): value if name in _SENDERS_OWN else _camel(value) for name, value in agent.items()}
        for agent in crew
    ]


def _camel(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {to_camel(name): _camel(inner) for name, inner in value.items()}
    return [_camel(inner) for inner in value] if isinstance(value, list) else value
