"""Costs with their certainty, the same in every table: `~` holds an estimate, `≥` lacks a call of unknown cost or
price, `*` was simulated, and what that means in a line below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.text import Text

from loopllama_cli.console import output


def mark(sums: Mapping[str, Any]) -> str:
    """Return what goes before a cost that is not certain."""
    if sums.get("cost_usd") is None:
        return ""  # a word says it
    if sums.get("cost_basis") == "unknown" or sums.get("unpriced"):
        return "≥"
    return "~" if sums.get("cost_basis") == "estimated" else ""


def cost(sums: Mapping[str, Any], decimals: int | None = None, *, starred: bool = False) -> Text:
    """Return the cost of a call, a step, a run or a group with its certainty; with a star for one that was simulated,
    where nothing else on the line says so (`starred`)."""
    if sums.get("cost_usd") is None:
        text = Text("unknown" if sums.get("cost_basis") == "unknown" else "unpriced", "yellow")
    else:
        text = Text.assemble((mark(sums), "yellow"), output.money(sums["cost_usd"], decimals))
    if starred and sums.get("simulated"):
        text.append("*", "yellow")
    return text


def legend(some: Iterable[Mapping[str, Any]]) -> str:
    """Return what the marks of these costs mean; empty where they have none."""
    shown = list(some)
    marks = {mark(sums) for sums in shown}
    texts = {
        "*": "* simulated: a stand-in answered, at the price of the model it stands in for"
        * any(sums.get("simulated") for sums in shown),
        "~": "~ estimated" * ("~" in marks),
        "≥": "≥ something in it has no known cost" * ("≥" in marks),
    }
    return ", ".join(text for text in texts.values() if text)
