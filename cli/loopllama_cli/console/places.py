"""What steps are called on screen: the name, with the item and the round where they have them, `research[3] #2`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loopllama_cli.console import output
from loopllama_cli.console.folding import items_of

if TYPE_CHECKING:
    from loopllama.queries.types import StepView
    from loopllama_cli.console.folding import Folded


def place(step: object, item: Any = None, iteration: Any = None) -> str:
    """Return what a step is called, or an item (from 1) or a later round of it. `iteration` counts from 0: the second
    round is `#2`."""
    in_list = f"[{item}]" if item else ""
    again = f" #{int(iteration) + 1}" if iteration else ""
    return output.clean(f"{step}{in_list}{again}")


def label(step: StepView | Folded) -> str:
    """Return what a step of a run object is called; of a folded list the items from first to last."""
    items = items_of(step)
    item = f"{items[0]['item']}-{items[-1]['item']}" if items else step.get("item")
    return place(step.get("step") or step.get("role") or "?", item, step.get("iteration"))
