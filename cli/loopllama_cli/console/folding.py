"""Long lists in one line: the items of a `forEach` together, with how far they lie apart and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any, NotRequired, cast

from loopllama.llm.usage import SUMMED

if TYPE_CHECKING:
    from loopllama.queries.types import StepView

    class Folded(StepView):
        """A step, or the items of one together."""

        items: NotRequired[list[StepView]]


LONGEST = 8
"""Items of a list that are shown one by one."""
_CERTAINTY = ("measured", "estimated", "unknown")


def folded(steps: Sequence[StepView]) -> list[Folded]:
    """Return the steps in their order, with the items of each long list folded into one."""
    lines: list[Folded] = []
    for (_, _, is_item), group in groupby(
        steps, key=lambda step: (step.get("step"), step.get("iteration"), bool(step.get("item")))
    ):
        together = list(group)
        lines += [_together(together)] if is_item and len(together) > LONGEST else cast("list[Folded]", together)
    return lines


def items_of(step: StepView | Folded) -> Sequence[StepView]:
    """Return what is folded into a line; nothing for a step that stands for itself."""
    return cast("Folded", step).get("items") or ()


def ended(items: Sequence[StepView], status: str) -> int:
    """Return how many items have ended so."""
    return sum(item.get("status") == status for item in items)


def latencies(items: Sequence[StepView]) -> tuple[int, int] | None:
    """Return the shortest and the longest time that a completed item took (ms), of none that of those that failed;
    `None` where none has ended."""
    whole = [item for item in items if item.get("status") == "completed"] or items
    took = [int(latency) for item in whole if (latency := item.get("latency_ms")) is not None]
    return (min(took), max(took)) if took else None


def _together(items: list[StepView]) -> Folded:
    models = list(dict.fromkeys(str(item["model"]) for item in items if item.get("model")))
    sources = {item.get("source") for item in items if item.get("source")}
    costs = [Decimal(cost) for item in items if (cost := item.get("cost_usd")) is not None]
    failed, running = ended(items, "failed"), ended(items, "running")
    finished = [item.get("finished_at") for item in items]
    sums: dict[str, Any] = {
        figure.shown: sum(int(cast("dict[str, Any]", item).get(figure.shown) or 0) for item in items)
        for figure in SUMMED
    }
    return cast(
        "Folded",
        {
            **items[0],
            **sums,
            "items": items,
            "status": "running" if running else "failed" if failed else "completed",
            "model": models[0] if len(models) == 1 else f"{len(models)} models" if models else None,
            "source": sources.pop() if len(sources) == 1 else None,
            "cost_usd": sum(costs, Decimal(0)) if costs else None,
            "cost_basis": max((str(item.get("cost_basis")) for item in items), key=_certainty),
            "cache_saving_usd": sum((Decimal(item.get("cache_saving_usd") or 0) for item in items), Decimal(0)) or None,
            "unpriced": any(item.get("unpriced") for item in items),
            "simulated": any(item.get("simulated") for item in items),
            "started_at": min((began for item in items if (began := item.get("started_at"))), default=None),
            "finished_at": None if None in finished else max(cast("list[str]", finished)),
            "latency_ms": None,
            "attempts": [attempt for item in items for attempt in item.get("attempts") or []],
            "tool_calls": [call for item in items for call in item.get("tool_calls") or []],
            "waits": [wait for item in items for wait in item.get("waits") or []],
        },
    )


def _certainty(basis: str) -> int:
    return _CERTAINTY.index(basis) if basis in _CERTAINTY else 0
